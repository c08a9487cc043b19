"""exp, log, expm1, tanh and the normal distribution that give the same bits on every machine.

The C library's versions differ between processors that have a fused multiply-add and those that do not.  These use
nothing but additions, multiplications and divisions of float64 in a fixed order, and are right to a few 1e-16
relative, so after rounding to float32 they are as good as any.  But for ``log`` they do not branch, so that a loop
that calls them becomes a loop over vectors.
"""

from math import factorial, pi, sqrt

import numpy as np

from fastconv_kernels.runtime import kernel

_LOG2E = 1.4426950408889634
_LN2_HIGH = 0.693147180369123816490  # the first 33 bits of ln 2, so that k * _LN2_HIGH is exact
_LN2_LOW = 1.90821492927058770002e-10
# Taylor's coefficients, the highest power first: 1 / n! of exp, and 1 / n for odd n of log.
_EXP = tuple(1.0 / factorial(n) for n in range(13, -1, -1))
_LOG = tuple(1.0 / n for n in range(23, 0, -2))
_BIAS = 1023
_FRACTION = 52
_ROUNDING = 1.5 * 2.0**_FRACTION  # a sum with it is rounded to a whole number, which its last bits hold
_DENSITY = 1.0 / sqrt(2.0 * pi)
# Chebyshev's expansion of (a + 4) exp(a**2 / 2) Phi(-a) in t = (a - 4) / (a + 4), as powers of t, the highest first;
# what is left out is below 3e-17 of it (made with mpmath, 50 digits).
_TAIL = (
    3.403312308649495e-10,
    -1.1997782031253095e-10,
    -3.73064508186837e-09,
    -5.873626764987191e-10,
    2.1427603843452355e-08,
    1.7844927772981415e-08,
    -8.686647015997893e-08,
    -1.597739614223922e-07,
    2.7246296951145873e-07,
    1.0247851016552774e-06,
    -6.298367338492369e-07,
    -5.921611045923978e-06,
    7.166587641195121e-07,
    3.514511190283765e-05,
    -1.908246351414571e-06,
    -0.00023109501736277426,
    0.00013334430941183256,
    0.0016308184674099085,
    -0.0034796923670479736,
    -0.007540188967386312,
    0.060396574890917876,
    -0.1865218579596366,
    0.3871374007422149,
    -0.6078966419718923,
    0.7552851304157515,
)


@kernel(parallel=False)
def _polynomial(coefficients, r, total=0.0):
    """Return total * r**n + coefficients[0] * r**(n-1) + ... + coefficients[n-1]; more than 16 would stay a loop."""
    for coefficient in coefficients:
        total = total * r + coefficient
    return total


@kernel(parallel=False)
def _reduced(z, low):
    """Return r in [-0.35, 0.35] and 2**k with r + k ln 2 = z - low, for z from -708 to 709 and a small ``low``."""
    shifted = np.float64(z * _LOG2E + _ROUNDING)
    k = shifted - _ROUNDING
    r = ((z - k * _LN2_HIGH) - k * _LN2_LOW) - low
    return r, np.int64((shifted.view(np.int64) + _BIAS) << _FRACTION).view(np.float64)


@kernel(parallel=False)
def exp(x):
    """Return e to the x, float64, to 1 ulp; 0 from -708 down, inf above 709, NaN for NaN.

    exp(x) = 2**k * exp(r) with r = x - k ln 2 in [-0.35, 0.35], and Taylor's polynomial of degree 13 for exp(r).
    """
    inside = x if -708.0 < x <= 709.0 else 0.0
    r, power = _reduced(inside, 0.0)
    beyond = 0.0 if x < 0.0 else np.inf
    return _polynomial(_EXP, r) * power if inside == x else x if x != x else beyond


@kernel(parallel=False)
def log(x):
    """Return the natural logarithm of a positive float64 that is not denormal; inf and NaN stay, 0 gives -inf.

    x = 2**k * m with m in [0.7, 1.42), and log(m) = 2 (s + s**3/3 + s**5/5 + ...) with s = (m - 1) / (m + 1).
    """
    if not x < np.inf:
        return x
    if x == 0.0:
        return -np.inf
    bits = np.float64(x).view(np.int64)
    k = (bits >> _FRACTION) - _BIAS
    m = np.int64(bits - (k << _FRACTION)).view(np.float64)
    if m > 1.4142135623730951:
        m *= 0.5
        k += 1
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    total = 0.0
    for coefficient in _LOG:
        total = total * square + coefficient
    return k * _LN2_HIGH + (k * _LN2_LOW + 2.0 * s * total)


@kernel(parallel=False)
def expm1(x):
    """Return e to the x less 1, float64, to 3 ulp, also near 0; -1 from -40 down, inf above 709, NaN for NaN.

    2**k * (exp(r) - 1) + (2**k - 1), with Taylor's polynomial for exp(r) - 1 as well.
    """
    inside = x if -40.0 < x <= 709.0 else 0.0
    r, power = _reduced(inside, 0.0)
    beyond = -1.0 if x < 0.0 else np.inf
    return power * (r * _polynomial(_EXP[:-1], r)) + (power - 1.0) if inside == x else x if x != x else beyond


@kernel(parallel=False)
def tanh(x):
    """Return the hyperbolic tangent, float64, to 3 ulp; NaN for NaN.

    tanh(|x|) = d / (d + 2) with d = exp(2|x|) - 1; from 20 on it is 1.
    """
    size = abs(x)
    d = expm1(2.0 * size if size < 20.0 else 40.0)
    y = d / (d + 2.0)
    return x if x != x else -y if x < 0.0 else y


@kernel(parallel=False)
def normal(x):
    """Return the normal distribution's Phi(x) to 6 ulp, and density to 3 ulp; both 0 below -37.6.

    Phi(-a) = exp(-a**2 / 2) times a polynomial of (a - 4) / (a + 4), divided by a + 4; Phi(a) = 1 - Phi(-a).
    """
    size = min(abs(x), 40.0)
    high = np.float64(np.float32(size))  # its square is exact, and so the exponent, but for a small rest
    r, power = _reduced(max(-0.5 * high * high, -707.0), 0.5 * (size - high) * (size + high))
    bell = _polynomial(_EXP, r) * power if size < 37.6 else 0.0
    scale = 1.0 / (size + 4.0)
    t = (size - 4.0) * scale
    tail = bell * (_polynomial(_TAIL[12:], t, _polynomial(_TAIL[:12], t)) * scale)
    return tail if x < 0.0 else 1.0 - tail, _DENSITY * bell
