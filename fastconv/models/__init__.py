"""Ready-made networks: functions that return a model, and a list of them by name."""

import inspect
from typing import TYPE_CHECKING, Any

from fastconv.lazy import lazily

if TYPE_CHECKING:
    from fastconv.models.lenet import lenet5 as lenet5
    from fastconv.models.lenet import lenet_seed as lenet_seed
    from fastconv.models.mobilenet import mobilenet_small as mobilenet_small
    from fastconv.models.mobilenet import tiny as tiny
    from fastconv.models.resnet import resnet20 as resnet20
    from fastconv.models.resnet import resnet32 as resnet32
    from fastconv.models.resnet import resnet56 as resnet56
    from fastconv.models.vgg import digitnet as digitnet
    from fastconv.models.vgg import vgg_small as vgg_small
    from fastconv.sequential import Sequential

_NAMES = {
    "fastconv.models.lenet": ("lenet5", "lenet_seed"),
    "fastconv.models.vgg": ("digitnet", "vgg_small"),
    "fastconv.models.resnet": ("resnet20", "resnet32", "resnet56"),
    "fastconv.models.mobilenet": ("mobilenet_small", "tiny"),
}
__getattr__, __dir__, __all__ = lazily(__name__, _NAMES)
NAMES = tuple(__all__)
__all__ += ["NAMES", "create", "create_for", "image_shape_of", "list_models"]


def list_models() -> tuple[str, ...]:
    """Return the names that ``create`` knows."""
    return NAMES


def create(name: str, **options: Any) -> "Sequential":
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
    if name not in NAMES:
        raise ValueError(f"model: expected one of {', '.join(NAMES)}, got {name!r}")
    make = __getattr__(name)
    known = inspect.signature(make).parameters
    for option in options:
        if option not in known:
            raise TypeError(f"{name}: expected options among {', '.join(known)}, got {option!r}")
    return make(**options)


def image_shape_of(name: str) -> tuple[int, int, int]:
    """Return the (C, H, W) that a model is made for: that of digits, or of CIFAR's images if its default is colour."""
    channels = inspect.signature(__getattr__(name)).parameters["in_channels"].default
    return (channels, 28, 28) if channels == 1 else (channels, 32, 32)


def create_for(name: str, image_shape: tuple[int, ...], num_classes: int, seed: int = 0) -> "Sequential":
    """Return the model of that name for images of shape (C, H, W).

    Raises
    ------
    ValueError
        As ``create``; also if the model needs square images and these are not.
    """
    channels, height, width = image_shape
    options: dict[str, Any] = {"in_channels": channels, "num_classes": num_classes, "seed": seed}
    if name in NAMES and "image_size" in inspect.signature(__getattr__(name)).parameters:
        if height != width:
            raise ValueError(f"{name}: expected square images, got {height}x{width}")
        options["image_size"] = height
    return create(name, **options)
