"""What ``fit`` checks before it trains, so that nothing is changed if its arguments do not fit together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv import shapes
from fastconv.averaging import EMA
from fastconv.data import split
from fastconv.layers import Softmax
from fastconv.losses import CrossEntropyLoss, Loss
from fastconv.optim import Optimizer
from fastconv.sequential import Sequential
from fastconv.training.callbacks import Callback


class Given(NamedTuple):
    """The images that ``fit`` was given, and which of them are for what."""

    x: np.ndarray
    target: np.ndarray
    """As the loss takes it."""
    train: NDArray[np.int64]
    """Rows of ``x`` to train on."""
    x_val: np.ndarray
    target_val: np.ndarray
    held_out: NDArray[np.int64] | None
    """Rows of ``x_val`` to validate on, if any."""


def checked_options(epochs: object, batch_size: object, seed: object) -> tuple[int, int, int]:
    """Return the numbers; raises ValueError if one is no whole number, or too small."""
    numbers: list[int] = []
    for name, number in (("epochs", epochs), ("batch_size", batch_size)):
        value = shapes.whole(number, 1)
        if value is None:
            raise ValueError(f"fit: expected {name} of at least 1, got {number!r}")
        numbers.append(value)
    return numbers[0], numbers[1], shapes.seed("fit", seed)


def check_helpers(optimizer: object, schedule: object, ema: object, callbacks: object) -> None:
    """Raise TypeError unless each is of its kind."""
    if not isinstance(optimizer, Optimizer | str):
        raise TypeError(f"fit: expected optimizer as an Optimizer, such as SGD(0.1), or a name, got {optimizer!r}")
    if not isinstance(schedule, str) and not callable(schedule):
        raise TypeError(f"fit: expected schedule as a function of progress, or a name, got {schedule!r}")
    if ema is not None and not isinstance(ema, EMA):
        raise TypeError(f"fit: expected ema as an EMA, such as EMA(0.999), or None, got {ema!r}")
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"fit: expected callbacks as a list of them, got {callbacks!r}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"fit: expected callbacks as objects of subclasses of Callback, got {callback!r}")


def checked_loss(operation: str, loss: Loss | None, model: Sequential) -> Loss:
    """Return the loss to train by; raises TypeError or ValueError if it is none, or does not fit the model's end."""
    loss = CrossEntropyLoss() if loss is None else loss
    if not isinstance(loss, Loss):
        raise TypeError(
            f"{operation}: expected loss to be a Loss, such as CrossEntropyLoss(), got {type(loss).__name__}"
        )
    if isinstance(loss, CrossEntropyLoss) and isinstance(model.last_layer(), Softmax):
        raise ValueError(
            f"{operation}: expected a model that ends in logits, got one that ends in Softmax; leave that layer out"
        )
    return loss


def checked_data(
    model: Sequential,
    loss: Loss,
    x: np.ndarray,
    y: np.ndarray,
    validation_split: float,
    validation_data: tuple[np.ndarray, np.ndarray] | None,
    drawn_by: int,
    stratify: bool,
) -> Given:
    """Return the images, their targets, and which of them are held out; parameters and errors as in ``fit``.

    Parameters
    ----------
    drawn_by : int
        The seed of the split.
    """
    if validation_split and validation_data is not None:
        raise ValueError("fit: expected validation_split or validation_data, got both")
    if stratify and not validation_split:
        given = f"validation_split={validation_split}" if validation_data is None else "validation_data"
        raise ValueError(f"fit: expected a validation_split above 0 with stratify=True, which it draws, got {given}")
    x = model.check_images("fit", x)
    if x.shape[0] == 0:
        raise ValueError(f"fit: expected at least one image, got x of shape {x.shape}")
    shape = model.output_shape(x.shape)
    target = loss.check_target(y, shape)
    if isinstance(loss, CrossEntropyLoss) and shape[1] < 2:
        raise ValueError(
            "fit: expected at least two outputs, one a class, for CrossEntropyLoss, got 1; take another loss, such as "
            "BCEWithLogitsLoss"
        )
    everything = np.arange(x.shape[0])
    if validation_data is not None:
        x_val = model.check_images("fit: validation_data", validation_data[0])
        if x_val.shape[0] == 0:
            raise ValueError(f"fit: expected at least one validation image, got shape {x_val.shape}")
        target_val = loss.check_target(validation_data[1], model.output_shape(x_val.shape))
        return Given(x, target, everything, x_val, target_val, np.arange(x_val.shape[0]))
    if not validation_split:
        return Given(x, target, everything, x, target, None)
    train, held_out = split(x.shape[0], validation_split, drawn_by, target if stratify else None)
    return Given(x, target, train, x, target, held_out)
