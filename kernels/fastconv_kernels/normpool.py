"""Batch normalisation, ReLU and max pooling in one pass, for windows that do not overlap: nothing between is written.

Symbols
-------
B, C         lane blocks and channels;  task c handles one channel of the whole batch
S            pixels of one channel, in rows of ``width``
KH, KW       height and width of the window, and its stride
OH, OW       height and width of the output
n            real images

Mathematics
-----------
Equation numbers are those of docs/backprop.md: (34) to (37) as in batchnorm.py, and the maximum (7) of what the
rectifier (15) leaves.  On the way back::

    dz = dy at the first maximum of a window if the maximum is positive, else 0                   (69)

takes the place of dy in (36) and (37).  What is left beside the last window has no dz, but its part of (37).
"""

from functools import lru_cache

import numpy as np

from fastconv_kernels.batchnorm import line, statistics
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    LANES,
    first_lanes,
    full,
    gated,
    lane_total,
    larger,
    larger_at,
    minus,
    outer_fma,
    plus,
    rectified,
    store,
    times,
    vectors,
    where_equal,
    zeros,
)


@lru_cache
def forward(KH, KW):
    """Make the kernel of the forward pass for windows of KH x KW pixels."""

    @kernel()
    def norm_pool_forward(crew, x, width, n, gamma, beta, eps, mean, var, scale, shift, y, place):
        """Write equation (7) of (15) of (35), with the statistics (34).

        Parameters
        ----------
        x : float[B, C, S, 16]
        width, n : int
        gamma, beta : float[C]
        eps : float
        mean, var : float64[C]
            Overwritten.
        scale, shift : float[C]
            Overwritten with what makes (35) x * scale + shift.
        y, place : float[B, C, OH, OW, 16]
            Overwritten: the maxima, and which tap u*KW + v was the first of each.

        Notes
        -----
        Race-free: task c is the only writer of ``y[:, c]``, ``place[:, c]`` and number c of the others.
        """
        B, C, OH, OW, _ = y.shape
        for c in prange(crew, C):
            mean[c], var[c] = statistics(x, n, c)
            line(c, mean, var, gamma, beta, eps, scale, shift)
            factor, add = full(x, scale[c], 1, 1), full(x, shift[c], 1, 1)
            for back in range(B):
                b = B - 1 - back
                for i in range(OH):
                    for j in range(OW):
                        first = i * KH * width + j * KW
                        best, at = full(x, -np.inf, 1, 1), zeros(x, 1, 1)
                        for u in range(KH):
                            for v in range(KW):
                                pixel = vectors(x, (b, c, first + u * width + v), 2, 1, 1)
                                z = rectified(outer_fma(add, factor, pixel))
                                at = larger_at(at, best, z, u * KW + v)
                                best = larger(best, z)
                        store(best, y, (b, c, i, j), 2, 1, 3, 1, 1)
                        store(at, place, (b, c, i, j), 2, 1, 3, 1, 1)

    return norm_pool_forward


@lru_cache
def backward(KH, KW):
    """Make the kernel of the backward pass for windows of KH x KW pixels."""

    @kernel()
    def norm_pool_backward(crew, dy, x, width, n, y, place, mean, rstd, scale, dgamma, dbeta, dx):
        """Write equation (36), and (37) into ``dx``, of (69).

        Parameters
        ----------
        dy : float[B, C, OH, OW, 16]
            Zero in the lanes that hold no image.
        x : float[B, C, S, 16]
            The forward pass's input.
        width, n : int
        y, place : float[B, C, OH, OW, 16]
            From the forward pass.
        mean, rstd, scale : float[C]
            rstd = 1 / sqrt(var + eps)
        dgamma, dbeta : float[C]
            Overwritten.
        dx : float[B, C, S, 16]
            Overwritten.

        Notes
        -----
        Race-free: task c is the only writer of ``dx[:, c]``, ``dgamma[c]`` and ``dbeta[c]``.
        """
        B, C, OH, OW, _ = dy.shape
        S = x.shape[2]
        m = np.float64(n) * S
        for c in prange(crew, C):
            factor = full(x, scale[c], 1, 1)
            middle, unit = full(x, mean[c], 1, 1), full(x, rstd[c], 1, 1)
            gamma_sum, beta_sum = 0.0, 0.0
            for b in range(B):
                by_x, by_one = zeros(x, 1, 1), zeros(x, 1, 1)
                for i in range(OH):
                    for j in range(OW):
                        first = i * KH * width + j * KW
                        share = gated(vectors(dy, (b, c, i, j), 3, 1, 1), vectors(y, (b, c, i, j), 3, 1, 1))
                        at = vectors(place, (b, c, i, j), 3, 1, 1)
                        by_one = plus(by_one, share)
                        for u in range(KH):
                            for v in range(KW):
                                pixel = vectors(x, (b, c, first + u * width + v), 2, 1, 1)
                                dz = where_equal(share, at, u * KW + v)
                                by_x = outer_fma(by_x, dz, times(minus(pixel, middle), unit))
                real = min(LANES, n - b * LANES)
                gamma_sum += np.float64(lane_total(first_lanes(by_x, real)))
                beta_sum += np.float64(lane_total(first_lanes(by_one, real)))
            dgamma[c], dbeta[c] = gamma_sum, beta_sum
            # dx = scale * dz - along * (x - mean) - level, with the coefficients of (37)
            along = full(x, x.dtype.type(-scale[c] * rstd[c] * gamma_sum / m), 1, 1)
            level = full(x, x.dtype.type(-scale[c] * beta_sum / m), 1, 1)
            for back in range(B):
                b = B - 1 - back
                real = min(LANES, n - b * LANES)
                for i in range(OH):
                    for j in range(OW):
                        first = i * KH * width + j * KW
                        share = gated(vectors(dy, (b, c, i, j), 3, 1, 1), vectors(y, (b, c, i, j), 3, 1, 1))
                        at = vectors(place, (b, c, i, j), 3, 1, 1)
                        for u in range(KH):
                            for v in range(KW):
                                s = first + u * width + v
                                away = minus(vectors(x, (b, c, s), 2, 1, 1), middle)
                                dz = where_equal(share, at, u * KW + v)
                                out = outer_fma(outer_fma(level, along, away), factor, dz)
                                store(first_lanes(out, real), dx, (b, c, s), 0, 1, 2, 1, 1)
                for row in range(S // width):
                    for column in range(OW * KW if row < OH * KH else 0, width):
                        s = row * width + column
                        out = outer_fma(level, along, minus(vectors(x, (b, c, s), 2, 1, 1), middle))
                        store(first_lanes(out, real), dx, (b, c, s), 0, 1, 2, 1, 1)

    return norm_pool_backward
