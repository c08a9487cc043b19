"""Batch normalisation on lane blocks: forward with the batch's statistics or given ones, and backward.

Symbols
-------
B, C         lane blocks and channels;  task c handles one channel of the whole batch
S            pixels of one channel
n            real images;  m = n*S values a channel

Mathematics
-----------
Equation numbers are those of docs/backprop.md; Ioffe & Szegedy 2015, arXiv:1502.03167. ::

    mean = sum of x / m,  var = sum of (x - mean)**2 / m                                   (34)
    xhat = (x - mean) / sqrt(var + eps),  y = gamma * xhat + beta                          (35)
    dgamma = sum of dy * xhat,  dbeta = sum of dy                                          (36)
    dx = gamma / sqrt(var + eps) * (dy - dbeta / m - xhat * dgamma / m)                    (37)

A channel's blocks are read twice, but while the first reading is in the cache.  Sums run over the pixels of a block in
sixteen lanes, which are added in a fixed tree; blocks are put together in their order, in float64, by the formulas of
Chan, Golub and LeVeque (1979) for the variance.  The lanes that hold no image count nowhere, and their gradient is 0.
"""

import numpy as np

from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    LANES,
    first_lanes,
    full,
    gated,
    lane_total,
    minus,
    outer_fma,
    plus,
    rectified,
    store,
    times,
    vectors,
    zeros,
)


@kernel()
def batch_statistics(crew, x, n, mean, var):
    """Write equation (34).

    Parameters
    ----------
    x : float[B, C, S, 16]
    n : int
        Images, at least 1.
    mean, var : float64[C]
        Overwritten.

    Notes
    -----
    Race-free: task c is the only writer of ``mean[c]`` and ``var[c]``.
    """
    B, C, S, _ = x.shape
    for c in prange(crew, C):
        count, center, spread = 0.0, 0.0, 0.0
        for b in range(B):
            real = min(LANES, n - b * LANES)
            total = zeros(x, 1, 1)
            for s in range(S):
                total = plus(total, vectors(x, (b, c, s), 2, 1, 1))
            here = real * S
            average = np.float64(lane_total(first_lanes(total, real))) / here
            middle = full(x, x.dtype.type(average), 1, 1)
            squares = zeros(x, 1, 1)
            rest = zeros(x, 1, 1)
            for s in range(S):
                away = minus(vectors(x, (b, c, s), 2, 1, 1), middle)
                rest = plus(rest, away)
                squares = plus(squares, times(away, away))
            # The rounded middle is a little beside the mean: (sum of away) / here, which the squares must lose again.
            off = np.float64(lane_total(first_lanes(rest, real))) / here
            average = np.float64(x.dtype.type(average)) + off
            around = np.float64(lane_total(first_lanes(squares, real))) - here * off * off
            delta, both = average - center, count + here
            spread += around + delta * delta * count * here / both
            center += delta * here / both
            count = both
        mean[c] = center
        var[c] = max(spread, 0.0) / count


@kernel()
def scale_and_shift(crew, x, scale, shift, y, relu):
    """Write x * scale[c] + shift[c], which is equation (35), and max(0, that) if ``relu``, into ``y``.

    Parameters
    ----------
    x, y : float[B, C, S, 16]
        ``y`` is overwritten, and may be ``x``.
    scale, shift : float[C]
    relu : bool

    Notes
    -----
    Race-free: task (c, b) is the only writer of ``y[b, c]``.
    """
    B, C, S, _ = x.shape
    for task in prange(crew, B * C):
        c, b = task // B, task % B
        factor, add = full(x, scale[c], 1, 1), full(x, shift[c], 1, 1)
        for s in range(S):
            z = outer_fma(add, factor, vectors(x, (b, c, s), 2, 1, 1))
            if relu:
                z = rectified(z)
            store(z, y, (b, c, s), 0, 1, 2, 1, 1)


@kernel()
def batch_norm_backward(crew, dy, x, n, mean, rstd, scale, shift, relu, batch, dgamma, dbeta):
    """Write equation (36), and (37) into ``dy``.

    Parameters
    ----------
    dy : float[B, C, S, 16]
        Overwritten with dx.  Zero in the lanes that hold no image.
    x : float[B, C, S, 16]
        The forward pass's input.
    n : int
    mean, rstd : float[C]
        rstd = 1 / sqrt(var + eps)
    scale, shift : float[C]
        What ``scale_and_shift`` was given.
    relu : bool
        Whether it applied a ReLU: then its gradient (16) comes first, by the sign of what it computed.
    batch : bool
        Whether the statistics are the batch's, which depend on x; else dx = scale * dy.
    dgamma, dbeta : float[C]
        Overwritten.

    Notes
    -----
    Race-free: task c is the only writer of ``dy[:, c]``, ``dgamma[c]`` and ``dbeta[c]``.
    """
    B, C, S, _ = x.shape
    m = np.float64(n) * S
    for c in prange(crew, C):
        factor, add = full(x, scale[c], 1, 1), full(x, shift[c], 1, 1)
        middle, unit = full(x, mean[c], 1, 1), full(x, rstd[c], 1, 1)
        gamma_sum, beta_sum = 0.0, 0.0
        for b in range(B):
            by_x, by_one = zeros(x, 1, 1), zeros(x, 1, 1)
            for s in range(S):
                pixel, dz = vectors(x, (b, c, s), 2, 1, 1), vectors(dy, (b, c, s), 2, 1, 1)
                if relu:
                    dz = gated(dz, outer_fma(add, factor, pixel))
                by_one = plus(by_one, dz)
                by_x = outer_fma(by_x, dz, times(minus(pixel, middle), unit))
            real = min(LANES, n - b * LANES)
            gamma_sum += np.float64(lane_total(first_lanes(by_x, real)))
            beta_sum += np.float64(lane_total(first_lanes(by_one, real)))
        dgamma[c], dbeta[c] = gamma_sum, beta_sum
        # dx = scale * dz - along * (x - mean) - level, with the coefficients of (37)
        along = full(x, x.dtype.type(-scale[c] * rstd[c] * gamma_sum / m if batch else 0.0), 1, 1)
        level = full(x, x.dtype.type(-scale[c] * beta_sum / m if batch else 0.0), 1, 1)
        for b in range(B):
            real = min(LANES, n - b * LANES)
            for s in range(S):
                pixel, dz = vectors(x, (b, c, s), 2, 1, 1), vectors(dy, (b, c, s), 2, 1, 1)
                if relu:
                    dz = gated(dz, outer_fma(add, factor, pixel))
                dx = outer_fma(outer_fma(level, along, minus(pixel, middle)), factor, dz)
                store(first_lanes(dx, real), dy, (b, c, s), 0, 1, 2, 1, 1)
