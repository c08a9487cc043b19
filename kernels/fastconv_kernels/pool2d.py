"""Max and average pooling on lane blocks, forward and backward.

Symbols
-------
B, C         lane blocks and channels;  task (b, c) handles one plane of sixteen images
H, W         height and width of the input, without padding
KH, KW       height and width of the window;  sh, sw  stride;  ph, pw  padding
OH, OW       height and width of the output, which follow from ceil_mode (fastconv.shapes)

Mathematics
-----------
Equation numbers are those of docs/backprop.md.  Window (i, j) covers the rows i*sh - ph + u and the columns
j*sw - pw + v that lie inside the image. ::

    y[n,c,i,j] = max of x over window (i, j)                                              (7)
    dx at the first maximum of window (i, j) gets dy[n,c,i,j]                             (8)
    y[n,c,i,j] = (sum of x over window (i, j)) / divisor(i, j)                            (9)
    dx everywhere in window (i, j) gets dy[n,c,i,j] / divisor(i, j)                       (10)

NaN is larger than everything, as in PyTorch.  The divisor is PyTorch's: the window's size with padding if
``count_include_pad``, cut off where ceil_mode lets it run past the padding; else what lies inside the image.
"""

from functools import lru_cache

import numpy as np

from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    divided,
    full,
    gated,
    larger,
    larger_at,
    plus,
    store,
    store_lane_sums,
    vectors,
    where_equal,
    zeros,
)


@kernel(parallel=False)
def _inside(i, taps, stride, padding, size):
    """Return the first tap of window i that lies inside the image, and the one behind the last."""
    start = i * stride - padding
    return max(0, -start), min(taps, size - start)


@kernel(parallel=False)
def _divisor(i, taps, stride, padding, size, with_padding):
    """Return how many taps of window i count in an average along one axis."""
    start = i * stride - padding
    if with_padding:
        return min(taps, size + padding - start)
    return min(start + taps, size) - max(start, 0)


@lru_cache
def max_pool2d_forward(P):
    """Make the kernel of equation (7) for P windows of a row at a time, which must lie inside the image if P > 1."""

    @kernel()
    def max_pool2d_forward(crew, x, y, place, window, stride, padding):
        """Write equation (7) into ``y``, and which tap won into ``place`` unless that is empty.

        Parameters
        ----------
        x : float[B, C, H, W, 16]
        y : float[B, C, OH, OW, 16]
            Overwritten.
        place : float[B, C, OH, OW, 16] or float[0, ...]
            Number u*KW + v of the first maximum, as a float so that it lives in the same vectors.
        window, stride, padding : (int, int)

        Notes
        -----
        Race-free: task (b, c) is the only writer of ``y[b, c]`` and ``place[b, c]``.
        """
        B, C, H, W, _ = x.shape
        OH, OW = y.shape[2:4]
        KW = window[1]
        remember = place.shape[0] > 0
        for task in prange(crew, B * C):
            b, c = task // C, task % C
            image = x[b, c]
            for i in range(OH):
                u_from, u_to = _inside(i, window[0], stride[0], padding[0], H)
                for start in range(0, OW, P):
                    j = min(start, OW - P)
                    v_from, v_to = _inside(j, KW, stride[1], padding[1], W)
                    row, column = i * stride[0] - padding[0], j * stride[1] - padding[1]
                    best, at = full(x, -np.inf, 1, P), full(x, u_from * KW + v_from, 1, P)
                    for u in range(u_from, u_to):
                        for v in range(v_from, v_to):
                            candidate = vectors(image, (row + u, column + v), 1, stride[1], P)
                            at = larger_at(at, best, candidate, u * KW + v)
                            best = larger(best, candidate)
                    store(best, y, (b, c, i, j), 2, 1, 3, 1, P)
                    if remember:
                        store(at, place, (b, c, i, j), 2, 1, 3, 1, P)

    return max_pool2d_forward


def windows_together(width, out, taps, stride, padding):
    """Return P for ``max_pool2d_forward``: several if all windows of a row lie inside the image."""
    inside = padding == 0 and (out - 1) * stride + taps <= width
    return min(out, 5) if inside else 1


