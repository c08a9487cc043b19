"""From what a user names to a model: a model's name, a run's folder, or a model file."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from fastconv import io, models
from fastconv.augment import VIEWS
from fastconv.commands.errors import UsageError
from fastconv.data import Dataset
from fastconv.ensemble import Ensemble
from fastconv.layers import Layer
from fastconv.regular import read_small
from fastconv.sequential import Sequential
from fastconv.shapes import Shape, ShapeError
from fastconv.training.run_folder import CONFIG, METRICS, MODEL

_DIGIT: Shape = (1, 28, 28)


class Found(NamedTuple):
    """A model and what is known about it."""

    model: Sequential
    name: str
    image_shape: Shape
    """Of the images it was trained on or is made for, or of the built-in digits where that is not known."""
    classes: tuple[str, ...] | None = None
    """The names of what it tells apart, by label; None if they have none, or nobody knows."""


class Trained(NamedTuple):
    """What a run has left: its model, or its models."""

    model: Sequential | Ensemble
    name: str
    image_shape: Shape
    """As in ``Found``."""
    preset: str | None
    """By which its images were augmented; None if they were not, or nobody knows."""
    classes: tuple[str, ...] | None
    """As in ``Found``."""


def find(named: str, layers: tuple[type[Layer], ...] = (), image_shape: Shape | None = None) -> Found:
    """Return a run's model, or a new one of a name in ``fastconv.models``.

    Parameters
    ----------
    named : str
    layers : classes
        The user's own, which the model may hold.
    image_shape : (C, H, W), optional
        What a new one is for, instead of the images that its name stands for.

    Raises
    ------
    UsageError
        If there is neither.
    ModelFileError, OSError
        If the file is damaged or cannot be read.
    """
    if named in models.NAMES:
        shape = image_shape or models.image_shape_of(named)
        return Found(models.create_for(named, shape, num_classes=10), named, shape)
    if not Path(named).exists():
        names = ", ".join(models.NAMES)
        raise UsageError(
            f"{named}: no such run or model; expected a run's folder, a model.safetensors, or one of {names}"
        )
    found = find_run(named, layers)
    if isinstance(found.model, Ensemble):
        raise one_of(Path(named), len(found.model))
    return Found(found.model, found.name, found.image_shape, found.classes)


def find_run(run: str, layers: tuple[type[Layer], ...] = ()) -> Trained:
    """Return what a run's folder, an ensemble's or a model file holds; arguments and errors as in ``find``."""
    path = Path(run)
    if not path.exists():
        raise UsageError(f"{path}: there is no such run; name a run's folder, such as runs/train-001, or a {MODEL}")
    if not path.is_dir():
        return _trained(io.load(path, layers), path)
    if (path / MODEL).exists():
        return _trained(io.load(path / MODEL, layers), path / MODEL)
    members = members_of(path)
    if not members:
        raise UsageError(f"{path}: the folder holds no {MODEL}; name a run's folder, such as runs/train-001")
    missing = [name for name in members if not (path / name / MODEL).exists()]
    if missing:
        raise UsageError(
            f"{path}: expected an ensemble of {', '.join(members)}, as its {METRICS} says, and {missing[0]} holds no "
            f"{MODEL}; put it back, or name one model's folder"
        )
    together = Ensemble([io.load(path / name / MODEL, layers) for name in members])
    return _trained(together, path / METRICS)._replace(name=str(path))


def _trained(model: Sequential | Ensemble, path: Path) -> Trained:
    config = path.with_name(CONFIG)
    shape, preset, classes = _recorded_shape(config), _recorded_preset(config), _recorded_classes(config)
    return Trained(model, str(path), shape or _DIGIT, preset, classes)


def one_of(ensemble: Path, models: int) -> UsageError:
    """Return the error of a command that takes one model."""
    return UsageError(f"{ensemble}: an ensemble of {models}; name one of its models, such as {ensemble / member(1)}")


def member(number: int) -> str:
    """Return the name of an ensemble's folder for a model; they count from 1."""
    return f"member-{number}"


def _recorded(file: Path, *keys: str) -> Any:
    """Return a value out of a run's file; None if there is none: a model file alone has no others, or a stranger's."""
    try:
        content = json.loads(read_small(file))
        for key in keys:
            content = content[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return content


def recorded_members(ensemble: Path) -> int | None:
    """Return how many models an ensemble's metrics.json names if it was finished; None if it was not."""
    unfinished = _recorded(ensemble / METRICS, "interrupted") is not False
    return None if unfinished else len(members_of(ensemble))


def _recorded_shape(config: Path) -> Shape | None:
    try:
        channels, height, width = _recorded(config, "data", "image_shape")
        shape = int(channels), int(height), int(width)
        return shape if min(shape) > 0 else None
    except (ValueError, TypeError, OverflowError):
        return None


def _recorded_preset(config: Path) -> str | None:
    preset = _recorded(config, "options", "augment")
    return preset if isinstance(preset, str) and preset in VIEWS else None


def _recorded_classes(config: Path) -> tuple[str, ...] | None:
    names = _recorded(config, "data", "class_names")
    return tuple(map(str, names)) if isinstance(names, list) else None


def members_of(folder: Path) -> list[str]:
    """Return the names of the folders of an ensemble's models, as its metrics.json has them; none for other folders."""
    try:
        return [str(each["folder"]) for each in _recorded(folder / METRICS, "members")]
    except (KeyError, TypeError):
        return []


def views_of(found: Trained, tta: int, preset: str | None) -> str | None:
    """Return the preset of the views that ``--tta`` asks for, the user's or the run's; None without views.

    Raises
    ------
    UsageError
        If nothing says it, or the user says it without asking for views.
    """
    if tta == 1:
        if preset is not None:
            raise UsageError(f"--augment {preset}: expected a number of views with it, such as --tta 8")
        return None
    if preset is None and found.preset is None:
        raise UsageError(
            f"--tta {tta}: nothing says what views undergo, since {found.name} was trained without --augment; say it, "
            "such as --augment digits"
        )
    return preset or found.preset


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


def classes_for(model: Sequential | Ensemble, name: str, dataset: Dataset) -> int:
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
