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
    L = 1/D * sum over images and classes of c[k] * -log p[k]                    (70)
    dz[k] = (p[k] * sum_l c[l] - c[k]) / D                                       (71)
    L = mean of a term over images and features                (22), (72), (74), (76)
    dy = its slope / (number of them)                          (23), (73), (75), (77)

Exponentials of differences to the largest logit never overflow, so logits of 1e4 are harmless.  Sums are float64.
"""

from functools import lru_cache

import numpy as np

from fastconv_kernels.crew import prange
from fastconv_kernels.exponential import exp, log
from fastconv_kernels.precision import alike, decay, decay_to
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import LANES

STRIP = 16
"""Pixels in a task of softmax, each of sixteen images: what is known of them lies in the first-level cache."""


@kernel(parallel=False)
def _strip(task, shape):
    """Return the block, the first element and the number of elements that a task of softmax is for."""
    parts = -(-shape[2] // (STRIP * LANES))
    start = task % parts * (STRIP * LANES)
    return task // parts, start, min(STRIP * LANES, shape[2] - start)


@kernel()
def softmax_forward(crew, z, p, take_log, scratch):
    """Write equation (17), or (19) if ``take_log``, into ``p``.

    Parameters
    ----------
    z, p : float[B, K, S * 16]
        ``p`` is overwritten.
    take_log : bool
    scratch : float64[threads, 2 * STRIP * 16]

    Notes
    -----
    Race-free: each task is the only writer of its elements of ``p``, in all channels.
    """
    B, K, size = z.shape
    for task in prange(crew, B * -(-size // (STRIP * LANES))):
        b, start, count = _strip(task, z.shape)
        largest, total = scratch[crew.worker, :count], scratch[crew.worker, count : 2 * count]
        for e in range(count):
            largest[e] = z[b, 0, start + e]
            total[e] = 0.0
        for k in range(1, K):
            logits = z[b, k, start : start + count]
            for e in range(count):
                largest[e] = logits[e] if logits[e] > largest[e] else largest[e]
        for k in range(K):
            logits, powers = z[b, k, start : start + count], p[b, k, start : start + count]
            for e in range(count):
                power = decay_to(logits[e], alike(largest[e], logits[e]))
                powers[e] = power
                total[e] += power
        if take_log:
            for e in range(count):
                total[e] = log(total[e])
        for k in range(K):
            logits, out = z[b, k, start : start + count], p[b, k, start : start + count]
            if take_log:
                for e in range(count):
                    out[e] = (logits[e] - alike(largest[e], out[e])) - alike(total[e], out[e])
            else:
                for e in range(count):
                    out[e] = out[e] / alike(total[e], out[e])


@kernel()
def softmax_backward(crew, dp, p, dz, scratch):
    """Write equation (18) into ``dz``.

    Parameters
    ----------
    dp, p, dz : float[B, K, S * 16]
        ``dz`` is overwritten.
    scratch : float64[threads, STRIP * 16]

    Notes
    -----
    Race-free: each task is the only writer of its elements of ``dz``, in all channels.
    """
    B, K, size = dp.shape
    for task in prange(crew, B * -(-size // (STRIP * LANES))):
        b, start, count = _strip(task, dp.shape)
        inner = scratch[crew.worker, :count]
        for e in range(count):
            inner[e] = 0.0
        for k in range(K):
            upstream, y = dp[b, k, start : start + count], p[b, k, start : start + count]
            for e in range(count):
                inner[e] += np.float64(upstream[e]) * y[e]
        for k in range(K):
            upstream, y = dp[b, k, start : start + count], p[b, k, start : start + count]
            out = dz[b, k, start : start + count]
            for e in range(count):
                out[e] = y[e] * (upstream[e] - alike(inner[e], y[e]))


@kernel()
def log_softmax_backward(crew, dy, y, n, dz, scratch):
    """Write equation (59) into ``dz``.

    Parameters
    ----------
    dy, y, dz : float[B, K, S * 16]
        ``y`` is equation (19); ``dz`` is overwritten.
    n : int
        Real images; in the lanes behind them ``dz`` is 0.
    scratch : float64[threads, STRIP * 16]

    Notes
    -----
    Race-free: each task is the only writer of its elements of ``dz``, in all channels.
    """
    B, K, size = dy.shape
    for task in prange(crew, B * -(-size // (STRIP * LANES))):
        b, start, count = _strip(task, dy.shape)
        total = scratch[crew.worker, :count]
        for e in range(count):
            total[e] = 0.0
        for k in range(K):
            upstream = dy[b, k, start : start + count]
            for e in range(count):
                total[e] += upstream[e]
        for k in range(K):
            upstream, known = dy[b, k, start : start + count], y[b, k, start : start + count]
            out = dz[b, k, start : start + count]
            for e in range(count):
                out[e] = upstream[e] - decay(known[e]) * alike(total[e], known[e])
            for lane in range(max(0, n - b * LANES), LANES):
                for e in range(lane, count, LANES):
                    out[e] = 0


# ------------------------------------------------------------------------------------------------------ cross-entropy


@kernel(parallel=False)
def powers(z, b, lane, dz):
    """Write exp(z[k] - m) of one image into ``dz``; return the place of m, the first of equal ones, m, and the sum."""
    K = z.shape[1]
    best = 0
    for k in range(1, K):
        if z[b, k, lane] > z[b, best, lane]:
            best = k
    largest, total = np.float64(z[b, best, lane]), 0.0
    for k in range(K):
        power = exp(z[b, k, lane] - largest)
        dz[b, k, lane] = power
        total += power
    return best, largest, total


@kernel()
def cross_entropy(crew, z, labels, smoothing, weights, divisor, dz, losses, hits):
    """Write equation (71) into ``dz``, and each block's part of the sum in (70) and of the right answers.

    With weights of 1 these are equations (21) and (20).

    Parameters
    ----------
    z : float[B, K, 16]
    labels : int64[n]
        Each from 0 to K - 1.
    smoothing : float64
        e: c[k] = weights[k] * ((1-e) [k == label] + e/K).
    weights : float64[K]
    divisor : float64
        D, the sum of the labels' weights.
    dz : float[B, K, 16]
        Overwritten; 0 in the lanes that hold no image.
    losses : float64[B]
        Overwritten: the sum over the block's images.
    hits : int64[B]
        Overwritten: how many of them have their largest logit, the first of equal ones, at the label.

    Notes
    -----
    Race-free: task b is the only writer of ``dz[b]``, ``losses[b]`` and ``hits[b]``.
    """
    B, K, _ = z.shape
    n = labels.shape[0]
    spread, everything = smoothing / K, 0.0
    for k in range(K):
        everything += weights[k]
    for b in prange(crew, B):
        loss, hit = 0.0, 0
        for lane in range(LANES):
            if b * LANES + lane >= n:
                for k in range(K):
                    dz[b, k, lane] = 0
                continue
            best, largest, total = powers(z, b, lane, dz)
            label = labels[b * LANES + lane]
            own = (1.0 - smoothing) * weights[label]
            mass = own + spread * everything
            wanted = own * (z[b, label, lane] - largest)
            if smoothing > 0.0:  # without smoothing, a logit of -inf is fine: 0 * inf would be NaN
                shifted = 0.0
                for k in range(K):
                    shifted += weights[k] * (z[b, k, lane] - largest)
                wanted += spread * shifted
            loss += mass * log(total) - wanted
            hit += best == label
            for k in range(K):
                target = weights[k] * spread + (own if k == label else 0.0)
                dz[b, k, lane] = (mass * (dz[b, k, lane] / total) - target) / divisor
        losses[b] = loss
        hits[b] = hit


@kernel()
def soft_cross_entropy(crew, z, targets, n, smoothing, weights, dz, losses, hits):
    """Do the same for probabilities instead of labels: c[k] = weights[k] * ((1-e) targets[k] + e/K), and D = n.

    Parameters
    ----------
    z, targets : float[B, K, 16]
    n : int
        Real images.
    smoothing, weights, dz, losses
        As in ``cross_entropy``.
    hits : int64[B]
        Overwritten: how many images have their largest logit where their largest target is, the first of equal ones.

    Notes
    -----
    Race-free: task b is the only writer of ``dz[b]``, ``losses[b]`` and ``hits[b]``.
    """
    B, K, _ = z.shape
    spread = smoothing / K
    for b in prange(crew, B):
        loss, hit = 0.0, 0
        for lane in range(LANES):
            if b * LANES + lane >= n:
                for k in range(K):
                    dz[b, k, lane] = 0
                continue
            best, largest, total = powers(z, b, lane, dz)
            mass, label, logarithm = 0.0, 0, log(total)
            for k in range(K):
                c = weights[k] * ((1.0 - smoothing) * np.float64(targets[b, k, lane]) + spread)
                mass += c
                loss += c * (logarithm - (z[b, k, lane] - largest))
                if targets[b, k, lane] > targets[b, label, lane]:
                    label = k
            hit += best == label
            for k in range(K):
                c = weights[k] * ((1.0 - smoothing) * np.float64(targets[b, k, lane]) + spread)
                dz[b, k, lane] = (mass * (dz[b, k, lane] / total) - c) / n
        losses[b] = loss
        hits[b] = hit


# --------------------------------------------------------------------------------------- means over all elements


@lru_cache
def mean_of(term):
    """Make the kernel of a loss that is a mean over all elements.

    ``term(y, t, number)``, of three float64, returns an element's value and its slope, the derivative by y.
    """

    @kernel()
    def mean_of_terms(crew, y, target, numbers, n, dy, losses):
        """Write slope / (number of elements) into ``dy``, and each block's sum of the values.

        Parameters
        ----------
        y, target : float[B, S, 16]
        numbers : float64[S]
            What each feature's term takes besides.
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
                    if b * LANES + lane < n:
                        value, slope = term(np.float64(y[b, s, lane]), np.float64(target[b, s, lane]), numbers[s])
                        loss += value
                        dy[b, s, lane] = slope / (n * S)
                    else:
                        dy[b, s, lane] = 0
            losses[b] = loss

    return mean_of_terms


