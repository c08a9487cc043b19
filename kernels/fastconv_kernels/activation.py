"""Element-wise kernels on lane blocks: ReLU and dropout, forward and backward.

Mathematics
-----------
Equation numbers are those of docs/backprop.md. ::

    y = max(0, x)                                                         (15)
    dx = dy where y > 0, else 0                                           (16)
    y = x * r / (1 - p),  r = 1 with probability 1 - p, else 0            (30)

The random r of (30) is a pure function of a key and of the element's number, so it depends on no thread and is drawn
again, not stored, on the way back (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

import numpy as np

from fastconv_kernels.counter import random_bits
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import LANES, full, gated, rectified, store, times, vectors, where_equal


@kernel()
def relu_forward(crew, x, y):
    """Write equation (15) into ``y``; both float[B, S, 16].

    Notes
    -----
    Race-free: task b is the only writer of ``y[b]``.
    """
    for b in prange(crew, x.shape[0]):
        for s in range(x.shape[1]):
            store(rectified(vectors(x, (b, s), 1, 1, 1)), y, (b, s), 0, 1, 1, 1, 1)


@kernel()
def relu_backward(crew, dy, y, dx):
    """Write equation (16) into ``dx``; all float[B, S, 16].

    Notes
    -----
    Race-free: task b is the only writer of ``dx[b]``.
    """
    for b in prange(crew, dy.shape[0]):
        for s in range(dy.shape[1]):
            kept = gated(vectors(dy, (b, s), 1, 1, 1), vectors(y, (b, s), 1, 1, 1))
            store(kept, dx, (b, s), 0, 1, 1, 1, 1)


@kernel()
def dropout(crew, x, y, key, threshold, scale):
    """Write equation (30) into ``y``; the same call with dy and dx is its gradient.

    Parameters
    ----------
    x, y : float[B, S, 16]
        ``y`` is overwritten.
    key : uint64
    threshold : uint64
        p * 2**64: an element whose random bits lie below is dropped.
    scale : float
        1 / (1 - p)

    Notes
    -----
    Race-free: task b is the only writer of ``y[b]``.  An element's number counts images, not blocks, so the mask
    does not depend on how a batch is laid out.
    """
    B, S, _ = x.shape
    factor = x.dtype.type(scale)
    for b in prange(crew, B):
        for s in range(S):
            for lane in range(LANES):
                number = np.uint64((b * LANES + lane) * S + s)
                keep = random_bits(key, number) >= threshold
                y[b, s, lane] = x[b, s, lane] * factor if keep else x.dtype.type(0)


@kernel()
def dropout_channels(crew, x, y, key, threshold, scale):
    """Write equation (30) into ``y`` with one r for each channel of an image; arguments as in ``dropout``.

    Parameters
    ----------
    x, y : float[B, C, S, 16]
        ``y`` is overwritten, and is not ``x``.
    key, threshold, scale
        As in ``dropout``.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``y[b, c]``.
    """
    B, C, S, _ = x.shape
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        factor = full(x, x.dtype.type(scale), 1, 1)
        for lane in range(LANES):
            keep = random_bits(key, np.uint64((b * LANES + lane) * C + c)) >= threshold
            y[b, c, 0, lane] = 1 if keep else 0
        kept = vectors(y, (b, c, 0), 2, 1, 1)
        for s in range(S):
            z = where_equal(times(vectors(x, (b, c, s), 2, 1, 1), factor), kept, 1)
            store(z, y, (b, c, s), 0, 1, 2, 1, 1)
