"""What stops training when a number is no longer finite: it finds the first one, and keeps the last good weights."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from fastconv import layerwise
from fastconv.averaging import EMA
from fastconv.blocks import pack_pixels
from fastconv.sequential import Sequential
from fastconv.training.callbacks import Run
from fastconv.training.errors import NotFiniteError, Statistics
from fastconv.training.evaluation import BATCH

if TYPE_CHECKING:
    from fastconv.augment import Packing


class Batch(NamedTuple):
    """The images ``x[rows]``, and how a model was run on them."""

    x: np.ndarray
    rows: np.ndarray
    packing: "Packing | None" = None
    training: bool = True


class _Found(NamedTuple):
    """Numbers of which some are not finite."""

    cause: str
    """As in ``NotFiniteError``."""
    layer: str | None
    what: str
    """In words."""
    array: np.ndarray


class Guard:
    """Remembers a model's weights, and stops training if they, or what comes of them, are not finite.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._good: dict[str, np.ndarray] = {}

    def remember(self) -> None:
        """Keep the weights and running statistics that there are now, if they are finite."""
        state = dict(self._run.model.named_state())
        if all(map(_is_finite, state.values())):
            if not self._good:
                self._good = {name: np.empty_like(array) for name, array in state.items()}
            for name, array in state.items():
                self._good[name][...] = array

    def restore(self) -> None:
        """Give the model what was remembered, if anything was."""
        if self._good:
            self._run.model.load_state_dict(self._good)

    @contextmanager
    def measuring(self, ema: EMA | None) -> Generator[None]:
        """Give the model its averages, if there are any, inside a ``with``; what ``stop`` restored stays behind it."""
        try:
            with nullcontext() if ema is None else ema.applied():
                yield
        except NotFiniteError:
            self.restore()
            raise

    def check(self, batch: Batch, lr: float) -> None:
        """Stop if a weight is not finite: before weights are measured, or written to a file."""
        if not all(_is_finite(array) for _, array in self._run.model.named_state()):
            self.stop("a weight is not finite after", self._run.batch, batch, lr)

    def stop(self, what: str, number: int, batch: Batch, lr: float) -> NoReturn:
        """Raise NotFiniteError, whose message begins with ``what``; the model has finite weights then.

        Parameters
        ----------
        what : str
            Such as 'the loss is nan in'.
        number : int
            Of the batch.
        batch : Batch
            What the model was run on.
        lr : float
        """
        run = self._run
        found = _first(run.model, batch)
        statistics = Statistics.of(found.array)
        kept = "the weights are those before this batch"
        if not batch.training or not all(_is_finite(array) for _, array in run.model.named_state()):
            kept = "the weights were not finite when training began"
            if self._good:
                self.restore()
                kept = "the model has the weights with which this epoch began"
        remedy = "Look at these images" if found.cause == "data" else "A smaller learning rate usually helps"
        raise NotFiniteError(
            f"fit: {what} epoch {run.epoch}, batch {number} of {run.batches}, at learning rate {lr:g}; the first that "
            f"is not finite is in {found.what}: {statistics}; {kept}. {remedy}",
            run.epoch,
            number,
            found.cause,
            found.layer,
            statistics,
        )


def _first(model: Sequential, batch: Batch) -> _Found:
    """Return the first numbers, on the way of images through the model in batches, that are not all finite."""
    rows, size = batch.rows, len(batch.rows) if batch.training else BATCH
    while True:
        found, rows = _first_of_batch(model, batch._replace(rows=rows[:size])), rows[size:]
        if found.cause != "loss" or not len(rows):
            return found


def _first_of_batch(model: Sequential, batch: Batch) -> _Found:
    images = model.packed(batch.x, batch.rows, batch.packing or pack_pixels)
    if not _is_finite(images):
        rows = np.flatnonzero(~np.isfinite(images.reshape(len(images), -1)).all(axis=1))
        where = f"image {int(batch.rows[rows[0]])}" + (f" and {len(rows) - 1} others" if len(rows) > 1 else "")
        return _Found("data", None, f"the data, {where}", images)
    layers = [(f"{name} {type(layer).__name__}", layer) for name, layer in model.named_modules()]
    weights = [
        (name, f"{what} of layer {name}", parameter.value, parameter.grad)
        for name, layer in layers
        for what, parameter in layer.own_parameters().items()
    ]
    # Gradients are those of the last step: of the one that made such weights, or that was not taken for its norm.
    for name, what, value, gradient in weights:
        if not _is_finite(value) and _is_finite(gradient):
            return _Found("weights", name, what, value)
    for name, what, _, gradient in reversed(weights):
        if not _is_finite(gradient):
            return _Found("gradients", name, f"the gradient of {what}, in the last step", gradient)
    if not batch.training:
        for name, layer in layers:
            for what, array in layer.own_buffers().items():
                if not _is_finite(array):
                    return _Found("weights", name, f"{what} of layer {name}", array)
    with model.lock:
        copy = deepcopy(model)
    for layer in copy.dropouts():
        layer.passes -= batch.training  # the masks that the batch had
    y = images
    for name, layer, _, y in layerwise.values(copy, images, batch.training):
        if not _is_finite(y):
            shown = f"{name} {type(layer).__name__}"
            return _Found("activations", shown, f"what layer {shown} gives", y)
    return _Found("loss", None, "the loss alone, of outputs that are", y)


def _is_finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())
