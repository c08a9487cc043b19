"""Softmax and the losses on lane blocks.

Symbols
-------
B            lane blocks;  n  real images, n <= 16 B
K            classes, or channels
S            pixels a channel (1 for a vector of features)

Mathematics
-----------
Equation numbers are those of docs/backprop.md; m is the largest logit of an image. ::

    p[k] = exp(z[k] - m) / sum_l exp(z[l] - m)                                   (17)
    dz[k] = p[k] * (dp[k] - sum_l dp[l] * p[l])                                  (18)
    log p[k] = (z[k] - m) - log sum_l exp(z[l] - m)                              (19)
    dz[k] = d[k] - p[k] * sum_l d[l], d the gradient to (19)                     (59)
    L = -1/n * sum over images of log p[label]                                   (20)
    dz[k] = (p[k] - [k == label]) / n                                            (21)
    L = mean of (y - t)**2 over images and features                              (22)
    dy = 2 (y - t) / (number of them)                                            (23)

Exponentials of differences to the largest logit never overflow, so logits of 1e4 are harmless.  Sums are float64.
"""

import numpy as np

from fastconv_kernels.crew import prange
from fastconv_kernels.exponential import exp, log
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import LANES


@kernel()
def softmax_forward(crew, z, p, take_log):
    """Write equation (17), or (19) if ``take_log``, into ``p``; both float[B, K, S, 16].

    Notes
    -----
    Race-free: task (b, s) is the only writer of ``p[b, :, s]``.
    """
    B, K, S, _ = z.shape
    for task in prange(crew, B * S):
        b, s = task // S, task % S
        for lane in range(LANES):
            largest = z[b, 0, s, lane]
            for k in range(1, K):
                largest = max(largest, z[b, k, s, lane])
            total = 0.0
            for k in range(K):
                total += exp(np.float64(z[b, k, s, lane]) - largest)
            log_total = log(total)
            for k in range(K):
                shifted = np.float64(z[b, k, s, lane]) - largest
                p[b, k, s, lane] = shifted - log_total if take_log else exp(shifted) / total


@kernel()
def softmax_backward(crew, dp, p, dz):
    """Write equation (18) into ``dz``; all float[B, K, S, 16].

    Notes
    -----
    Race-free: task (b, s) is the only writer of ``dz[b, :, s]``.
    """
    B, K, S, _ = dp.shape
    for task in prange(crew, B * S):
        b, s = task // S, task % S
        for lane in range(LANES):
            inner = 0.0
            for k in range(K):
                inner += np.float64(dp[b, k, s, lane]) * p[b, k, s, lane]
            for k in range(K):
                dz[b, k, s, lane] = p[b, k, s, lane] * (dp[b, k, s, lane] - inner)


@kernel()
def log_softmax_backward(crew, dy, y, n, dz):
    """Write equation (59) into ``dz``.

    Parameters
    ----------
    dy, y, dz : float[B, K, S, 16]
        ``y`` is equation (19); ``dz`` is overwritten.
    n : int
        Real images; in the lanes behind them ``dz`` is 0.

    Notes
    -----
    Race-free: task (b, s) is the only writer of ``dz[b, :, s]``.
    """
    B, K, S, _ = dy.shape
    for task in prange(crew, B * S):
        b, s = task // S, task % S
        for lane in range(LANES):
            total = 0.0
            for k in range(K):
                total += np.float64(dy[b, k, s, lane])
            for k in range(K):
                change = dy[b, k, s, lane] - exp(np.float64(y[b, k, s, lane])) * total
                dz[b, k, s, lane] = change if b * LANES + lane < n else 0.0


@kernel()
def cross_entropy(crew, z, labels, smoothing, dz, losses, hits):
    """Write equation (21) into ``dz``, and each block's part of equation (20) and of the right answers.

    Parameters
    ----------
    z : float[B, K, 16]
    labels : int64[n]
        Each from 0 to K - 1.
    smoothing : float64
        e: the target is (1-e) [k == label] + e/K instead of [k == label].
    dz : float[B, K, 16]
        Overwritten; 0 in the lanes that hold no image.
    losses : float64[B]
        Overwritten: the sum of -log p[label] over the block's images.
    hits : int64[B]
        Overwritten: how many of them have their largest logit, the first of equal ones, at the label.

    Notes
    -----
    Race-free: task b is the only writer of ``dz[b]``, ``losses[b]`` and ``hits[b]``.
    """
    B, K, _ = z.shape
    n = labels.shape[0]
    spread = smoothing / K
    for b in prange(crew, B):
        loss, hit = 0.0, 0
        for lane in range(LANES):
            if b * LANES + lane >= n:
                for k in range(K):
                    dz[b, k, lane] = 0
                continue
            best = 0
            for k in range(1, K):
                if z[b, k, lane] > z[b, best, lane]:
                    best = k
            largest = np.float64(z[b, best, lane])
            total, shifted = 0.0, 0.0
            for k in range(K):
                shifted += z[b, k, lane] - largest
                power = exp(z[b, k, lane] - largest)
                dz[b, k, lane] = power
                total += power
            label = labels[b * LANES + lane]
            wanted = (1.0 - smoothing) * (z[b, label, lane] - largest)
            if smoothing > 0.0:  # without smoothing, a logit of -inf is fine: 0 * inf would be NaN
                wanted += spread * shifted
            loss += log(total) - wanted
            hit += best == label
            for k in range(K):
                target = spread + (1.0 - smoothing if k == label else 0.0)
                dz[b, k, lane] = (dz[b, k, lane] / total - target) / n
        losses[b] = loss
        hits[b] = hit


@kernel()
def mean_squared_error(crew, y, target, n, dy, losses):
    """Write equation (23) into ``dy``, and each block's sum of squares for equation (22).

    Parameters
    ----------
    y, target : float[B, S, 16]
    n : int
        Real images.
    dy : float[B, S, 16]
        Overwritten; 0 in the lanes that hold no image.
    losses : float64[B]
        Overwritten.

    Notes
    -----
    Race-free: task b is the only writer of ``dy[b]`` and ``losses[b]``.
    """
    B, S, _ = y.shape
    for b in prange(crew, B):
        loss = 0.0
        for s in range(S):
            for lane in range(LANES):
                inside = b * LANES + lane < n
                difference = np.float64(y[b, s, lane]) - target[b, s, lane] if inside else 0.0
                loss += difference * difference
                dy[b, s, lane] = 2.0 * difference / (n * S)
        losses[b] = loss
