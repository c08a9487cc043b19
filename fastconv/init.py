"""Initial weights: He and Glorot, normal and uniform.

Sources: He et al. 2015, arXiv:1502.01852, and Glorot & Bengio 2010; equations (27) and (28) of docs/backprop.md.
Every function draws float64 values of a weight's shape (out, in, ...) from the generator that it is given.
"""

from collections.abc import Callable

import numpy as np

from fastconv.shapes import Shape

Initializer = Callable[[np.random.Generator, Shape], np.ndarray]


def fans(shape: Shape) -> tuple[int, int]:
    """Return how many inputs feed one output of a weight (out, in, ...), and how many outputs one input feeds."""
    window = int(np.prod(shape[2:]))
    return shape[1] * window, shape[0] * window


def he_normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw from a normal distribution of variance 2 / fan_in: keeps the variance through ReLU."""
    return rng.standard_normal(shape) * np.sqrt(2 / fans(shape)[0])


def he_uniform(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw uniformly with variance 2 / fan_in."""
    bound = np.sqrt(6 / fans(shape)[0])
    return rng.uniform(-bound, bound, shape)


def glorot_normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw from a normal distribution of variance 2 / (fan_in + fan_out)."""
    return rng.standard_normal(shape) * np.sqrt(2 / sum(fans(shape)))


def glorot_uniform(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw uniformly with variance 2 / (fan_in + fan_out)."""
    bound = np.sqrt(6 / sum(fans(shape)))
    return rng.uniform(-bound, bound, shape)


def zeros(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return zeros: for biases."""
    return np.zeros(shape)


def ones(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return ones, for factors."""
    return np.ones(shape)


def constant(rng: np.random.Generator, shape: Shape, value: float) -> np.ndarray:
    """Return one value everywhere; ``functools.partial`` makes an initialiser of it."""
    return np.full(shape, value)


_BY_NAME: dict[str, Initializer] = {
    f.__name__: f for f in (he_normal, he_uniform, glorot_normal, glorot_uniform, zeros)
}


def by_name(name: str) -> Initializer:
    """Return the initialiser of that name; raises ValueError with the names there are."""
    if name not in _BY_NAME:
        raise ValueError(f"init: expected one of {', '.join(_BY_NAME)}, got {name!r}")
    return _BY_NAME[name]
