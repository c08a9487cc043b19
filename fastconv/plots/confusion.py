"""The confusion matrix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv.plots.figures import FAINT, GREY, new_figure
from fastconv.plots.names import class_names
from fastconv.shapes import ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL = 0.42  # inches
_NARROWEST, _WIDEST = 4.0, 12.0  # inches
_LARGEST = 9.0  # points
_NUMBERED = 40
"""With more classes than this, cells have a colour but no number."""
_NAMED = 120
"""With more classes than this, there is no room for names, and matplotlib numbers some of the classes."""
_RIGHT, _WRONG = (31, 99, 144), (217, 112, 30)
_PALEST = 0.12


def confusion(matrix: np.ndarray, classes: Sequence[str] | None = None) -> "Figure":
    """Draw how many images of each class were taken for which.

    Right answers are blue, by their part of the class; wrong ones are orange, by their number, for with a good model no
    common scale would show them.

    Parameters
    ----------
    matrix : integer[classes, classes]
        A row for each true class, a column for each predicted one, as in ``metrics.json``.
    classes : sequence of str, optional
        Their names; by default their numbers.

    Raises
    ------
    ShapeError
        If the matrix is not square.
    ValueError
        If it holds negative numbers, or there are not as many names.
    ImportError
        If matplotlib is absent.
    """
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
        raise ShapeError(f"confusion: expected a square matrix, got shape {counts.shape}")
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ValueError(
            f"confusion: expected whole numbers from 0 upwards, got dtype {counts.dtype}, least {counts.min()}"
        )
    n = len(counts)
    names = class_names("confusion", classes, n)
    edge = 1.0 + 0.09 * max(map(len, names))  # what names and titles take
    side = max(_NARROWEST, n * min(_CELL, _WIDEST / n) + edge)
    cell = 72 * (side - edge) / n  # in points
    figure = new_figure(side, side)
    axes = figure.subplots()
    axes.imshow(_colours(counts), interpolation="nearest")
    if n <= _NUMBERED:
        digits = len(f"{counts.max():,}")
        size = min(_LARGEST, cell / (0.75 * max(digits, 2)))
        dark = counts > 0.6 * counts.sum(axis=1, keepdims=True)
        for row, column in np.argwhere(counts):
            colour = "white" if row == column and dark[row, column] else "black"
            text = f"{counts[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    if n <= _NAMED:
        _name_cells(axes, names, cell)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(FAINT)
    wrong, total = int(counts.sum() - counts.trace()), int(counts.sum())
    axes.set_title(f"{wrong:,} of {total:,} wrong", fontsize=10, color=GREY)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def _name_cells(axes: Any, names: list[str], cell: float) -> None:
    """Write the classes' names beside their rows and columns, and draw lines between these."""
    n, longest = len(names), max(map(len, names))
    size = min(_LARGEST, 0.8 * cell)
    upright = 0.7 * size * longest > 0.9 * cell
    axes.set_xticks(range(n), names, parse_math=False, fontsize=size, rotation=90 if upright else 0)
    axes.set_yticks(range(n), names, parse_math=False, fontsize=size)
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.5)


def _colours(counts: np.ndarray) -> np.ndarray:
    """Return uint8[n, n, 3]: white where there is no image, else from pale to full."""
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    depth = wrong / max(1, wrong.max())
    np.fill_diagonal(depth, counts.diagonal() / np.maximum(1, counts.sum(axis=1)))
    depth = np.where(counts > 0, _PALEST + (1 - _PALEST) * depth, 0)[:, :, None]
    full = np.where(np.eye(len(counts), dtype=bool)[:, :, None], _RIGHT, _WRONG)
    return np.rint(255 + depth * (full - 255)).astype(np.uint8)
