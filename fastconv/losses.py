"""Losses: the number that training makes small, and its gradient with respect to the model's output."""

from collections.abc import Callable, Sequence
from math import isfinite, nan
from typing import NamedTuple

import numpy as np

from fastconv import blocks
from fastconv.blocks import Blocks, pixels
from fastconv.shapes import ShapeError
from fastconv_kernels import loss as kernels


class LossResult(NamedTuple):
    """What a loss returns for a batch in lane blocks."""

    value: float
    """The mean loss."""
    dy: Blocks
    """Its gradient with respect to the model's output."""
    hits: int | None
    """How many images have their largest output at the label; None where there are no labels."""
    weight: float | None = None
    """What the sum over the images was divided by, where that is not their number."""


class Loss:
    """Base of the losses: subclasses say what a target is, and compute on lane blocks."""

    def check_target(self, target: object, shape: tuple[int, ...]) -> np.ndarray:
        """Return ``target`` as ``of_blocks`` takes it, for outputs of the given shape."""
        raise TypeError(f"{type(self).__name__} does not say what a target is: override check_target")

    def of_blocks(self, y: Blocks, target: np.ndarray) -> LossResult:
        """Return loss and gradient of a checked batch."""
        raise TypeError(f"{type(self).__name__} does not say how to compute: override of_blocks")

    def forward(self, y: np.ndarray, target: np.ndarray) -> float:
        """Return the mean loss of a batch of outputs; ``backward`` then returns its gradient.

        Raises
        ------
        ShapeError, ValueError, TypeError
            If outputs and target do not belong together.
        """
        name = type(self).__name__
        y = blocks.check_batch(name, blocks.as_float(name, "y", y))
        if y.shape[0] == 0:
            raise ShapeError(f"{name}: expected at least one row, got y of shape {y.shape}")
        target = self.check_target(target, y.shape)
        result = self.of_blocks(blocks.pack(y, blocks.empty(y.shape, y.dtype)), target)
        self._gradient = blocks.unpack(result.dy)
        return result.value

    def backward(self) -> np.ndarray:
        """Return the gradient of the last ``forward`` with respect to its ``y``."""
        if getattr(self, "_gradient", None) is None:
            raise RuntimeError(f"{type(self).__name__}.backward: call forward(y, target) first")
        return self._gradient

    __call__ = forward


def check_labels(operation: str, labels: object, n: int, classes: int) -> np.ndarray:
    """Return labels as int64[n].

    Raises
    ------
    TypeError
        If they are not whole numbers.
    ShapeError
        If there are not n of them.
    ValueError
        If one is not from 0 to classes - 1; the message says which.
    """
    array = blocks.as_array(operation, "labels", labels)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{operation}: expected labels as whole numbers, got {array.dtype}")
    array = blocks.contiguous(operation, "labels", array)
    if array.shape != (n,):
        raise ShapeError(f"{operation}: expected {n} labels, one an image, got shape {array.shape}")
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if wrong.size:
        raise ValueError(
            f"{operation}: expected labels from 0 to {classes - 1}, got {array[wrong[0]]} at position {wrong[0]}"
        )
    return np.require(array, np.int64, ["C", "A", "W"])  # one type for the compiler


