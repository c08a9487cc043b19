"""Normalisation, depthwise convolution and normalisation as one pass over each channel, forward and backward.

All three look at one channel only.  So a task takes a channel of the whole batch through all of them.  What lies
between the first two is a plane of one block, in a thread's own memory.  There too, in the backward pass, a channel's
gradient waits for the first normalisation's sums.  As long as a channel of the batch fits into the caches, nothing
leaves them but what must be kept.  Parts and bits are those of batchnorm.py and depthwise.py, equations those of
docs/backprop.md.

Symbols
-------
B, C         lane blocks and channels
H, W, S      rows, columns and pixels of a channel before the filter;  OH, OW, OS those behind it
x, d, y      input of the first normalisation, input of the second, its output
"""

from functools import lru_cache
from math import prod

import numpy as np

from fastconv_kernels import depthwise, memory
from fastconv_kernels.batchnorm import gradient_sums, moments, write_gradient, write_line, write_statistics
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import LANES, settle


@lru_cache
def forward(correlate):
    """Make the forward kernel from what ``depthwise.forward_plane`` makes."""

    @kernel()
    def channelwise_forward(crew, x, n, first, filters, second, between, d, y):
        """Write equation (35) of (1) of (35) into ``y``, and what the backward pass needs.

        Parameters
        ----------
        x : float[B, C, S, 16]
        n : int
            Images, at least 1.
        first, second : (gamma, beta, eps, relu, mean, var, scale, shift)
            As in ``batchnorm.batch_norm_forward``, which overwrites the last four.
        filters : (k float[C, KH, KW], bias float[C], rows, left)
            As in ``depthwise.forward``; the bias is zero.
        between : float[threads, H, W, 16], and the same memory as float[threads, S, 16]
            Where a plane waits for its filter.
        d : float[B, C, OH, OW, 16], and the same memory as float[B, C, OS, 16]
            Overwritten.
        y : float[B, C, OS, 16]
            Overwritten.

        Notes
        -----
        Race-free: task c is the only writer of ``d[:, c]``, ``y[:, c]`` and of number c of the others.
        """
        gamma, beta, eps, relu, mean, var, scale, shift = first
        gamma_2, beta_2, eps_2, relu_2, mean_2, var_2, scale_2, shift_2 = second
        k, bias, rows, left = filters
        (plane, line), (d_planes, d_lines) = between, d
        B, C = x.shape[:2]
        for c in prange(crew, C):
            me = crew.worker
            write_statistics(x[:, c], c, n, gamma, beta, eps, mean, var, scale, shift)
            for back in range(B):  # what was read last is still in the cache
                b = B - 1 - back
                write_line(x[b, c], x[:0, c], c, scale, shift, relu, False, line[me])
                correlate(plane[me], k, c, bias, d_planes[b, c], rows, left)
            write_statistics(d_lines[:, c], c, n, gamma_2, beta_2, eps_2, mean_2, var_2, scale_2, shift_2)
            for back in range(B):
                b = B - 1 - back
                write_line(d_lines[b, c], d_lines[:0, c], c, scale_2, shift_2, relu_2, True, y[b, c])
        settle()

    return channelwise_forward


