"""Winograd's convolution for 3x3 filters at stride 1: 16 multiply-adds for four outputs instead of 36.

Symbols are those of conv2d.py.  The image is cut into patches of 4x4 pixels, two apart in both directions; each gives
2x2 outputs.  Equation numbers are those of docs/backprop.md. ::

    y patch = At [ sum_c (G k[f,c] Gt) * (Bt d[c] B) ] A        element by element inside the brackets     (31)

    Bt = 1  0 -1  0      G = 1    0    0       At = 1  1  1  0
         0  1  1  0          1/2  1/2  1/2          0  1 -1 -1
         0 -1  1  0          1/2 -1/2  1/2
         0  1  0 -1          0    0    1

S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural
Networks, arXiv:1509.09308, whose G, A and B these are.  Halves and quarters of small integers are exact in floating
point, so integer data give exact results here too; the rounding of others differs from the direct sum's by less than
an order of magnitude.

The sixteen elements of a patch are sixteen independent products of matrices, filters by channels times channels by
patches, and those are M x P tiles like any other: M filters by P patches.
"""

from functools import lru_cache

import numpy as np

from fastconv_kernels import memory
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    LANES,
    minus,
    outer_fma,
    padded_pixels,
    plus,
    rectified,
    spread,
    store,
    turned,
    vectors,
    weights,
    zeros,
)
from fastconv_kernels.tilesize import choose

ELEMENTS = 16


def pays(geometry, size):
    """Whether this file computes this convolution, and with less work than the direct sum.

    Parameters
    ----------
    geometry : conv2d.Geometry
    size : (int, int)
        What is computed: the output's size, or the input's for its gradient.

    Notes
    -----
    In units of one multiply-add of a vector, a patch takes 16 for each filter and channel, and its way in and out some
    60 for each filter and each channel; the direct sum takes 36 for each filter and channel.  The rule must not look
    at the machine, the number of threads or the batch: it decides the bits.
    """
    filters, channels, *taps = geometry.weight
    steps = geometry.stride == geometry.dilation == (1, 1) and geometry.groups == 1
    if not steps or taps != [3, 3] or max(geometry.padding) > 2:
        return False
    products = filters * channels
    return (16 * products + 60 * (filters + channels)) * _patches(size) < 0.8 * 9 * products * size[0] * size[1]


