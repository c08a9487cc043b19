"""Softmax, and what is made small in training."""

from collections.abc import Iterator

import numpy as np


def _rows(shape: tuple[int, ...]) -> Iterator[tuple[int | slice, ...]]:
    """Yield where each row of K numbers lies in an array of shape [N, K, ...]."""
    for n, *place in np.ndindex(shape[0], *shape[2:]):
        yield (n, slice(None), *place)


def softmax(x: np.ndarray) -> np.ndarray:
    """Turn rows of logits, along axis 1, into probabilities: equation (17), float[N, K, ...] to float64[N, K, ...]."""
    y = np.array(x, np.float64)
    for row in _rows(y.shape):
        powers = np.exp(y[row] - y[row].max())  # The shift cancels in the quotient and keeps exp from overflowing.
        y[row] = powers / powers.sum()
    return y


def softmax_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Take ``dy`` back through the softmax that gave ``y``: equation (18), float[N, K, ...] to float64[N, K, ...]."""
    dy, y = np.asarray(dy, np.float64), np.asarray(y, np.float64)
    dx = np.zeros_like(y)
    for row in _rows(y.shape):
        dx[row] = y[row] * (dy[row] - np.sum(dy[row] * y[row]))
    return dx


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Return the logarithm of `softmax` without forming it: equation (19), float[N, K, ...] to float64[N, K, ...]."""
    y = np.array(x, np.float64)
    for row in _rows(y.shape):
        shifted = y[row] - y[row].max()
        y[row] = shifted - np.log(np.sum(np.exp(shifted)))
    return y


def log_softmax_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Take ``dy`` back through the log-softmax that gave ``y``: equation (59), float64[N, K, ...]."""
    dx = np.zeros(y.shape)
    for row in _rows(y.shape):
        dx[row] = dy[row] - np.exp(np.asarray(y[row], np.float64)) * np.sum(dy[row], dtype=np.float64)
    return dx


def cross_entropy(
    logits: np.ndarray, labels: np.ndarray, label_smoothing: float = 0.0, weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return the mean cross-entropy of the softmax, and its gradient: equations (70) and (71), or (20) and (21).

    Parameters
    ----------
    logits : float[N, K]
        Scores before the softmax.
    labels : int[N] or float[N, K]
        The right class of each row, or the probability of each class.
    label_smoothing : float
        The share of the target that is spread evenly over all classes.
    weight : float[K] or None
        What each class counts.

    Returns
    -------
    loss : float
        NaN for an empty batch.
    dlogits : float64[N, K]
    """
    N, K = logits.shape
    log_p, loss, dlogits, divisor = log_softmax(logits), 0.0, np.zeros((N, K)), 0.0
    weight = np.ones(K) if weight is None else np.asarray(weight, np.float64)
    for n in range(N):
        target = np.zeros(K)
        if np.ndim(labels) == 1:
            target[labels[n]] = 1
            divisor += float(weight[labels[n]])
        else:
            target[...] = labels[n]
            divisor += 1
        target = weight * ((1 - label_smoothing) * target + label_smoothing / K)
        loss -= float(np.sum(target * log_p[n]))
        dlogits[n] = np.exp(log_p[n]) * np.sum(target) - target
    if divisor == 0:
        return np.nan, dlogits * np.nan
    return loss / divisor, dlogits / divisor


def mse(y: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the squared error, averaged over all elements (NaN if there are none), and its gradient.

    Equations (22) and (23); ``y``, ``target`` and the gradient are float[...] of one shape.
    """
    error = np.asarray(y, np.float64) - np.asarray(target, np.float64)
    if error.size == 0:
        return np.nan, error
    return float(np.sum(error * error)) / error.size, 2 * error / error.size


def l1(y: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the absolute error, averaged over all elements, and its gradient: equations (72) and (73).

    ``y``, ``target`` and the gradient are float[...] of one shape.
    """
    error = np.asarray(y, np.float64) - np.asarray(target, np.float64)
    return float(np.mean(np.abs(error))), np.sign(error) / error.size


def huber(y: np.ndarray, target: np.ndarray, delta: float = 1.0) -> tuple[float, np.ndarray]:
    """Return Huber's loss, averaged over all elements, and its gradient: equations (74) and (75).

    ``y``, ``target`` and the gradient are float[...] of one shape.
    """
    error = np.asarray(y, np.float64) - np.asarray(target, np.float64)
    loss, gradient = 0.0, np.zeros(error.shape)
    for at in np.ndindex(error.shape):
        e = float(error[at])
        loss += e * e / 2 if abs(e) < delta else delta * abs(e) - delta * delta / 2
        gradient[at] = min(max(e, -delta), delta)
    return loss / error.size, gradient / error.size


def binary_cross_entropy(
    logits: np.ndarray, target: np.ndarray, pos_weight: float | np.ndarray = 1.0
) -> tuple[float, np.ndarray]:
    """Return the cross-entropy of the sigmoid, averaged over all elements, and its gradient: equations (76) and (77).

    Parameters
    ----------
    logits, target : float[...]
        Of one shape.
    pos_weight : float or float[...]
        What the term of a yes is multiplied by; spreads over the logits.
    """
    z, t = np.asarray(logits, np.float64), np.asarray(target, np.float64)
    yes = pos_weight * t
    loss = yes * np.logaddexp(0, -z) + (1 - t) * np.logaddexp(0, z)
    p = np.exp(-np.logaddexp(0, -z))
    return float(np.mean(loss)), ((1 - t) * p - yes * np.exp(-np.logaddexp(0, z))) / z.size
