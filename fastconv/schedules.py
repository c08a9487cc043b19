"""Learning-rate schedules: what to multiply the rate by, as a function of the progress of training alone.

A schedule is any function of ``progress``, from 0 at the first batch to 1 behind the last, that returns a factor.
``ReduceOnPlateau`` alone looks at what training achieves.
"""

from collections.abc import Callable, Mapping
from math import cos, inf, isfinite, pi
from numbers import Real
from typing import Any

Schedule = Callable[[float], float]

MONITORS = ("val_acc", "val_loss", "train_acc", "train_loss")
"""The figures of an epoch's record that say which of two epochs is better."""


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def _check(operation: str, name: str, value: float, expected: str, is_right: Callable[[float], bool]) -> None:
    """Raise ValueError if a value is no finite number, or not as expected."""
    if not (_is_number(value) and is_right(value)):
        raise ValueError(f"{operation}: expected {name} {expected}, got {value!r}")


def _check_factors(operation: str, **factors: float) -> None:
    for name, factor in factors.items():
        _check(operation, name, factor, "from 0 to 1", lambda value: 0 <= value <= 1)


def constant() -> Schedule:
    """Keep the rate."""
    return lambda progress: 1.0


def step(milestones: tuple[float, ...] = (0.5, 0.75), gamma: float = 0.1) -> Schedule:
    """Multiply the rate by ``gamma`` at each of the ``milestones``, which are fractions of training."""
    if not isinstance(milestones, tuple | list) or not all(_is_number(m) and 0 < m < 1 for m in milestones):
        raise ValueError(f"step: expected milestones as numbers between 0 and 1, got {milestones!r}")
    _check("step", "gamma", gamma, "above 0", lambda value: value > 0)
    return lambda progress: gamma ** sum(progress >= m for m in milestones)


def exponential(final: float = 0.01) -> Schedule:
    """Fall from 1 to ``final``, by the same factor in equal times: PyTorch's gamma is its root of epochs."""
    _check("exponential", "final", final, "above 0 and at most 1", lambda value: 0 < value <= 1)
    return lambda progress: final**progress


def cosine(final: float = 0.0, warmup: float = 0.0, start: float = 0.01) -> Schedule:
    """Fall from 1 to ``final`` along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983).

    In the first ``warmup`` of training the factor rises from ``start`` to 1 along a line (Goyal et al. 2017,
    arXiv:1706.02677).
    """
    _check("cosine", "warmup", warmup, "of at least 0 and below 1", lambda value: 0 <= value < 1)
    _check_factors("cosine", start=start, final=final)

    def factor(progress: float) -> float:
        if progress < warmup:
            return start + (1 - start) * progress / warmup
        return final + (1 - final) * (1 + cos(pi * (progress - warmup) / (1 - warmup))) / 2

    return factor


def one_cycle(warmup: float = 0.3, start: float = 0.04, final: float = 1e-4) -> Schedule:
    """Rise from ``start`` to 1 in the first ``warmup`` of training, then fall to ``final``, along half cosines.

    Source: Smith & Topin 2018, arXiv:1708.07120.
    """
    _check("one_cycle", "warmup", warmup, "between 0 and 1", lambda value: 0 < value < 1)
    _check_factors("one_cycle", start=start, final=final)

    def factor(progress: float) -> float:
        if progress < warmup:
            return start + (1 - start) * (1 - cos(pi * progress / warmup)) / 2
        return final + (1 - final) * (1 + cos(pi * (progress - warmup) / (1 - warmup))) / 2

    return factor


class Followed:
    """What ``fit`` asks of a schedule: a factor, and what one overrides that looks at what training achieves."""

    def __call__(self, progress: float) -> float:
        """Return the factor; 1 until overridden."""
        return 1.0

    def config(self) -> Any:
        """Return what tells the schedule from others, as JSON can hold it: the factors at 17 moments."""
        return [self(k / 16) for k in range(17)]

    def check(self, validated: bool) -> None:
        """Raise ValueError if the figure to go by will not be measured."""

    def after_epoch(self, record: Mapping[str, Any]) -> None:
        """Take note of an epoch's figures."""

    def state_dict(self) -> dict[str, Any] | None:
        """Return what the schedule has learned so far; None if it learns nothing."""
        return None

    def load_state_dict(self, state: Any) -> None:
        """Set what ``state_dict`` returned."""


