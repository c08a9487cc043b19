"""Packing images into lane blocks, and unpacking results from them.

A lane block holds sixteen images side by side, x[b, c, s, lane]: one pixel of sixteen images is one vector.  The last
block of a ragged batch is filled up with zeros.  Planes are walked in strips, because writing one image's pixels
touches a new cache line each: a strip of lines stays in the first-level cache until all sixteen lanes have filled it.
"""

from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import LANES, store, transposed, vectors

STRIP = 128


@kernel()
def pack_pixels(crew, images, index, table, x, scratch):
    """Look up every pixel of the chosen images in a table: uint8 becomes normalised float in one pass.

    Parameters
    ----------
    images : uint8[N, C, S]
    index : int64[n]
        Which images, each from 0 to N - 1.
    table : float[C, 256]
        What each value becomes, for each channel.
    x : float[B, C, S, 16]
        Overwritten.
    scratch : float[threads, 16, 16]
        Where sixteen pixels of sixteen images are put together: in registers they change places at once.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``x[b, c]``.
    """
    B, C, S, _ = x.shape
    n = index.shape[0]
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        plane, values, square = x[b, c], table[c], scratch[crew.worker]
        square[:] = 0
        real = min(LANES, n - b * LANES)
        for start in range(0, S - LANES + 1, LANES):
            for lane in range(real):
                pixels, row = images[index[b * LANES + lane], c, start : start + LANES], square[lane]
                for s in range(LANES):
                    row[s] = values[pixels[s]]
            store(transposed(vectors(square, (0, 0), 0, 1, LANES)), plane, (start, 0), 0, LANES, 0, 1, 1)
        for s in range(S // LANES * LANES, S):
            plane[s] = 0
            for lane in range(real):
                plane[s, lane] = values[images[index[b * LANES + lane], c, s]]


@kernel()
def pack(crew, images, index, x):
    """Copy the chosen images, float[N, C, S], into lane blocks; arguments as in ``pack_pixels``.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``x[b, c]``.
    """
    B, C, S, _ = x.shape
    n = index.shape[0]
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        for start in range(0, S, STRIP):
            strip = x[b, c, start : start + STRIP]
            for lane in range(LANES):
                number = b * LANES + lane
                if number < n:
                    pixels = images[index[number], c, start : start + STRIP]
                    for s in range(strip.shape[0]):
                        strip[s, lane] = pixels[s]
                else:
                    strip[:, lane] = 0


@kernel()
def unpack(crew, x, images):
    """Copy the real images of lane blocks, float[B, C, S, 16], to ``images``, float[n, C, S].

    Notes
    -----
    Race-free: task (image, channel) is the only writer of its plane.
    """
    n, C, S = images.shape
    for task in prange(crew, n * C):
        number, c = task // C, task % C
        plane = x[number // LANES, c]
        for s in range(S):
            images[number, c, s] = plane[s, number % LANES]
