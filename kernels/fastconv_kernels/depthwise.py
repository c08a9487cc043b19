"""Depthwise convolution: each channel has one filter of its own, so nothing read is used for another channel.

Symbols, equations and lines are those of conv2d.py.  There is little arithmetic; what counts is to go through memory
once and in order.  So a task is one plane of one channel, and each row of the image is read to its end while the
sums of a row of outputs, or of the taps, wait in the first-level cache.
"""

from functools import lru_cache

import numpy as np

from fastconv_kernels import memory
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    LANES,
    outer_fma,
    padded_vectors,
    rectified,
    spread,
    store,
    store_lane_sums,
    vectors,
    weights,
)

# Pixels of a tile, and taps of a row that fit beside them in the registers.
PIXELS, TAPS = 7, 5


@lru_cache
def forward(P):
    """Make the kernel of equations (1) and (6) for tiles of P pixels."""

    @kernel()
    def depthwise_forward(crew, x, k, bias, y, rows, columns, relu):
        """Write equation (1), and max(0, that) if ``relu``, into the rows and columns of ``y`` that the lines name.

        Parameters
        ----------
        x : float[B, C, H, W, 16]
        k : float[C, KH, KW]
        bias : float[C]
        y : float[B, C, H', W', 16]
            Overwritten at the outputs of the two lines.
        rows, columns : six ints each
            The line along each axis.
        relu : bool

        Notes
        -----
        Race-free: task (b, c) is the only writer of ``y[b, c]``.  Each sum runs over u, v in that order.
        """
        B, C, H, _, _ = x.shape
        KH, KW = k.shape[1:]
        sh, dh, oh, first_row, row_spacing, OH = rows
        sw, dw, ow, first_column, column_spacing, OW = columns
        for task in prange(crew, B * C):
            b, c = task // C, task % C
            image, response = x[b, c], y[b, c]
            for i in range(OH):
                out = response[first_row + i * row_spacing]
                for j in range(OW):
                    store(spread(bias, c, 1, 1), out, (first_column + j * column_spacing, 0), 0, 1, 0, 1, 1)
                for u in range(KH):
                    row = i * sh + oh + u * dh
                    if 0 <= row < H:
                        for j in range(0, OW - P + 1, P):
                            place = first_column + j * column_spacing, 0
                            acc = vectors(out, place, 0, column_spacing, P)
                            for v in range(KW):
                                pixels = padded_vectors(image, (row, j * sw + ow + v * dw), 1, sw, P)
                                acc = outer_fma(acc, weights(k, (c, u, v), 2, 1), pixels)
                            store(acc, out, place, 0, 1, 0, column_spacing, P)
                        for j in range(OW // P * P, OW):
                            place = first_column + j * column_spacing, 0
                            one = vectors(out, place, 0, column_spacing, 1)
                            for v in range(KW):
                                pixel = padded_vectors(image, (row, j * sw + ow + v * dw), 1, sw, 1)
                                one = outer_fma(one, weights(k, (c, u, v), 2, 1), pixel)
                            store(one, out, place, 0, 1, 0, column_spacing, 1)
                if relu:
                    for j in range(OW):
                        place = first_column + j * column_spacing, 0
                        store(rectified(vectors(out, place, 0, 1, 1)), out, place, 0, 1, 0, 1, 1)

    return depthwise_forward


@lru_cache
def backward_filter(P):
    """Make the kernel of equation (2) for filters P taps wide."""

    @kernel()
    def depthwise_backward_filter(crew, dy, x, shares, rows, columns, scratch):
        """Write each block's share of equation (2); ``bias.sum_shares`` adds them in block order.

        Parameters
        ----------
        dy : float[B, C, OH, OW, 16]
            Zero in the lanes that hold no image.
        x : float[B, C, H, W, 16]
        shares : float[B, C, KH, P]
            Overwritten.
        rows, columns : six ints each
            The forward pass's line along each axis.
        scratch : float[threads, KH, P, 16]
            Where a task's sums wait.

        Notes
        -----
        Race-free: task (b, c) is the only writer of ``shares[b, c]``.  A share is summed over i and j in that order in
        sixteen lanes, which are then added in a fixed tree.
        """
        B, C, OH, OW, _ = dy.shape
        H = x.shape[2]
        KH = shares.shape[2]
        sh, dh, oh = rows[:3]
        sw, dw, ow = columns[:3]
        for task in prange(crew, B * C):
            b, c = task // C, task % C
            image, response, share, sums = x[b, c], dy[b, c], shares[b, c], scratch[crew.worker]
            sums[:] = 0
            for i in range(OH):
                for u in range(KH):
                    row = i * sh + u * dh + oh
                    if 0 <= row < H:
                        acc = vectors(sums, (u, 0, 0), 1, 1, P)
                        for j in range(OW):
                            pixels = padded_vectors(image, (row, j * sw + ow), 1, dw, P)
                            acc = outer_fma(acc, vectors(response, (i, j), 1, 1, 1), pixels)
                        store(acc, sums, (u, 0, 0), 0, 1, 1, 1, P)
            for u in range(KH):
                store_lane_sums(vectors(sums, (u, 0, 0), 1, 1, P), share, (u, 0), 0, 1, 1, P)

    return depthwise_backward_filter


def fits(geometry):
    """Whether this file's kernels compute this convolution."""
    filters, channels, _, taps = geometry.weight
    return channels == 1 and filters == geometry.groups > 1 and taps <= TAPS


class Forward:
    """Equation (1) for one geometry."""

    def __init__(self, geometry):
        self._kernel, self._lines = forward(min(PIXELS, geometry.output[1])), geometry.forward_lines()

    def __call__(self, x, k, bias, y, relu):
        """Write equation (1), and max(0, that) if ``relu``, into ``y``."""
        self._kernel(x, k[:, 0], bias, y, *self._lines, relu)


class BackwardInput:
    """Equation (3) for one geometry, as one forward convolution of dy for each pair of remainders (6)."""

    def __init__(self, geometry):
        self._no_bias = np.zeros(geometry.groups, geometry.dtype)
        self._parts = []
        for lines, taps in geometry.backward_input_lines():
            rows, columns = ([first - step * n for n in range(count)] for first, step, count in taps)
            self._parts.append((forward(min(PIXELS, lines[1][-1])), lines, np.ix_(rows, columns)))

    def __call__(self, dy, k, dx, bias=None, relu=False):
        """Write equation (3), plus ``bias``, and max(0, that) if ``relu``, into ``dx``; all of it.

        Where no output looks, the gradient is zero.
        """
        bias = self._no_bias if bias is None else bias
        for run, lines, taps in self._parts:
            run(dy, np.ascontiguousarray(k[:, 0][:, *taps]), bias, dx, *lines, relu)


class BackwardFilter:
    """Equation (2) for one geometry."""

    def __init__(self, geometry):
        self._kernel, self._lines = backward_filter(geometry.weight[3]), geometry.forward_lines()

    def __call__(self, dy, x, shares):
        """Write each block's share of equation (2) into ``shares``."""
        shares = shares[:, :, 0]
        self._kernel(dy, x, shares, *self._lines, memory.scratch((*shares.shape[2:], LANES), dy.dtype))
