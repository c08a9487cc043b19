"""Pointwise convolution, 1x1 filters at stride 1: a product of matrices, filters by channels times channels by pixels.

Symbols and equations are those of conv2d.py; S is the number of pixels, H times W.  A number takes part in few sums,
so a task works through pixels that stay in the second-level cache, with all filters and channels at once.
"""

from functools import lru_cache
from math import prod

import numpy as np

from fastconv_kernels import memory
from fastconv_kernels.conv2d import pack_backward_input, pack_forward, packed_shape
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    LANES,
    outer_fma,
    prefetch,
    rectified,
    spread,
    store,
    store_lane_sums,
    vectors,
    weights,
    zeros,
)
from fastconv_kernels.tilesize import VECTOR, choose


@lru_cache
def forward(M, P):
    """Make the kernel of equation (1) for tiles of M filters by P pixels; F >= M and Q >= P."""

    @kernel()
    def pointwise_forward(crew, x, packed, bias, y, relu, Q):
        """Write equation (1), and max(0, that) if ``relu``, into ``y``.

        Parameters
        ----------
        x : float[B, C, S, 16]
        packed : float[ceil(F/M), C, M]
            Filters, packed as in conv2d.py.
        bias : float[F]
        y : float[B, F, S, 16]
            Overwritten.
        relu : bool
        Q : int
            Pixels of a task, at most S.

        Notes
        -----
        Race-free: task (b, Q pixels) is the only writer of its outputs, or writes the same bits as its neighbour where
        the last task is moved back to fit.  Each sum runs over c in order.

        A task's pixels are a short piece of each channel, so no hardware sees them coming: while a task runs, each of
        its tiles asks for a part of the next task's.  Measured, that pays where filters are no fewer than channels.
        """
        B, C, S, _ = x.shape
        T, F = packed.shape[0], y.shape[1]
        shares = -(-S // Q)
        for task in prange(crew, B * shares):
            b, first = task // shares, min(task % shares * Q, S - Q)
            image, response = x[b], y[b]
            for t in range(T):
                f = min(t * M, F - M)
                for start in range(0, Q, P):
                    s = first + min(start, Q - P)
                    if F >= C:
                        for c in range(t * C // T, (t + 1) * C // T):
                            prefetch(image, (c, s + Q), 1, P)
                    acc = spread(bias, f, M, P)
                    for c in range(C):
                        acc = outer_fma(acc, weights(packed, (t, c, 0), 2, M), vectors(image, (c, s), 1, 1, P))
                    if relu:
                        acc = rectified(acc)
                    store(acc, response, (f, s), 0, M, 1, 1, P)

    return pointwise_forward


def _pixels(array):
    """View [B, C, H, W, 16] as [B, C, S, 16]."""
    return array.reshape(*array.shape[:2], -1, LANES)


POINT = (1, 1)


def fits(geometry):
    """Whether this file's kernels compute this convolution."""
    point = geometry.weight[2:] == geometry.stride == POINT
    unpadded = geometry.padding == (0, 0) and geometry.output == geometry.image
    return point and unpadded and geometry.groups == 1


class Forward:
    """Equation (1) for one geometry: chooses the tile, holds the packed filters, calls the kernel."""

    def __init__(self, geometry):
        self._prepare(*geometry.weight[:2], geometry)

    def _prepare(self, filters, channels, geometry):
        pixels = geometry.output[0] * geometry.output[1]
        m, p = choose(filters, pixels)
        self._kernel, self._together = forward(m, p), min(8 * p, pixels)
        self._packed = memory.empty(packed_shape(1, filters, channels, POINT, m), geometry.dtype)

    def __call__(self, x, k, bias, y, relu):
        """Write equation (1), and max(0, that) if ``relu``, into ``y``."""
        pack_forward(k, self._packed)
        self._run(x, bias, y, relu)

    def _run(self, x, bias, y, relu):
        self._kernel(_pixels(x), self._packed[0, :, :, 0, 0], bias, _pixels(y), relu, self._together)


class BackwardInput(Forward):
    """Equation (3) for one geometry, which is (1) on dy with the two channel axes of the filters exchanged."""

    def __init__(self, geometry):
        filters, channels = geometry.weight[:2]
        self._prepare(channels, filters, geometry)
        self._no_bias = np.zeros(channels, geometry.dtype)

    def __call__(self, dy, k, dx, bias=None, relu=False):
        """Write equation (3), plus ``bias``, and max(0, that) if ``relu``, into ``dx``."""
        pack_backward_input(k, self._packed, (0, 1, 1), (0, 1, 1))
        self._run(dy, self._no_bias if bias is None else bias, dx, relu)


@lru_cache
def backward_filter(M, P):
    """Make the kernel of equation (2) for tiles of M filters by P channels; F >= M and C >= P."""
    TILE = M * P

    @kernel()
    def pointwise_backward_filter(crew, dy, x, shares, side, waiting):
        """Write each block's share of equation (2); ``bias.sum_shares`` adds them in block order.

        Parameters
        ----------
        dy : float[B, F, S, 16]
            Zero in the lanes that hold no image.
        x : float[B, C, S, 16]
            The forward pass's input.
        shares : float[B, F, C]
            Overwritten.
        side : float[threads, Q, M, 16]
            Where a tile's M planes of dy lie side by side, pixel by pixel, Q pixels at a time.
        waiting : float[threads, tiles of a task, ceil(C/P), M * P, 16]
            Where sums wait for the next Q pixels.

        Notes
        -----
        Race-free: task (b, filters) is the only writer of its part of ``shares[b]``, or writes the same bits as its
        neighbour where the last tile is moved back to fit.  A share is summed over s in order in sixteen lanes, which
        are then added in a fixed tree.

        Q pixels of all channels stay in the second-level cache until all tiles of a task have seen them, and those of
        a tile's filters in the first.
        """
        B, F, S, _ = dy.shape
        C = x.shape[1]
        T, Q, together = -(-F // M), side.shape[1], waiting.shape[1]
        runs = -(-T // together)
        for task in prange(crew, B * runs):
            b, first = task // runs, task % runs * together
            image, response, share = x[b], dy[b], shares[b]
            planes, sums = side[crew.worker], waiting[crew.worker]
            for start in range(0, S, Q):
                count = min(Q, S - start)
                for t in range(first, min(first + together, T)):
                    f = min(t * M, F - M)
                    for s in range(count):
                        store(vectors(response, (f, start + s), 0, 1, M), planes, (s, 0), 0, 1, 1, 1, M)
                    for left in range(0, C, P):
                        c, place = min(left, C - P), (t - first, left // P, 0)
                        acc = vectors(sums, place, 2, 1, TILE) if start > 0 else zeros(x, M, P)
                        for s in range(count):
                            pixel = vectors(image, (c, start + s), 0, 1, P)
                            acc = outer_fma(acc, vectors(planes, (s, 0), 1, 1, M), pixel)
                        if start + count < S:
                            store(acc, sums, place, 2, TILE, 2, 1, 1)
                        else:
                            store_lane_sums(acc, share, (f, c), 0, M, 1, P)

    return pointwise_backward_filter


TOGETHER, PIXELS = 4, 64
"""Tiles of a task and pixels at a time of the gradient to the filters, at most: measured, docs/adr/0027."""


class BackwardFilter:
    """Equation (2) for one geometry: chooses the tile, calls the kernel."""

    def __init__(self, geometry):
        filters, channels = geometry.weight[:2]
        m, p = choose(filters, channels, VECTOR)
        self._kernel = backward_filter(m, p)
        side = min(PIXELS, prod(geometry.output)), m, LANES
        self._scratch = side, (min(TOGETHER, -(-filters // m)), -(-channels // p), m * p, LANES)

    def __call__(self, dy, x, shares):
        """Write each block's share of equation (2) into ``shares``."""
        scratch = memory.scratch_parts(self._scratch, x.dtype)
        self._kernel(_pixels(dy), _pixels(x), shares[:, :, :, 0, 0], *scratch)
