"""Augmentation: uint8 images, moved, bent, tinted, cut and mixed at random, become normalised lane blocks in one pass.

Symbols
-------
H, W         height and width of an image;  S = H W
P            how far an image is continued beyond its edges by reflection
GH, GW       knots of the coarse grid that an elastic displacement is interpolated from

Mathematics
-----------
Equation numbers are those of docs/backprop.md.  Output pixel (i, j) reads the image at a row and column between its
pixels, which are weighted by how near they are; m is the inverse of the map that the image is subjected to. ::

    (column, row) = m (j, i, 1) + displacement(i, j)                                          (90)
    m = (offset) (flip) (shear, scale)^-1 (rotation)^-1 (shift)^-1, about the centre          (91)
    v = top + fy (bottom - top),  top = x[r, c] + fx (x[r, c+1] - x[r, c])                    (92)
    displacement(i, j) = sum of B(i/h + 1 - k) B(j/h + 1 - l) knot[k, l]                      (93)
    pixel' = clip(g (pixel - 1/2) + 1/2 + b, 0, 1)                                            (94)
    x = lambda x_own + (1 - lambda) x_partner                                                 (95)

The random numbers follow from a key, the image's number and what they are for, by ``counter``: what becomes of an
image depends on no batch, thread or order.
"""

import numpy as np

from fastconv_kernels.counter import random_bits, uniform
from fastconv_kernels.crew import prange
from fastconv_kernels.exponential import exp, log
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import LANES, full, plus, sampled, store, times, transposed, vectors, zeros
from fastconv_kernels.trigonometry import cos_sin

# Columns of a row of the table: m of (91), g and b of (94), lambda of (95), one to spare, then corners of squares.
GAIN, SHIFT, SHARE, SQUARES = 6, 7, 8, 10
# What a random number is for: the first ones are for the row of the table, in the order of its making.
_PARTNER, _ELASTIC, _SHARE = 1 << 16, 1 << 17, 1 << 32


@kernel(parallel=False)
def _share(alpha, key):
    """Draw from the Beta distribution with both parameters ``alpha``: Joehnk 1964, with logarithms for small ones."""
    attempt = np.uint64(_SHARE)
    while True:
        a, b = log(uniform(key, attempt)) / alpha, log(uniform(key, attempt + np.uint64(1))) / alpha
        if exp(a) + exp(b) <= 1.0:
            return 1.0 / (1.0 + exp(b - a))
        attempt += np.uint64(2)


@kernel(parallel=False)
def _draw_image(key, size, ranges, row):
    """Fill an image's row of the table by equation (91) and random numbers; arguments as in ``draw``."""
    H, W = size
    for k in range(row.shape[0]):
        row[k] = uniform(key, np.uint64(k))
    flip, crop_right, crop_down, gain, shift = row[5], row[6], row[7], row[8], row[9]
    c, s = cos_sin(ranges[0] * (2.0 * row[0] - 1.0))
    across, along = cos_sin(ranges[1] * (2.0 * row[1] - 1.0))
    slope, scale = along / across, 1.0 / (ranges[2] + (ranges[3] - ranges[2]) * row[2])
    x, y = 0.5 * (W - 1), 0.5 * (H - 1)
    right, down = x + ranges[4] * (2.0 * row[3] - 1.0), y + ranges[4] * (2.0 * row[4] - 1.0)
    row[0], row[1] = scale * (c + slope * s), scale * (s - slope * c)
    row[3], row[4] = -scale * s, scale * c
    row[2] = x - (row[0] * right + row[1] * down)
    row[5] = y - (row[3] * right + row[4] * down)
    if flip < ranges[5]:
        row[0], row[1], row[2] = -row[0], -row[1], 2.0 * x - row[2]
    row[2] += np.floor((2.0 * ranges[6] + 1.0) * crop_right) - ranges[6]
    row[5] += np.floor((2.0 * ranges[6] + 1.0) * crop_down) - ranges[6]
    row[GAIN] = 1.0 + ranges[7] * (2.0 * gain - 1.0)
    row[SHIFT] = ranges[8] * (2.0 * shift - 1.0)
    row[SHARE] = 1.0
    for k in range(SQUARES, row.shape[0], 2):
        row[k] = np.floor(H * row[k]) - ranges[9]
        row[k + 1] = np.floor(W * row[k + 1]) - ranges[9]


