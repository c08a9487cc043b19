"""Winograd's convolution for 3x3 filters at stride 1: 36 multiply-adds for sixteen outputs instead of 144.

Symbols are those of conv2d.py.  The image is cut into patches of 6x6 pixels, four apart in both directions; each gives
4x4 outputs.  Equation numbers are those of docs/backprop.md. ::

    y patch = b[f] + 1/9 At [ sum_c (G k[f,c] Gt) * (Bt d[c] B) ] A        element by element inside the []     (31)

    Bt = 4  0 -5  0  1  0      G = 3/4   0    0       At = 1  1  1  1  1  0
         0 -4 -4  1  1  0         -1/2 -1/2 -1/2           0  1 -1  2 -2  0
         0  4 -4 -1  1  0         -1/2  1/2 -1/2           0  1  1  4  4  0
         0 -2 -1  2  1  0          1/8  1/4  1/2           0  1 -1  8 -8  1
         0  2 -1 -2  1  0          1/8 -1/4  1/2
         0  4  0 -5  0  1           0    0    3

S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural
Networks, arXiv:1509.09308, whose F(4x4, 3x3) this is, except that G is three times theirs, so that it has no thirds.
Quarters and eighths of small integers are exact in floating point, and so is a ninth of a multiple of nine, so integer
data give exact results here too; the rounding of others is four times the direct sum's.

The 36 elements of a patch are 36 independent products of matrices, filters by channels times channels by patches, and
those are M x P tiles like any other: M filters by P patches.
"""

from functools import lru_cache

import numpy as np

from fastconv_kernels import memory
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import get_num_threads, kernel
from fastconv_kernels.tile import (
    LANES,
    full,
    minus,
    outer_fma,
    padded_pixels,
    plus,
    prefetch,
    rectified,
    spread,
    store,
    store_within,
    times,
    turned,
    vectors,
    weights,
    zeros,
)
from fastconv_kernels.tilesize import choose, cost

SIDE = 4
"""Rows and columns of outputs that a patch gives."""
ELEMENTS = (SIDE + 2) ** 2


def pays(geometry, size):
    """Whether this file computes this convolution, and with less work than the direct sum.

    Parameters
    ----------
    geometry : conv2d.Geometry
    size : (int, int)
        What is computed: the output's size, or the input's for its gradient.

    Notes
    -----
    In units of one multiply-add of a vector, a patch takes 36 for each filter and channel, and its way in and out some
    240 for each filter and each channel; the direct sum takes 9 for each output, filter and channel.  The rule must not
    look at the machine, the number of threads or the batch: it decides the bits.
    """
    filters, channels, *taps = geometry.weight
    steps = geometry.stride == geometry.dilation == (1, 1) and geometry.groups == 1
    if not steps or taps != [3, 3] or max(geometry.padding) > 2:
        return False
    products = filters * channels
    return (ELEMENTS * products + 240 * (filters + channels)) * patches(size) < 0.8 * 9 * products * size[0] * size[1]


def patches(size):
    """Return how many patches an output of this size takes."""
    return -(-size[0] // SIDE) * -(-size[1] // SIDE)


# ----------------------------------------------------------------------------------------------------- the transforms


@kernel(parallel=False)
def pixels(image, index):
    """Return six neighbouring pixels of image[channel] from index = (channel, row, column) on, 0 outside it."""
    _, i, j = index
    if 0 <= i < image.shape[1] and 0 <= j and j + 6 <= image.shape[2]:  # most are, and need no guard
        return vectors(image, index, 2, 1, 6)
    return padded_pixels(image, index, 6)


@kernel(parallel=False)
def input_rows(rows, like):
    """Bt times the six rows of a patch, in the dtype of the array ``like``."""
    a, b, c, d, e, f = rows
    two, four = full(like, 2, 1, 1), full(like, 4, 1, 1)
    minus_two, minus_four = full(like, -2, 1, 1), full(like, -4, 1, 1)
    even, odd = minus(e, c), minus(d, b)
    near_even, near_odd = outer_fma(e, minus_four, c), outer_fma(d, minus_four, b)
    return (
        outer_fma(even, four, minus(a, c)),
        plus(near_even, near_odd),
        minus(near_even, near_odd),
        outer_fma(even, two, odd),
        outer_fma(even, minus_two, odd),
        outer_fma(minus(f, d), minus_four, odd),
    )


@kernel(parallel=False)
def _output_rows(rows, like):
    """At times the six rows of a patch, in the dtype of the array ``like``."""
    a, b, c, d, e, f = rows
    two, four, eight = full(like, 2, 1, 1), full(like, 4, 1, 1), full(like, 8, 1, 1)
    near, near_odd = plus(b, c), minus(b, c)
    far, far_odd = plus(d, e), minus(d, e)
    return (
        plus(plus(a, near), far),
        outer_fma(near_odd, two, far_odd),
        outer_fma(near, four, far),
        plus(outer_fma(near_odd, eight, far_odd), f),
    )


@kernel(parallel=False)
def _filter_rows(a, b, c, half):
    """G times the three rows of a filter, or of its columns; ``half`` is 1/2 in their dtype."""
    quarter = half * half
    outer, far, middle = a + c, (a * quarter + c) * half, b * quarter
    return a * (half + quarter), (outer + b) * -half, (b - outer) * half, far + middle, far - middle, c + c + c


@kernel()
def pack_filters(crew, k, packed, flipped):
    """Transform filters and lay M side by side: packed[t, 6*u + v, c, m] = (G k[f,c] Gt)[u, v], f the m-th of tile t.

    Parameters
    ----------
    k : float[F, C, 3, 3]
        If ``flipped``, float[C, F, 3, 3], whose taps are then taken in reverse: equation (3)'s filters.
    packed : float[ceil(F/M), 36, C+1, M]
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
                for u in range(6):
                    row = _filter_rows(left[u], middle[u], right[u], half)
                    for v in range(6):
                        packed[t, 6 * u + v, c, m] = row[v]


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
        packed : float[ceil(F/M), 36, C+1, M]
            From ``pack_filters``.
        bias : float[F]
        y : float[B, F, OH, OW, 16]
            Overwritten.
        padding : (int, int)
        relu : bool
        scratch : float[threads, 36, at least C+M, Q, 16]
            Room for Q patches of all channels and of M filters, which a task takes from pixels to outputs while they
            stay in the second-level cache.

        Notes
        -----
        Race-free: task (b, Q patches) is the only writer of its outputs, or writes the same bits as its neighbour
        where the last task is moved back to fit.  Every output is one lane of sums that have one order.
        """
        B, C, _, _, _ = x.shape
        _, F, OH, OW, _ = y.shape
        T, Q = packed.shape[0], scratch.shape[3]
        across = -(-OW // SIDE)
        total = -(-OH // SIDE) * across
        shares = -(-total // Q)
        for task in prange(crew, B * shares):
            b, first = task // shares, min(task % shares * Q, total - Q)
            image, response, mine = x[b], y[b], scratch[crew.worker]
            pixel_elements, products = mine[:, :C], mine[:, C:]
            ninth = full(x, 1 / 9, 1, SIDE)

            for c in range(C):
                for q in range(Q):
                    i, j = (first + q) // across * SIDE - padding[0], (first + q) % across * SIDE - padding[1]
                    for below in range(6):  # the next channel's: short rows are over before the processor runs ahead
                        prefetch(image, (c + 1, i + below, j + 1), 2, 4)
                    rows = (
                        pixels(image, (c, i, j)),
                        pixels(image, (c, i + 1, j)),
                        pixels(image, (c, i + 2, j)),
                        pixels(image, (c, i + 3, j)),
                        pixels(image, (c, i + 4, j)),
                        pixels(image, (c, i + 5, j)),
                    )
                    columns = input_rows(turned(input_rows(rows, x)), x)
                    for v in range(6):
                        store(columns[v], pixel_elements, (v, c, q, 0), 0, 1, 0, 6, 6)

            for t in range(T):
                for element in range(ELEMENTS):
                    for start in range(0, Q, P):
                        q = min(start, Q - P)
                        acc = zeros(x, M, P)
                        for c in range(C):
                            acc = outer_fma(
                                acc,
                                weights(packed, (t, element, c, 0), 3, M),
                                vectors(pixel_elements, (element, c, q, 0), 2, 1, P),
                            )
                        store(acc, products, (element, 0, q, 0), 1, M, 2, 1, P)

                for m in range(M):
                    f = min(t * M, F - M) + m
                    for q in range(Q):
                        i, j = (first + q) // across * SIDE, (first + q) % across * SIDE
                        rows = (
                            vectors(products, (0, m, q, 0), 0, 1, 6),
                            vectors(products, (6, m, q, 0), 0, 1, 6),
                            vectors(products, (12, m, q, 0), 0, 1, 6),
                            vectors(products, (18, m, q, 0), 0, 1, 6),
                            vectors(products, (24, m, q, 0), 0, 1, 6),
                            vectors(products, (30, m, q, 0), 0, 1, 6),
                        )
                        columns = _output_rows(turned(_output_rows(rows, x)), x)
                        for v in range(min(SIDE, OW - j)):
                            outputs = plus(times(columns[v], ninth), spread(bias, f, 1, SIDE))
                            if relu:
                                outputs = rectified(outputs)
                            store_within(outputs, response, (f, i, j + v), 1)

    return winograd_forward


# A task's patches and products should leave a part of a second-level cache of one megabyte to what passes through.  Two
# patches are the least, so with more than 300 channels they do not.
_SCRATCH = 704 * 1024


def _cut(filters, channels, count, dtype):
    """Return a tile (M, P) and how many of ``count`` patches a task takes: what covers them with the fewest steps."""
    each = (channels + 8) * ELEMENTS * LANES * np.dtype(dtype).itemsize
    choices = []
    for together in range(1, min(count, max(2, _SCRATCH // each)) + 1):
        m, p = choose(filters, together)
        choices.append((-(-count // together) * cost((m, p), filters, together), -together, m, p))
    _, together, m, p = min(choices)
    return m, p, -together


class Forward:
    """Equation (31) for one geometry: chooses the tile, holds the packed filters, calls the kernels."""

    MULTIPLE = SIDE
    """Of the sides of pieces, pieces.py: an output's place in its patch decides its bits."""

    def __init__(self, geometry):
        self._prepare(*geometry.weight[:2], geometry.output, geometry.padding, geometry.dtype)

    def _prepare(self, filters, channels, size, padding, dtype):
        self._patches = patches(size)
        m, self._least, self._most = _cut(filters, channels, self._patches, dtype)
        # One more channel, so that the elements do not fall into one set of the first-level cache.
        self._rows = channels + m + 1
        self._packed = memory.empty((-(-filters // m), ELEMENTS, channels + 1, m), dtype)
        self._kernel, self._padding = forward(m, self._least), padding

    def __call__(self, x, k, bias, y, relu):
        """Write equation (1), and max(0, that) if ``relu``, into ``y``."""
        pack_filters(k, self._packed, False)
        self._run(x, bias, y, relu)

    def _run(self, x, bias, y, relu):
        # Few blocks give few tasks: then a task takes fewer patches, which changes no bit.
        each = -(-len(x) * self._patches // get_num_threads())
        together = max(self._least, min(self._most, each))
        scratch = memory.scratch((ELEMENTS, self._rows, together, LANES), x.dtype)
        self._kernel(x, self._packed, bias, y, self._padding, relu, scratch)


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
