"""exp and log that give the same bits on every machine.

The C library's versions differ between processors that have a fused multiply-add and those that do not.  These use
nothing but additions, multiplications and divisions of float64 in a fixed order, and are right to about 1e-16
relative, so after rounding to float32 they are as good as any.
"""

from math import factorial

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


@kernel(parallel=False)
def exp(x):
    """Return e to the x, float64; 0 below -708, inf above 709, NaN for NaN.

    exp(x) = 2**k * exp(r) with r = x - k ln 2 in [-0.35, 0.35], and Taylor's polynomial of degree 13 for exp(r).
    """
    if not x > -708.0:
        return x if x != x else 0.0
    if x > 709.0:
        return np.inf
    k = np.floor(x * _LOG2E + 0.5)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    total = 0.0
    for coefficient in _EXP:
        total = total * r + coefficient
    return total * np.int64((np.int64(k) + _BIAS) << _FRACTION).view(np.float64)


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
