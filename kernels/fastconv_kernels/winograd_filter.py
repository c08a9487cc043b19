"""The gradient to 3x3 filters by Winograd's patches: 16 multiply-adds for four outputs instead of 36.

Symbols are those of conv2d.py, patches and matrices those of winograd.py.  The equation number is that of
docs/backprop.md: (31) is linear in the filter, and its transpose is ::

    dk[f,c] = Gt [ sum over all patches of (A dy[f] At) * (Bt d[c] B) ] G      element by element inside the []   (39)

The last rows of A and of Bt both have the opposite sign here, which leaves their product as it is.

The sixteen elements are sixteen products of matrices, filters by patches times patches by channels, and a sum over
patches is one over images too, so it ends in the lanes.  Tiles are 4 filters by 4 channels: their sixteen vectors of
sums give one vector when the lanes are added, which costs as much as three patches.
"""

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

ELEMENTS = 16
TILE = 4
"""Filters and channels of a tile: with more than sixteen accumulators LLVM unrolls the short loop, and spills."""

PATCHES = 16
"""Most patches whose elements are stored together: few stay in the second-level cache, many share the sum of lanes."""

# The groups' sums take 16 vectors for each tile: eight megabytes in all, but for at least four groups.
_SUMS = 8192


def pays(geometry):
    """Whether this file computes this gradient, and in less time than the direct sum.

    Parameters
    ----------
    geometry : conv2d.Geometry

    Notes
    -----
    In units of one multiply-add of a vector, a patch takes 17 for each filter and channel, and its way in some 120 for
    each filter and each channel; the direct sum takes one for each tap, filter and channel that meets a pixel.
    Measured on 16 to 128 channels, images of 7x7 to 32x32.  The rule must not look at the machine, the number of
    threads or the batch: it decides the bits.
    """
    filters, channels, *taps = geometry.weight
    steps = geometry.stride == geometry.dilation == (1, 1) and geometry.groups == 1
    if not steps or taps != [3, 3]:
        return False
    met = 1
    for size, image, padding in zip(geometry.output, geometry.image, geometry.padding, strict=True):
        met *= sum(max(0, min(size, image + padding - u) - max(0, padding - u)) for u in range(3))
    products = filters * channels
    return (17 * products + 120 * (filters + channels)) * _patches(geometry) < 0.9 * products * met


