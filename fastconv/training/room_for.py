"""Whether there is memory for a training, before it begins."""

from collections.abc import Callable

from fastconv import footprint, room
from fastconv.averaging import EMA
from fastconv.optim import Optimizer
from fastconv.sequential import Sequential
from fastconv.shapes import Shape
from fastconv.training.evaluation import BATCH

_KERNELS = 40 * 2.0**20
"""Loaded from the cache; compiling them takes up to three times as much."""


def check_room(
    operation: str,
    model: Sequential,
    image_shape: Shape,
    images: int,
    held_out: int,
    batch_size: int,
    optimizer: Optimizer,
    ema: EMA | None,
    is_planned: Callable[[Shape], bool] = lambda shape: False,
) -> None:
    """Raise NoRoomError unless there is memory to train a model on ``images`` images and validate it on others.

    Parameters
    ----------
    operation : str
        Begins the message.
    model : Sequential
    image_shape : (C, H, W), (C, L) or (features,)
    images, held_out, batch_size : int
    optimizer : Optimizer
    ema : EMA or None
    is_planned : function of a batch's shape
        Whether its memory is there already.
    """
    copies = optimizer.slots + (ema is not None) + 1  # what the epoch began with
    needs = footprint.of_training(model, image_shape, images, held_out, batch_size, BATCH, copies, is_planned)
    needs["kernels"] = _KERNELS
    room.check(operation, needs, "train with a smaller batch size, or a smaller model")