class _OfProgress(Followed):
    """A function of progress alone."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def __call__(self, progress: float) -> float:
        factor = self._schedule(progress)
        if not isinstance(factor, Real) or isinstance(factor, bool):
            raise TypeError(f"schedule: expected a number of progress {progress:.3g}, got {factor!r}")
        return float(factor)


class ReduceOnPlateau(Followed):
    """Multiply the rate by ``factor`` when no epoch has been better for a while; as PyTorch's ``ReduceLROnPlateau``.

    ``fit`` calls ``after_epoch``.  One object belongs to one training.

    Parameters
    ----------
    factor : float
        Above 0 and below 1.
    patience : int
        How many epochs in a row may bring nothing better; the next one lowers the rate.
    threshold : float
        By what fraction of the best so far an epoch must be better.
    min_lr : float
        The rate is not lowered below it.
    monitor : 'val_loss', 'val_acc', 'train_loss' or 'train_acc'
        The figure to go by.

    Raises
    ------
    ValueError
        If a number is outside its range.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        min_lr: float = 0.0,
        monitor: str = "val_loss",
    ) -> None:
        _check("ReduceOnPlateau", "factor", factor, "above 0 and below 1", lambda value: 0 < value < 1)
        for name, number in (("patience", patience), ("threshold", threshold), ("min_lr", min_lr)):
            _check("ReduceOnPlateau", name, number, "of at least 0", lambda value: value >= 0)
        if monitor not in MONITORS:
            raise ValueError(f"ReduceOnPlateau: expected monitor to be one of {', '.join(MONITORS)}, got {monitor!r}")
        self.factor, self.patience, self.threshold = factor, patience, threshold
        self.min_lr, self.monitor = min_lr, monitor
        self._sign = 1 if monitor.endswith("acc") else -1
        self._best, self._waited, self._now = -inf, 0, 1.0

    def __call__(self, progress: float) -> float:
        """Return the factor of the moment."""
        return self._now

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, and the class."""
        names = ("factor", "patience", "threshold", "min_lr", "monitor")
        return {"class": type(self).__name__, **{name: getattr(self, name) for name in names}}

    def check(self, validated: bool) -> None:
        """Raise ValueError if the figure to go by will not be measured."""
        if self.monitor.startswith("val") and not validated:
            raise ValueError(
                f"ReduceOnPlateau: expected images to validate on, since it goes by {self.monitor}, got none"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what the schedule has learned so far."""
        return {"best": self._best, "waited": self._waited, "now": self._now}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what ``state_dict`` returned."""
        self._best, self._waited, self._now = state["best"], state["waited"], state["now"]

    def after_epoch(self, record: Mapping[str, Any]) -> None:
        """Take note of an epoch's figures, and lower the rate if it is time to."""
        if record[self.monitor] is None:
            raise ValueError(f"ReduceOnPlateau: expected a loss that counts right answers, to go by {self.monitor}")
        value = self._sign * record[self.monitor]
        least = -inf if self._best == -inf else self._best + self.threshold * abs(self._best)
        if value > least:
            self._best, self._waited = value, 0
        else:
            self._waited += 1
        if self._waited > self.patience:
            self._waited = 0
            rate = record["lr"]
            if rate > 0:
                self._now *= max(rate * self.factor, min(self.min_lr, rate)) / rate


_BY_NAME: dict[str, Callable[[], Schedule]] = {
    "constant": constant,
    "step": step,
    "exponential": exponential,
    "cosine": cosine,
    "one-cycle": one_cycle,
    "plateau": ReduceOnPlateau,
}
NAMES = tuple(_BY_NAME)
_RISING: dict[str, Callable[..., Schedule]] = {"cosine": cosine, "one-cycle": one_cycle}


def by_name(name: str, warmup: float | None = None) -> Schedule:
    """Return the schedule of that name with its defaults, but for the fraction of training in which it rises if given.

    Raises
    ------
    ValueError
        With the names there are, or those of schedules that rise.
    """
    if name not in _BY_NAME:
        raise ValueError(f"schedule: expected one of {', '.join(NAMES)}, got {name!r}")
    if warmup is None:
        return _BY_NAME[name]()
    if name not in _RISING:
        raise ValueError(f"schedule: expected one of {', '.join(_RISING)} with a warmup of {warmup}, got {name!r}")
    return _RISING[name](warmup=warmup)


def followed(schedule: Schedule | str) -> Followed:
    """Return a schedule, or that of a name, as ``fit`` follows it; raises ValueError as ``by_name`` does."""
    schedule = by_name(schedule) if isinstance(schedule, str) else schedule
    return schedule if isinstance(schedule, Followed) else _OfProgress(schedule)
