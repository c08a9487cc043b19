"""Activations with a curve of their own: each is a function of one number, and two kernels carry out them all.

Mathematics
-----------
Equation numbers are those of docs/backprop.md.  a is the layer's number, e its exponential, s = 1 / (1 + exp(-x)). ::

    y = f(x),  dx = dy * f'(x)                                                       (40)
    f = x where x > 0, else a x                         leaky ReLU                   (41)
    f = x where x > 0, else a (exp(x) - 1)              ELU                          (42)
    f = s                                               sigmoid                      (43)
    f = x s                                             SiLU                         (44)
    f = x Phi(x)                                        GELU                         (45)
    f = x s(2u),  u = sqrt(2/pi) (x + 0.044715 x**3)    GELU by the tanh             (46)
    f = tanh(x)                                                                      (47)
    f = x min(max(x + 3, 0), 6) / 6                     Hardswish                    (48)
    dw = sum of dy x where x <= 0                       PReLU's slope w, a in (41)   (49)

A curve is computed in the type that the arrays hold.  It is free of branches, so that the loop over elements, which lie
side by side, becomes one over vectors.  A slope is that of the output where this is cheaper.
"""

from functools import lru_cache
from math import pi, sqrt

from fastconv_kernels.crew import prange
from fastconv_kernels.precision import alike, decay, expm1, normal, tanh
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    LANES,
    first_lanes,
    minus,
    plus,
    rectified,
    store,
    store_lane_sums,
    times,
    vectors,
    zeros,
)

STRIP = 16384
"""Elements in a task: 64 KB of float32."""


