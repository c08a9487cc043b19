"""One step of each optimiser, the clipping of gradients before it and the average of weights after it."""

import numpy as np


def sgd(
    value: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Take one step of stochastic gradient descent: equation (24).

    Parameters
    ----------
    value, grad, velocity : float[...]
        The parameter, its gradient, and the velocity that the last step returned; zeros before the first.
    lr, momentum, weight_decay : float
        Learning rate, what is kept of the velocity, and the pull towards zero that is added to the gradient.
    nesterov : bool
        Look one momentum step ahead.

    Returns
    -------
    value, velocity : float64[...]
        Both after the step.
    """
    value, grad, velocity = (np.asarray(a, np.float64) for a in (value, grad, velocity))
    grad = grad + weight_decay * value
    velocity = momentum * velocity + grad
    step = grad + momentum * velocity if nesterov else velocity
    return value - lr * step, velocity


def adam(
    value: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take one step of Adam: equation (25).

    Parameters
    ----------
    value, grad, m, v : float[...]
        The parameter, its gradient, and the two moments that the last step returned; zeros before the first.
    step : int
        The number of this step, from 1.
    lr, beta1, beta2, eps, weight_decay : float
        Learning rate, what is kept of each moment, the guard against division by zero, and the pull towards zero that
        is added to the gradient.

    Returns
    -------
    value, m, v : float64[...]
        All three after the step.
    """
    value, grad, m, v = (np.asarray(a, np.float64) for a in (value, grad, m, v))
    grad = grad + weight_decay * value
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad * grad
    mean, variance = m / (1 - beta1**step), v / (1 - beta2**step)
    return value - lr * mean / (np.sqrt(variance) + eps), m, v


def adamw(
    value: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take one step of AdamW, equation (26): `adam`, but the decay shrinks the value and never meets the moments."""
    decayed = (1 - lr * weight_decay) * np.asarray(value, np.float64)
    return adam(decayed, grad, m, v, step, lr, beta1, beta2, eps, weight_decay=0.0)


def rmsprop(
    value: np.ndarray,
    grad: np.ndarray,
    square: np.ndarray,
    mean: np.ndarray,
    velocity: np.ndarray,
    lr: float = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Take one step of RMSprop: equation (78).

    Parameters
    ----------
    value, grad, square, mean, velocity : float[...]
        The parameter, its gradient, and what the last step returned; zeros before the first.
    lr, alpha, eps, momentum, weight_decay : float
        Learning rate, what is kept of square and mean, the guard against division by zero, what is kept of the
        velocity, and the pull towards zero that is added to the gradient.
    centered : bool
        Divide by the root of the variance, not of the mean square.

    Returns
    -------
    value, square, mean, velocity : float64[...]
        All four after the step.
    """
    value, grad, square, mean, velocity = (np.asarray(a, np.float64) for a in (value, grad, square, mean, velocity))
    grad = grad + weight_decay * value
    square = alpha * square + (1 - alpha) * grad * grad
    if centered:
        mean = alpha * mean + (1 - alpha) * grad
    spread = np.maximum(square - mean * mean, 0) if centered else square
    velocity = momentum * velocity + grad / (np.sqrt(spread) + eps)
    return value - lr * velocity, square, mean, velocity


def lion(
    value: np.ndarray,
    grad: np.ndarray,
    mean: np.ndarray,
    lr: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Take one step of Lion: equation (79).

    Parameters
    ----------
    value, grad, mean : float[...]
        The parameter, its gradient, and the mean that the last step returned; zeros before the first.
    lr, beta1, beta2, weight_decay : float
        Learning rate, the mean's share in the direction and in the next mean, and the pull towards zero.

    Returns
    -------
    value, mean : float64[...]
        Both after the step.
    """
    value, grad, mean = (np.asarray(a, np.float64) for a in (value, grad, mean))
    direction = np.sign(beta1 * mean + (1 - beta1) * grad)
    return value - lr * (direction + weight_decay * value), beta2 * mean + (1 - beta2) * grad


def clip_factor(grads: list[np.ndarray], clip_norm: float) -> tuple[float, float]:
    """Return the norm of all gradients together, and what to multiply them by: equation (80)."""
    total = 0.0
    for grad in grads:
        for element in np.asarray(grad, np.float64).ravel():
            total += float(element) ** 2
    norm = float(np.sqrt(total))
    return norm, min(1.0, clip_norm / (norm + 1e-6))


def moving_average(average: np.ndarray, value: np.ndarray, kept: float) -> np.ndarray:
    """Return the average after one more value, of which ``kept`` stays as it was: equation (81)."""
    return kept * np.asarray(average, np.float64) + (1 - kept) * np.asarray(value, np.float64)
