"""Kernels for the fully connected layer on lane blocks: forward, and the gradients to input and weight.

A Linear layer is a 1x1 convolution whose pixels are the lane blocks themselves, so forward and gradient to the input
are tiles of M features by P blocks.  The gradient to the weight sums over images, which are the lanes; there sixteen
neighbouring input features become the lanes instead, after one transposition of the input.

Symbols
-------
B            lane blocks in the batch;  N = 16 B  images, with padding
I, J         input and output features

Mathematics
-----------
Equation numbers are those of docs/backprop.md. ::

    y[n,j]  = b[j] + sum_i w[j,i] * x[n,i]       (11)
    dx[n,i] = sum_j w[j,i] * dy[n,j]             (12)
    dw[j,i] = sum_n dy[n,j] * x[n,i]             (13)
"""

from functools import lru_cache

from fastconv_kernels import memory
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    LANES,
    outer_fma,
    padded_vectors,
    rectified,
    spread,
    store,
    store_columns,
    transposed,
    vectors,
    weights,
    zeros,
)
from fastconv_kernels.tilesize import choose


@lru_cache
def forward(M, P):
    """Make the kernel of equation (11) for tiles of M outputs by P blocks; J >= M and B >= P."""

    @kernel()
    def linear_forward(crew, x, w, bias, y, relu):
        """Write equation (11), and max(0, that) if ``relu``, into ``y``.

        Parameters
        ----------
        x : float[B, I, 16]
        w : float[J, I]
        bias : float[J]
        y : float[B, J, 16]
            Overwritten.
        relu : bool

        Notes
        -----
        Race-free: each task is the only writer of its features of its blocks, or writes the same bits as its neighbour
        where the last tile is moved back to fit.  Each output is one lane of one accumulator, summed over i in order.
        """
        B, I, _ = x.shape
        J = w.shape[0]
        T, Q = -(-J // M), -(-B // P)
        for task in prange(crew, T * Q):
            # Neighbouring tasks share the tile's weights, which stay in the first-level cache.
            j, b = min(task // Q * M, J - M), min(task % Q * P, B - P)
            acc = spread(bias, j, M, P)
            for i in range(I):
                acc = outer_fma(acc, weights(w, (j, i), 0, M), vectors(x, (b, i, 0), 0, 1, P))
            if relu:
                acc = rectified(acc)
            store(acc, y, (b, j, 0), 1, M, 0, 1, P)

    return linear_forward


@lru_cache
def backward_input(M, P):
    """Make the kernel of equation (12) for tiles of M inputs by P blocks; I >= M and B >= P."""

    @kernel()
    def linear_backward_input(crew, dy, w, dx):
        """Write equation (12) into ``dx``.

        Parameters
        ----------
        dy : float[B, J, 16]
        w : float[J, I]
        dx : float[B, I, 16]
            Overwritten.

        Notes
        -----
        Race-free: as in ``linear_forward``.  Each element is summed over j in order.
        """
        B, J, _ = dy.shape
        I = w.shape[1]
        T, Q = -(-I // M), -(-B // P)
        for task in prange(crew, T * Q):
            i, b = min(task // Q * M, I - M), min(task % Q * P, B - P)
            acc = zeros(dy, M, P)
            for j in range(J):
                acc = outer_fma(acc, weights(w, (j, i), 1, M), vectors(dy, (b, j, 0), 0, 1, P))
            store(acc, dx, (b, i, 0), 1, M, 0, 1, P)

    return linear_backward_input


@kernel()
def transpose_lanes(crew, x, xt):
    """Turn lanes into rows: xt[16*b + lane, i] = x[b, i, lane], and 0 in the columns past the last feature.

    Parameters
    ----------
    x : float[B, I, 16]
    xt : float[N, 16*ceil(I/16)]
        Overwritten.

    Notes
    -----
    Race-free: task (b, sixteen features) is the only writer of its square of ``xt``.
    """
    B = x.shape[0]
    T = xt.shape[1] // LANES
    for task in prange(crew, B * T):
        b, start = task // T, task % T * LANES
        square = transposed(padded_vectors(x, (b, start), 1, 1, LANES))
        store(square, xt, (b * LANES, start), 0, LANES, 0, 1, 1)


@lru_cache
def backward_weight(M, P):
    """Make the kernel of equation (13) for tiles of M outputs by 16 P inputs; J >= M and ceil(I/16) >= P."""

    @kernel()
    def linear_backward_weight(crew, dy, xt, n, dw):
        """Write equation (13) into ``dw``.

        Parameters
        ----------
        dy : float[B, J, 16]
        xt : float[N, 16*ceil(I/16)]
            The input, from ``transpose_lanes``.
        n : int
            How many images there are; the lanes behind them are left out.
        dw : float[J, I]
            Overwritten.

        Notes
        -----
        Race-free: as in ``linear_forward``.  Each element is one lane of one accumulator, summed over n in order.
        """
        B = dy.shape[0]
        J, I = dw.shape
        columns = xt.shape[1] // LANES
        T, Q = -(-J // M), -(-columns // P)
        for task in prange(crew, T * Q):
            j, i = min(task // Q * M, J - M), min(task % Q * P, columns - P) * LANES
            acc = zeros(dy, M, P)
            for b in range(B):
                for lane in range(min(LANES, n - b * LANES)):
                    acc = outer_fma(
                        acc, weights(dy, (b, j, lane), 1, M), vectors(xt, (b * LANES + lane, i), 1, LANES, P)
                    )
            store_columns(acc, dw, j, i, M, P, I)

    return linear_backward_weight


class Matrix:
    """The three kernels for one size: chooses the tiles and holds the transposed input.

    Parameters
    ----------
    blocks : int
        Lane blocks in the batch, at least 1.
    inputs, outputs : int
        I and J.
    dtype : float32 or float64
    """

    def __init__(self, blocks, inputs, outputs, dtype):
        columns = -(-inputs // LANES)
        # At most four columns, whatever divides best: layers of all sizes then share one compiled kernel.
        self.forward = forward(*choose(outputs, min(blocks, 4)))
        self.backward_input = backward_input(*choose(inputs, min(blocks, 4)))
        self._backward_weight = backward_weight(*choose(outputs, min(columns, 4)))
        self._transposed = memory.empty((blocks * LANES, columns * LANES), dtype)

    def backward_weight(self, dy, x, n, dw):
        """Write equation (13) of n images into ``dw``; shapes as in the kernels."""
        transpose_lanes(x, self._transposed)
        self._backward_weight(dy, self._transposed, n, dw)
