"""Ready-made networks: functions that return a model, and a list of them by name."""

import inspect
from collections.abc import Callable
from typing import Any

from fastconv.models.digitnet import digitnet as digitnet
from fastconv.models.lenet import lenet5 as lenet5
from fastconv.models.lenet import lenet_seed as lenet_seed
from fastconv.models.mobilenet import mobilenet_small as mobilenet_small
from fastconv.models.resnet import resnet20 as resnet20
from fastconv.models.resnet import resnet32 as resnet32
from fastconv.models.resnet import resnet56 as resnet56
from fastconv.models.vgg import vgg_small as vgg_small
from fastconv.sequential import Sequential

_BY_NAME: dict[str, Callable[..., Sequential]] = {
    f.__name__: f for f in (lenet5, lenet_seed, digitnet, vgg_small, resnet20, resnet32, resnet56, mobilenet_small)
}
NAMES = tuple(_BY_NAME)


def list_models() -> tuple[str, ...]:
    """Return the names that ``create`` knows."""
    return NAMES


def create(name: str, **options: Any) -> Sequential:
    """Return the model of that name.

    Parameters
    ----------
    name : str
    **options
        Those of the model's function: ``in_channels``, ``num_classes``, ``seed``, and others where it has them.

    Raises
    ------
    ValueError
        With the names there are, if there is no such model.
    TypeError
        If the model has no such option; the message names those it has.
    """
    if name not in _BY_NAME:
        raise ValueError(f"model: expected one of {', '.join(NAMES)}, got {name!r}")
    known = inspect.signature(_BY_NAME[name]).parameters
    for option in options:
        if option not in known:
            raise TypeError(f"{name}: expected options among {', '.join(known)}, got {option!r}")
    return _BY_NAME[name](**options)


def create_for(name: str, image_shape: tuple[int, ...], num_classes: int, seed: int = 0) -> Sequential:
    """Return the model of that name for images of shape (C, H, W).

    Raises
    ------
    ValueError
        As ``create``; also if the model needs square images and these are not.
    """
    channels, height, width = image_shape
    options: dict[str, Any] = {"in_channels": channels, "num_classes": num_classes, "seed": seed}
    if name in _BY_NAME and "image_size" in inspect.signature(_BY_NAME[name]).parameters:
        if height != width:
            raise ValueError(f"{name}: expected square images, got {height}x{width}")
        options["image_size"] = height
    return create(name, **options)
