"""What watches a training run: an object with six methods, each called at its moment, and two for its memory."""

from dataclasses import dataclass, field
from math import isnan
from time import perf_counter
from typing import Any

import numpy as np

from fastconv.averaging import EMA
from fastconv.optim import Optimizer
from fastconv.schedules import MONITORS
from fastconv.sequential import Sequential
from fastconv.training.history import History, Record


@dataclass
class Run:
    """The state of a training run, as callbacks see it."""

    model: Sequential
    optimizer: Optimizer
    epochs: int
    batches: int
    """Batches in an epoch."""
    images: int
    """Training images."""
    history: History = field(default_factory=History)
    seconds: float = 0.0
    """Spent on training in the epochs that have ended."""
    epoch: int = 0
    """The epoch that runs or has just ended, from 1."""
    batch: int = 0
    """Batches of this epoch that have ended."""
    loss: float = 0.0
    """The last batch's mean loss."""
    stop: bool = False
    """Set it, and training ends after the current batch.  An epoch that was cut short, or its validation, leaves no
    record."""
    finish: bool = False
    """Set it, and the epoch ends after the current batch as if it were whole, with its record; training ends then."""
    progress: float = 0.0
    """How far training is, from 0 to 1: what the schedule goes by.  ``on_batch_begin`` may set it."""
    validated: bool = True
    """Whether there are images to validate on."""
    ema: EMA | None = None
    """The average of the weights, which the model holds while an epoch is validated and in ``on_epoch_end``."""


class Callback:
    """Base of all callbacks; each method does nothing until overridden."""

    def on_train_begin(self, run: Run) -> None:
        """Before the first batch."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before every epoch, also when training goes on in the middle of one."""

    def on_batch_begin(self, run: Run) -> None:
        """Before every batch."""

    def on_batch_end(self, run: Run) -> None:
        """After every batch."""

    def on_epoch_end(self, run: Run, record: Record) -> None:
        """After every epoch and its validation."""

    def on_train_end(self, run: Run) -> None:
        """After the last epoch, or after the batch in which ``run.stop`` was set."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the callback must know again when training goes on in another process.

        Numbers, texts, arrays, and lists and dicts (whose keys are texts) of them; nothing by default.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what ``state_dict`` returned; called before ``on_train_begin`` when training goes on."""


