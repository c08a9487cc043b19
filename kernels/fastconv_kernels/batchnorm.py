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

A task has one channel, whose blocks are read twice, the second time from the last to the first: what was read last is
still in the cache.  Sums run over the pixels of a block in sixteen lanes, which are added in a fixed tree; blocks are
put together in their order, in float64.  The lanes that hold no image count nowhere, and their gradient is 0.

A block's squares are taken about K, the mean of the blocks before it, or of the first about its own::

    off = sum of (x - K) / w,  its mean = K + off,  its squares = sum of (x - K)**2 - w * off**2        (68)
    d = its mean - mean,  mean += d * w / (v + w),  squares += its squares + d**2 * v * w / (v + w)

w is the number of values in the block, v that of those before it.  The second line is Chan, Golub and LeVeque's (1979).
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
    stream,
    times,
    vectors,
    zeros,
)


@kernel(parallel=False)
def _sums(x, b, middle, real):
    """Return the sums of x[b] - middle, and of its squares, over a channel's real images, x[B, S, 16]."""
    around = full(x, middle, 1, 1)
    rest, squares = zeros(x, 1, 1), zeros(x, 1, 1)
    for s in range(x.shape[1]):
        away = minus(vectors(x, (b, s), 1, 1, 1), around)
        rest = plus(rest, away)
        squares = outer_fma(squares, away, away)
    return np.float64(lane_total(first_lanes(rest, real))), np.float64(lane_total(first_lanes(squares, real)))


@kernel(parallel=False)
def write_statistics(x, c, n, gamma, beta, eps, mean, var, scale, shift):
    """Write equation (34) by (68) of channel c, x[B, S, 16], and what makes (35) x * scale[c] + shift[c]."""
    B, S, _ = x.shape
    count, center, spread = 0.0, 0.0, 0.0
    for b in range(B):
        real = min(LANES, n - b * LANES)
        here = np.float64(real) * S
        if b == 0:
            center = _sums(x, b, x.dtype.type(0), real)[0] / here
        middle = x.dtype.type(center)
        rest, squares = _sums(x, b, middle, real)
        off = rest / here
        delta, both = np.float64(middle) + off - center, count + here
        spread += squares - here * off * off + delta * delta * count * here / both
        center += delta * here / both
        count = both
    mean[c] = center
    var[c] = max(spread, 0.0) / count
    slope = 1 / np.sqrt(var[c] + eps) * np.float64(gamma[c])
    scale[c] = slope
    shift[c] = np.float64(beta[c]) - center * slope


@kernel(parallel=False)
def write_line(x, addend, c, scale, shift, relu, past, y):
    """Write into ``y`` [S, 16] x * scale[c] + shift[c], plus ``addend[0]`` if there is one; if ``relu``, max(0, that).

    With ``past`` it is stored past the caches, and the kernel that calls this ends with ``settle()``.
    """
    factor, add = full(x, scale[c], 1, 1), full(x, shift[c], 1, 1)
    for s in range(x.shape[0]):
        z = outer_fma(add, factor, vectors(x, (s,), 0, 1, 1))
        if addend.shape[0] > 0:
            z = plus(z, vectors(addend, (0, s), 1, 1, 1))
        if relu:
            z = rectified(z)
        if past:
            stream(z, y, (s,), 0, 1, 0, 1, 1)
        else:
            store(z, y, (s,), 0, 1, 0, 1, 1)


@kernel()
def batch_norm_forward(crew, x, n, gamma, beta, eps, addend, relu, mean, var, scale, shift, y):
    """Write equation (34) by (68), and into ``y`` (35), plus ``addend``, and max(0, that) if ``relu``.

    Parameters
    ----------
    x : float[B, C, S, 16]
    n : int
        Images, at least 1.
    gamma, beta : float[C]
    eps : float
    addend : float[B, C, S, 16] or float[0, C, S, 16]
        Nothing is added if it is empty.
    relu : bool
    mean, var : float64[C]
        Overwritten.
    scale, shift : float[C]
        Overwritten with what makes (35) x * scale + shift.
    y : float[B, C, S, 16]
        Overwritten.

    Notes
    -----
    Race-free: task c is the only writer of ``y[:, c]`` and of number c of the others.
    """
    B, C = x.shape[:2]
    for c in prange(crew, C):
        write_statistics(x[:, c], c, n, gamma, beta, eps, mean, var, scale, shift)
        for back in range(B):
            b = B - 1 - back
            write_line(x[b, c], addend[b : b + 1, c], c, scale, shift, relu, False, y[b, c])


@kernel()
def scale_and_shift(crew, x, scale, shift, addend, relu, y):
    """Write x * scale[c] + shift[c], which is equation (35), plus ``addend``, and max(0, that) if ``relu``.

    Parameters
    ----------
    x : float[B, C, S, 16]
    scale, shift : float[C]
    addend, relu
        As in ``batch_norm_forward``.
    y : float[B, C, S, 16]
        Overwritten.

    Notes
    -----
    Race-free: task (c, b) is the only writer of ``y[b, c]``.
    """
    B, C = x.shape[:2]
    for task in prange(crew, B * C):
        c, b = task // B, task % B
        write_line(x[b, c], addend[b : b + 1, c], c, scale, shift, relu, False, y[b, c])


