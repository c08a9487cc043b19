"""A contact sheet: what augmentation makes of some images, to look at before training."""

import os
from pathlib import Path

import numpy as np

from fastconv.augment.options import Augment, check_pixels, chosen

_GAP, _PAPER = 2, 255
_LARGE = 96  # pixels: smaller images are shown enlarged


def preview(
    images: np.ndarray, augment: Augment | str, path: str | os.PathLike[str], seed: int = 0, columns: int = 8
) -> None:
    """Write a PNG with a row for each image: the original first, then what the first epochs make of it.

    Parameters
    ----------
    images : uint8[N, C, H, W]
        C is 1 or 3.
    augment : Augment or a preset's name
    path : str or path
        An existing file is replaced.
    seed : int
    columns : int
        Including the original's, at least 2.

    Raises
    ------
    TypeError, ShapeError, ValueError
        If an argument does not fit.
    ImportError
        If Pillow is absent; the message says how to get it.
    OSError
        If the file cannot be written.
    """
    images, options = check_pixels("preview", images), chosen("preview", augment)
    if options is None or images.shape[1] not in (1, 3):
        raise ValueError(
            f"preview: expected an Augment or a preset's name, and images of 1 or 3 channels, got {augment!r} and "
            f"{images.shape[1]}"
        )
    if not isinstance(columns, int) or columns < 2:
        raise ValueError(f"preview: expected columns of at least 2, got {columns!r}")
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("preview: needs Pillow; pip install 'fastconv[images]'") from error
    everything = np.arange(len(images))
    shown = [images, *(options.apply(images, everything, epoch, seed) for epoch in range(1, columns))]
    times = max(1, _LARGE // max(images.shape[2:]))
    cells = np.stack(shown, axis=1).repeat(times, axis=3).repeat(times, axis=4)
    n, _, _, height, width = cells.shape
    sheet = np.full((n, columns, height + _GAP, width + _GAP, 3), _PAPER, np.uint8)
    sheet[:, :, :height, :width] = cells.transpose(0, 1, 3, 4, 2)
    page = sheet.transpose(0, 2, 1, 3, 4).reshape(n * (height + _GAP), columns * (width + _GAP), 3)
    Image.fromarray(page).save(Path(path), "PNG")
