"""The gradient to 3x3 filters by Winograd's patches: 36 multiply-adds for sixteen outputs instead of 144.

Symbols are those of conv2d.py, patches and matrices those of winograd.py.  The equation number is that of
docs/backprop.md: (31) is linear in the filter, and its transpose is ::

    dk[f,c] = 1/9 Gt [ sum over patches of (A dy[f] At) * (Bt d[c] B) ] G      element by element inside the []    (39)

The 36 elements are 36 products of matrices, filters by patches times patches by channels, and a sum over patches is one
over images too, so it ends in the lanes.  Tiles are 4 filters by 4 channels: their sixteen vectors of sums give one
vector when the lanes are added, which costs as much as three patches.
"""

import numpy as np

from fastconv_kernels import memory
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    LANES,
    full,
    lane_sums,
    minus,
    outer_fma,
    padded_pixels,
    plus,
    prefetch,
    store,
    times,
    turned,
    vectors,
    zeros,
)
from fastconv_kernels.winograd import ELEMENTS, SIDE, input_rows, patches, pixels

TILE = 4
"""Filters and channels of a tile: with more than sixteen accumulators LLVM unrolls the short loop, and spills."""

# A task stores the elements of 16 to 32 patches at a time, for the more there are, the more share the sum of lanes; of
# more than 16 if they fit a part of a second-level cache of one megabyte.
_FEWEST, _MOST, _SCRATCH = 16, 32, 800 * 1024

# The groups' sums take 36 vectors for each tile: eight megabytes in all, but for at least four groups.
_SUMS = 3640


def pays(geometry):
    """Whether this file computes this gradient, and in less time than the direct sum.

    Parameters
    ----------
    geometry : conv2d.Geometry

    Notes
    -----
    In units of one multiply-add of a vector, a patch takes 45 for each filter and channel, and its way in some 480 for
    each filter and each channel; the direct sum takes one for each tap, filter and channel that meets a pixel.
    The rule must not look at the machine, the number of threads or the batch: it decides the bits.
    """
    filters, channels, *taps = geometry.weight
    steps = geometry.stride == geometry.dilation == (1, 1) and geometry.groups == 1
    if not steps or taps != [3, 3]:
        return False
    met = 1
    for size, image, padding in zip(geometry.output, geometry.image, geometry.padding, strict=True):
        met *= sum(max(0, min(size, image + padding - u) - max(0, padding - u)) for u in range(3))
    products = filters * channels
    return (45 * products + 480 * (filters + channels)) * patches(geometry.output) < 0.9 * products * met


# ---------------------------------------------------------------------------------------------------------- the kernels


@kernel(parallel=False)
def _pair(a, b, c, d, factor, more, less):
    """Rows a + factor*b + more*(c + factor*d), and the same with ``less``, which is -``more``."""
    even, odd = outer_fma(a, factor, b), outer_fma(c, factor, d)
    return outer_fma(even, more, odd), outer_fma(even, less, odd)


@kernel(parallel=False)
def _gradient_rows(rows, like):
    """Multiply four rows by A, in the dtype of the array ``like``."""
    a, b, c, d = rows
    one, four = full(like, 1, 1, 1), full(like, 4, 1, 1)
    near = _pair(a, c, b, d, one, one, full(like, -1, 1, 1))
    far = _pair(a, c, b, d, four, full(like, 2, 1, 1), full(like, -2, 1, 1))
    return a, near[0], near[1], far[0], far[1], d


@kernel(parallel=False)
def _gradients(response, index):
    """Return four neighbouring numbers of response[filter] from index = (filter, row, column) on, 0 outside it."""
    if index[1] < response.shape[1] and index[2] + 4 <= response.shape[2]:  # most are, and need no guard
        return vectors(response, index, 2, 1, 4)
    return padded_pixels(response, index, 4)


