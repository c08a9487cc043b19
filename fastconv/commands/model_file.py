"""From what a user names to a model: a model's name, a run's folder, or a model file."""

import json
from pathlib import Path
from typing import NamedTuple

from fastconv import io, models
from fastconv.commands.errors import UsageError
from fastconv.data import Dataset
from fastconv.regular import read_small
from fastconv.sequential import Sequential
from fastconv.shapes import Shape, ShapeError
from fastconv.training.run_folder import CONFIG, MODEL

_DIGIT: Shape = (1, 28, 28)


class Found(NamedTuple):
    """A model and what is known about it."""

    model: Sequential
    name: str
    image_shape: Shape
    """Of the images it was trained on, or of the built-in digits where that is not known."""


def find(named: str) -> Found:
    """Return a run's model, or a new one of a name in ``fastconv.models``.

    Raises
    ------
    UsageError
        If there is neither.
    ModelFileError, OSError
        If the file is damaged or cannot be read.
    """
    if named in models.NAMES:
        return Found(models.create(named), named, _DIGIT)
    if not Path(named).exists():
        names = ", ".join(models.NAMES)
        raise UsageError(
            f"{named}: no such run or model; expected a run's folder, a model.safetensors, or one of {names}"
        )
    return find_run(named)


def find_run(run: str) -> Found:
    """Return the model of a run's folder or of a model file; errors as in ``find``."""
    path = Path(run)
    if path.is_dir():
        if not (path / MODEL).exists():
            raise UsageError(f"{path}: the folder holds no {MODEL}; name a run's folder, such as runs/train-001")
        path /= MODEL
    elif not path.exists():
        raise UsageError(f"{path}: there is no such run; name a run's folder, such as runs/train-001, or a {MODEL}")
    return Found(io.load(path), str(path), _recorded_shape(path.with_name(CONFIG)) or _DIGIT)


def _recorded_shape(config: Path) -> Shape | None:
    try:
        channels, height, width = json.loads(read_small(config))["data"]["image_shape"]
        shape = int(channels), int(height), int(width)
        return shape if min(shape) > 0 else None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        RecursionError,
    ):  # a model file alone has no config.json, or a stranger's
        return None


def check_name(name: str) -> None:
    """Raise UsageError if there is no model of that name: before data are read, which may take a while."""
    if name not in models.NAMES:
        raise UsageError(f"--model: expected one of {', '.join(models.NAMES)}, got {name!r}")


def new_model(name: str, dataset: Dataset, seed: int) -> Sequential:
    """Return an untrained model of that name for the images and the classes of a dataset.

    Raises
    ------
    UsageError
        If it cannot take them.
    """
    try:
        model = models.create_for(name, dataset.images.shape[1:], dataset.num_classes, seed)
    except ValueError as error:
        raise _misfit(name, dataset, error) from error
    classes_for(model, name, dataset)
    return model


def _misfit(name: str, dataset: Dataset, error: ValueError) -> UsageError:
    size = "x".join(map(str, dataset.images.shape[1:]))
    return UsageError(
        f"{dataset.source}: its images of {size} do not fit {name} ({error}); resize them, or use another model"
    )


def classes_for(model: Sequential, name: str, dataset: Dataset) -> int:
    """Return how many classes a model tells apart in the images of a dataset.

    Raises
    ------
    UsageError
        If it cannot take them.
    """
    size = "x".join(map(str, dataset.images.shape[1:]))
    try:
        shape = model.output_shape((1, *dataset.images.shape[1:]))
    except ShapeError as error:
        raise _misfit(name, dataset, error) from error
    if len(shape) != 2:
        raise UsageError(f"{name}: expected one output a class, got outputs of shape {shape[1:]} for images of {size}")
    return shape[1]