@lru_cache
def backward(gather, scatter):
    """Make the backward kernel from what depthwise.py makes for a plane of equation (2), and for one of (3)."""

    @kernel()
    def channelwise_backward(crew, dy, d, x, n, first, second, gathered, scattered, waiting, sums, shares, dx):
        """Write equation (36) of both normalisations, (2) into ``shares``, and (37) of (3) of (37) into ``dx``.

        Parameters
        ----------
        dy : float[B, C, OS, 16]
            Zero in the lanes that hold no image.
        d : float[B, C, OS, 16]
        x : float[B, C, S, 16]
        n : int
        first, second : (mean, var, eps, scale, shift, relu, dgamma, dbeta)
            As in ``batchnorm.batch_norm_backward``, which overwrites the last two.
        gathered : (rows, left)
            As in ``depthwise.backward_filter``.
        scattered : (k float[C, KH, KW], bias float[C], rows, columns)
            What ``depthwise.against`` says, with the filters as it takes them; the bias is zero.
        waiting : three of (planes, and the same memory as lines of pixels)
            Where a plane of the filter's input is computed again, float[threads, H, W, 16]; where the gradient of a
            plane of d waits, float[threads, OH, OW, 16]; and where the gradient to a channel of the filter's input
            waits, in the caches, for the first normalisation's sums, float[threads, B, H, W, 16].
        sums : float[threads, KH, KW, 16] and float[threads, 2, B]
            Where the taps' sums wait, and what the blocks have in the first normalisation's.
        shares : float[B, C, KH, KW]
            Overwritten with each block's share.
        dx : float[B, C, S, 16]
            Overwritten.

        Notes
        -----
        Race-free: task c is the only writer of ``shares[:, c]``, ``dx[:, c]`` and of number c of the others.
        """
        mean, var, eps, scale, shift, relu, dgamma, dbeta = first
        mean_2, var_2, eps_2, scale_2, shift_2, relu_2, dgamma_2, dbeta_2 = second
        (rows, left), (k, bias, rows_back, columns_back) = gathered, scattered
        (plane, line), (dplane, dline), (planes, lines) = waiting
        taps, parts = sums
        B, C, S, _ = x.shape
        m, m_2 = np.float64(n) * S, np.float64(n) * d.shape[2]
        for c in prange(crew, C):
            me = crew.worker
            middle, unit = moments(x, c, mean, var, eps)
            middle_2, unit_2 = moments(x, c, mean_2, var_2, eps_2)
            gamma_sum, beta_sum = 0.0, 0.0
            for b in range(B):
                real = min(LANES, n - b * LANES)
                arrays = dy[b, c], d[b, c], d[:0, c]
                one, other = gradient_sums(*arrays, c, middle_2, unit_2, scale_2, shift_2, relu_2, real)
                beta_sum += np.float64(one)
                gamma_sum += np.float64(other)
            dgamma_2[c], dbeta_2[c] = gamma_sum, beta_sum
            for back in range(B):
                b = B - 1 - back
                real = min(LANES, n - b * LANES)
                how = middle_2, unit_2, scale_2, shift_2, relu_2, gamma_sum, beta_sum
                write_gradient(dy[b, c], d[b, c], c, m_2, *how, real, False, dline[me])
                write_line(x[b, c], x[:0, c], c, scale, shift, relu, False, line[me])
                gather(dplane[me], plane[me], shares[b, c], rows, left, taps[me])
                scatter(dplane[me], k, c, bias, planes[me, b], rows_back, columns_back)
                arrays = lines[me, b], x[b, c], x[:0, c]
                parts[me, 0, b], parts[me, 1, b] = gradient_sums(*arrays, c, middle, unit, scale, shift, relu, real)
            gamma_sum, beta_sum = 0.0, 0.0
            for b in range(B):
                beta_sum += np.float64(parts[me, 0, b])
                gamma_sum += np.float64(parts[me, 1, b])
            dgamma[c], dbeta[c] = gamma_sum, beta_sum
            for b in range(B):  # the first was read last
                real = min(LANES, n - b * LANES)
                how = middle, unit, scale, shift, relu, gamma_sum, beta_sum
                write_gradient(lines[me, b], x[b, c], c, m, *how, real, True, dx[b, c])
        settle()

    return channelwise_backward


def fits(geometry):
    """Whether this file's kernels compute this convolution."""
    return depthwise.fits(geometry)


class Channelwise:
    """Both passes for one geometry of the convolution."""

    def __init__(self, geometry):
        self._geometry, self._no_bias = geometry, np.zeros(geometry.groups, geometry.dtype)
        correlate, *self._along = depthwise.sliding(geometry, depthwise.forward_plane)
        gather, *_ = depthwise.sliding(geometry, depthwise.backward_filter_plane)
        scatter, *self._against = depthwise.against(geometry, depthwise.forward_plane, depthwise.backward_input_plane)
        self._forward, self._backward = forward(correlate), backward(gather, scatter)

    def _shapes(self, blocks):
        before, behind, taps = self._geometry.image, self._geometry.output, self._geometry.weight[2:]
        planes = (*before, LANES), (*behind, LANES), (blocks, *before, LANES)
        return *planes, (*taps, LANES), (-(-2 * blocks // LANES), LANES)

    def scratch_bytes(self, blocks):
        """Return how much memory besides its arguments' a thread needs for so many blocks."""
        return sum(map(prod, self._shapes(blocks))) * self._geometry.dtype.itemsize

    def _scratch(self, blocks):
        """Return memory for each thread: a plane before and one behind the filter, a channel; sums."""
        *waiting, sums, parts = memory.scratch_parts(self._shapes(blocks), self._geometry.dtype)
        parts = parts.reshape(parts.shape[0], -1)[:, : 2 * blocks].reshape(-1, 2, blocks)
        return tuple((each, _line(each)) for each in waiting), (sums, parts)

    def forward(self, x, n, first, k, second, d, y):
        """Write ``channelwise_forward``'s outputs; arrays are float[B, C, rows, columns, 16], k float[C, 1, KH, KW]."""
        (between, *_), _ = self._scratch(x.shape[0])
        filters = k[:, 0], self._no_bias, *self._along
        self._forward(_line(x), n, first, filters, second, between, (d, _line(d)), _line(y))

    def backward(self, dy, d, x, n, first, k, second, shares, dx):
        """Write ``channelwise_backward``'s; shapes as in ``forward``, shares float[B, C, 1, KH, KW]."""
        scattered = depthwise.facing(k, self._geometry), self._no_bias, *self._against
        how = n, first, second, tuple(self._along), scattered, *self._scratch(x.shape[0])
        self._backward(_line(dy), _line(d), _line(x), *how, shares[:, :, 0], _line(dx))


def _line(planes):
    """View [..., H, W, 16] as [..., S, 16]."""
    return planes.reshape(*planes.shape[:-3], -1, LANES)
