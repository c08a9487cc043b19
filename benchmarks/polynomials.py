"""The coefficients in kernels/fastconv_kernels/exponential32.py, found anew: python -m benchmarks.polynomials.

Interpolation at Chebyshev's points comes within a small factor of the best polynomial (Trefethen 2013, "Approximation
theory and approximation practice", theorem 16.1).  Coefficients are rounded to float32, the highest power first.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.polynomial import Polynomial
from numpy.polynomial.chebyshev import Chebyshev


def exponential(r: float) -> float:
    """Return (exp(r) - 1 - r) / r**2, by its series: no difference of equals near 0."""
    return sum(r**n / math.factorial(n + 2) for n in range(20))


def tail(t: float) -> float:
    """Return (a + 2.5) exp(a**2 / 2) Phi(-a) for t = (a - 2.5) / (a + 2.5)."""
    a = 2.5 * (1 + t) / (1 - t)
    return (a + 2.5) * math.exp(a * a / 2) * math.erfc(a / math.sqrt(2)) / 2


def interpolated(function: Callable[[float], float], low: float, high: float, degree: int) -> np.ndarray:
    """Return float32[degree + 1]."""
    points = Chebyshev.interpolate(np.vectorize(function), degree, domain=[low, high])
    return points.convert(kind=Polynomial).coef[::-1].astype(np.float32)


def fitted() -> dict[str, np.ndarray]:
    """Return the coefficients by the names they have in exponential32.py."""
    return {"EXP": interpolated(exponential, -0.347, 0.347, 4), "TAIL": interpolated(tail, -1, 12 / 17, 9)}


if __name__ == "__main__":
    for name, coefficients in fitted().items():
        print(name, *map(float, coefficients), sep="\n    ")
