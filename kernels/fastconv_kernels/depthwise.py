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
def backward_input(P):
    """Make the kernel of equation (3) for tiles of P pixels, a stride apart: for strides of which one is above 1."""

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
        B, C, OH, _, _ = dy.shape
        H, W = dx.shape[2:4]
        sh, sw = rows.shape[0], columns.shape[0]
        for task in prange(crew, B * C):
            b, c = task // C, task % C
            response, image = dy[b, c], dx[b, c]
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
                        if relu:
                            acc = rectified(acc)
                        store(acc, image, (p, q + j * sw), 0, 1, 1, sw, P)

    return depthwise_backward_input


@lru_cache
def backward_filter(P, KW, step, gap):
    """Make the kernel of equation (2); the arguments are those of ``forward``."""
    reach = (KW - 1) * gap + 1
    span = (P - 1) * step + reach

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
        B, C, OH, OW, _ = dy.shape
        H, KH = x.shape[2], shares.shape[2]
        sh, dh, oh = rows
        for task in prange(crew, B * C):
            b, c = task // C, task % C
            image, response, share, sums = x[b, c], dy[b, c], shares[b, c], scratch[crew.worker]
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

    return depthwise_backward_filter


def fits(geometry):
    """Whether this file's kernels compute this convolution."""
    filters, channels, _, taps = geometry.weight
    near = taps <= TAPS and max(geometry.stride[1], geometry.dilation[1]) <= STEP
    return channels == 1 and filters == geometry.groups > 1 and near


def pixels(columns):
    """Return the size of a tile that covers a row of outputs in the fewest steps, those of single pixels included."""
    return min(range(1, min(PIXELS, columns) + 1), key=lambda p: columns // p + columns % p)


def _sliding(geometry, make):
    """Return a kernel of ``forward`` or ``backward_filter`` for one geometry, its rows and its left."""
    (*rows, _, _, _), (step, gap, left, *_) = geometry.forward_lines()
    return make(pixels(geometry.output[1]), geometry.weight[3], step, gap), tuple(rows), left


class Forward:
    """Equation (1) for one geometry."""

    def __init__(self, geometry):
        self._kernel, *self._where = _sliding(geometry, forward)

    def __call__(self, x, k, bias, y, relu):
        """Write equation (1), and max(0, that) if ``relu``, into ``y``."""
        self._kernel(x, k[:, 0], bias, y, *self._where, relu)


def remainders(geometry):
    """Return the rows and columns of ``backward_input``'s kernel: equation (6) along both axes."""
    axes = zip(geometry.image, geometry.weight[2:], geometry.stride, geometry.padding, geometry.dilation, strict=True)
    found = (backward_input_lines(*axis) for axis in axes)
    return [np.array([(*taps, offset, gap) for (_, gap, offset, *_), taps in lines]) for lines in found]


class BackwardInput:
    """Equation (3) for one geometry: at stride 1 a forward convolution of dy with the filters flipped."""

    def __init__(self, geometry):
        self._no_bias = np.zeros(geometry.groups, geometry.dtype)
        self._flips = geometry.stride == (1, 1)
        if self._flips:
            axes = zip(geometry.weight[2:], geometry.dilation, geometry.padding, strict=True)
            padding = tuple((taps - 1) * gap - before for taps, gap, before in axes)
            turned = geometry._replace(image=geometry.output, output=geometry.image, padding=padding)
            self._kernel, *self._where = _sliding(turned, forward)
        else:
            self._where = remainders(geometry)
            self._kernel = backward_input(min(PIXELS, geometry.image[1] // len(self._where[1])))

    def __call__(self, dy, k, dx, bias=None, relu=False):
        """Write equation (3), plus ``bias``, and max(0, that) if ``relu``, into ``dx``; all of it.

        Where no output looks, the gradient is zero.
        """
        bias, k = self._no_bias if bias is None else bias, k[:, 0]
        if self._flips:
            k = np.ascontiguousarray(k[:, ::-1, ::-1])
        self._kernel(dy, k, bias, dx, *self._where, relu)


class BackwardFilter:
    """Equation (2) for one geometry."""

    def __init__(self, geometry):
        self._kernel, *self._where = _sliding(geometry, backward_filter)

    def __call__(self, dy, x, shares):
        """Write each block's share of equation (2) into ``shares``."""
        shares = shares[:, :, 0]
        self._kernel(dy, x, shares, *self._where, memory.scratch((*shares.shape[2:], LANES), dy.dtype))
