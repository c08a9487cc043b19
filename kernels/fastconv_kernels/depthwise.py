"""Depthwise convolution: each channel has one filter of its own, so nothing read is used for another channel.

Symbols, equations and lines are those of conv2d.py.  There is little arithmetic; what counts is to go through memory
once and in order.  So a task is one plane of one channel, and each row of the image is read to its end while the
sums of a row of outputs, or of the taps, wait in the first-level cache.  A pixel is loaded once for all the taps of a
row that see it: a tile is P pixels, and ``correlated`` slides the row of taps along them in registers.
"""

from functools import lru_cache

import numpy as np

from fastconv_kernels import memory
from fastconv_kernels.conv2d import backward_input_lines
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    LANES,
    correlated,
    outer_fma,
    padded_vectors,
    rectified,
    spread,
    store,
    store_lane_sums,
    vectors,
    weights,
)

# Pixels of a tile at most; taps of a row, stride and dilation beyond which a tile would load too much at once.
PIXELS, TAPS, STEP = 8, 5, 4


@lru_cache
def forward(P, KW, step, gap):
    """Make the kernel of equation (1) for tiles of P pixels, filters KW taps wide, stride and dilation along a row."""
    reach = (KW - 1) * gap + 1
    span = (P - 1) * step + reach

    @kernel()
    def depthwise_forward(crew, x, k, bias, y, rows, left, relu):
        """Write equation (1), and max(0, that) if ``relu``, into ``y``.

        Parameters
        ----------
        x : float[B, C, H, W, 16]
        k : float[C, KH, KW]
        bias : float[C]
        y : float[B, C, OH, OW, 16]
            Overwritten; OW >= P.
        rows : three ints
            Stride, dilation and offset of the line along the rows.
        left : int
            The offset of the line along the columns.
        relu : bool

        Notes
        -----
        Race-free: task (b, c) is the only writer of ``y[b, c]``.  Each sum runs over u, v in that order.
        """
        B, C, H, _, _ = x.shape
        OH, OW = y.shape[2:4]
        KH = k.shape[1]
        sh, dh, oh = rows
        for task in prange(crew, B * C):
            b, c = task // C, task % C
            image, response = x[b, c], y[b, c]
            for i in range(OH):
                for j in range(OW):
                    store(spread(bias, c, 1, 1), response, (i, j), 0, 1, 1, 1, 1)
                top = i * sh + oh
                u_from, u_to = max(0, -(top // dh)), min(KH, -((top - H) // dh))
                for u in range(u_from, u_to):
                    taps, row = weights(k, (c, u, 0), 2, KW), top + u * dh
                    for j in range(0, OW - P + 1, P):
                        pixels = padded_vectors(image, (row, j * step + left), 1, 1, span)
                        acc = correlated(vectors(response, (i, j), 1, 1, P), taps, pixels, step, gap)
                        store(acc, response, (i, j), 0, 1, 1, 1, P)
                    for j in range(OW // P * P, OW):
                        pixels = padded_vectors(image, (row, j * step + left), 1, 1, reach)
                        one = correlated(vectors(response, (i, j), 1, 1, 1), taps, pixels, step, gap)
                        store(one, response, (i, j), 0, 1, 1, 1, 1)
                if relu:
                    for j in range(OW):
                        store(rectified(vectors(response, (i, j), 1, 1, 1)), response, (i, j), 0, 1, 1, 1, 1)

    return depthwise_forward


@lru_cache
def forward_plane(P, KW, step, gap):
    """Make what writes one plane of equation (1), for images in the caches: each tile's sums stay in registers.

    The arguments, and the bits, are those of ``forward``.
    """
    reach = (KW - 1) * gap + 1
    span = (P - 1) * step + reach

    @kernel(parallel=False)
    def correlate(image, k, c, bias, response, rows, left):
        """Write ``response`` [OH, OW, 16] from ``image`` [H, W, 16], by filter and bias c."""
        H, (OH, OW, _), KH = image.shape[0], response.shape, k.shape[1]
        sh, dh, oh = rows
        for i in range(OH):
            top = i * sh + oh
            u_from, u_to = max(0, -(top // dh)), min(KH, -((top - H) // dh))
            for j in range(0, OW - P + 1, P):
                acc = spread(bias, c, 1, P)
                for u in range(u_from, u_to):
                    pixels = padded_vectors(image, (top + u * dh, j * step + left), 1, 1, span)
                    acc = correlated(acc, weights(k, (c, u, 0), 2, KW), pixels, step, gap)
                store(acc, response, (i, j), 0, 1, 1, 1, P)
            for j in range(OW // P * P, OW):
                one = spread(bias, c, 1, 1)
                for u in range(u_from, u_to):
                    pixels = padded_vectors(image, (top + u * dh, j * step + left), 1, 1, reach)
                    one = correlated(one, weights(k, (c, u, 0), 2, KW), pixels, step, gap)
                store(one, response, (i, j), 0, 1, 1, 1, 1)

    return correlate


@lru_cache
def backward_input_plane(P):
    """Make what writes one plane of equation (3); the argument is that of ``backward_input``."""

    @kernel(parallel=False)
    def spread_out(response, k, c, bias, image, rows, columns):
        """Write ``image`` [H, W, 16] from ``response`` [OH, OW, 16], by filter and bias c."""
        OH, (H, W, _) = response.shape[0], image.shape
        sh, sw = rows.shape[0], columns.shape[0]
        for p in range(H):
            tap, tap_step, KH, oh, dh = rows[p % sh]
            top = p // sh + oh
            u_from, u_to = max(0, -(top // dh)), min(KH, -((top - OH) // dh))
            for q in range(sw):
                column_tap, column_step, KW, ow, dw = columns[q]
                size = (W - q + sw - 1) // sw
                for start in range(0, size, P):
                    j = min(start, size - P)
                    acc = spread(bias, c, 1, P)
                    for u in range(u_from, u_to):
                        for v in range(KW):
                            weight = weights(k, (c, tap - u * tap_step, column_tap - v * column_step), 2, 1)
                            place = top + u * dh, j + ow + v * dw
                            acc = outer_fma(acc, weight, padded_vectors(response, place, 1, 1, P))
                    store(acc, image, (p, q + j * sw), 0, 1, 1, sw, P)

    return spread_out


@lru_cache
def backward_input(P):
    """Make the kernel of equation (3) for tiles of P pixels, a stride apart: for strides of which one is above 1."""
    spread_out = backward_input_plane(P)

    @kernel()
    def depthwise_backward_input(crew, dy, k, bias, dx, rows, columns, relu):
        """Write equation (3), plus ``bias``, and max(0, that) if ``relu``, into ``dx``.

        Parameters
        ----------
        dy : float[B, C, OH, OW, 16]
        k : float[C, KH, KW]
        bias : float[C]
        dx : float[B, C, H, W, 16]
            Overwritten; W is at least P times the number of column remainders.
        rows, columns : int[remainders, 5]
            For each remainder modulo the stride, the first tap, the step of taps and their count, backwards, and the
            offset and dilation of the line along dy.
        relu : bool

        Notes
        -----
        Race-free: task (b, c) is the only writer of ``dx[b, c]``.  Each sum runs over u, v in that order, backwards, as
        in equation (6).
        """
        B, C = dy.shape[:2]
        for task in prange(crew, B * C):
            b, c = task // C, task % C
            image = dx[b, c]
            spread_out(dy[b, c], k, c, bias, image, rows, columns)
            if relu:
                for p in range(image.shape[0]):
                    for q in range(image.shape[1]):
                        store(rectified(vectors(image, (p, q), 1, 1, 1)), image, (p, q), 0, 1, 1, 1, 1)

    return depthwise_backward_input


@lru_cache
def backward_filter_plane(P, KW, step, gap):
    """Make what writes one plane's part of equation (2); the arguments are those of ``forward``."""
    reach = (KW - 1) * gap + 1
    span = (P - 1) * step + reach

    @kernel(parallel=False)
    def gather(response, image, share, rows, left, sums):
        """Write ``share`` [KH, KW] from dy's plane and x's; ``sums`` [KH, KW, 16] is where they wait."""
        (OH, OW, _), H, KH = response.shape, image.shape[0], share.shape[0]
        sh, dh, oh = rows
        sums[:] = 0
        for i in range(OH):
            for u in range(KH):
                row = i * sh + u * dh + oh
                if 0 <= row < H:
                    acc = vectors(sums, (u, 0, 0), 1, 1, KW)
                    for j in range(0, OW - P + 1, P):
                        pixels = padded_vectors(image, (row, j * step + left), 1, 1, span)
                        acc = correlated(acc, vectors(response, (i, j), 1, 1, P), pixels, gap, step)
                    for j in range(OW // P * P, OW):
                        pixels = padded_vectors(image, (row, j * step + left), 1, 1, reach)
                        acc = correlated(acc, vectors(response, (i, j), 1, 1, 1), pixels, gap, step)
                    store(acc, sums, (u, 0, 0), 0, 1, 1, 1, KW)
        for u in range(KH):
            store_lane_sums(vectors(sums, (u, 0, 0), 1, 1, KW), share, (u, 0), 0, 1, 1, KW)

    return gather


@lru_cache
def backward_filter(P, KW, step, gap):
    """Make the kernel of equation (2); the arguments are those of ``forward``."""
    gather = backward_filter_plane(P, KW, step, gap)

    @kernel()
    def depthwise_backward_filter(crew, dy, x, shares, rows, left, scratch):
        """Write each block's share of equation (2); ``bias.sum_shares`` adds them in block order.

        Parameters
        ----------
        dy : float[B, C, OH, OW, 16]
            Zero in the lanes that hold no image; OW >= P.
        x : float[B, C, H, W, 16]
        shares : float[B, C, KH, KW]
            Overwritten.
        rows, left
            Those of the forward pass.
        scratch : float[threads, KH, KW, 16]
            Where a task's sums wait.

        Notes
        -----
        Race-free: task (b, c) is the only writer of ``shares[b, c]``.  A share is summed over i and j in that order in
        sixteen lanes, which are then added in a fixed tree.
        """
        B, C = dy.shape[:2]
        for task in prange(crew, B * C):
            b, c = task // C, task % C
            gather(dy[b, c], x[b, c], shares[b, c], rows, left, scratch[crew.worker])

    return depthwise_backward_filter


def fits(geometry):
    """Whether this file's kernels compute this convolution."""
    filters, channels, _, taps = geometry.weight
    near = taps <= TAPS and max(geometry.stride[1], geometry.dilation[1]) <= STEP
    return channels == 1 and filters == geometry.groups > 1 and near


def pixels(columns):
    """Return the size of a tile that covers a row of outputs in the fewest steps, those of single pixels included."""
    return min(range(1, min(PIXELS, columns) + 1), key=lambda p: columns // p + columns % p)


def sliding(geometry, make):
    """Return what ``forward``, or one like it, makes for a geometry, with its rows and left."""
    (*rows, _, _, _), (step, gap, left, *_) = geometry.forward_lines()
    return make(pixels(geometry.output[1]), geometry.weight[3], step, gap), tuple(rows), left


class Forward:
    """Equation (1) for one geometry."""

    def __init__(self, geometry):
        self._kernel, *self._where = sliding(geometry, forward)

    def __call__(self, x, k, bias, y, relu):
        """Write equation (1), and max(0, that) if ``relu``, into ``y``."""
        self._kernel(x, k[:, 0], bias, y, *self._where, relu)


def remainders(geometry):
    """Return the rows and columns of ``backward_input``'s kernel: equation (6) along both axes."""
    axes = zip(geometry.image, geometry.weight[2:], geometry.stride, geometry.padding, geometry.dilation, strict=True)
    found = (backward_input_lines(*axis) for axis in axes)
    return [np.array([(*taps, offset, gap) for (_, gap, offset, *_), taps in lines]) for lines in found]


def against(geometry, slide, scatter):
    """Return what ``slide`` or ``scatter`` makes for equation (3), with its rows and columns.

    At stride 1 it is a forward convolution of dy with ``facing(k)``, and ``slide`` is ``forward``, or one like it; at
    other strides ``scatter`` is ``backward_input``, or one like it.
    """
    if geometry.stride != (1, 1):
        rows, columns = remainders(geometry)
        return scatter(min(PIXELS, geometry.image[1] // len(columns))), rows, columns
    axes = zip(geometry.weight[2:], geometry.dilation, geometry.padding, strict=True)
    padding = tuple((taps - 1) * gap - before for taps, gap, before in axes)
    return sliding(geometry._replace(image=geometry.output, output=geometry.image, padding=padding), slide)


def facing(k, geometry):
    """Return the filters as what ``against`` returns takes them, float[C, KH, KW]."""
    return np.ascontiguousarray(k[:, 0, ::-1, ::-1]) if geometry.stride == (1, 1) else k[:, 0]


class BackwardInput:
    """Equation (3) for one geometry."""

    def __init__(self, geometry):
        self._geometry, self._no_bias = geometry, np.zeros(geometry.groups, geometry.dtype)
        self._kernel, *self._where = against(geometry, forward, backward_input)

    def __call__(self, dy, k, dx, bias=None, relu=False):
        """Write equation (3), plus ``bias``, and max(0, that) if ``relu``, into ``dx``; all of it.

        Where no output looks, the gradient is zero.
        """
        bias = self._no_bias if bias is None else bias
        self._kernel(dy, facing(k, self._geometry), bias, dx, *self._where, relu)


class BackwardFilter:
    """Equation (2) for one geometry."""

    def __init__(self, geometry):
        self._kernel, *self._where = sliding(geometry, backward_filter)

    def __call__(self, dy, x, shares):
        """Write each block's share of equation (2) into ``shares``."""
        shares = shares[:, :, 0]
        self._kernel(dy, x, shares, *self._where, memory.scratch((*shares.shape[2:], LANES), dy.dtype))