def _patches(geometry):
    return -(-geometry.output[0] // 2) * -(-geometry.output[1] // 2)


# ---------------------------------------------------------------------------------------------------------- the kernels


@kernel(parallel=False)
def _pixel_columns(a, b, c, d):
    """Multiply four pixels by Bt, its last row of the opposite sign."""
    return minus(a, c), plus(b, c), minus(c, b), minus(d, b)


@kernel(parallel=False)
def _gradient_columns(a, b):
    """Multiply two outputs' gradients by A, its last row of the opposite sign."""
    return a, plus(a, b), minus(a, b), b


@kernel()
def winograd_filter_products(crew, dy, x, sums, padding, scratch):
    """Write the bracket of equation (39) for each group of patches.

    Parameters
    ----------
    dy : float[B, F, OH, OW, 16]
        Zero in the lanes that hold no image.
    x : float[B, C, H, W, 16]
        The forward pass's input.
    sums : float[G, 16, ceil(F/4), ceil(C/4), 16]
        Overwritten: element 4*u + v of filter 4*t + m and channel 4*d + p is sums[g, 4*u + v, t, d, 4*m + p].  Beyond
        the last filter or channel it is that of the last.
    padding : (int, int)
    scratch : float[threads, 4, ceil(F/4) + ceil(C/4), Q, 64]
        Room for one row of elements of Q patches, of all filters and channels, four side by side.

    Notes
    -----
    Race-free: task (g, u) is the only writer of ``sums[g, 4*u : 4*u + 4]``.  The patches of all blocks are cut into
    chunks, and these into groups.  A sum runs over a chunk's patches in sixteen lanes, which are then added in a fixed
    tree, and over a group's chunks, in that order.
    """
    B, C, H, W, _ = x.shape
    _, F, OH, OW, _ = dy.shape
    G, _, T, D, _ = sums.shape
    width = -(-OW // 2)
    total = -(-OH // 2) * width
    chunks = -(-total // scratch.shape[3])
    for task in prange(crew, 4 * G):
        g, u, elements = task // 4, task % 4, scratch[crew.worker]
        # Row u of Bt d is row near[u] + sign[u] * far[u] of the patch, and row u of A dy likewise.
        near, far = (0, 2) if u == 0 else (1, 2) if u == 1 else (2, 1) if u == 2 else (3, 1)
        sign = full(x, 1 if u == 1 else -1, 1, 1)
        dy_near = 1 if u == 3 else 0
        dy_sign = full(x, 1 if u == 1 else -1 if u == 2 else 0, 1, 1)
        begin, end = g * B * chunks // G, (g + 1) * B * chunks // G
        for n in range(begin, end):
            image, response = x[n // chunks], dy[n // chunks]
            first, stop = n % chunks * total // chunks, (n % chunks + 1) * total // chunks

            for row in range(4 * D):
                c, place = min(row, C - 1), row % 4 * LANES
                i, j = first // width * 2 - padding[0], first % width * 2 - padding[1]
                for q in range(stop - first):
                    for beside in range(2):  # the next channel's: short rows are over before the processor runs ahead
                        prefetch(image, (c + 1, i + near, j + 1 + beside), 1, 1)
                        prefetch(image, (c + 1, i + far, j + 1 + beside), 1, 1)
                    if i >= 0 and i + 4 <= H and j >= 0 and j + 4 <= W:  # most are, and need no guard
                        pixels = vectors(image, (c, i + near, j), 2, 1, 4)
                        others = vectors(image, (c, i + far, j), 2, 1, 4)
                    else:
                        pixels = padded_pixels(image, (c, i + near, j), 4)
                        others = padded_pixels(image, (c, i + far, j), 4)
                    columns = turned((outer_fma(pixels, sign, others),))
                    columns = _pixel_columns(columns[0], columns[1], columns[2], columns[3])
                    for v in range(4):
                        store(columns[v], elements, (v, T + row // 4, q, place), 0, 1, 0, 1, 1)
                    j += 2
                    if j + padding[1] >= 2 * width:
                        i, j = i + 2, -padding[1]

            for row in range(4 * T):
                f, place = min(row, F - 1), row % 4 * LANES
                i, j = first // width * 2, first % width * 2
                for q in range(stop - first):
                    for beside in range(2):
                        prefetch(response, (f + 1, i, j + beside), 1, 1)
                        prefetch(response, (f + 1, i + 1, j + beside), 1, 1)
                    if i + 2 <= OH and j + 2 <= OW:
                        pixels = vectors(response, (f, i + dy_near, j), 2, 1, 2)
                        others = vectors(response, (f, i + 1, j), 2, 1, 2)
                    else:
                        pixels = padded_pixels(response, (f, i + dy_near, j), 2)
                        others = padded_pixels(response, (f, i + 1, j), 2)
                    columns = turned((outer_fma(pixels, dy_sign, others),))
                    columns = _gradient_columns(columns[0], columns[1])
                    for v in range(4):
                        store(columns[v], elements, (v, row // 4, q, place), 0, 1, 0, 1, 1)
                    j += 2
                    if j >= 2 * width:
                        i, j = i + 2, 0

            for v in range(4):
                for t in range(T):
                    for d in range(D):
                        acc = zeros(x, TILE, TILE)
                        for q in range(stop - first):
                            acc = outer_fma(
                                acc,
                                vectors(elements, (v, t, q, 0), 3, LANES, TILE),
                                vectors(elements, (v, T + d, q, 0), 3, LANES, TILE),
                            )
                        added = lane_sums(acc)
                        if n > begin:
                            added = plus(vectors(sums, (g, 4 * u + v, t, d, 0), 4, LANES, 1), added)
                        store(added, sums, (g, 4 * u + v, t, d, 0), 0, 1, 0, 1, 1)


@kernel(parallel=False)
def _filter_rows(a, b, c, d, half):
    """Multiply the four rows of the bracket, or its columns, by Gt; ``half`` is 1/2 in as many vectors."""
    outer = times(plus(b, c), half)
    return plus(a, outer), times(minus(b, c), half), plus(outer, d)


@kernel()
def winograd_filter_gradient(crew, sums, shares):
    """Add the groups' sums in their order, and write equation (39) into the first share; the others are 0.

    Parameters
    ----------
    sums : float[G, 16, ceil(F/4), ceil(C/4), 16]
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
        half4, half3, total = full(sums, 0.5, 1, 4), full(sums, 0.5, 1, 3), sums[0]
        for d in range(D):
            rows = (zeros(sums, 1, 4), zeros(sums, 1, 4), zeros(sums, 1, 4), zeros(sums, 1, 4))
            for g in range(G):
                rows = (
                    plus(rows[0], vectors(sums, (g, 0, t, d, 0), 1, 1, 4)),
                    plus(rows[1], vectors(sums, (g, 4, t, d, 0), 1, 1, 4)),
                    plus(rows[2], vectors(sums, (g, 8, t, d, 0), 1, 1, 4)),
                    plus(rows[3], vectors(sums, (g, 12, t, d, 0), 1, 1, 4)),
                )
            columns = turned(_filter_rows(rows[0], rows[1], rows[2], rows[3], half4))
            columns = _filter_rows(columns[0], columns[1], columns[2], columns[3], half3)
            for v in range(3):
                store(columns[v], total, (v, t, d, 0), 0, 1, 0, 3, 3)
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
        chunks = -(-_patches(geometry) // PATCHES)
        self._chunks, self._most = chunks, min(16, max(4, _SUMS // (filters * channels)))
        self._elements = 4, filters + channels, -(-_patches(geometry) // chunks), TILE * LANES
        self._sums = ELEMENTS, filters, channels, LANES
        self._padding = geometry.padding

    def __call__(self, dy, x, shares):
        """Write equation (2) into ``shares[0]``, and 0 into the other shares; shapes as in the kernel."""
        groups = min(len(x) * self._chunks, self._most)
        elements, sums = memory.scratch_and_more(self._elements, (groups, *self._sums), x.dtype)
        winograd_filter_products(dy, x, sums, self._padding, elements)
        winograd_filter_gradient(sums, shares)