@kernel()
def draw(crew, key, index, pool, size, ranges, alpha, table, partner):
    """Draw what is to become of the chosen images, and of their partners in a mixture.

    Parameters
    ----------
    key : uint64
        Follows from seed and epoch.
    index : int64[n]
        The images' numbers.
    pool : int64[m]
        Those among which partners are found.
    size : (int, int)
        H, W
    ranges : float64[10]
        Degrees of rotation and of shear, least and greatest scale, pixels of shift, probability of a flip, pixels of
        crop, contrast, brightness, how far a square begins before its middle.
    alpha : float
        Of the Beta distribution of lambda in (95); 0 for no mixture.
    table : float64[n, 10 + 2 squares], or twice the rows if there are mixtures
        Overwritten; the partners' rows come second.
    partner : int64[n]
        Overwritten: the image itself if there are no mixtures.

    Notes
    -----
    Race-free: task k is the only writer of ``partner[k]`` and of rows k and n + k.
    """
    n = index.shape[0]
    for k in prange(crew, n):
        own = random_bits(key, np.uint64(index[k]))
        place = np.int64(random_bits(own, np.uint64(_PARTNER)) >> np.uint64(1)) % pool.shape[0]
        partner[k] = pool[place] if alpha > 0.0 else index[k]
        for turn in range(table.shape[0] // n):
            number = index[k] if turn == 0 else partner[k]
            _draw_image(random_bits(key, np.uint64(number)), size, ranges, table[k + turn * n])
        if alpha > 0.0:
            table[k, SHARE] = _share(alpha, own)
            table[n + k, SHARE] = 1.0 - table[k, SHARE]


@kernel(parallel=False)
def _reflected(i, size):
    """Return the row that row ``i`` of an image continued by reflection is, -size < i < 2 size - 1."""
    i = abs(i)
    return min(i, 2 * (size - 1) - i)


@kernel(parallel=False)
def _read(pixels, values, size, P, fill, gain, shift, room):
    """Look up an image's pixels, with equation (94), into the first cells of ``room``, inside an edge of ``fill``.

    There is one row and column of it before, and two behind, so that a place just outside reads it.
    """
    H, W = size
    width = W + 2 * P + 3
    low, high = values[0], values[255]
    outside = values[fill]
    for s in range((H + 2 * P + 3) * width):
        room[s] = outside
    for i in range(-P, H + P):
        here = _reflected(i, H) * W
        line = pixels[here : here + W]
        start = (i + P + 1) * width + P + 1
        for j in range(W):
            room[start + j] = values[line[j]]
        for j in range(1, P + 1):
            room[start - j] = values[line[j]]
            room[start + W - 1 + j] = values[line[W - 1 - j]]
    if gain != 1.0 or shift != 0.0:
        factor = room.dtype.type(gain)
        add = room.dtype.type(low * (1.0 - gain) + (high - low) * (0.5 * (1.0 - gain) + shift))
        for s in range((H + 2 * P + 3) * width):
            room[s] = min(max(factor * room[s] + add, min(low, high)), max(low, high))


@kernel(parallel=False)
def _bend(key, amplitude, across, knots, lines):
    """Draw the knots of (93), and interpolate them along rows.

    Parameters
    ----------
    key : uint64
        The image's.
    amplitude : float
        The longest displacement of a knot along each axis.
    across : float[GW, columns]
        How much of each knot of a row there is in each column; columns fill whole vectors.
    knots : float[2 * GH * GW]
        Overwritten: displacements to the right, then downwards.
    lines : float[2 * GH * columns]
        Overwritten.
    """
    GW, columns = across.shape
    half = knots.shape[0] // 2
    for k in range(half):
        bits = random_bits(key, np.uint64(_ELASTIC + k))
        right, below = bits >> np.uint64(32), bits & np.uint64(0xFFFFFFFF)
        knots[k] = amplitude * ((np.float64(right) + 0.5) * 2.0**-31 - 1.0)
        knots[half + k] = amplitude * ((np.float64(below) + 0.5) * 2.0**-31 - 1.0)
    for k in range(lines.shape[0] // columns):
        for j in range(0, columns, LANES):
            total = zeros(lines, 1, 1)
            for g in range(GW):
                knot = full(lines, knots[k * GW + g], 1, 1)
                total = plus(total, times(knot, vectors(across, (g, j), 0, 1, 1)))
            store(total, lines, (k * columns + j,), 0, 1, 0, 1, 1)


@kernel(parallel=False)
def _displaced(place, down, i, lines, start, columns):
    """Return sixteen places of row i, moved by (93): four lines, ``columns`` apart from ``start`` on."""
    for k in range(4):
        part = vectors(lines, (start + k * columns,), 0, 1, 1)
        place = plus(place, times(full(lines, down[i, k], 1, 1), part))
    return place


@kernel(parallel=False)
def _sample(row, size, P, amplitude, across, down, lines, room, out):
    """Write equations (90) and (92) of one image to ``out``: float[S], and up to fifteen cells more.

    Parameters
    ----------
    row : float64[9, ...]
        Of the table.
    size, P, amplitude, across, down
        As in ``pack_augmented``.
    lines : float[2 * GH * columns]
        From ``_bend``.
    room : float
        From ``_read``.
    out : float[S + 15]
        Overwritten.
    """
    H, W = size
    columns = across.shape[1]
    first = across.shape[0]
    right, below = full(room, row[0], 1, 1), full(room, row[3], 1, 1)
    for i in range(H):
        left, top = row[1] * i + row[2] + (P + 1), row[4] * i + row[5] + (P + 1)
        for j in range(0, W, LANES):
            number = vectors(across, (first - 1, j), 0, 1, 1)
            x = plus(full(room, left, 1, 1), times(right, number))
            y = plus(full(room, top, 1, 1), times(below, number))
            if amplitude > 0.0:
                start = np.int64(down[i, 4]) * columns + j
                x = _displaced(x, down, i, lines, start, columns)
                y = _displaced(y, down, i, lines, start + lines.shape[0] // 2, columns)
            store(sampled(room, W + 2 * P + 3, H + 2 * P + 3, x, y), out, (i * W + j,), 0, 1, 0, 1, 1)


@kernel()
def pack_augmented(
    crew, images, index, partner, values, table, key, size, P, fill, square, amplitude, GH, across, down, x, scratch
):
    """Write the chosen images into lane blocks as the table says: equations (90) and (92) to (95).

    Parameters
    ----------
    images : uint8[N, C, S]
    index, partner : int64[n]
        Which images, and what each is mixed with.
    values : float[C, 256]
        What each value of a pixel becomes, for each channel: a straight line.
    table : float64[n or 2 n, ...]
        From ``draw``.
    key : uint64
        As for ``draw``.
    size : (int, int)
        H, W
    P : int
        Less than H and W.
    fill : int
        The pixel that is read outside.
    square : int
        Side of the squares to cut out.
    amplitude : float
        Of the knots; 0 for none.
    GH : int
    across : float[GW + 1, columns]
        How much of each knot of a row there is in each column, then the column's number; so many columns as fill whole
        vectors.
    down : float[H, 5]
        Four values of B for each row, then which knot the first is for.
    x : float[B, C, S, 16]
        Overwritten; zeros in lanes without an image.
    scratch : float[threads, ...]
        At least 2 GH (GW + columns) + (H + 2P + 3)(W + 2P + 3) + 17 (S + 16) cells.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``x[b, c]``.
    """
    B, C, S, _ = x.shape
    n = index.shape[0]
    H, W = size
    knots_end = 2 * GH * (across.shape[0] - 1)
    lines_end = knots_end + 2 * GH * across.shape[1]
    plane_end = lines_end + (H + 2 * P + 3) * (W + 2 * P + 3)
    own_end = plane_end + LANES * S + LANES
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        room, plane = scratch[crew.worker], x[b, c]
        knots, lines, pixels = room[:knots_end], room[knots_end:lines_end], room[lines_end:plane_end]
        lanes, other = room[plane_end:own_end], room[own_end:]
        outside = values[c, fill]
        for lane in range(min(LANES, n - b * LANES)):
            k = b * LANES + lane
            for turn in range(table.shape[0] // n):
                number = index[k] if turn == 0 else partner[k]
                row = table[k + turn * n]
                _read(images[number, c], values[c], size, P, fill, row[GAIN], row[SHIFT], pixels)
                if amplitude > 0.0:
                    _bend(random_bits(key, np.uint64(number)), amplitude, across[: across.shape[0] - 1], knots, lines)
                out = lanes[lane * S :] if turn == 0 else other
                _sample(row, size, P, amplitude, across, down, lines, pixels, out)
            if table.shape[0] > n:
                own, rest = x.dtype.type(table[k, SHARE]), x.dtype.type(table[k + n, SHARE])
                for s in range(S):
                    lanes[lane * S + s] = own * lanes[lane * S + s] + rest * other[s]
            for hole in range(SQUARES, table.shape[1], 2):
                first, start = np.int64(table[k, hole]), np.int64(table[k, hole + 1])
                for i in range(max(first, 0), min(first + square, H)):
                    for j in range(max(start, 0), min(start + square, W)):
                        lanes[lane * S + i * W + j] = outside
        for s in range(min(LANES, n - b * LANES) * S, LANES * S):
            lanes[s] = 0
        for s in range(0, S - LANES + 1, LANES):
            store(transposed(vectors(lanes, (s,), 0, S, LANES)), plane, (s, 0), 0, LANES, 0, 1, 1)
        for s in range(S // LANES * LANES, S):
            for lane in range(LANES):
                plane[s, lane] = lanes[lane * S + s]
