"""Labelled images, as a command needs them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastconv.commands.errors import UsageError
from fastconv.data import Dataset, load
from fastconv.data.image_folder import holds_images


def load_labelled(named: str | None, size: tuple[int, int] | None) -> Dataset:
    """Read the images to train on, resized if the user says so.

    Raises
    ------
    UsageError
        If that is said of data that are not PNG or JPEG files, which alone are resized.
    DataError, OSError
        As ``data.load``.
    """
    if size is not None and not (named is not None and Path(named).is_dir() and holds_images(Path(named))):
        raise UsageError(
            f"--size: expected a folder of PNG or JPEG files, which alone are resized, got {named or 'no DATA'}"
        )
    return load(named, size=size)


def labels_of(dataset: Dataset, classes: int | None = None) -> NDArray[np.int64]:
    """Return a dataset's labels; with ``classes`` they must be below it.

    Raises
    ------
    UsageError
        If there are none, or a model has no class for one.
    """
    if dataset.labels is None:
        raise UsageError(
            f"{dataset.source}: the images have no labels; give data with labels, in CSV a first column 'label'"
        )
    wrong = np.flatnonzero(dataset.labels >= classes) if classes is not None else np.empty(0, np.int64)
    if wrong.size:
        raise UsageError(
            f"{dataset.source}: expected labels from 0 to {(classes or 0) - 1}, which the model knows, got "
            f"{dataset.labels[wrong[0]]} for image {wrong[0] + 1:,}; evaluate on data with the classes of training"
        )
    return dataset.labels
