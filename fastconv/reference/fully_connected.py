"""Linear layers."""

import numpy as np

from fastconv.reference.common import widen


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Multiply by a matrix and add a bias: equation (11).

    Parameters
    ----------
    x : float[N, I]
    weight : float[O, I]
    bias : float[O], optional

    Returns
    -------
    float[N, O]
    """
    bias = np.zeros(weight.shape[0], weight.dtype) if bias is None else bias
    x, weight, bias = widen(x, weight, bias)
    y = np.zeros((x.shape[0], weight.shape[0]), x.dtype)
    for n, o in np.ndindex(y.shape):
        y[n, o] = np.sum(x[n] * weight[o]) + bias[o]
    return y


def linear_backward(dy: np.ndarray, x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take the gradient of `linear` back to input, weight and bias: equations (12), (13) and (14).

    Parameters
    ----------
    dy : float[N, O]
    x : float[N, I]
    weight : float[O, I]

    Returns
    -------
    dx : float[N, I]
    dweight : float[O, I]
    dbias : float[O]
    """
    dy, x, weight = widen(dy, x, weight)
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros(weight.shape[0], weight.dtype)
    for n, o in np.ndindex(dy.shape):
        dx[n] += dy[n, o] * weight[o]
        dweight[o] += dy[n, o] * x[n]
        dbias[o] += dy[n, o]
    return dx, dweight, dbias
