"""One training step: forward, loss, backward, optimiser."""

from typing import TYPE_CHECKING

import numpy as np

from fastconv.blocks import pack_pixels
from fastconv.layers.base import is_ours
from fastconv.losses import Loss, LossResult
from fastconv.optim import Optimizer
from fastconv.sequential import Sequential

if TYPE_CHECKING:
    from fastconv.augment import Packing


def train_step(model: Sequential, loss: Loss, optimizer: Optimizer, x: np.ndarray, y: np.ndarray) -> float:
    """Train on one batch and return its mean loss.

    A loss that is not finite changes no weight, nor does a norm of the gradients (``optimizer.norm``) that is not.

    Parameters
    ----------
    model : Sequential
    loss : Loss
    optimizer : Optimizer
    x : uint8 or float, (N, C, H, W), (N, C, L) or (N, features)
    y : int[N] labels, or whatever else the loss takes

    Raises
    ------
    ShapeError, TypeError, ValueError
        If images, labels and model do not fit together; nothing is changed then.
    """
    for name, given, kind in (("loss", loss, Loss), ("optimizer", optimizer, Optimizer)):
        if not isinstance(given, kind):
            raise TypeError(f"train_step: expected {name} as an object of a subclass of {kind.__name__}, got {given!r}")
    x = model.check_images("train_step", x)
    target = loss.check_target(y, model.output_shape(x.shape))
    return checked_step(model, loss, optimizer, x, None, target, 1.0).value


def checked_step(
    model: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    x: np.ndarray,
    index: np.ndarray | None,
    target: np.ndarray,
    factor: float,
    packing: "Packing | None" = None,
) -> LossResult:
    """Take the step on ``x[index]`` without checks; ``factor`` multiplies the learning rate, ``packing`` augments.

    A loss, or a norm of the gradients, that is not finite changes no weight.
    """
    with model.lock:
        result = loss.of_blocks(model.run_batch(x, index, True, packing or pack_pixels), target)
        if np.isfinite(result.value):
            if not is_ours(loss):
                result.dy.clear_empty_lanes()  # whatever it made of them
            model.backward_batch(result.dy)
            optimizer.step(model.parameters(), factor)
    return result
