"""Timing a function inside one process."""

import statistics
from collections.abc import Callable
from time import perf_counter


def seconds(function: Callable[[], object], budget: float, least: int = 5) -> float:
    """Return the median time of one call.

    Parameters
    ----------
    function : callable
        Called once before the clock starts, which compiles and warms up.
    budget : float
        How long to repeat, in seconds.
    least : int
        How many calls to time at least.
    """
    function()
    return statistics.median(samples(function, budget, least))


def once(function: Callable[[], object]) -> float:
    """Return the time of a single call, for what is too slow to repeat."""
    began = perf_counter()
    function()
    return perf_counter() - began


def samples(function: Callable[[], object], budget: float, least: int) -> list[float]:
    """Return the times of single calls, for ``budget`` seconds and at least ``least`` of them."""
    times: list[float] = []
    end = perf_counter() + budget
    while len(times) < least or perf_counter() < end:
        times.append(once(function))
    return times
