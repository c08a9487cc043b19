"""Normalisation of each image by itself, over groups of its channels: forward and backward.

Symbols
-------
B, C         lane blocks and channels;  task (b, g) handles one group of one block's sixteen images
G            groups;  D = C / G channels in each
S            pixels of one channel that share a scale and a shift
m            D * S values in a group

Mathematics
-----------
Equation numbers are those of docs/backprop.md; Wu & He 2018, arXiv:1803.08494; Ba, Kiros & Hinton 2016,
arXiv:1607.06450, whose layer normalisation is one group with S = 1. ::

    mean = sum of x / m,  var = sum of (x - mean)**2 / m,  r = 1 / sqrt(var + eps)            (100)
    xhat = (x - mean) r,  y = gamma[c] xhat + beta[c]                                         (101)
    dgamma[c] = sum of dy xhat,  dbeta[c] = sum of dy                                         (102)
    dx = r (d - mean of d - xhat * mean of d xhat),  d = gamma[c] dy                          (103)

Every image is a lane, so that all sums but those of (102) are lane by lane: over the pixels of a channel, then over
channels, in that order.
"""

from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    LANES,
    divided,
    first_lanes,
    full,
    inverse_root,
    minus,
    outer_fma,
    plus,
    store,
    store_lane_sums,
    times,
    vectors,
    zeros,
)


@kernel()
def group_norm_forward(crew, x, gamma, beta, eps, y, mean, rstd):
    """Write equations (100) and (101).

    Parameters
    ----------
    x, y : float[B, C, S, 16]
        ``y`` is overwritten.
    gamma, beta : float[C]
    eps : float
    mean, rstd : float[B, G, 16]
        Overwritten.

    Notes
    -----
    Race-free: task (b, g) is the only writer of its group of ``y[b]``, and of ``mean[b, g]`` and ``rstd[b, g]``.
    """
    B, C, S, _ = x.shape
    G = mean.shape[1]
    D = C // G
    for task in prange(crew, B * G):
        b, g = task // G, task % G
        total = zeros(x, 1, 1)
        for c in range(g * D, (g + 1) * D):
            part = zeros(x, 1, 1)
            for s in range(S):
                part = plus(part, vectors(x, (b, c, s), 2, 1, 1))
            total = plus(total, part)
        middle = divided(total, D * S)
        total = zeros(x, 1, 1)
        for c in range(g * D, (g + 1) * D):
            part = zeros(x, 1, 1)
            for s in range(S):
                away = minus(vectors(x, (b, c, s), 2, 1, 1), middle)
                part = plus(part, times(away, away))
            total = plus(total, part)
        unit = inverse_root(divided(total, D * S), eps)
        store(middle, mean, (b, g), 0, 1, 1, 1, 1)
        store(unit, rstd, (b, g), 0, 1, 1, 1, 1)
        for c in range(g * D, (g + 1) * D):
            factor, add = times(full(x, gamma[c], 1, 1), unit), full(x, beta[c], 1, 1)
            for s in range(S):
                away = minus(vectors(x, (b, c, s), 2, 1, 1), middle)
                store(outer_fma(add, factor, away), y, (b, c, s), 0, 1, 2, 1, 1)


@kernel()
def group_norm_backward(crew, dy, x, n, gamma, mean, rstd, dgamma, dbeta):
    """Write equation (103) into ``dy``, and each block's shares of (102).

    Parameters
    ----------
    dy : float[B, C, S, 16]
        Overwritten with dx, which is 0 in the lanes that hold no image.
    x : float[B, C, S, 16]
    n : int
        Images.
    gamma : float[C]
    mean, rstd : float[B, G, 16]
        From the forward pass.
    dgamma, dbeta : float[B, C]
        Overwritten.

    Notes
    -----
    Race-free: task (b, g) is the only writer of its group of ``dy[b]``, ``dgamma[b]`` and ``dbeta[b]``.
    """
    B, C, S, _ = x.shape
    G = mean.shape[1]
    D = C // G
    for task in prange(crew, B * G):
        b, g = task // G, task % G
        real = min(LANES, n - b * LANES)
        middle, unit = vectors(mean, (b, g), 1, 1, 1), vectors(rstd, (b, g), 1, 1, 1)
        level, along = zeros(x, 1, 1), zeros(x, 1, 1)
        for c in range(g * D, (g + 1) * D):
            by_one, by_x = zeros(x, 1, 1), zeros(x, 1, 1)
            for s in range(S):
                upstream = vectors(dy, (b, c, s), 2, 1, 1)
                by_one = plus(by_one, upstream)
                by_x = outer_fma(by_x, upstream, minus(vectors(x, (b, c, s), 2, 1, 1), middle))
            by_one, by_x = first_lanes(by_one, real), first_lanes(times(by_x, unit), real)
            store_lane_sums(by_one, dbeta, (b, c), 0, 1, 1, 1)
            store_lane_sums(by_x, dgamma, (b, c), 0, 1, 1, 1)
            factor = full(x, gamma[c], 1, 1)
            level, along = outer_fma(level, factor, by_one), outer_fma(along, factor, by_x)
        level, along = divided(level, D * S), divided(times(along, unit), D * S)
        for c in range(g * D, (g + 1) * D):
            factor = full(x, gamma[c], 1, 1)
            for s in range(S):
                around = times(along, minus(vectors(x, (b, c, s), 2, 1, 1), middle))
                inner = minus(minus(times(factor, vectors(dy, (b, c, s), 2, 1, 1)), level), around)
                store(first_lanes(times(inner, unit), real), dy, (b, c, s), 0, 1, 2, 1, 1)
