"""A copy of a model, run layer by layer and as a whole, with what the checks of the model go by."""

from copy import deepcopy
from typing import NamedTuple

import numpy as np

from fastconv import layerwise
from fastconv.checkup.sampling import evenly
from fastconv.layers import Dropout, Layer, ReLU
from fastconv.layers.branches import Branches
from fastconv.losses import CrossEntropyLoss, Loss
from fastconv.sequential import Sequential
from fastconv.shapes import Shape
from fastconv.summary import multiply_adds

_IMAGES = 256
_VALUES = 2**24
"""Values in the images of a sample, at most: 64 MB of float32."""
_WORK = 2e9
"""Multiply-adds of a sample, at most: a tenth of a second on one core."""
_FEWEST = 16
_KEPT = 3
"""Images for a numeric check of a layer."""


def copy_of(model: Sequential) -> Sequential:
    """Return a copy without dropout, which shares nothing with the model; the model is not touched."""
    with model.lock:
        copied = deepcopy(model)
    for layer in copied.modules():
        if isinstance(layer, Dropout):
            layer.p = 0.0
    return copied


def work_of(model: Sequential, shape: Shape) -> int:
    """Return the multiply-adds of one image of shape (C, H, W), in the layers that ``summary`` counts."""
    return sum(multiply_adds(layer, given, out) for _, layer, given, out in layerwise.shapes(model, (1, *shape)))


def sample(model: Sequential, x: np.ndarray) -> np.ndarray:
    """Return the rows of the images that a model is looked at with: evenly spread, fewer where they cost more."""
    values, work = int(np.prod(x.shape[1:])), work_of(model, x.shape[1:])
    return evenly(len(x), max(_FEWEST, min(_IMAGES, _VALUES // max(1, values), int(_WORK / max(1, work)))))


class Seen(NamedTuple):
    """What one layer did with the sample, in training mode."""

    name: str
    """Its place and class, such as '3 Conv2d'."""
    layer: Layer
    x: np.ndarray
    """Its input, of a few images."""
    silent: int | None
    """Units of a ReLU, channels or features, that let nothing through for any image; None for other layers."""
    units: int


def trace(model: Sequential, x: np.ndarray) -> tuple[list[Seen], np.ndarray]:
    """Run a copy of ``model`` on images layer by layer, without the whole model's fusing; return also its output."""
    model = copy_of(model)
    if x.dtype == np.uint8:
        channels = x.shape[1]
        table = model.normalization.table(channels, model.dtype)
        x = np.stack([table[channel][x[:, channel]] for channel in range(channels)], axis=1)
    seen: list[Seen] = []
    y = x
    for name, layer, given, y in layerwise.values(model, x, training=True):
        if isinstance(layer, Branches):
            continue
        silent, units = None, y.shape[1]
        if isinstance(layer, ReLU):
            silent = int((~(y > 0).any(axis=(0, *range(2, y.ndim)))).sum())
        # Evenly spread, as sorted data would otherwise give images of one class.
        few = given[evenly(len(given), _KEPT)].copy()
        seen.append(Seen(f"{name} {type(layer).__name__}", layer, few, silent, units))
    return seen, y


def baseline(loss: Loss, target: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the loss of a model that has learned nothing but the mean: ln(classes) for a cross-entropy."""
    zeros = np.zeros(shape)
    if isinstance(loss, CrossEntropyLoss):
        return float(np.log(shape[1]))
    mean = np.broadcast_to(target.mean(axis=0), shape)
    return min(loss.forward(zeros, target), loss.forward(np.ascontiguousarray(mean), target))


def floor(loss: Loss, target: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the least loss there can be: above 0 for smoothed or soft targets of a cross-entropy."""
    if not isinstance(loss, CrossEntropyLoss):
        return 0.0
    wanted = (
        np.eye(shape[1])[target] if target.ndim == 1 else target / np.maximum(target.sum(axis=1, keepdims=True), 1e-9)
    )
    wanted = (1 - loss.label_smoothing) * wanted + loss.label_smoothing / shape[1]
    return loss.forward(np.log(np.maximum(wanted, 1e-30)), target)
