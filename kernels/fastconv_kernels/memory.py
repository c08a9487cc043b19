"""Memory for lane vectors: arrays that start at a cache line, and scratch for each thread of a launch.

NumPy aligns to 16 bytes, so a vector of 64 bytes would lie across two cache lines.  Measured on LeNet's second
convolution that costs 5 to 10 per cent, on a 1x1 convolution, which waits for memory, 30.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from math import prod

import numpy as np

from fastconv_kernels.runtime import most_threads
from fastconv_kernels.tile import CACHE_LINE


def empty(shape, dtype):
    """Return an uninitialised array whose first element starts a cache line."""
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    asked = getattr(_of_this_thread, "asked", None)
    if asked is not None:
        asked.append(size)
    raw = np.empty(size + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size].view(dtype).reshape(shape)


_of_this_thread = threading.local()


@contextmanager
def counted() -> Iterator[list[int]]:
    """Give a list to which, inside the ``with``, the bytes of each ``empty`` of the calling Python thread are added.

    They are added before they are asked for: what there was no memory for is the last of them.
    """
    outer, asked = getattr(_of_this_thread, "asked", None), []
    _of_this_thread.asked = asked
    try:
        yield asked
    finally:
        _of_this_thread.asked = outer


def scratch(shape, dtype):
    """Return memory float[threads, *shape] for one launch from the calling Python thread; its content is undefined.

    The task that runs on thread ``numba.get_thread_id()`` of the launch may use that part of it.  All launches from
    one Python thread share the memory, because they follow one another.  There is a part for every thread that a launch
    could have, in case another Python thread asks for more of them in between.
    """
    return scratch_and_more(shape, (0,), dtype)[0]


def scratch_parts(shapes, dtype):
    """Return float[threads, *shape] for each of some shapes: a ``scratch`` in parts."""
    whole = scratch((sum(map(prod, shapes)),), dtype)
    ends = accumulate(map(prod, shapes))
    return [whole[:, end - prod(shape) : end].reshape(-1, *shape) for end, shape in zip(ends, shapes, strict=True)]


def scratch_and_more(shape, more, dtype):
    """Return ``scratch(shape, dtype)``, and float[*more] beside it for all tasks, of this launch and the next."""
    whole = (most_threads(), *shape)
    counts = [prod(each) for each in (whole, more)]
    # Each part starts a cache line.
    sizes = [-(-count * np.dtype(dtype).itemsize // CACHE_LINE) * CACHE_LINE for count in counts]
    raw = getattr(_of_this_thread, "raw", None)
    if raw is None or raw.size < sum(sizes):
        raw = _of_this_thread.raw = empty((sum(sizes),), np.uint8)
    first, second = raw[: sizes[0]].view(dtype), raw[sizes[0] : sum(sizes)].view(dtype)
    return first[: counts[0]].reshape(whole), second[: counts[1]].reshape(more)