@kernel(parallel=False)
def moments(like, c, mean, var, eps):
    """Return channel c's mean and 1 / sqrt(var + eps), in the dtype of the array ``like``."""
    return like.dtype.type(mean[c]), like.dtype.type(1 / np.sqrt(var[c] + eps))


@kernel(parallel=False)
def gradient_sums(dy, x, y, c, mean, rstd, scale, shift, relu, real):
    """Return a block's part of the sums (36) of channel c: dbeta's, dgamma's; dy and x are [S, 16].

    ``mean`` and ``rstd`` are those of ``moments``.
    ``y`` is [1, S, 16] if there was an addend, whose gradient then overwrites ``dy``; else [0, S, 16].
    """
    added = y.shape[0] > 0
    factor, add = full(x, scale[c], 1, 1), full(x, shift[c], 1, 1)
    middle, unit = full(x, mean, 1, 1), full(x, rstd, 1, 1)
    by_x, by_one = zeros(x, 1, 1), zeros(x, 1, 1)
    for s in range(x.shape[0]):
        pixel, dz = vectors(x, (s,), 0, 1, 1), vectors(dy, (s,), 0, 1, 1)
        if relu and added:
            dz = gated(dz, vectors(y, (0, s), 1, 1, 1))
            store(dz, dy, (s,), 0, 1, 0, 1, 1)
        elif relu:
            dz = gated(dz, outer_fma(add, factor, pixel))
        by_one = plus(by_one, dz)
        by_x = outer_fma(by_x, dz, times(minus(pixel, middle), unit))
    return lane_total(first_lanes(by_one, real)), lane_total(first_lanes(by_x, real))


@kernel(parallel=False)
def write_gradient(dy, x, c, m, mean, rstd, scale, shift, relu, dgamma, dbeta, real, past, dx):
    """Write a block's part of equation (37) of channel c into ``dx``; dy, x and dx are [S, 16].

    ``mean`` and ``rstd`` are those of ``moments``; ``past`` is as in ``write_line``.
    """
    factor, add, middle = full(x, scale[c], 1, 1), full(x, shift[c], 1, 1), full(x, mean, 1, 1)
    # dx = scale * dz - along * (x - mean) - level, with the coefficients of (37)
    along = full(x, x.dtype.type(-scale[c] * rstd * dgamma / m), 1, 1)
    level = full(x, x.dtype.type(-scale[c] * dbeta / m), 1, 1)
    for s in range(x.shape[0]):
        pixel, dz = vectors(x, (s,), 0, 1, 1), vectors(dy, (s,), 0, 1, 1)
        if relu:
            dz = gated(dz, outer_fma(add, factor, pixel))
        out = outer_fma(outer_fma(level, along, minus(pixel, middle)), factor, dz)
        out = first_lanes(out, real)
        if past:
            stream(out, dx, (s,), 0, 1, 0, 1, 1)
        else:
            store(out, dx, (s,), 0, 1, 0, 1, 1)


@kernel()
def batch_norm_backward(crew, dy, x, y, n, mean, var, eps, scale, shift, relu, dgamma, dbeta, dx):
    """Write equation (36), and (37) into ``dx``.

    Parameters
    ----------
    dy : float[B, C, S, 16]
        Zero in the lanes that hold no image.  Where there was an addend, overwritten with its gradient.
    x : float[B, C, S, 16]
        The forward pass's input.
    y : float[B, C, S, 16] or float[0, C, S, 16]
        Its output, if there was an addend.
    n : int
    mean, var : float64[C]
    eps : float
    scale, shift : float[C]
        As ``batch_norm_forward`` took and wrote them.
    relu : bool
        Whether it applied a ReLU: then its gradient (16) comes first, by the sign of ``y``, or of what it was without
        an addend.
    dgamma, dbeta : float[C]
        Overwritten.
    dx : float[B, C, S, 16]
        Overwritten; without an addend it may be ``dy``.

    Notes
    -----
    Race-free: task c is the only writer of ``dy[:, c]``, ``dx[:, c]``, ``dgamma[c]`` and ``dbeta[c]``.
    """
    B, C, S, _ = x.shape
    m = np.float64(n) * S
    gates = relu and y.shape[0] == 0
    for c in prange(crew, C):
        gamma_sum, beta_sum = 0.0, 0.0
        middle, unit = moments(x, c, mean, var, eps)
        for b in range(B):
            real = min(LANES, n - b * LANES)
            arrays = dy[b, c], x[b, c], y[b : b + 1, c]
            one, other = gradient_sums(*arrays, c, middle, unit, scale, shift, relu, real)
            beta_sum += np.float64(one)
            gamma_sum += np.float64(other)
        dgamma[c], dbeta[c] = gamma_sum, beta_sum
        for back in range(B):
            b = B - 1 - back
            real = min(LANES, n - b * LANES)
            how = middle, unit, scale, shift, gates, gamma_sum, beta_sum
            write_gradient(dy[b, c], x[b, c], c, m, *how, real, False, dx[b, c])
