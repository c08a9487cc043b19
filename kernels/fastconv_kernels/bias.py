"""The gradient of a bias, with ReLU's gate on the way to it, and the sum of the blocks' shares of any gradient.

Mathematics
-----------
Equation numbers are those of docs/backprop.md.  A layer y = max(0, z), z = ... + b[f] passes on ::

    dz = dy where y > 0, else 0                                                  (16)
    db[f] = sum of dz[n, f, ...] over everything but f                           (4)
"""

from fastconv_kernels.crew import prange
from fastconv_kernels.many import part
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import gated, plus, store, store_lane_sums, vectors, zeros


@kernel()
def bias_backward(crew, dy, y, relu, shares):
    """Gate ``dy`` in place by equation (16) if ``relu``, and write each block's share of equation (4).

    Parameters
    ----------
    dy : float[B, F, S, 16]
        S pixels a channel; overwritten with dz.
    y : float[B, F, S, 16]
        The layer's output; read only if ``relu``.
    relu : bool
    shares : float[B, F]
        Overwritten.

    Notes
    -----
    Race-free: task (b, f) is the only writer of ``dy[b, f]`` and ``shares[b, f]``.
    """
    B, F, S, _ = dy.shape
    for task in prange(crew, B * F):
        b, f = task // F, task % F
        acc = zeros(dy, 1, 1)
        for s in range(S):
            dz = vectors(dy, (b, f, s), 2, 1, 1)
            if relu:
                dz = gated(dz, vectors(y, (b, f, s), 2, 1, 1))
                store(dz, dy, (b, f, s), 1, 1, 2, 1, 1)
            acc = plus(acc, dz)
        store_lane_sums(acc, shares, (b, f), 0, 1, 1, 1)


@kernel()
def sum_shares(crew, arrays, tasks, like, B):
    """Add the blocks' shares of every gradient in block order: total = shares[0] + shares[1] + ...

    Parameters
    ----------
    arrays, tasks, like
        The table of ``many.Many`` for groups (shares float[B, K], total float[K]); totals are overwritten.
    B : int
        Lane blocks, at least 1.

    Notes
    -----
    Race-free: each task is the only writer of its chunk of a total; each sum has one order.
    """
    for task in prange(crew, tasks.shape[0]):
        group, start, stop, K = tasks[task]
        sums = part(arrays[group, 1], start, stop, like)
        share = part(arrays[group, 0], start, stop, like)
        for k in range(sums.shape[0]):
            sums[k] = share[k]
        for b in range(1, B):
            share = part(arrays[group, 0], b * K + start, b * K + stop, like)
            for k in range(sums.shape[0]):
                sums[k] += share[k]
