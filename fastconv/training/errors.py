"""What can go wrong while training."""

from typing import NamedTuple

import numpy as np


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where, and what usually helps."""


class Statistics(NamedTuple):
    """What is in an array: of the numbers that are finite, least, greatest and mean, and the share of the others."""

    shape: tuple[int, ...]
    least: float
    greatest: float
    mean: float
    """NaN, as the two before, if no number is finite."""
    not_finite: float
    """From 0 to 1."""

    @classmethod
    def of(cls, array: np.ndarray) -> "Statistics":
        """Return those of an array."""
        good = array[np.isfinite(array)].astype(np.float64)
        share = 1 - good.size / max(1, array.size)
        if not good.size:
            return cls(array.shape, np.nan, np.nan, np.nan, share)
        return cls(array.shape, float(good.min()), float(good.max()), float(good.mean()), share)

    def __str__(self) -> str:
        share = f"{100 * self.not_finite:.3g} % of {'x'.join(map(str, self.shape)) or '1'} not finite"
        if np.isnan(self.mean):
            return share
        return f"{share}, the others from {self.least:.4g} to {self.greatest:.4g} with mean {self.mean:.4g}"


class NotFiniteError(TrainingError):
    """The loss, a weight or the gradients' norm is no longer a finite number.

    Attributes
    ----------
    epoch, batch : int
        Where training stopped, both from 1.
    cause : 'data', 'weights', 'gradients', 'activations' or 'loss'
        Which numbers were the first that are not finite.
    layer : str or None
        Whose they are, such as '3 Conv2d'; None for images and for the loss.
    statistics : Statistics
        Of these numbers: images, a weight, a gradient, what the layer gives, or the outputs that the loss got.
    """

    def __init__(
        self, message: str, epoch: int, batch: int, cause: str, layer: str | None, statistics: Statistics
    ) -> None:
        super().__init__(message)
        self.epoch, self.batch = epoch, batch
        self.cause, self.layer, self.statistics = cause, layer, statistics

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (str(self), self.epoch, self.batch, self.cause, self.layer, self.statistics)
