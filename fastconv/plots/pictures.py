"""Images as matplotlib draws them."""

import numpy as np
from numpy.typing import NDArray


def as_picture(image: np.ndarray) -> NDArray[np.uint8]:
    """Return an image of shape (C, H, W) as (H, W) or (H, W, 3).

    Of more than three channels the first three are shown, of two the first.  uint8 stays as it is; of anything else the
    least number becomes black and the greatest white.
    """
    image = image[:3] if image.shape[0] >= 3 else image[:1]
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = np.rint((image - low) * (255 / (high - low or 1.0))).astype(np.uint8)
    return image.transpose(1, 2, 0) if len(image) == 3 else image[0]


def mosaic(tiles: np.ndarray, columns: int, gap: int, fill: float) -> np.ndarray:
    """Return tiles [n, h, w, ...] side by side, so many in a row, on ground of the value ``fill``."""
    n, height, width, *rest = tiles.shape
    rows = -(-n // columns)
    page = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *rest), fill, tiles.dtype)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        page[top : top + height, left : left + width] = tile
    return page
