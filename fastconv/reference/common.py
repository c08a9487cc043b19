"""What the twins share: pairs, and integers that stay exact."""

import numpy as np

Pair = int | tuple[int, int]
Padding = Pair | tuple[tuple[int, int], tuple[int, int]] | str


def pair(value: Pair) -> tuple[int, int]:
    """Return (down, across)."""
    return (value, value) if isinstance(value, int) else value


def widen(*arrays: np.ndarray) -> list[np.ndarray]:
    """Return the arrays as int64 if every one of them holds integers, as float64 if not."""
    integers = all(np.issubdtype(np.asarray(a).dtype, np.integer) for a in arrays)
    return [np.asarray(a, np.int64 if integers else np.float64) for a in arrays]


def taps_from(start: int, count: int, step: int) -> slice:
    """Return the places that one window touches along one axis: ``count`` of them, ``step`` apart."""
    return slice(start, start + (count - 1) * step + 1, step)


def channels_seen(channels: int, weight_shape: tuple[int, ...], groups: int) -> list[slice]:
    """Return, for every filter, which input channels it sees: those of its own group."""
    F, per_group = weight_shape[:2]
    if channels != groups * per_group or F % groups:
        raise ValueError(f"conv2d: {channels} channels, weight {weight_shape} and groups {groups} do not go together")
    group_of = [f // (F // groups) for f in range(F)]
    return [slice(g * per_group, (g + 1) * per_group) for g in group_of]
