"""How uint8 pixels become floats; it belongs to the model (docs/adr/0009)."""

from math import isfinite
from typing import NamedTuple

import numpy as np

from fastconv.shapes import ShapeError


class Normalization(NamedTuple):
    """What becomes of uint8 pixels: (v / 255 - mean) / std, one mean and std a channel, or one for all."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def checked(self) -> "Normalization":
        """Return it with Python's own numbers.

        Raises
        ------
        TypeError, ValueError
            If means or standard deviations are no finite numbers, or one of the latter is 0.
        """
        try:
            mean, std = (tuple(float(number) for number in part) for part in self)
        except (TypeError, ValueError) as error:
            raise TypeError(f"normalization: expected numbers, one a channel or one for all, got {self}") from error
        if not all(isfinite(number) for number in mean + std) or not all(std):
            raise ValueError(
                f"normalization: expected finite numbers, and std other than 0, got mean {mean}, std {std}"
            )
        return Normalization(mean, std)

    def table(self, channels: int, dtype: np.typing.DTypeLike) -> np.ndarray:
        """Return float[channels, 256]: what each value becomes.

        Raises
        ------
        TypeError, ValueError
            As of ``checked``.
        ShapeError
            If there are neither one nor ``channels`` means and standard deviations.
        """
        mean, std = self.checked()
        if any(len(part) not in (1, channels) for part in (mean, std)):
            raise ShapeError(
                f"normalization: expected 1 or {channels} means and standard deviations for {channels} channels, "
                f"got {len(mean)} and {len(std)}"
            )
        means, stds = (np.broadcast_to(np.asarray(part, np.float64), channels)[:, None] for part in (mean, std))
        return np.ascontiguousarray((np.arange(256) / 255 - means) / stds, dtype)
