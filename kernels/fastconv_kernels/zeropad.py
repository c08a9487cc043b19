"""A frame of zeros around the images of lane blocks, and its gradient, which cuts the frame off.

Mathematics
-----------
Equation numbers are those of docs/backprop.md; ``top`` and ``left`` say how thick the frame is. ::

    y[n,c,i,j] = x[n,c,i - top,j - left], or 0 where that lies outside the image      (57)
    dx[n,c,p,q] = dy[n,c,p + top,q + left]                                            (58)
"""

from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import padded_pixels, store


@kernel()
def shifted(crew, x, top, left, y):
    """Write equation (57) into ``y``; with -top and -left it is equation (58).

    Parameters
    ----------
    x : float[B, C, H, W, 16]
    top, left : int
    y : float[B, C, OH, OW, 16]
        Overwritten.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``y[b, c]``.
    """
    B, C, OH, OW, _ = y.shape
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        image = x[b]
        for i in range(OH):
            for j in range(OW):
                store(padded_pixels(image, (c, i - top, j - left), 1), y, (b, c, i, j), 2, 1, 3, 1, 1)
