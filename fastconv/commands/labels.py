"""Labelled images, as a command needs them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastconv.commands.errors import UsageError
from fastconv.data import Dataset, load
from fastconv.data.errors import shown
from fastconv.data.image_folder import holds_images

_LISTED = 20
"""Up to so many names of classes are listed in a message."""


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


def numbered_as_in(run: str, names: tuple[str, ...] | None, dataset: Dataset) -> Dataset:
    """Return data with the labels that a run has for classes of these names; data without names stay as they are.

    A run whose classes have no names knows them by number: '3' is class 3, whatever else there is.  Where data have
    other names, nothing says which class is which, and they stay as they are, too.

    Raises
    ------
    UsageError
        If the run has no class of a name.
    """
    if dataset.classes is None or dataset.labels is None:
        return dataset
    if names is None:
        numbers = {name: int(name) for name in dataset.classes if name.isdecimal()}
    else:
        numbers = {name: number for number, name in enumerate(names)}
    strange = [name for name in dataset.classes if name not in numbers]
    if strange and names is None:
        return dataset
    if strange:
        raise UsageError(
            f"{dataset.source}: expected classes that {run} knows, {_listed([*numbers])}, got {_listed(strange)}; "
            "rename the sub-folder, or leave it out"
        )
    labels = np.array([numbers[name] for name in dataset.classes])[dataset.labels]
    return replace(dataset, labels=labels, classes=names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(map(shown, names[:_LISTED])) + more
