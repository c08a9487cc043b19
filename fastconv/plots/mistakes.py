"""The worst mistakes: images whose true class the model thought least likely."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv.plots.figures import GREY, bare, new_figure, text_width
from fastconv.plots.names import class_names
from fastconv.plots.pictures import as_picture
from fastconv.shapes import ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS, _CELL = 6, 1.45  # inches
_LONGEST = 15
_SIZE = 8.0  # points
_WIDTH = 72 * _CELL - 12
"""Points that a name may take, so that those of neighbours stay apart."""


class Mistake(NamedTuple):
    """An image that was taken for another class."""

    image: int
    """Its index among the images."""
    label: int
    predicted: int
    probability: float
    """Of the predicted class."""
    loss: float
    """-log of the true class's probability."""


def find_mistakes(labels: np.ndarray, probabilities: np.ndarray, count: int | None = None) -> list[Mistake]:
    """Return the images that are taken for another class, those of the highest loss first.

    Parameters
    ----------
    labels : int[N]
    probabilities : float[N, classes]
        As ``predict_proba`` gives them, or a mean of such.
    count : int, optional
        How many at most.

    Raises
    ------
    ShapeError
        If the arrays do not fit together.
    ValueError
        If there is no class for a label, or ``count`` is less than 1.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ShapeError(
            "find_mistakes: expected labels (N,) and probabilities (N, classes), got "
            f"{labels.shape} and {probabilities.shape}"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(
            f"find_mistakes: expected labels from 0 to {probabilities.shape[1] - 1}, got {labels.min()} to "
            f"{labels.max()}"
        )
    if count is not None and (not isinstance(count, int) or count < 1):
        raise ValueError(f"find_mistakes: expected count of at least 1, got {count!r}")
    predicted = probabilities.argmax(axis=1) if labels.size else labels
    wrong = np.flatnonzero(predicted != labels)
    true = probabilities[wrong, labels[wrong]].astype(np.float64)
    losses = -np.log(np.maximum(true, np.finfo(np.float64).tiny))
    worst = np.argsort(-losses, kind="stable")[:count]
    return [
        Mistake(int(n), int(labels[n]), int(predicted[n]), float(probabilities[n, predicted[n]]), float(loss))
        for n, loss in zip(wrong[worst], losses[worst], strict=True)
    ]


def worst_errors(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str] | None = None,
    numbers: NDArray[np.integer] | None = None,
    count: int = 24,
) -> "Figure":
    """Draw the images with the highest loss among those that are taken for another class.

    Parameters
    ----------
    images : (N, C, H, W)
    labels : int[N]
    probabilities : float[N, classes]
        As ``model.predict_proba(images)`` gives them, or a mean of such.
    classes : sequence of str, optional
        Their names; by default their numbers.
    numbers : int[N], optional
        Each image's index to be shown, such as its own in all data; by default that in ``images``.
    count : int
        How many at most.

    Returns
    -------
    Figure
        With a small diagram for each image; with one that says so if nothing is wrong.

    Raises
    ------
    ShapeError, ValueError
        If arguments do not fit together.
    ImportError
        If matplotlib is absent.
    """
    images = np.asarray(images)
    mistakes = find_mistakes(labels, probabilities, count)
    n, k = np.asarray(probabilities).shape
    if images.ndim != 4 or len(images) != n:
        raise ShapeError(f"worst_errors: expected images of shape ({n}, C, H, W), got {images.shape}")
    names = class_names("worst_errors", classes, k, _LONGEST)
    numbers = np.arange(n) if numbers is None else np.asarray(numbers)
    if numbers.shape != (n,):
        raise ShapeError(f"worst_errors: expected numbers of shape ({n},), got {numbers.shape}")
    if not mistakes:
        return _nothing(n)
    columns = min(_COLUMNS, len(mistakes))
    rows = -(-len(mistakes) // columns)
    figure = new_figure(columns * _CELL, rows * (_CELL * _height(images) + 0.45))
    said = [f"{names[mistake.label]}\nas {names[mistake.predicted]}" for mistake in mistakes]
    widest = max(text_width(line, _SIZE) for title in said for line in title.splitlines())
    size = _SIZE * min(1.0, _WIDTH / widest)
    for axes, mistake, title in zip(figure.subplots(rows, columns, squeeze=False).flat, mistakes, said, strict=False):
        picture = as_picture(images[mistake.image])
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(title, fontsize=size, parse_math=False, linespacing=1.1, pad=3)
        shown = f"{_percent(mistake.probability)}, index {numbers[mistake.image]}"
        axes.set_xlabel(shown, fontsize=7, color=GREY, labelpad=2)
    for axes in figure.axes:
        bare(axes)
        axes.set_visible(bool(axes.images))
    return figure


def _percent(probability: float) -> str:
    """Return '98 %'; certainty only where there is some."""
    return f"{min(99, round(100 * probability)) if probability < 1 else 100} %"


def _height(images: np.ndarray) -> float:
    """Return the height of an image whose width is 1, within what a page can show."""
    return float(np.clip(images.shape[2] / images.shape[3], 0.3, 2.0))


def _nothing(n: int) -> "Figure":
    figure = new_figure(5, 1)
    axes = figure.subplots()
    axes.text(0.5, 0.5, f"none of {n:,} images is wrong", ha="center", va="center", color=GREY)
    bare(axes)
    return figure