def check_probabilities(operation: str, target: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return soft targets, float[N, classes].

    Raises
    ------
    ShapeError
        If they do not have the outputs' shape.
    ValueError
        If one is negative, NaN or infinite; the message says which.
    """
    array = blocks.as_float(operation, "target", target)
    if array.shape != shape:
        raise ShapeError(f"{operation}: expected probabilities of the outputs' shape {shape}, got {array.shape}")
    wrong = np.argwhere(~((array >= 0) & (array < np.inf)))
    if wrong.size:
        row, column = wrong[0].tolist()
        raise ValueError(
            f"{operation}: expected finite probabilities of at least 0, got {array[row, column]} at [{row}, {column}]"
        )
    return array


def _weights(operation: str, name: str, given: object) -> np.ndarray:
    """Return weights as float64, finite and at least 0."""
    array = blocks.as_float(operation, name, given, np.float64)
    if not ((array >= 0) & (array < np.inf)).all():
        raise ValueError(f"{operation}: expected {name} finite and at least 0, got {array.tolist()}")
    return array


def _in_order(parts: np.ndarray) -> float:
    return sum(parts.tolist())  # Python's sum adds the blocks in order; NumPy's pairs them up


class CrossEntropyLoss(Loss):
    """Softmax and negative logarithm of the label's probability, fused: for logits of any size.

    Equations (70) and (71) of docs/backprop.md, which are (20) and (21) without weights.  A target is integer labels,
    int[N], or probabilities, float[N, classes].

    Parameters
    ----------
    label_smoothing : float
        From 0 to below 1: how much of each target is spread over all classes (Szegedy et al. 2016, arXiv:1512.00567).
    weight : float[classes] or None
        What each class counts.  With labels, the sum is divided by the sum of their weights, with probabilities, which
        is what ``mixup`` makes of labels, by N, as in PyTorch: weights whose mean is 1 keep the loss's scale.

    Raises
    ------
    ValueError, TypeError
        If a number is outside its range.
    ShapeError
        If weight is not a vector.
    """

    def __init__(self, label_smoothing: float = 0.0, weight: Sequence[float] | np.ndarray | None = None) -> None:
        is_number = isinstance(label_smoothing, int | float) and not isinstance(label_smoothing, bool)
        if not is_number or not 0 <= label_smoothing < 1:
            raise ValueError(
                f"CrossEntropyLoss: expected label_smoothing of at least 0 and below 1, got {label_smoothing!r}"
            )
        self.label_smoothing = float(label_smoothing)
        self.weight = None if weight is None else _weights("CrossEntropyLoss", "weight", weight)
        if self.weight is not None and self.weight.ndim != 1:
            raise ShapeError(f"CrossEntropyLoss: expected weight of shape (classes,), got {self.weight.shape}")

    def check_target(self, target: object, shape: tuple[int, ...]) -> np.ndarray:
        """Return labels as int64[N], or probabilities as float[N, classes]; outputs must be (N, classes)."""
        if len(shape) != 2:
            raise ShapeError(f"CrossEntropyLoss: expected outputs of shape (N, classes), got {shape}")
        if self.weight is not None and self.weight.shape != shape[1:]:
            raise ShapeError(
                f"CrossEntropyLoss: expected outputs of {self.weight.size} classes, as many as weights, got {shape[1]}"
            )
        if isinstance(target, np.ndarray) and target.ndim == 2 and target.dtype.kind == "f":
            return check_probabilities("CrossEntropyLoss", target, shape)
        return check_labels("CrossEntropyLoss", target, shape[0], shape[1])

    def of_blocks(self, y: Blocks, target: np.ndarray) -> LossResult:
        """Return mean loss, gradient and right answers of checked labels or probabilities.

        Of probabilities, the largest is what is right.
        """
        count, classes, _ = y.array.shape
        dy = Blocks(np.empty_like(y.array), y.n)
        losses, hits = np.empty(count), np.empty(count, np.int64)
        weights, divisor = np.ones(classes) if self.weight is None else self.weight, float(y.n)
        if target.ndim == 2:
            soft = blocks.pack(target.astype(y.array.dtype, copy=False), blocks.empty(target.shape, y.array.dtype))
            kernels.soft_cross_entropy(y.array, soft.array, y.n, self.label_smoothing, weights, dy.array, losses, hits)
        else:
            if self.weight is not None:
                divisor = _in_order(weights[target]) or nan  # as in PyTorch, where none of the labels counts
            kernels.cross_entropy(y.array, target, self.label_smoothing, weights, divisor, dy.array, losses, hits)
        return LossResult(_in_order(losses) / divisor, dy, sum(hits.tolist()), divisor)


class _ElementLoss(Loss):
    """A mean over all elements, with a target of the outputs' shape."""

    _term: Callable[..., tuple[float, float]]

    def check_target(self, target: object, shape: tuple[int, ...]) -> np.ndarray:
        """Return a target of the outputs' shape."""
        name = type(self).__name__
        array = blocks.as_float(name, "target", target)
        if array.shape != shape:
            raise ShapeError(f"{name}: expected target of the output's shape {shape}, got {array.shape}")
        return array

    def _numbers(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return what each feature's term takes besides output and target, for features of this shape."""
        return np.zeros(shape)

    def of_blocks(self, y: Blocks, target: np.ndarray) -> LossResult:
        """Return mean loss and gradient."""
        wanted = blocks.pack(target.astype(y.array.dtype, copy=False), blocks.empty(target.shape, y.array.dtype))
        dy = Blocks(np.empty_like(y.array), y.n)
        losses = np.empty(y.array.shape[0])
        numbers = self._numbers(y.shape[1:]).reshape(-1)
        kernels.mean_of(type(self)._term)(pixels(y), pixels(wanted), numbers, y.n, pixels(dy), losses)
        return LossResult(_in_order(losses) / target.size, dy, None)


class MSELoss(_ElementLoss):
    """Mean of the squared differences over images and features.  Equations (22) and (23) of docs/backprop.md."""

    _term = kernels.squared


class L1Loss(_ElementLoss):
    """Mean of the absolute differences over images and features.  Equations (72) and (73) of docs/backprop.md."""

    _term = kernels.absolute


class HuberLoss(_ElementLoss):
    """Mean of half the squared differences up to ``delta``, of straight lines beyond.  Equations (74) and (75).

    Parameters
    ----------
    delta : float

    Raises
    ------
    ValueError
        If it is not above 0.
    """

    _term = kernels.bent

    def __init__(self, delta: float = 1.0) -> None:
        if isinstance(delta, bool) or not isinstance(delta, int | float) or not (isfinite(delta) and delta > 0):
            raise ValueError(f"HuberLoss: expected a finite delta above 0, got {delta!r}")
        self.delta = float(delta)

    def _numbers(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.delta)


class BCEWithLogitsLoss(_ElementLoss):
    """Sigmoid and cross-entropy of yes and no, element by element, fused.  Equations (76) and (77).

    Parameters
    ----------
    pos_weight : array_like or None
        What a yes counts, beside a no: one number, or a shape that spreads over the features, such as (classes,).

    Raises
    ------
    ValueError, TypeError
        If a weight is negative or not finite.
    """

    _term = kernels.binary

    def __init__(self, pos_weight: float | Sequence[float] | np.ndarray | None = None) -> None:
        self.pos_weight = None if pos_weight is None else _weights("BCEWithLogitsLoss", "pos_weight", pos_weight)

    def check_target(self, target: object, shape: tuple[int, ...]) -> np.ndarray:
        """Return a target of the outputs' shape, whose features the weights must fit."""
        try:
            self._numbers(shape[1:])
        except ValueError:
            given = () if self.pos_weight is None else self.pos_weight.shape
            raise ShapeError(
                f"BCEWithLogitsLoss: expected pos_weight of a shape that spreads over the features {shape[1:]}, "
                f"got {given}"
            ) from None
        return super().check_target(target, shape)

    def _numbers(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.array(np.broadcast_to(1.0 if self.pos_weight is None else self.pos_weight, shape))
