"""Functions of one number: ReLU and its relatives."""

from collections.abc import Callable
from math import erfc

import numpy as np

from fastconv.reference.augmentation import random_bits
from fastconv.reference.common import widen


def relu(x: np.ndarray) -> np.ndarray:
    """Replace negative numbers by zero, and let NaN through: equation (15), float[...] to float[...]."""
    (x,) = widen(x)
    return np.where(x <= 0, np.zeros_like(x), x)


def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Let the gradient through where the output ``y`` was positive or NaN: equation (16), all arrays float[...]."""
    dy, y = widen(dy, y)
    return np.where(y <= 0, np.zeros_like(dy), dy)


def _sigmoid(v: float) -> float:
    return float(1 / (1 + np.exp(-v)))


def _tanh_line(v: float) -> float:
    return float(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))


def _normal(v: float) -> float:
    return 0.5 * erfc(-v / np.sqrt(2))


def _bell(v: float) -> float:
    return float(np.exp(-v * v / 2) / np.sqrt(2 * np.pi))


def _gelu_tanh_slope(v: float) -> float:
    bend = np.tanh(_tanh_line(v))
    return float(
        0.5 * (1 + bend) + 0.5 * v / np.cosh(_tanh_line(v)) ** 2 * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * v * v)
    )


# Each curve and its derivative, functions of one number v and of the layer's own number a.
_CURVES: dict[str, tuple[Callable[[float, float], float], Callable[[float, float], float]]] = {
    "leaky_relu": (lambda v, a: v if v > 0 else a * v, lambda v, a: 1.0 if v > 0 else a),
    "elu": (lambda v, a: v if v > 0 else a * float(np.expm1(v)), lambda v, a: 1.0 if v > 0 else a * float(np.exp(v))),
    "sigmoid": (lambda v, a: _sigmoid(v), lambda v, a: _sigmoid(v) * _sigmoid(-v)),
    "silu": (lambda v, a: v * _sigmoid(v), lambda v, a: _sigmoid(v) * (1 + v * _sigmoid(-v))),
    "gelu": (lambda v, a: v * _normal(v), lambda v, a: _normal(v) + v * _bell(v)),
    "gelu_tanh": (lambda v, a: 0.5 * v * (1 + float(np.tanh(_tanh_line(v)))), lambda v, a: _gelu_tanh_slope(v)),
    "tanh": (lambda v, a: float(np.tanh(v)), lambda v, a: float(1 / np.cosh(v) ** 2)),
    "hardswish": (
        lambda v, a: v * min(max(v + 3, 0), 6) / 6,
        lambda v, a: 0.0 if v <= -3 else 1.0 if v >= 3 else (2 * v + 3) / 6,
    ),
}


def activation(name: str, x: np.ndarray, number: float = 0.0) -> np.ndarray:
    """Apply a curve to every element: equations (41) to (48), float[...] to float64[...].

    Parameters
    ----------
    name : str
        "leaky_relu", "elu", "sigmoid", "silu", "gelu", "gelu_tanh", "tanh" or "hardswish".
    x : float[...]
    number : float
        The slope of a leaky ReLU, or the alpha of an ELU.
    """
    y = np.zeros(x.shape)
    with np.errstate(all="ignore"):
        for place in np.ndindex(x.shape):
            y[place] = _CURVES[name][0](float(x[place]), number)
    return y


def activation_backward(dy: np.ndarray, name: str, x: np.ndarray, number: float = 0.0) -> np.ndarray:
    """Take ``dy`` back through the curve: equation (40), all arrays float[...]; arguments as in `activation`."""
    dx = np.zeros(x.shape)
    with np.errstate(all="ignore"):
        for place in np.ndindex(x.shape):
            dx[place] = dy[place] * _CURVES[name][1](float(x[place]), number)
    return dx


def prelu(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Apply equation (41) with one slope for all, or one a channel: float[N, C, ...] and float[1] or float[C]."""
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        y[place] = x[place] if x[place] > 0 else weight[place[1] % len(weight)] * x[place]
    return y


def prelu_backward(dy: np.ndarray, x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take ``dy`` back through `prelu`: dx by equation (40), dweight by (49)."""
    dx, dweight = np.zeros(x.shape), np.zeros(len(weight))
    for place in np.ndindex(x.shape):
        slope = place[1] % len(weight)
        dx[place] = dy[place] * (1 if x[place] > 0 else weight[slope])
        dweight[slope] += 0 if x[place] > 0 else dy[place] * x[place]
    return dx, dweight


def dropout(x: np.ndarray, key: int, p: float, of_channels: bool = False) -> np.ndarray:
    """Return equation (30): an element of x[N, ...] is 0 if its random bits are below p * 2**64, else x / (1 - p).

    Elements are counted through the batch in order; with ``of_channels`` whole channels are, those of x[N, C, ...].
    """
    size = x[0, 0].size if of_channels else 1
    y = np.zeros(x.size)
    for number, value in enumerate(x.reshape(-1)):
        if random_bits(key, number // size) >= int(p * 2**64):
            y[number] = value / (1 - p)
    return y.reshape(x.shape)
