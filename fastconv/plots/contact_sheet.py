"""What augmentation makes of images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastconv.augment import Augment
from fastconv.augment.sheet import sheet
from fastconv.plots.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL, _HIGHEST = 0.9, 12.0  # inches


def augmentation(
    images: np.ndarray, augment: Augment | str, index: Sequence[int] | None = None, seed: int = 0, columns: int = 8
) -> "Figure":
    """Draw a row for each image: the original first, then what the first epochs make of it.

    Parameters
    ----------
    images : uint8[N, C, H, W]
        C is 1 or 3.
    augment : Augment or a preset's name
    index : integers, optional
        Which images; by default the first four.  What becomes of an image follows from its row among ``images``.
    seed : int
        As of training, to see what training saw.
    columns : int
        Including the original's, at least 2.

    Raises
    ------
    TypeError, ShapeError, ValueError, IndexError
        If an argument does not fit.
    ImportError
        If matplotlib is absent.
    """
    page = sheet("augmentation", images, augment, range(min(4, len(images))) if index is None else index, seed, columns)
    height, width = page.shape[:2]
    figure = new_figure(columns * _CELL, min(_HIGHEST, columns * _CELL * height / width) + 0.3)
    axes = figure.subplots()
    axes.imshow(page, interpolation="nearest")
    cell = width / columns
    names = ["original", *(f"epoch {number}" for number in range(1, columns))]
    axes.set_xticks([(number + 0.5) * cell - 1 for number in range(columns)], names, fontsize=8)
    axes.set_yticks([])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure
