"""Learning-rate schedules: what to multiply the rate by, as a function of the progress of training alone.

A schedule is any function of ``progress``, from 0 at the first batch to 1 behind the last, that returns a factor.
"""

from collections.abc import Callable
from math import cos, pi

Schedule = Callable[[float], float]


def constant() -> Schedule:
    """Keep the rate."""
    return lambda progress: 1.0


def step(milestones: tuple[float, ...] = (0.5, 0.75), gamma: float = 0.1) -> Schedule:
    """Multiply the rate by ``gamma`` at each of the ``milestones``, which are fractions of training."""
    if not all(0 < m < 1 for m in milestones):
        raise ValueError(f"step: expected milestones between 0 and 1, got {milestones}")
    return lambda progress: gamma ** sum(progress >= m for m in milestones)


def cosine(final: float = 0.0) -> Schedule:
    """Fall from 1 to ``final`` along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983)."""
    return lambda progress: final + (1 - final) * (1 + cos(pi * progress)) / 2


def one_cycle(warmup: float = 0.3, start: float = 0.04, final: float = 1e-4) -> Schedule:
    """Rise from ``start`` to 1 in the first ``warmup`` of training, then fall to ``final``, along half cosines.

    Source: Smith & Topin 2018, arXiv:1708.07120.
    """
    if not 0 < warmup < 1:
        raise ValueError(f"one_cycle: expected warmup between 0 and 1, got {warmup}")

    def factor(progress: float) -> float:
        if progress < warmup:
            return start + (1 - start) * (1 - cos(pi * progress / warmup)) / 2
        return final + (1 - final) * (1 + cos(pi * (progress - warmup) / (1 - warmup))) / 2

    return factor


_BY_NAME: dict[str, Callable[[], Schedule]] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "one-cycle": one_cycle,
}
NAMES = tuple(_BY_NAME)


def by_name(name: str) -> Schedule:
    """Return the schedule of that name with its defaults; raises ValueError with the names there are."""
    if name not in _BY_NAME:
        raise ValueError(f"schedule: expected one of {', '.join(NAMES)}, got {name!r}")
    return _BY_NAME[name]()