class KeepBest(Callback):
    """Remember the weights of the best epoch, and put them back at the end.

    Parameters
    ----------
    monitor : 'val_acc', 'val_loss', 'train_acc' or 'train_loss'
        Which figure says what is best: the highest accuracy, or the lowest loss.
    min_delta : float
        By how much an epoch must be better than the best so far.

    Attributes
    ----------
    record : Record or None
        That epoch's figures; None while no epoch has ended.

    Raises
    ------
    ValueError
        If there is no such figure, or min_delta is negative.
    """

    def __init__(self, monitor: str = "val_acc", min_delta: float = 0.0) -> None:
        name = type(self).__name__
        if monitor not in MONITORS:
            raise ValueError(f"{name}: expected monitor to be one of {', '.join(MONITORS)}, got {monitor!r}")
        if not min_delta >= 0:
            raise ValueError(f"{name}: expected min_delta of at least 0, got {min_delta!r}")
        self.monitor, self.min_delta = monitor, min_delta
        self.record: Record | None = None
        self._weights: dict[str, np.ndarray] = {}

    def _is_better(self, record: Record) -> bool:
        value, best = record[self.monitor], None if self.record is None else self.record[self.monitor]
        if value is None or isnan(value):
            return False
        sign = 1 if self.monitor.endswith("acc") else -1
        return best is None or sign * (value - best) > self.min_delta

    def on_train_begin(self, run: Run) -> None:
        """Forget an earlier training; one that goes on has its epochs in the history."""
        if not run.history:
            self.record, self._weights = None, {}

    def on_epoch_end(self, run: Run, record: Record) -> None:
        """Copy the weights if this epoch is better than all before."""
        if self._is_better(record):
            self.record, self._weights = record, run.model.state_dict()

    def on_train_end(self, run: Run) -> None:
        """Put the best weights back, and say in the history which."""
        if self.record is not None and self._weights:
            run.model.load_state_dict(self._weights)
            run.history.kept = self.record["epoch"]

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch's figures and weights."""
        return {"record": self.record, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what ``state_dict`` returned."""
        self.record, self._weights = state["record"], state["weights"]


class EarlyStopping(KeepBest):
    """End training when no epoch has been better for a while, and put the best epoch's weights back.

    ``history.stopped`` says then after which epoch, and from which the weights are.

    Parameters
    ----------
    patience : int
        How many epochs in a row may bring nothing better.
    monitor, min_delta
        As in ``KeepBest``.

    Raises
    ------
    ValueError
        If an argument is outside its range; at the beginning of training, if nothing is measured that could say it.
    """

    def __init__(self, patience: int = 10, monitor: str = "val_loss", min_delta: float = 0.0) -> None:
        super().__init__(monitor, min_delta)
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 1:
            raise ValueError(f"EarlyStopping: expected patience of at least 1 epoch, got {patience!r}")
        self.patience = patience
        self._waited = 0

    def on_train_begin(self, run: Run) -> None:
        """Forget an earlier training, and check that there will be something to go by."""
        super().on_train_begin(run)
        if not run.history:
            self._waited = 0
        if self.monitor.startswith("val") and not run.validated:
            raise ValueError(
                f"EarlyStopping: expected images to validate on, since it goes by {self.monitor}, got none"
            )

    def on_epoch_end(self, run: Run, record: Record) -> None:
        """Stop if this was one epoch too many."""
        if record[self.monitor] is None:
            raise ValueError(f"EarlyStopping: expected a loss that counts right answers, to go by {self.monitor}")
        super().on_epoch_end(run, record)
        self._waited = 0 if self.record is record else self._waited + 1
        if self._waited >= self.patience:
            run.stop = True
            kept = "the last weights are kept"
            if self.record is not None:
                kept = f"the weights of epoch {self.record['epoch']} are kept ({self.record[self.monitor]:.4f})"
            run.history.stopped = f"stopped early: no better {self.monitor} in {self.patience} epochs, {kept}"

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch's figures and weights, and how long there was no better one."""
        return super().state_dict() | {"waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what ``state_dict`` returned."""
        super().load_state_dict(state)
        self._waited = state["waited"]


class TimeBudget(Callback):
    """End training in order before so many seconds are over, and let the schedule run on the time.

    Progress is that of the epochs or of the time, whichever is further.  The last epoch is cut short, measured and
    recorded; as much time as the longest validation took is kept for that.  How many steps are taken depends on the
    machine, so the same seed no longer gives the same weights.

    Parameters
    ----------
    seconds : float

    Raises
    ------
    ValueError
        If it is not above 0.
    """

    def __init__(self, seconds: float) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise ValueError(f"TimeBudget: expected seconds above 0, got {seconds!r}")
        self.seconds = seconds
        self._began = self._trained = self._kept = self._before = 0.0

    def on_train_begin(self, run: Run) -> None:
        """Start the clock, or let it go on."""
        self._began = perf_counter() - self._before
        self._before = 0.0  # the next training begins anew

    def on_batch_begin(self, run: Run) -> None:
        """Move the schedule on."""
        run.progress = max(run.progress, self._share(perf_counter()))

    def on_batch_end(self, run: Run) -> None:
        """Finish when the time is up."""
        self._trained = perf_counter()
        if self._share(self._trained) >= 1 and run.epoch * run.batch < run.epochs * run.batches:
            run.finish = True
            run.history.stopped = f"stopped in epoch {run.epoch}: the {self.seconds:g} s for training are over"

    def on_epoch_end(self, run: Run, record: Record) -> None:
        """Measure what a validation takes."""
        self._kept = max(self._kept, perf_counter() - self._trained)

    def state_dict(self) -> dict[str, Any]:
        """Return how much time is over: the budget is of the time that training runs."""
        return {"spent": perf_counter() - self._began, "kept": self._kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what ``state_dict`` returned."""
        self._before, self._kept = state["spent"], state["kept"]

    def _share(self, now: float) -> float:
        left = max(self.seconds - self._kept, 1e-9)
        return min(1.0, (now - self._began) / left)
