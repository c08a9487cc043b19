"""Adaptive average and maximum pooling on lane blocks: the windows share out the image, whatever its size.

Symbols
-------
B, C         lane blocks and channels;  task (b, c) handles one plane of sixteen images
H, W         height and width of the input;  OH, OW  of the output

Mathematics
-----------
Equation numbers are those of docs/backprop.md.  Along an axis of H, window i of OH has the rows ::

    i*H // OH  up to, but not including,  ceil((i + 1)*H / OH)                            (50)

so neighbours overlap by a row where OH does not divide H.  Row p lies in the windows that (50) gives with H and OH
exchanged, which is how the gradients are collected, pixel by pixel. ::

    y[n,c,i,j] = mean of x over window (i, j)                                             (51)
    dx[n,c,p,q] = sum of dy[n,c,i,j] / (its pixels) over the windows (i, j) of (p, q)     (52)
    y[n,c,i,j] = max of x over window (i, j)                                              (53)
    dx[n,c,p,q] = sum of dy[n,c,i,j] over the windows (i, j) whose maximum is (p, q)      (54)

The first maximum counts; NaN is larger than everything, and the last one counts, as in PyTorch.
"""

import numpy as np

from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import divided, full, larger, larger_at, plus, store, vectors, where_equal, zeros


@kernel(parallel=False)
def _span(i, windows, size):
    """Return equation (50): the first row of window i, and the one behind its last."""
    return i * size // windows, -(-(i + 1) * size // windows)


@kernel()
def adaptive_avg_pool2d_forward(crew, x, y):
    """Write equation (51) into ``y``.

    Parameters
    ----------
    x : float[B, C, H, W, 16]
    y : float[B, C, OH, OW, 16]
        Overwritten.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``y[b, c]``.  Each sum runs over a window's pixels in reading order.
    """
    B, C, H, W, _ = x.shape
    OH, OW = y.shape[2:4]
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        for i in range(OH):
            top, bottom = _span(i, OH, H)
            for j in range(OW):
                left, right = _span(j, OW, W)
                total = zeros(x, 1, 1)
                for p in range(top, bottom):
                    for q in range(left, right):
                        total = plus(total, vectors(x, (b, c, p, q), 3, 1, 1))
                store(divided(total, (bottom - top) * (right - left)), y, (b, c, i, j), 2, 1, 3, 1, 1)


@kernel()
def adaptive_avg_pool2d_backward(crew, dy, dx):
    """Write equation (52) into ``dx``.

    Parameters
    ----------
    dy : float[B, C, OH, OW, 16]
    dx : float[B, C, H, W, 16]
        Overwritten.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``dx[b, c]``.  Each sum runs over the windows in reading order.
    """
    B, C, OH, OW, _ = dy.shape
    H, W = dx.shape[2:4]
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        for p in range(H):
            i_from, i_to = _span(p, H, OH)
            for q in range(W):
                j_from, j_to = _span(q, W, OW)
                total = zeros(dy, 1, 1)
                for i in range(i_from, i_to):
                    top, bottom = _span(i, OH, H)
                    for j in range(j_from, j_to):
                        left, right = _span(j, OW, W)
                        share = vectors(dy, (b, c, i, j), 3, 1, 1)
                        total = plus(total, divided(share, (bottom - top) * (right - left)))
                store(total, dx, (b, c, p, q), 2, 1, 3, 1, 1)


@kernel()
def adaptive_max_pool2d_forward(crew, x, y, place):
    """Write equation (53) into ``y``, and which pixel won into ``place`` unless that is empty.

    Parameters
    ----------
    x : float[B, C, H, W, 16]
    y : float[B, C, OH, OW, 16]
        Overwritten.
    place : float[B, C, OH, OW, 16] or float[0, ...]
        Number of the pixel within its window, row by row, as a float so that it lives in the same vectors.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``y[b, c]`` and ``place[b, c]``.
    """
    B, C, H, W, _ = x.shape
    OH, OW = y.shape[2:4]
    remember = place.shape[0] > 0
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        for i in range(OH):
            top, bottom = _span(i, OH, H)
            for j in range(OW):
                left, right = _span(j, OW, W)
                best, at = full(x, -np.inf, 1, 1), zeros(x, 1, 1)
                for p in range(top, bottom):
                    for q in range(left, right):
                        candidate = vectors(x, (b, c, p, q), 3, 1, 1)
                        at = larger_at(at, best, candidate, (p - top) * (right - left) + q - left)
                        best = larger(best, candidate)
                store(best, y, (b, c, i, j), 2, 1, 3, 1, 1)
                if remember:
                    store(at, place, (b, c, i, j), 2, 1, 3, 1, 1)


@kernel()
def adaptive_max_pool2d_backward(crew, dy, place, dx):
    """Write equation (54) into ``dx``.

    Parameters
    ----------
    dy, place : float[B, C, OH, OW, 16]
        ``place`` as the forward pass wrote it.
    dx : float[B, C, H, W, 16]
        Overwritten.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``dx[b, c]``.  Each sum runs over the windows in reading order.
    """
    B, C, OH, OW, _ = dy.shape
    H, W = dx.shape[2:4]
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        for p in range(H):
            i_from, i_to = _span(p, H, OH)
            for q in range(W):
                j_from, j_to = _span(q, W, OW)
                total = zeros(dy, 1, 1)
                for i in range(i_from, i_to):
                    top, _ = _span(i, OH, H)
                    for j in range(j_from, j_to):
                        left, right = _span(j, OW, W)
                        number = (p - top) * (right - left) + q - left
                        share, at = vectors(dy, (b, c, i, j), 3, 1, 1), vectors(place, (b, c, i, j), 3, 1, 1)
                        total = plus(total, where_equal(share, at, number))
                store(total, dx, (b, c, p, q), 2, 1, 3, 1, 1)
