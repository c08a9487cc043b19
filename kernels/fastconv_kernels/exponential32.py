"""exp, expm1, tanh and the normal distribution of float32, in float32: twice as many to a vector as in float64.

The same bits on every machine, as in exponential.py: nothing but additions, multiplications, divisions and fused
multiply-adds in a fixed order.  None of them branches, so that a loop that calls them becomes a loop over vectors.
Errors are in units of the last place of float32; results too small for a normal number are right to the smallest one.
"""

from math import pi, sqrt

import numpy as np

from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import fused

_ZERO, _HALF, _ONE, _TWO, _MIDDLE = (np.float32(value) for value in (0, 0.5, 1, 2, 2.5))
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # ten bits, so that k * _LN2_HIGH is exact
_LN2_LOW = np.float32(-2.12194440054690583e-4)
_BIAS = 127
_FRACTION = 23
_ROUNDING = np.float32(1.5 * 2**_FRACTION)  # a sum with it is rounded to a whole number, which its last bits hold
_LEAST = np.float32(-104)  # from here down, exp rounds to 0
_STEP, _DOWN = 32, np.float32(2.0**-32)
_NO_MORE = np.float32(-17.5)  # below, expm1 rounds to -1
_ONE_FROM = np.float32(10)  # from here on, tanh rounds to 1
_NOTHING_FROM = np.float32(15)  # from here on, the normal distribution's tail rounds to 0
_DENSITY = np.float32(1 / sqrt(2 * pi))
# Interpolations at Chebyshev's points, the highest power first: ``python -m benchmarks.polynomials`` finds them.
# (exp(r) - 1 - r) / r**2 for r from -0.347 to 0.347: exp(r) to 0.1 units.
EXP = tuple(
    np.float32(c) for c in (0.001392626785673201, 0.00836324691772461, 0.04166655242443085, 0.16666576266288757, 0.5)
)
# (a + 2.5) exp(a**2 / 2) Phi(-a) in t = (a - 2.5) / (a + 2.5), for a from 0 to 14.5: to 0.2 units.
TAIL = tuple(
    np.float32(c)
    for c in (
        -0.00015811882622074336,
        -0.00031327494070865214,
        0.0006835118401795626,
        0.002525526098906994,
        -0.0015996881993487477,
        -0.016386667266488075,
        0.009235537610948086,
        0.13198702037334442,
        -0.43369197845458984,
        0.7066566348075867,
    )
)


@kernel(parallel=False)
def _polynomial(coefficients, r):
    """Return coefficients[0] * r**n + ... + coefficients[n]."""
    total = coefficients[0]
    for coefficient in coefficients[1:]:
        total = fused(total, r, coefficient)
    return total


@kernel(parallel=False)
def _power_of_two(k, more=0):
    """Return 2**(k + more) for a whole number k, as long as the sum is from -126 to 127."""
    return np.int32((np.float32(k + _ROUNDING).view(np.int32) + (_BIAS + more)) << _FRACTION).view(np.float32)


@kernel(parallel=False)
def _reduced(z):
    """Return r from -0.347 to 0.347 and k, a whole number, with r + k ln 2 = z."""
    k = fused(z, _LOG2E, _ROUNDING) - _ROUNDING
    return fused(k, -_LN2_LOW, fused(k, -_LN2_HIGH, z)), k


@kernel(parallel=False)
def _less_one(r):
    """Return exp(r) - 1 for r from -0.347 to 0.347."""
    return fused(r * r, _polynomial(EXP, r), r)


@kernel(parallel=False)
def decay(x):
    """Return e to the x for x of at most 0, to 1.1 units; 0 below -103.97, NaN for NaN."""
    inside = _LEAST if x < _LEAST else x
    r, k = _reduced(inside)
    # In two steps, since powers from 2**-127 down are no normal numbers.
    return ((_ONE + _less_one(r)) * _power_of_two(k, _STEP)) * _DOWN


@kernel(parallel=False)
def expm1(x):
    """Return e to the x less 1 for x of at most 88, to 2 units, also near 0; -1 from -17.5 down, NaN for NaN."""
    inside = _NO_MORE if x < _NO_MORE else x
    r, k = _reduced(inside)
    power = _power_of_two(k)
    return fused(power, _less_one(r), power - _ONE)


@kernel(parallel=False)
def tanh(x):
    """Return the hyperbolic tangent, to 3 units; NaN for NaN.

    tanh(|x|) = d / (d + 2) with d = exp(2|x|) - 1.
    """
    size = abs(x)
    d = expm1(_TWO * (_ONE_FROM if size > _ONE_FROM else size))
    y = d / (d + _TWO)
    return -y if x < _ZERO else y


@kernel(parallel=False)
def normal(x):
    """Return the normal distribution's Phi(x), to 6 units, and density, to 3 units; NaN for NaN.

    As in exponential.py: Phi(-a) = exp(-a**2 / 2) times a polynomial of (a - 2.5) / (a + 2.5), divided by a + 2.5.
    """
    size = abs(x)
    size = _NOTHING_FROM if size > _NOTHING_FROM else size
    square = size * size
    rest = fused(size, size, -square)  # what was rounded away
    bell = decay(-_HALF * square)
    bell = fused(bell, -_HALF * rest, bell)
    scale = _ONE / (size + _MIDDLE)
    tail = bell * (_polynomial(TAIL, (size - _MIDDLE) * scale) * scale)
    return tail if x < _ZERO else _ONE - tail, _DENSITY * bell
