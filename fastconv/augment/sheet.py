"""A contact sheet: what augmentation makes of some images, to look at before training."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
    page = sheet("preview", images, augment, range(len(images)), seed, columns)
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("preview: needs Pillow; pip install 'fastconv[images]'") from error
    Image.fromarray(page).save(Path(path), "PNG")


def sheet(
    operation: str, images: np.ndarray, augment: Augment | str, index: Sequence[int], seed: int, columns: int
) -> NDArray[np.uint8]:
    """Return the page of ``images[index]`` as uint8[height, width, 3]; arguments and errors as of ``preview``."""
    images, options = check_pixels(operation, images), chosen(operation, augment)
    if options is None or images.shape[1] not in (1, 3):
        raise ValueError(
            f"{operation}: expected an Augment or a preset's name, and images of 1 or 3 channels, got {augment!r} and "
            f"{images.shape[1]}"
        )
    if not isinstance(columns, int) or columns < 2:
        raise ValueError(f"{operation}: expected columns of at least 2, got {columns!r}")
    rows = np.asarray(index, np.int64)
    shown = [images[rows], *(options.apply(images, rows, epoch, seed) for epoch in range(1, columns))]
    times = max(1, _LARGE // max(images.shape[2:]))
    cells = np.stack(shown, axis=1).repeat(times, axis=3).repeat(times, axis=4)
    n, _, _, height, width = cells.shape
    page = np.full((n, columns, height + _GAP, width + _GAP, 3), _PAPER, np.uint8)
    page[:, :, :height, :width] = cells.transpose(0, 1, 3, 4, 2)
    return page.transpose(0, 2, 1, 3, 4).reshape(n * (height + _GAP), columns * (width + _GAP), 3)
