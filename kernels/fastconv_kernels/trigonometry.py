"""Sine and cosine that give the same bits on every machine, where the C library's differ.

Nothing but additions and multiplications of float64 in a fixed order, right to about 1e-16.
"""

from math import factorial

import numpy as np

from fastconv_kernels.runtime import kernel

_RADIAN = 0.017453292519943295  # pi / 180
# Taylor's coefficients in the angle's square, the highest power first.
_COS = tuple((-1) ** n / factorial(2 * n) for n in range(8, -1, -1))
_SIN = tuple((-1) ** n / factorial(2 * n + 1) for n in range(8, -1, -1))


@kernel(parallel=False)
def cos_sin(degrees):
    """Return cosine and sine of a finite angle, float64; right angles are exact.

    The angle is 90 k + r with r in [-45, 45], where Taylor's polynomials of degree 16 and 17 are good to rounding.
    """
    k = np.floor(degrees / 90.0 + 0.5)
    r = (degrees - 90.0 * k) * _RADIAN
    square = r * r
    c, s = 0.0, 0.0
    for coefficient in _COS:
        c = c * square + coefficient
    for coefficient in _SIN:
        s = s * square + coefficient
    s = s * r
    quarter = np.int64(k) % 4
    if quarter == 1:
        c, s = -s, c
    elif quarter == 2:
        c, s = -c, -s
    elif quarter == 3:
        c, s = s, -c
    return c, s
