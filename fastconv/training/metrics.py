"""How good a classifier is: confusion matrix, precision and recall, an interval for the accuracy."""

from math import sqrt
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from fastconv import blocks
from fastconv.losses import check_labels

_Z95 = 1.959963984540054  # 95 % of a normal distribution lie within so many standard deviations


class ClassFigures(TypedDict):
    """One class's figures, from 0 to 1; None where they would be 0 / 0."""

    label: int
    precision: float | None
    """Of the images that were called this class, the fraction that are."""
    recall: float | None
    """Of the images that are this class, the fraction that were called so."""
    support: int
    """Images of this class."""


class Confusion(NamedTuple):
    """How often one class was taken for another."""

    label: int
    predicted: int
    times: int


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Count the images of each pair of classes.

    Parameters
    ----------
    labels, predicted : int64[N]
        From 0 to classes - 1.
    classes : int

    Raises
    ------
    ShapeError, TypeError, ValueError
        If they are no such labels.

    Returns
    -------
    int64[classes, classes]
        A row for each true class, a column for each predicted one.
    """
    n = blocks.as_array("confusion_matrix", "labels", labels).size
    labels, predicted = (check_labels("confusion_matrix", given, n, classes) for given in (labels, predicted))
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def per_class(matrix: NDArray[np.int64]) -> list[ClassFigures]:
    """Return precision, recall and support of each class of a confusion matrix."""
    hits, called, support = (part.tolist() for part in (matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)))
    return [
        ClassFigures(
            label=label,
            precision=hits[label] / called[label] if called[label] else None,
            recall=hits[label] / support[label] if support[label] else None,
            support=support[label],
        )
        for label in range(len(hits))
    ]


def balanced_accuracy(matrix: NDArray[np.int64]) -> float:
    """Return the mean recall of the classes that there are images of: accuracy, had all of them as many."""
    recalls = [figures["recall"] for figures in per_class(matrix) if figures["recall"] is not None]
    return sum(recalls) / len(recalls)


def macro_f1(matrix: NDArray[np.int64]) -> float:
    """Return the mean over classes of F1 = 2 hits / (images of the class + images that were called so).

    Classes that are neither in the labels nor in the predictions are left out, as in scikit-learn.
    """
    hits, both = matrix.diagonal().tolist(), (matrix.sum(axis=0) + matrix.sum(axis=1)).tolist()
    scores = [2 * hit / count for hit, count in zip(hits, both, strict=True) if count]
    return sum(scores) / len(scores)


def most_confused(matrix: NDArray[np.int64], count: int = 2) -> list[Confusion]:
    """Return the most frequent mistakes of a confusion matrix, at most ``count``; of equal ones, low labels first."""
    mistakes = [Confusion(int(a), int(b), int(matrix[a, b])) for a, b in np.argwhere(matrix) if a != b]
    return sorted(mistakes, key=lambda mistake: -mistake.times)[:count]


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate of which ``hits`` of ``n`` were seen.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", J. Am. Stat. Assoc.
    22.  Unlike the textbook's hits/n +- 1.96 sigma it holds for rates near 1, which is where classifiers are.

    Raises
    ------
    ValueError
        Unless 0 <= hits <= n and n is at least 1.
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"wilson_interval: expected 0 <= hits <= n and n of at least 1, got hits {hits} and n {n}")
    rate, z2 = hits / n, _Z95 * _Z95
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
