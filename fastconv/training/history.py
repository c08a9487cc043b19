"""What ``fit`` returns: one record an epoch."""

from typing import TypedDict


class Record(TypedDict):
    """The figures of one epoch.  Validation figures are None where there is no validation data."""

    epoch: int
    """From 1."""
    time: float
    """Seconds since training began, without the time that evaluation took."""
    train_loss: float
    """Mean over the epoch's images, each with the weights of its step."""
    train_acc: float | None
    """As above; None for a loss without labels."""
    val_loss: float | None
    val_acc: float | None
    lr: float
    """The learning rate of the epoch's last step."""
    images_per_s: float


class History(list[Record]):
    """The records of all epochs, in order.

    Attributes
    ----------
    stopped : str or None
        Why training ended before its last epoch; None if it did not, or was told to from outside.
    kept : int or None
        The epoch whose weights a callback such as ``EarlyStopping`` put back; None if the last ones stayed.
    """

    stopped: str | None = None
    kept: int | None = None

    def column(self, name: str) -> list[float | None]:
        """Return one figure of every epoch, such as ``column("val_acc")``."""
        return [record[name] for record in self]

    @property
    def seconds(self) -> float:
        """How long training took, without evaluation."""
        return self[-1]["time"] if self else 0.0

    @property
    def images_per_second(self) -> float | None:
        """Over all epochs; None if none has ended."""
        ends = [0.0, *(record["time"] for record in self)]
        seen = sum(r["images_per_s"] * (r["time"] - before) for r, before in zip(self, ends, strict=False))
        return seen / self.seconds if self.seconds else None

    @property
    def best(self) -> Record | None:
        """The record of the epoch that was kept, or of the first with the highest validation accuracy; None without."""
        if self.kept is not None:
            return next(record for record in self if record["epoch"] == self.kept)
        measured = [record for record in self if record["val_acc"] is not None]
        return max(measured, key=lambda record: record["val_acc"] or 0.0) if measured else None
