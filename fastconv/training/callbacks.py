"""What watches a training run: an object with four methods, each called at its moment."""

from dataclasses import dataclass, field

import numpy as np

from fastconv.optim import Optimizer
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
    epoch: int = 0
    """The epoch that runs or has just ended, from 1."""
    batch: int = 0
    """Batches of this epoch that have ended."""
    loss: float = 0.0
    """The last batch's mean loss."""
    stop: bool = False
    """Set it, and training ends after the current batch.  An epoch that was cut short leaves no record."""


class Callback:
    """Base of all callbacks; each method does nothing until overridden."""

    def on_train_begin(self, run: Run) -> None:
        """Before the first batch."""

    def on_batch_end(self, run: Run) -> None:
        """After every batch."""

    def on_epoch_end(self, run: Run, record: Record) -> None:
        """After every epoch and its validation."""

    def on_train_end(self, run: Run) -> None:
        """After the last epoch, or after the batch in which ``run.stop`` was set."""


class KeepBest(Callback):
    """Remember the weights of the epoch with the best validation accuracy, and put them back at the end.

    Attributes
    ----------
    record : Record or None
        That epoch's figures; None while no epoch has ended.
    """

    def __init__(self) -> None:
        self.record: Record | None = None
        self._weights: dict[str, np.ndarray] = {}

    def on_epoch_end(self, run: Run, record: Record) -> None:
        """Copy the weights if this epoch is better than all before."""
        if record["val_acc"] is None:
            return
        if self.record is None or record["val_acc"] > (self.record["val_acc"] or 0.0):
            self.record, self._weights = record, run.model.state_dict()

    def on_train_end(self, run: Run) -> None:
        """Put the best weights back."""
        if self._weights:
            run.model.load_state_dict(self._weights)
