"""Gradients by finite differences."""

from collections.abc import Callable

import numpy as np


def numeric_gradient(f: Callable[[np.ndarray], float], x: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """Return the gradient of a scalar function by central differences, one element at a time.

    Parameters
    ----------
    f : callable
        Takes an array of the shape of ``x`` and returns a number.
    x : float[...]
        Where to differentiate.
    eps : float
        How far to step to either side.

    Returns
    -------
    float64[...]
    """
    x = np.array(x, np.float64)
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        here = x[place]
        x[place] = here + eps
        above = f(x)
        x[place] = here - eps
        below = f(x)
        x[place] = here
        gradient[place] = (above - below) / (2 * eps)
    return gradient
