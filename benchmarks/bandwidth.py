"""What this machine's caches and memory can do at most: arrays read and written by all threads, for many sizes."""

from collections.abc import Mapping

import numpy as np
from numba import njit, prange

from benchmarks import timing
from fastconv import get_num_threads, thread_layer

SIZES = tuple(1 << power for power in range(16, 28, 2))
"""Bytes that all threads together read and write: from first-level cache to memory."""
_ONCE = 1 << 24  # bytes that one call moves at least, so that starting the threads costs little


@njit(parallel=True)
def _add(source, target, times):
    for part in prange(source.shape[0]):
        a, b = source[part], target[part]
        for _ in range(times):
            # Not a plain copy: the compiler would call memcpy, which goes around the caches where arrays are large.
            for i in range(a.shape[0]):
                b[i] = a[i] + np.float32(1)


def bytes_per_second(budget: float = 0.1) -> dict[int, float]:
    """Return the best speed of reading and writing for each of ``SIZES``, over ``budget`` seconds each."""
    thread_layer()
    speeds: dict[int, float] = {}
    for size in SIZES:
        source = np.zeros((get_num_threads(), size // 8 // get_num_threads()), np.float32)
        target, times = np.zeros_like(source), max(1, _ONCE // size)
        _add(source, target, times)
        fastest = min(timing.samples(lambda a=source, b=target, n=times: _add(a, b, n), budget, 3))
        speeds[size] = 2 * source.nbytes * times / fastest
    return speeds


def fastest(speeds: Mapping[int, float], size: float) -> float:
    """Return the best speed that was seen where at least ``size`` bytes are moved: what a kernel can hope for."""
    return max(speed for most, speed in speeds.items() if most >= min(size, max(speeds)))
