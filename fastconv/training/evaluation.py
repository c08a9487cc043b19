"""Measuring a model on labelled images."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastconv import blocks
from fastconv.blocks import Blocks
from fastconv.layers import Softmax
from fastconv.losses import CrossEntropyLoss, Loss
from fastconv.sequential import Sequential

BATCH = 256


def evaluate(
    model: Sequential, x: np.ndarray, y: np.ndarray, batch_size: int = BATCH, loss: Loss | None = None
) -> dict[str, float]:
    """Return {"loss": mean cross-entropy, "accuracy": fraction right}; see ``Sequential.evaluate``.

    Another ``loss`` takes the cross-entropy's place; there is no accuracy if it counts no right answers.
    """
    return evaluate_and_predict(model, x, y, batch_size, loss)[0]


def evaluate_and_predict(
    model: Sequential, x: np.ndarray, y: np.ndarray, batch_size: int = BATCH, loss: Loss | None = None
) -> tuple[dict[str, float], NDArray[np.int64]]:
    """Return what ``evaluate`` and ``model.predict`` do, from one pass over the images."""
    x = model.check_images("evaluate", x)
    if x.shape[0] == 0:
        raise ValueError(f"evaluate: expected at least one image, got x of shape {x.shape}")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"evaluate: expected batch_size of at least 1, got {batch_size!r}")
    loss = CrossEntropyLoss() if loss is None else loss
    shape = model.output_shape(x.shape)
    target = loss.check_target(y, shape)
    predicted = np.empty((shape[0], *shape[2:]), np.int64)
    measured = measure(model, loss, x, np.arange(x.shape[0]), target, batch_size, predicted=predicted)
    assert measured is not None
    value, accuracy = measured
    return {"loss": value} if accuracy is None else {"loss": value, "accuracy": accuracy}, predicted


def of_probabilities(p: np.ndarray, y: np.ndarray, loss: Loss | None = None) -> dict[str, float]:
    """Return {"loss": mean cross-entropy, "accuracy": fraction right} of probabilities that are already there.

    Parameters
    ----------
    p : float[N, classes]
    y : int[N]
    loss : Loss, optional
        What takes the cross-entropy's place; it gets log p as logits.

    Raises
    ------
    ValueError
        If there are no images, or a label is out of range.
    """
    if p.shape[0] == 0:
        raise ValueError(f"evaluate: expected at least one image, got probabilities of shape {p.shape}")
    loss = CrossEntropyLoss() if loss is None else loss
    target = loss.check_target(y, p.shape)
    packed = blocks.pack(p.astype(np.float32), blocks.empty(p.shape, np.float32))
    value = loss.of_blocks(_logarithm(packed), target).value
    return {"loss": value, "accuracy": float((p.argmax(axis=1) == target).mean())}


def measure(
    model: Sequential,
    loss: Loss,
    x: np.ndarray,
    index: np.ndarray,
    target: np.ndarray,
    batch_size: int = BATCH,
    wanted: Callable[[], bool] = lambda: True,
    predicted: NDArray[np.int64] | None = None,
) -> tuple[float, float | None] | None:
    """Return mean loss and accuracy on ``x[index]``, ``target[index]`` without checks; accuracy None without labels.

    None if, after a batch, they are no longer ``wanted``.  The most probable class of each is written to ``predicted``.
    """
    total, weight, hits = 0.0, 0.0, 0
    counted = True
    ends_in_softmax = isinstance(model.last_layer(), Softmax)
    for start in range(0, index.shape[0], batch_size):
        part = index[start : start + batch_size]
        with model.lock:
            y = model.run_batch(x, part)
            if predicted is not None:
                predicted[start : start + part.shape[0]] = blocks.unpack(y).argmax(axis=1)
            if ends_in_softmax and isinstance(loss, CrossEntropyLoss):
                y = _logarithm(y)
            result = loss.of_blocks(y, target[part])
        counts = part.shape[0] if result.weight is None else result.weight
        total += result.value * counts
        weight += counts
        counted = result.hits is not None
        hits += result.hits or 0
        if not wanted():
            return None
    return total / weight, hits / index.shape[0] if counted else None


def _logarithm(probabilities: Blocks) -> Blocks:
    """Return log p, so that softmax of it is p again: the cross-entropy of a model that ends in Softmax."""
    tiny = np.finfo(probabilities.array.dtype).tiny
    return blocks.Blocks(np.log(np.maximum(probabilities.array, tiny)), probabilities.n)
