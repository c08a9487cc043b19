"""How uint8 pixels become floats; it belongs to the model (docs/adr/0009)."""

from typing import NamedTuple

import numpy as np

from fastconv.shapes import ShapeError


class Normalization(NamedTuple):
    """What becomes of uint8 pixels: (v / 255 - mean) / std, one mean and std a channel, or one for all."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def table(self, channels: int, dtype: np.typing.DTypeLike) -> np.ndarray:
        """Return float[channels, 256]: what each value becomes.

        Raises
        ------
        ShapeError
            If there are neither one nor ``channels`` means and standard deviations.
        """
        if any(len(part) not in (1, channels) for part in self):
            raise ShapeError(
                f"normalization: expected 1 or {channels} means and standard deviations for {channels} channels, "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        mean, std = (np.broadcast_to(np.asarray(part, np.float64), channels)[:, None] for part in self)
        return np.ascontiguousarray((np.arange(256) / 255 - mean) / std, dtype)