@kernel()
def max_pool2d_backward(crew, dy, place, y, dx, window, stride, padding, shares):
    """Write equation (8) into ``dx``; with a ``y``, equation (16) too, and the bias's share (4) of what is written.

    Where the layer before ends in ReLU, the gradient passes that as well.  At the maximum, ReLU's output is this
    layer's own, so where that is not positive there is no gradient, and the few that are left make up the sum (4).

    Parameters
    ----------
    dy, place : float[B, C, OH, OW, 16]
        ``place`` from the forward pass.
    y : float[B, C, OH, OW, 16] or float[0, ...]
        The forward pass's output, if the layer before ends in ReLU.
    dx : float[B, C, H, W, 16]
        Overwritten.
    window, stride, padding : (int, int)
    shares : float[B, C]
        Overwritten if there is a ``y``.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``dx[b, c]`` and ``shares[b, c]``.  Windows that overlap add in the
    order of i, j; the share is summed in that order in sixteen lanes, which are then added in a fixed tree.
    """
    B, C, OH, OW, _ = dy.shape
    H, W = dx.shape[2:4]
    KH, KW = window
    relu = y.shape[0] > 0
    apart = stride[0] >= KH and stride[1] >= KW
    covered = stride == window and padding == (0, 0) and H == OH * KH and W == OW * KW
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        image = dx[b, c]
        if not covered:
            image[:] = 0
        total = zeros(dy, 1, 1)
        for i in range(OH):
            u_from, u_to = _inside(i, KH, stride[0], padding[0], H)
            for j in range(OW):
                v_from, v_to = _inside(j, KW, stride[1], padding[1], W)
                row, column = i * stride[0] - padding[0], j * stride[1] - padding[1]
                share = vectors(dy, (b, c, i, j), 3, 1, 1)
                if relu:
                    share = gated(share, vectors(y, (b, c, i, j), 3, 1, 1))
                    total = plus(total, share)
                at = vectors(place, (b, c, i, j), 3, 1, 1)
                for u in range(u_from, u_to):
                    for v in range(v_from, v_to):
                        here = (row + u, column + v)
                        there = where_equal(share, at, u * KW + v)
                        if not apart:
                            there = plus(vectors(image, here, 1, 1, 1), there)
                        store(there, image, here, 0, 1, 1, 1, 1)
        if relu:
            store_lane_sums(total, shares, (b, c), 0, 1, 1, 1)


@kernel()
def avg_pool2d_forward(crew, x, y, window, stride, padding, count_include_pad):
    """Write equation (9) into ``y``.

    Parameters
    ----------
    x : float[B, C, H, W, 16]
    y : float[B, C, OH, OW, 16]
        Overwritten.
    window, stride, padding : (int, int)
    count_include_pad : bool

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``y[b, c]``.  Each sum runs over u, v in that order.
    """
    B, C, H, W, _ = x.shape
    OH, OW = y.shape[2:4]
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        image = x[b, c]
        for i in range(OH):
            u_from, u_to = _inside(i, window[0], stride[0], padding[0], H)
            rows = _divisor(i, window[0], stride[0], padding[0], H, count_include_pad)
            for j in range(OW):
                v_from, v_to = _inside(j, window[1], stride[1], padding[1], W)
                columns = _divisor(j, window[1], stride[1], padding[1], W, count_include_pad)
                row, column = i * stride[0] - padding[0], j * stride[1] - padding[1]
                total = zeros(x, 1, 1)
                for u in range(u_from, u_to):
                    for v in range(v_from, v_to):
                        total = plus(total, vectors(image, (row + u, column + v), 1, 1, 1))
                store(divided(total, rows * columns), y, (b, c, i, j), 2, 1, 3, 1, 1)


@kernel()
def avg_pool2d_backward(crew, dy, dx, window, stride, padding, count_include_pad):
    """Write equation (10) into ``dx``.

    Parameters
    ----------
    dy : float[B, C, OH, OW, 16]
    dx : float[B, C, H, W, 16]
        Overwritten.
    window, stride, padding : (int, int)
    count_include_pad : bool

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``dx[b, c]``.  Windows that overlap add in the order of i, j.
    """
    B, C, OH, OW, _ = dy.shape
    H, W = dx.shape[2:4]
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        image = dx[b, c]
        image[:] = 0
        for i in range(OH):
            u_from, u_to = _inside(i, window[0], stride[0], padding[0], H)
            rows = _divisor(i, window[0], stride[0], padding[0], H, count_include_pad)
            for j in range(OW):
                v_from, v_to = _inside(j, window[1], stride[1], padding[1], W)
                columns = _divisor(j, window[1], stride[1], padding[1], W, count_include_pad)
                row, column = i * stride[0] - padding[0], j * stride[1] - padding[1]
                share = divided(vectors(dy, (b, c, i, j), 3, 1, 1), rows * columns)
                for u in range(u_from, u_to):
                    for v in range(v_from, v_to):
                        here = (row + u, column + v)
                        store(plus(vectors(image, here, 1, 1, 1), share), image, here, 0, 1, 1, 1, 1)
