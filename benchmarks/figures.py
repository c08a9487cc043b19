"""How measured figures are written: three significant digits, medians with their ranges."""

import statistics
from collections.abc import Sequence
from math import floor, log10


def digits(value: float) -> str:
    """Return three significant digits, or all before the point."""
    decimals = 2 - floor(log10(abs(value))) if value else 0
    return f"{value:,.{max(decimals, 0)}f}"


def median(values: Sequence[float]) -> str:
    """Return the median alone."""
    return digits(statistics.median(values))


def spread(values: Sequence[float]) -> str:
    """Return the median, and the smallest and the largest behind it."""
    return f"{median(values)} ({digits(min(values))} to {digits(max(values))})"
