"""What this machine can do at most: multiply-adds on tiles that never leave the registers."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import njit, prange

from benchmarks import timing
from fastconv import get_num_threads, thread_layer
from fastconv_kernels.tile import LANES, outer_fma, store, vectors, weights, zeros

# One of them has enough accumulators to hide a multiply-add's latency, and room for its operands, on 16 or 32
# registers of any width.
TILES = ((6, 1), (4, 2), (4, 4))


@cache
def _loop(M: int, P: int) -> Callable[[np.ndarray, np.ndarray, int, np.ndarray], None]:
    @njit(parallel=True)
    def multiply_add(column, row, steps, out):
        for thread in prange(out.shape[0]):
            a, b = weights(column, (0,), 0, M), vectors(row, (0, 0), 0, 1, P)
            acc = zeros(row, M, P)
            for _ in range(steps):
                acc = outer_fma(acc, a, b)
            store(acc, out, (thread, 0, 0, 0), 1, M, 2, 1, P)

    return multiply_add


def flops_per_second(steps: int = 200_000, budget: float = 0.3) -> float:
    """Return the float32 additions and multiplications that all threads together do in a second, at best."""
    thread_layer()
    threads, best = get_num_threads(), 0.0
    for m, p in TILES:
        loop, out = _loop(m, p), np.empty((threads, m, p, LANES), np.float32)
        arguments = np.ones(m, np.float32), np.ones((p, LANES), np.float32), steps, out
        loop(*arguments)
        fastest = min(timing.samples(lambda loop=loop, arguments=arguments: loop(*arguments), budget, 5))
        best = max(best, 2 * out.size * steps / fastest)
    return best