@kernel(parallel=False)
def squared(y, t, _):
    """Return the term of equation (22) and its slope; there is no number to take."""
    difference = y - t
    return difference * difference, 2.0 * difference


@kernel(parallel=False)
def absolute(y, t, _):
    """Return the term of equation (72) and its slope, 0 where both are equal; there is no number to take."""
    difference = y - t
    return abs(difference), 1.0 if difference > 0.0 else -1.0 if difference < 0.0 else 0.0


@kernel(parallel=False)
def bent(y, t, delta):
    """Return the term of equation (74), Huber's, and its slope; the number is where it becomes straight."""
    difference = y - t
    size = abs(difference)
    if size >= delta:
        return delta * (size - 0.5 * delta), delta if difference > 0.0 else -delta
    return 0.5 * difference * difference, difference


@kernel(parallel=False)
def softplus_of_minus(x, power):
    """Return log(1 + exp(-x)) to the last places, where ``power`` is exp(-abs(x))."""
    # 1 + power rounds; the quotient makes up for it (Goldberg 1991, theorem 4).
    one_more = 1.0 + power
    small = power if one_more == 1.0 else log(one_more) * (power / (one_more - 1.0))
    return small if x > 0.0 else small - x


@kernel(parallel=False)
def binary(z, t, positive):
    """Return the term of equation (76) and its slope; the number is the positive class's weight."""
    power = exp(-abs(z))
    value = positive * t * softplus_of_minus(z, power) + (1.0 - t) * softplus_of_minus(-z, power)
    yes = 1.0 / (1.0 + power) if z > 0.0 else power / (1.0 + power)
    return value, (1.0 - t) * yes - positive * t * (1.0 - yes)
