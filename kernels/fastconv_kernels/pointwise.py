"""Pointwise convolution, 1x1 filters at stride 1: a product of matrices, filters by channels times channels by pixels.

Symbols and equations are those of conv2d.py; S is the number of pixels, H times W.  A number takes part in few sums,
so a task works through pixels that stay in the second-level cache, with all filters and channels at once.
"""

from functools import lru_cache

import numpy as np
from numba import get_thread_id, prange

from fastconv_kernels import memory
from fastconv_kernels.conv2d import pack_backward_input, pack_forward, packed_shape
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import LANES, outer_fma, rectified, spread, store, store_lane_sums, vectors, weights, zeros
from fastconv_kernels.tilesize import VECTOR, choose


@lru_cache
def forward(M, P):
    """Make the kernel of equation (1) for tiles of M filters by P pixels; F >= M and Q >= P."""

    @kernel()
    def pointwise_forward(x, packed, bias, y, relu, Q):
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
        """
        B, C, S, _ = x.shape
        T, F = packed.shape[0], y.shape[1]
        shares = -(-S // Q)
        for task in prange(B * shares):
            b, first = task // shares, min(task % shares * Q, S - Q)
            image, response = x[b], y[b]
            for t in range(T):
                f = min(t * M, F - M)
                for start in range(0, Q, P):
                    s = first + min(start, Q - P)
                    acc = spread(bias, f, M, P)
                    for c in range(C):
                        acc = outer_fma(acc, weights(packed, (t, c, 0), 2, M), vectors(image, (c, s), 1, 1, P))
                    if relu:
                        acc = rectified(acc)
                    store(acc, response, (f, s), 0, M, 1, 1, P)

    return pointwise_forward


@lru_cache
def backward_filter(M, P):
    """Make the kernel of equation (2) for tiles of M filters by P channels; F >= M and C >= P."""
    whole = M * P

    @kernel()
    def pointwise_backward_filter(dy, x, shares, parts, Q, scratch):
        """Write each block's share of equation (2); ``bias.sum_shares`` adds them in block order.

        Parameters
        ----------
        dy : float[B, F, S, 16]
            Zero in the lanes that hold no image.
        x : float[B, C, S, 16]
        shares : float[B, F, C]
            Overwritten.
        parts : int
            Into how many tasks the filters of a block are divided.
        Q : int
            Pixels to sum over before the next tile's turn; the sums wait in ``scratch``.
        scratch : float[threads, ceil(ceil(F/M)/parts), ceil(C/P), M*P, 16]

        Notes
        -----
        Race-free: task (b, part) is the only writer of its filters' part of ``shares[b]``, or writes the same bits as
        its neighbour where the last tile is moved back to fit.  A share is summed over the pixels in order in sixteen
        lanes, which are then added in a fixed tree.
        """
        B, F, S, _ = dy.shape
        C = x.shape[1]
        T, D = -(-F // M), -(-C // P)
        most = -(-T // parts)
        for task in prange(B * parts):
            b, t_from = task // parts, task % parts * most
            image, response, share, sums = x[b], dy[b], shares[b], scratch[get_thread_id()]
            for first in range(0, S, Q):
                for t in range(t_from, min(T, t_from + most)):
                    f = min(t * M, F - M)
                    for d in range(D):
                        c = min(d * P, C - P)
                        waiting = t - t_from, d, 0, 0
                        acc = vectors(sums, waiting, 2, 1, whole) if first > 0 else zeros(x, M, P)
                        for s in range(first, min(S, first + Q)):
                            acc = outer_fma(acc, vectors(response, (f, s), 0, 1, M), vectors(image, (c, s), 0, 1, P))
                        if first + Q < S:
                            store(acc, sums, waiting, 2, 1, 2, 1, whole)
                        else:
                            store_lane_sums(acc, share, (f, c), 0, M, 1, P)

    return pointwise_backward_filter


def _pixels(array):
    """View [B, C, H, W, 16] as [B, C, S, 16]."""
    return array.reshape(*array.shape[:2], -1, LANES)


POINT = (1, 1)


def fits(geometry):
    """Whether this file's kernels compute this convolution."""
    point = geometry.weight[2:] == geometry.stride == POINT
    return point and geometry.padding == (0, 0) and geometry.groups == 1


# Pixels that a task sums over before it turns to the next filters, and how many tasks there should at least be.
_TOGETHER, _TASKS = 32, 8


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

    def __call__(self, dy, k, dx):
        """Write equation (3) into ``dx``."""
        pack_backward_input(k, self._packed, (0, 1, 1), (0, 1, 1))
        self._run(dy, self._no_bias, dx, False)


class BackwardFilter:
    """Equation (2) for one geometry."""

    def __init__(self, geometry):
        filters, channels = geometry.weight[:2]
        self._tile = choose(filters, channels, VECTOR)
        self._kernel = backward_filter(*self._tile)

    def __call__(self, dy, x, shares):
        """Write each block's share of equation (2) into ``shares``."""
        blocks, filters, channels = shares.shape[:3]
        m, p = self._tile
        tiles = -(-filters // m)
        parts = min(tiles, -(-_TASKS // blocks))
        sums = memory.scratch((-(-tiles // parts), -(-channels // p), m * p, LANES), dy.dtype)
        self._kernel(_pixels(dy), _pixels(x), shares[..., 0, 0], parts, _TOGETHER, sums)
