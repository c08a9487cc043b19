"""Pixels, channels and groups of them with mean 0 and variance 1."""

import numpy as np


def normalize_uint8(images: np.ndarray, mean: float | np.ndarray, std: float | np.ndarray) -> np.ndarray:
    """Return ``(images / 255 - mean) / std``: uint8[N, C, H, W] to float64[N, C, H, W].

    ``mean`` and ``std``, float or float[C], are those of the pixels scaled to 0 to 1.
    """
    mean, std = (np.asarray(a, np.float64).reshape(-1, 1, 1) for a in (mean, std))
    return (images / 255 - mean) / std


def batch_norm(
    x: np.ndarray, mean: np.ndarray, var: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float
) -> np.ndarray:
    """Return equation (35) for x[N, C, ...] and one value a channel of everything else."""
    y = np.zeros_like(x)
    for c in range(x.shape[1]):
        y[:, c] = gamma[c] * (x[:, c] - mean[c]) / np.sqrt(var[c] + eps) + beta[c]
    return y


def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return equation (34): mean and variance, float64[C]."""
    C = x.shape[1]
    mean, var = np.zeros(C), np.zeros(C)
    for c in range(C):
        values = [float(v) for v in x[:, c].reshape(-1)]
        mean[c] = sum(values) / len(values)
        var[c] = sum((v - mean[c]) ** 2 for v in values) / len(values)
    return mean, var


def batch_norm_backward(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return equations (37) and (36) for the batch's own statistics: dx, dgamma, dbeta.

    The derivative of each xhat by each x of its channel is written out, m by m of them.
    """
    dx, dgamma, dbeta = np.zeros_like(x), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    mean, var = batch_statistics(x)
    for c in range(x.shape[1]):
        values, upstream = x[:, c].reshape(-1), dy[:, c].reshape(-1)
        m, r = values.size, 1 / np.sqrt(var[c] + eps)
        gradient = np.zeros(m)
        for j in range(m):
            for i in range(m):
                around = (values[i] - mean[c]) * (values[j] - mean[c])
                derivative = r * ((i == j) - 1 / m) - r**3 * around / m
                gradient[j] += upstream[i] * gamma[c] * derivative
            dgamma[c] += upstream[j] * (values[j] - mean[c]) * r
            dbeta[c] += upstream[j]
        dx[:, c] = gradient.reshape(x[:, c].shape)
    return dx, dgamma, dbeta


def group_norm(x: np.ndarray, groups: int, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
    """Return equation (101) for x[N, C, ...], gamma and beta one a channel, or one for each value of an image."""
    y = np.zeros(x.shape)
    per = x.shape[1] // groups
    for n in range(x.shape[0]):
        for g in range(groups):
            part = x[n, g * per : (g + 1) * per]
            mean = part.sum() / part.size
            var = ((part - mean) ** 2).sum() / part.size
            for c in range(per):
                y[n, g * per + c] = (part[c] - mean) / np.sqrt(var + eps)
        for c in range(x.shape[1]):
            y[n, c] = gamma[c] * y[n, c] + beta[c]
    return y


def group_norm_backward(
    dy: np.ndarray, x: np.ndarray, groups: int, gamma: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return equations (103) and (102): dx, dgamma, dbeta, for x[N, C, ...] and gamma[C].

    The derivative of each xhat by each x of its group is written out, m by m of them.
    """
    dx, dgamma, dbeta = np.zeros(x.shape), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    per = x.shape[1] // groups
    for n in range(x.shape[0]):
        for g in range(groups):
            channels = range(g * per, (g + 1) * per)
            values = [float(v) for c in channels for v in x[n, c].reshape(-1)]
            m = len(values)
            mean = sum(values) / m
            r = 1 / np.sqrt(sum((v - mean) ** 2 for v in values) / m + eps)
            scaled = [gamma[c] * d for c in channels for d in dy[n, c].reshape(-1)]
            gradient = np.zeros(m)
            for j in range(m):
                for i in range(m):
                    around = (values[i] - mean) * (values[j] - mean)
                    gradient[j] += scaled[i] * (r * ((i == j) - 1 / m) - r**3 * around / m)
            dx[n, g * per : (g + 1) * per] = gradient.reshape(x[n, g * per : (g + 1) * per].shape)
            for c in channels:
                dgamma[c] += (dy[n, c] * (x[n, c] - mean) * r).sum()
                dbeta[c] += dy[n, c].sum()
    return dx, dgamma, dbeta