@lru_cache
def forward(curve):
    """Make the kernel of equation (40) for a curve: a compiled function of a number and the layer's own."""

    @kernel()
    def elementwise_forward(crew, x, a, y):
        """Write equation (40) into ``y``.

        Parameters
        ----------
        x, y : float[B, K]
            K elements of a lane block; ``y`` is overwritten.
        a : float64

        Notes
        -----
        Race-free: each task is the only writer of its part of ``y``.
        """
        B, K = x.shape
        parts = -(-K // STRIP)
        for task in prange(crew, B * parts):
            b, start = task // parts, task % parts * STRIP
            before, after = x[b, start : start + STRIP], y[b, start : start + STRIP]
            for k in range(after.shape[0]):
                after[k] = curve(before[k], alike(a, before[k]))

    return elementwise_forward


@lru_cache
def backward(slope):
    """Make the kernel of equation (40)'s gradient for a slope: a function of what was kept and the layer's number."""

    @kernel()
    def elementwise_backward(crew, dy, kept, a, n, dx):
        """Write equation (40)'s gradient into ``dx``.

        Parameters
        ----------
        dy, kept, dx : float[B, K]
            ``kept`` is the forward pass's input or output, as the slope wants it; ``dx`` is overwritten.
        a : float64
        n : int
            Real images; in the lanes behind them ``dx`` is 0.

        Notes
        -----
        Race-free: each task is the only writer of its part of ``dx``.
        """
        B, K = dy.shape
        parts = -(-K // STRIP)
        for task in prange(crew, B * parts):
            b, start = task // parts, task % parts * STRIP
            known, upstream = kept[b, start : start + STRIP], dy[b, start : start + STRIP]
            out = dx[b, start : start + STRIP]
            for k in range(out.shape[0]):
                out[k] = upstream[k] * slope(known[k], alike(a, known[k]))
            for lane in range(n - b * LANES, LANES):
                for k in range(lane, out.shape[0], LANES):
                    out[k] = 0

    return elementwise_backward


# ------------------------------------------------------------------------------------------------ curves and slopes


@kernel(parallel=False)
def leaky(x, a):
    """Equation (41)."""
    return x if x > 0 else a * x


@kernel(parallel=False)
def leaky_slope(x, a):
    """Slope of equation (41) at the input; that of the left side at 0 and NaN, as in PyTorch."""
    return alike(1, x) if x > 0 else a


@kernel(parallel=False)
def elu(x, a):
    """Equation (42)."""
    low = a * expm1(x)
    return low if x < 0 else x


@kernel(parallel=False)
def elu_slope(x, a):
    """Slope of equation (42) at the input; that of the left side at 0, and NaN at NaN, as in PyTorch."""
    low = a * decay(x)
    return alike(1, x) if x > 0 else low


@kernel(parallel=False)
def sigmoid(x, a):
    """Equation (43), by an exponential that cannot overflow."""
    e, one = decay(-abs(x)), alike(1, x)
    return (e if x < 0 else one) / (one + e)


@kernel(parallel=False)
def sigmoid_slope(y, a):
    """Slope of equation (43) at the output."""
    return y * (alike(1, y) - y)


@kernel(parallel=False)
def _sigmoid_and_slope(x):
    """Equation (43) and its slope at the input, which needs no difference of equals."""
    e, one = decay(-abs(x)), alike(1, x)
    part = one / (one + e)
    return (e if x < 0 else one) * part, e * part * part


@kernel(parallel=False)
def silu(x, a):
    """Equation (44)."""
    return x * sigmoid(x, a)


@kernel(parallel=False)
def silu_slope(x, a):
    """Slope of equation (44) at the input."""
    s, bend = _sigmoid_and_slope(x)
    return s + x * bend


@kernel(parallel=False)
def gelu(x, a):
    """Equation (45)."""
    below, _ = normal(x)
    return x * below


@kernel(parallel=False)
def gelu_slope(x, a):
    """Slope of equation (45) at the input: Phi + x Phi'."""
    below, density = normal(x)
    return below + x * density


_LINE = sqrt(8.0 / pi)
_CUBE = 0.044715
_FLAT = 1e6


@kernel(parallel=False)
def gelu_tanh(x, a):
    """Equation (46)."""
    return x * sigmoid(alike(_LINE, x) * (x + alike(_CUBE, x) * x * x * x), a)


@kernel(parallel=False)
def gelu_tanh_slope(x, a):
    """Slope of equation (46) at the input."""
    line, square, most = alike(_LINE, x), alike(_CUBE, x) * x * x, alike(_FLAT, x)
    square = most if square > most else square  # inf times a slope of 0 would be NaN
    s, bend = _sigmoid_and_slope(line * (x + square * x))
    return s + x * bend * (line * (alike(1, x) + alike(3, x) * square))


@kernel(parallel=False)
def hyperbolic(x, a):
    """Equation (47)."""
    return tanh(x)


@kernel(parallel=False)
def hyperbolic_slope(y, a):
    """Slope of equation (47) at the output."""
    one = alike(1, y)
    return (one - y) * (one + y)


@kernel(parallel=False)
def hardswish(x, a):
    """Equation (48)."""
    six = alike(6, x)
    gate = alike(0, x) if x <= -3 else six if x >= 3 else x + alike(3, x)
    return x * gate / six


@kernel(parallel=False)
def hardswish_slope(x, a):
    """Slope of equation (48) at the input."""
    return alike(0, x) if x <= -3 else alike(1, x) if x >= 3 else x / alike(3, x) + alike(0.5, x)


# ------------------------------------------------------------------------------------------------------------ PReLU


@kernel()
def prelu_forward(crew, x, weight, y):
    """Write equation (41) with a learned slope into ``y``.

    Parameters
    ----------
    x, y : float[B, C, K]
        K elements of a channel of a lane block; ``y`` is overwritten.
    weight : float[1] or float[C]

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``y[b, c]``.
    """
    B, C, _ = x.shape
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        before, after = x[b, c], y[b, c]
        a = weight[c % weight.shape[0]]
        for k in range(after.shape[0]):
            after[k] = leaky(before[k], a)


@kernel()
def prelu_backward(crew, dy, x, weight, n, dx, shares):
    """Write equation (40)'s gradient into ``dx``, and each block's share of equation (49).

    Parameters
    ----------
    dy, x, dx : float[B, C, K]
        ``x`` is the forward pass's input; ``dx`` is overwritten.
    weight : float[1] or float[C]
    n : int
        Real images; in the lanes behind them ``dx`` is 0.
    shares : float[B, 1] or float[B, C]
        Overwritten.

    Notes
    -----
    Race-free: task (b, p) is the only writer of ``shares[b, p]`` and of the channels of ``dx[b]`` whose slope is p.
    Its share is summed channel by channel in sixteen lanes, which are then added in a fixed tree.
    """
    B, C, K = dy.shape
    P = weight.shape[0]
    together = C // P
    for task in prange(crew, B * P):
        b, p = task // P, task % P
        real = min(LANES, n - b * LANES)
        a = weight[p]
        nothing = zeros(x, 1, 1)
        total = zeros(x, 1, 1)
        for c in range(p * together, (p + 1) * together):
            known, upstream, out = x[b, c], dy[b, c], dx[b, c]
            for k in range(out.shape[0]):
                out[k] = upstream[k] * leaky_slope(known[k], a)
            for k in range(0, K, LANES):
                below = minus(nothing, rectified(minus(nothing, vectors(x, (b, c, k), 2, 1, 1))))
                total = plus(total, times(vectors(dy, (b, c, k), 2, 1, 1), below))
                store(first_lanes(vectors(dx, (b, c, k), 2, 1, 1), real), dx, (b, c, k), 0, 1, 2, 1, 1)
        store_lane_sums(first_lanes(total, real), shares, (b, p), 0, 1, 1, 1)
