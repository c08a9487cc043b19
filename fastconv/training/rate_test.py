"""Which learning rate to train with: a short training in which it grows step by step (Smith 2017, arXiv:1506.01186)."""

import os
from copy import deepcopy
from typing import NamedTuple

import numpy as np

from fastconv import optim, plots, shapes
from fastconv.data import permutation
from fastconv.losses import Loss
from fastconv.optim import Optimizer
from fastconv.sequential import Sequential
from fastconv.training.checks import checked_loss
from fastconv.training.step import checked_step

_KEPT = 0.9
"""How much of the running mean of the losses each step keeps."""
_BEYOND = 4.0
"""How many times the lowest loss ends the test."""


class RateTest(NamedTuple):
    """What ``lr_find`` found."""

    rates: list[float]
    """Of every step that was taken."""
    losses: list[float]
    """The loss before that step."""
    smoothed: list[float]
    """Running means of the losses."""
    suggestion: float
    """Where the running mean falls most steeply, both by their logarithms."""

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw losses over rates into a file, by ``plots.rates``; the name's ending says of what kind.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message says how to install it.
        """
        plots.rates(self).savefig(path)


def lr_find(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    *,
    loss: Loss | None = None,
    optimizer: Optimizer | str = "sgd",
    batch_size: int = 64,
    lowest: float = 1e-5,
    highest: float = 10.0,
    steps: int = 100,
    seed: int = 0,
) -> RateTest:
    """Train a copy of the model for a while, with a rate that grows by the same factor at every step.

    It ends early once the loss is four times its lowest, or no finite number.

    Parameters
    ----------
    model : Sequential
        Left as it is.
    x, y, loss, batch_size, seed
        As in ``fit``.
    optimizer : Optimizer or its name
        Left as it is; its rate does not matter.
    lowest, highest : float
        The rates of the first and of the last step.
    steps : int
        At least 10.

    Raises
    ------
    ShapeError, TypeError, ValueError
        If arguments do not fit together, or the loss is not finite from the beginning.
    NoRoomError
        If there is no memory for a batch.
    """
    if not 0 < lowest < highest < np.inf:
        raise ValueError(f"lr_find: expected 0 < lowest < highest, got {lowest!r} and {highest!r}")
    for name, number, least in (("steps", steps, 10), ("batch_size", batch_size, 1)):
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"lr_find: expected {name} of at least {least}, got {number!r}")
    loss = checked_loss("lr_find", loss, model)
    shapes.seed("lr_find", seed)
    model = deepcopy(model)
    optimizer = optim.by_name(optimizer) if isinstance(optimizer, str) else deepcopy(optimizer)
    optimizer.lr = 1.0  # what a step's factor is the rate of
    x = model.check_images("lr_find", x)
    if x.shape[0] == 0:
        raise ValueError(f"lr_find: expected at least one image, got x of shape {x.shape}")
    target = loss.check_target(y, model.output_shape(x.shape))
    model.reseed_dropout(seed)

    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    value, mean, batches = 0.0, 0.0, -(-x.shape[0] // batch_size)
    for step in range(steps):
        epoch, batch = divmod(step, batches)
        index = permutation(x.shape[0], seed, epoch + 1)[batch * batch_size : (batch + 1) * batch_size]
        rate = lowest * (highest / lowest) ** (step / (steps - 1))
        # A short test would take RMSprop's first steps, which are too long, for those of a rate ten times as high.
        factor = rate / optimizer.stride
        value = checked_step(model, loss, optimizer, x, index, target[index], factor).value
        if not (np.isfinite(value) and np.isfinite(optimizer.norm)):
            break
        mean = _KEPT * mean + (1 - _KEPT) * value
        rates.append(rate)
        losses.append(value)
        smoothed.append(mean / (1 - _KEPT ** (step + 1)))
        if smoothed[-1] > _BEYOND * min(smoothed):
            break
    if len(rates) < 3:
        raise ValueError(f"lr_find: expected a finite loss at the lowest rate, {lowest:g}, got {value}")
    return RateTest(rates, losses, smoothed, _steepest(rates, smoothed))


def _steepest(rates: list[float], losses: list[float]) -> float:
    """Return the rate at which the loss falls most steeply, as a part of itself, before its minimum.

    An untrained network's loss may be far above that of one that knows nothing, and falls from there at any rate: hence
    the logarithm.  A slope is taken over a tenth of the steps, and the first tenth is left out, because single losses,
    and means of a few, are noisy.
    """
    reach = max(1, len(rates) // 20)
    logarithms = np.log(np.maximum(losses, np.finfo(float).tiny))
    falls = logarithms[2 * reach :] - logarithms[: -2 * reach]
    first = min(2 * reach, len(falls) - 1)
    lowest = max(first + 1, int(np.argmin(losses)) - reach + 1)
    return rates[reach + first + int(falls[first:lowest].argmin())]