@kernel()
def winograd_filter_products(crew, dy, x, sums, padding, scratch):
    """Write the bracket of equation (39) for each group of patches.

    Parameters
    ----------
    dy : float[B, F, OH, OW, 16]
        Zero in the lanes that hold no image.
    x : float[B, C, H, W, 16]
        The forward pass's input.
    sums : float[G, 36, ceil(F/4), ceil(C/4), 16]
        Overwritten: element 6*u + v of filter 4*t + m and channel 4*d + p is sums[g, 6*u + v, t, d, 4*m + p].  Beyond
        the last filter or channel it is that of the last.
    padding : (int, int)
    scratch : float[threads, 12, ceil(F/4) + ceil(C/4), Q, 64]
        Room for two rows of elements of Q patches, of all filters and channels, four side by side.

    Notes
    -----
    Race-free: task (g, r) is the only writer of two rows of elements of ``sums[g]``.  The patches of all blocks are cut
    into chunks, and these into groups.  A sum runs over a chunk's patches in sixteen lanes, which are then added in a
    fixed tree, and over a group's chunks, in that order.
    """
    B, C, _, _, _ = x.shape
    _, F, OH, OW, _ = dy.shape
    G, _, T, D, _ = sums.shape
    high, wide = -(-OH // SIDE), -(-OW // SIDE)
    total = B * high * wide
    chunks = -(-total // scratch.shape[3])
    for task in prange(crew, 3 * G):
        # Rows 1 and 2, or 3 and 4, of Bt d and of A dy share their arithmetic; 0 and 5 are those that are left.
        g, r, elements = task // 3, task % 3, scratch[crew.worker]
        u, other = (0, 5) if r == 0 else (1, 2) if r == 1 else (3, 4)
        factor, dy_factor = full(x, -4 if r == 1 else -1, 1, 1), full(x, 1 if r == 1 else 4, 1, 1)
        more, less = full(x, 1 if r == 1 else 2, 1, 1), full(x, -1 if r == 1 else -2, 1, 1)
        four, minus_five = full(x, 4, 1, 1), full(x, -5, 1, 1)
        for n in range(g * chunks // G, (g + 1) * chunks // G):
            first, stop = n * total // chunks, (n + 1) * total // chunks
            b0, i0, j0 = first // (high * wide), first // wide % high * SIDE, first % wide * SIDE

            for row in range(4 * D):
                c, place = min(row, C - 1), row % 4 * LANES
                b, i, j = b0, i0 - padding[0], j0 - padding[1]
                for q in range(stop - first):
                    image = x[b]
                    for below in range(6):  # the next channel's: short rows are over before the processor runs ahead
                        prefetch(image, (c + 1, i + below, j + 1), 2, 4)
                    if r == 0:
                        rows = (
                            outer_fma(
                                outer_fma(pixels(image, (c, i + 4, j)), four, pixels(image, (c, i, j))),
                                minus_five,
                                pixels(image, (c, i + 2, j)),
                            ),
                            outer_fma(
                                outer_fma(pixels(image, (c, i + 5, j)), four, pixels(image, (c, i + 1, j))),
                                minus_five,
                                pixels(image, (c, i + 3, j)),
                            ),
                        )
                    else:
                        rows = _pair(
                            pixels(image, (c, i + 4, j)),
                            pixels(image, (c, i + 2, j)),
                            pixels(image, (c, i + 3, j)),
                            pixels(image, (c, i + 1, j)),
                            factor,
                            more,
                            less,
                        )
                    columns = input_rows(turned(rows), x)
                    for v in range(6):
                        store(columns[v], elements, (v, T + row // 4, q, place), 0, 1, 0, 6, 2)
                    j += SIDE
                    if j + padding[1] >= SIDE * wide:
                        i, j = i + SIDE, -padding[1]
                        if i + padding[0] >= SIDE * high:
                            b, i = b + 1, -padding[0]

            for row in range(4 * T):
                f, place = min(row, F - 1), row % 4 * LANES
                b, i, j = b0, i0, j0
                for q in range(stop - first):
                    response = dy[b]
                    for below in range(4):
                        prefetch(response, (f + 1, i + below, j), 2, 4)
                    if r == 0:
                        rows = _gradients(response, (f, i, j)), _gradients(response, (f, i + 3, j))
                    else:
                        rows = _pair(
                            _gradients(response, (f, i, j)),
                            _gradients(response, (f, i + 2, j)),
                            _gradients(response, (f, i + 1, j)),
                            _gradients(response, (f, i + 3, j)),
                            dy_factor,
                            more,
                            less,
                        )
                    columns = _gradient_rows(turned(rows), x)
                    for v in range(6):
                        store(columns[v], elements, (v, row // 4, q, place), 0, 1, 0, 6, 2)
                    j += SIDE
                    if j >= SIDE * wide:
                        i, j = i + SIDE, 0
                        if i >= SIDE * high:
                            b, i = b + 1, 0

            for element in range(12):
                slot = (u if element < 6 else other) * 6 + element % 6
                for t in range(T):
                    for d in range(D):
                        acc = zeros(x, TILE, TILE)
                        for q in range(stop - first):
                            acc = outer_fma(
                                acc,
                                vectors(elements, (element, t, q, 0), 3, LANES, TILE),
                                vectors(elements, (element, T + d, q, 0), 3, LANES, TILE),
                            )
                        added = lane_sums(acc)
                        if n > g * chunks // G:
                            added = plus(vectors(sums, (g, slot, t, d, 0), 4, LANES, 1), added)
                        store(added, sums, (g, slot, t, d, 0), 0, 1, 0, 1, 1)


@kernel(parallel=False)
def _filter_rows(rows, none, like):
    """Multiply the six rows of the bracket, or its columns, by Gt; ``none`` is a row of zeros."""
    a, b, c, d, e, f = rows
    half, quarter, eighth = full(like, 0.5, 1, 1), full(like, 0.25, 1, 1), full(like, 0.125, 1, 1)
    three, three_quarters, minus_half = full(like, 3, 1, 1), full(like, 0.75, 1, 1), full(like, -0.5, 1, 1)
    near, far = plus(b, c), plus(d, e)
    return (
        outer_fma(outer_fma(outer_fma(none, minus_half, near), eighth, far), three_quarters, a),
        outer_fma(outer_fma(none, half, minus(c, b)), quarter, minus(d, e)),
        outer_fma(outer_fma(none, half, minus(far, near)), three, f),
    )


@kernel()
def winograd_filter_gradient(crew, sums, shares):
    """Add the groups' sums in their order, and write equation (39) into the first share; the others are 0.

    Parameters
    ----------
    sums : float[G, 36, ceil(F/4), ceil(C/4), 16]
        From ``winograd_filter_products``; ``sums[0]`` is overwritten.
    shares : float[B, F, C, 3, 3]
        Overwritten.

    Notes
    -----
    Race-free: task t is the only writer of its four filters' part of both.
    """
    G, _, T, D, _ = sums.shape
    B, F, C, _, _ = shares.shape
    for t in prange(crew, T):
        total, ninth = sums[0], full(sums, 1 / 9, 1, 3)
        for d in range(D):
            for element in range(ELEMENTS):
                acc = zeros(sums, 1, 1)
                for g in range(G):
                    acc = plus(acc, vectors(sums, (g, element, t, d, 0), 1, 1, 1))
                store(acc, total, (element, t, d, 0), 0, 1, 0, 1, 1)
            rows = (
                vectors(total, (0, t, d, 0), 0, 1, 6),
                vectors(total, (6, t, d, 0), 0, 1, 6),
                vectors(total, (12, t, d, 0), 0, 1, 6),
                vectors(total, (18, t, d, 0), 0, 1, 6),
                vectors(total, (24, t, d, 0), 0, 1, 6),
                vectors(total, (30, t, d, 0), 0, 1, 6),
            )
            columns = _filter_rows(turned(_filter_rows(rows, zeros(sums, 1, 6), sums)), zeros(sums, 1, 3), sums)
            for v in range(3):
                store(times(columns[v], ninth), total, (v, t, d, 0), 0, 1, 0, 3, 3)
            for f in range(4 * t, min(4 * t + 4, F)):
                for c in range(4 * d, min(4 * d + 4, C)):
                    for u in range(3):
                        for v in range(3):
                            shares[0, f, c, u, v] = total[3 * u + v, t, d, f % 4 * 4 + c % 4]
        for b in range(1, B):
            for f in range(4 * t, min(4 * t + 4, F)):
                for c in range(C):
                    for u in range(3):
                        for v in range(3):
                            shares[b, f, c, u, v] = 0


class BackwardFilter:
    """Equation (39) for one geometry: divides the patches into chunks and groups, calls the kernels."""

    def __init__(self, geometry):
        filters, channels = (-(-count // TILE) for count in geometry.weight[:2])
        each = 12 * (filters + channels) * TILE * LANES * np.dtype(geometry.dtype).itemsize
        self._together = min(_MOST, max(_FEWEST, _SCRATCH // each))
        self._patches, self._most = patches(geometry.output), min(16, max(4, _SUMS // (filters * channels)))
        self._elements = 12, filters + channels, self._together, TILE * LANES
        self._sums = ELEMENTS, filters, channels, LANES
        self._padding = geometry.padding

    def __call__(self, dy, x, shares):
        """Write equation (2) into ``shares[0]``, and 0 into the other shares; shapes as in the kernel."""
        groups = min(-(-len(x) * self._patches // self._together), self._most)
        elements, sums = memory.scratch_and_more(self._elements, (groups, *self._sums), x.dtype)
        winograd_filter_products(dy, x, sums, self._padding, elements)
        winograd_filter_gradient(sums, shares)