def _patches(size):
    return -(-size[0] // 2) * -(-size[1] // 2)


# ----------------------------------------------------------------------------------------------------- the transforms


@kernel(parallel=False)
def _input_rows(a, b, c, d):
    """Bt times the four rows of a patch."""
    return minus(a, c), plus(b, c), minus(c, b), minus(b, d)


@kernel(parallel=False)
def _output_rows(a, b, c, d):
    """At times the four rows of a patch."""
    return plus(plus(a, b), c), minus(minus(b, c), d)


@kernel(parallel=False)
def _filter_rows(a, b, c, half):
    """G times the three rows of a filter, or of its columns; ``half`` is 1/2 in their dtype."""
    outer = a + c
    return a, (outer + b) * half, (outer - b) * half, c


@kernel()
def pack_filters(crew, k, packed, flipped):
    """Transform filters and lay M side by side: packed[t, 4*u + v, c, m] = (G k[f,c] Gt)[u, v], f the m-th of tile t.

    Parameters
    ----------
    k : float[F, C, 3, 3]
        If ``flipped``, float[C, F, 3, 3], whose taps are then taken in reverse: equation (3)'s filters.
    packed : float[ceil(F/M), 16, C+1, M]
        Overwritten up to C.  The last tile is moved back to end at the last filter.
    flipped : bool

    Notes
    -----
    Race-free: task t is the only writer of ``packed[t]``.
    """
    T, M = packed.shape[0], packed.shape[3]
    C, F = k.shape[:2] if flipped else (k.shape[1], k.shape[0])
    half = k.dtype.type(0.5)
    for t in prange(crew, T):
        for c in range(C):
            for m in range(M):
                f = min(t * M, F - M) + m
                if flipped:
                    g = k[c, f]
                    left = _filter_rows(g[2, 2], g[1, 2], g[0, 2], half)
                    middle = _filter_rows(g[2, 1], g[1, 1], g[0, 1], half)
                    right = _filter_rows(g[2, 0], g[1, 0], g[0, 0], half)
                else:
                    g = k[f, c]
                    left = _filter_rows(g[0, 0], g[1, 0], g[2, 0], half)
                    middle = _filter_rows(g[0, 1], g[1, 1], g[2, 1], half)
                    right = _filter_rows(g[0, 2], g[1, 2], g[2, 2], half)
                for u in range(4):
                    row = _filter_rows(left[u], middle[u], right[u], half)
                    for v in range(4):
                        packed[t, 4 * u + v, c, m] = row[v]


# --------------------------------------------------------------------------------------------------------- the kernel


@lru_cache
def forward(M, P):
    """Make the kernel of equation (31) for tiles of M filters by P patches; F >= M and Q >= P."""

    @kernel()
    def winograd_forward(crew, x, packed, bias, y, padding, relu, scratch):
        """Write equation (31), and max(0, that) if ``relu``, into ``y``.

        Parameters
        ----------
        x : float[B, C, H, W, 16]
        packed : float[ceil(F/M), 16, C+1, M]
            From ``pack_filters``.
        bias : float[F]
        y : float[B, F, OH, OW, 16]
            Overwritten.
        padding : (int, int)
        relu : bool
        scratch : float[threads, 16, more than C+F, Q, 16]
            Room for Q patches of all channels and filters, which a task takes from pixels to outputs while they stay
            in the second-level cache.

        Notes
        -----
        Race-free: task (b, Q patches) is the only writer of its outputs, or writes the same bits as its neighbour
        where the last task is moved back to fit.  Every output is one lane of sums that have one order.
        """
        B, C, _, _, _ = x.shape
        _, F, OH, OW, _ = y.shape
        T, Q = packed.shape[0], scratch.shape[3]
        across = -(-OW // 2)
        total = -(-OH // 2) * across
        shares = -(-total // Q)
        for task in prange(crew, B * shares):
            b, first = task // shares, min(task % shares * Q, total - Q)
            image, response, mine = x[b], y[b], scratch[crew.worker]
            patches, products = mine[:, :C], mine[:, C:]

            for c in range(C):
                for q in range(Q):
                    i, j = (first + q) // across * 2 - padding[0], (first + q) % across * 2 - padding[1]
                    columns = turned(
                        _input_rows(
                            padded_pixels(image, (c, i, j), 4),
                            padded_pixels(image, (c, i + 1, j), 4),
                            padded_pixels(image, (c, i + 2, j), 4),
                            padded_pixels(image, (c, i + 3, j), 4),
                        )
                    )
                    columns = _input_rows(columns[0], columns[1], columns[2], columns[3])
                    for v in range(4):
                        store(columns[v], patches, (v, c, q, 0), 0, 1, 0, 4, 4)

            for element in range(ELEMENTS):
                for t in range(T):
                    f = min(t * M, F - M)
                    for start in range(0, Q, P):
                        q = min(start, Q - P)
                        acc = zeros(x, M, P)
                        for c in range(C):
                            acc = outer_fma(
                                acc,
                                weights(packed, (t, element, c, 0), 3, M),
                                vectors(patches, (element, c, q, 0), 2, 1, P),
                            )
                        store(acc, products, (element, f, q, 0), 1, M, 2, 1, P)

            for f in range(F):
                for q in range(Q):
                    i, j = (first + q) // across * 2, (first + q) % across * 2
                    columns = turned(
                        _output_rows(
                            vectors(products, (0, f, q, 0), 0, 1, 4),
                            vectors(products, (4, f, q, 0), 0, 1, 4),
                            vectors(products, (8, f, q, 0), 0, 1, 4),
                            vectors(products, (12, f, q, 0), 0, 1, 4),
                        )
                    )
                    columns = _output_rows(columns[0], columns[1], columns[2], columns[3])
                    for v in range(min(2, OW - j)):
                        pair = plus(columns[v], spread(bias, f, 1, 2))
                        if relu:
                            pair = rectified(pair)
                        if i + 1 < OH:
                            store(pair, response, (f, i, j + v), 0, 1, 1, 1, 2)
                        else:
                            store(pair, response, (f, i, j + v), 0, 1, 1, 1, 1)

    return winograd_forward


# A task's patches and products should leave a part of a second-level cache of one megabyte to what passes through.
_SCRATCH = 640 * 1024


class Forward:
    """Equation (31) for one geometry: chooses the tile, holds the packed filters, calls the kernels."""

    def __init__(self, geometry):
        self._prepare(*geometry.weight[:2], geometry.output, geometry.padding, geometry.dtype)

    def _prepare(self, filters, channels, size, padding, dtype):
        patches = _patches(size)
        m, p = choose(filters, patches)
        each = (channels + filters) * ELEMENTS * LANES * np.dtype(dtype).itemsize
        shares = -(-patches // max(p, _SCRATCH // each))
        together = min(-(-patches // (shares * p)) * p, patches)
        # One more channel, so that the sixteen elements do not fall into one set of the first-level cache.
        self._scratch = (ELEMENTS, channels + filters + 1, together, LANES)
        self._packed = memory.empty((-(-filters // m), ELEMENTS, channels + 1, m), dtype)
        self._kernel, self._padding = forward(m, p), padding

    def __call__(self, x, k, bias, y, relu):
        """Write equation (1), and max(0, that) if ``relu``, into ``y``."""
        pack_filters(k, self._packed, False)
        self._run(x, bias, y, relu)

    def _run(self, x, bias, y, relu):
        self._kernel(x, self._packed, bias, y, self._padding, relu, memory.scratch(self._scratch, x.dtype))


class BackwardInput(Forward):
    """Equation (3) for one geometry, which is (31) on dy with flipped filters and what padding leaves of two pixels."""

    def __init__(self, geometry):
        filters, channels = geometry.weight[:2]
        padding = 2 - geometry.padding[0], 2 - geometry.padding[1]
        self._prepare(channels, filters, geometry.image, padding, geometry.dtype)
        self._no_bias = np.zeros(channels, geometry.dtype)

    def __call__(self, dy, k, dx, bias=None, relu=False):
        """Write equation (3), plus ``bias``, and max(0, that) if ``relu``, into ``dx``."""
        pack_filters(k, self._packed, True)
        self._run(dy, self._no_bias if bias is None else bias, dx, relu)
