"""Losses: the number that training makes small, and its gradient with respect to the model's output."""

from typing import NamedTuple

import numpy as np

from fastconv import blocks
from fastconv.blocks import Blocks
from fastconv.shapes import ShapeError
from fastconv_kernels import loss as kernels
from fastconv_kernels.tile import LANES


class LossResult(NamedTuple):
    """What a loss returns for a batch in lane blocks."""

    value: float
    """The mean loss."""
    dy: Blocks
    """Its gradient with respect to the model's output."""
    hits: int | None
    """How many images have their largest output at the label; None where there are no labels."""


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
    array = np.asarray(labels)
    if isinstance(labels, np.ma.MaskedArray):
        raise TypeError(f"{operation}: expected labels as a plain array, got a masked array: fill it first")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{operation}: expected labels as whole numbers, got {array.dtype}")
    if array.shape != (n,):
        raise ShapeError(f"{operation}: expected {n} labels, one an image, got shape {array.shape}")
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if wrong.size:
        raise ValueError(
            f"{operation}: expected labels from 0 to {classes - 1}, got {array[wrong[0]]} at position {wrong[0]}"
        )
    return np.require(array, np.int64, ["C", "A", "W"])  # one type for the compiler


class CrossEntropyLoss(Loss):
    """Softmax and negative logarithm of the label's probability, fused: for logits of any size.

    Equations (19) to (21) of docs/backprop.md.

    Parameters
    ----------
    label_smoothing : float
        From 0 to below 1: how much of each target is spread over all classes (Szegedy et al. 2016, arXiv:1512.00567).

    Raises
    ------
    ValueError
        If it is outside that range.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"CrossEntropyLoss: expected label_smoothing of at least 0 and below 1, got {label_smoothing!r}"
            )
        self.label_smoothing = float(label_smoothing)

    def check_target(self, target: object, shape: tuple[int, ...]) -> np.ndarray:
        """Return integer labels as int64[N]; outputs must be (N, classes)."""
        if len(shape) != 2:
            raise ShapeError(f"CrossEntropyLoss: expected outputs of shape (N, classes), got {shape}")
        return check_labels("CrossEntropyLoss", target, shape[0], shape[1])

    def of_blocks(self, y: Blocks, target: np.ndarray) -> LossResult:
        """Return mean loss, gradient and right answers of checked labels."""
        count = y.array.shape[0]
        dy = Blocks(np.empty_like(y.array), y.n)
        losses, hits = np.empty(count), np.empty(count, np.int64)
        kernels.cross_entropy(y.array, target, self.label_smoothing, dy.array, losses, hits)
        # Python's sum adds the blocks in order; NumPy's pairs them up.
        return LossResult(sum(losses.tolist()) / y.n, dy, sum(hits.tolist()))


class MSELoss(Loss):
    """Mean of the squared differences over images and features.  Equations (22) and (23) of docs/backprop.md."""

    def check_target(self, target: object, shape: tuple[int, ...]) -> np.ndarray:
        """Return a target of the outputs' shape."""
        array = blocks.as_float("MSELoss", "target", target)
        if array.shape != shape:
            raise ShapeError(f"MSELoss: expected target of the output's shape {shape}, got {array.shape}")
        return array

    def of_blocks(self, y: Blocks, target: np.ndarray) -> LossResult:
        """Return mean loss and gradient."""
        wanted = blocks.pack(target.astype(y.array.dtype, copy=False), blocks.empty(target.shape, y.array.dtype))
        dy = Blocks(np.empty_like(y.array), y.n)
        losses = np.empty(y.array.shape[0])
        flat = (y.array.shape[0], -1, LANES)
        kernels.mean_squared_error(
            y.array.reshape(flat), wanted.array.reshape(flat), y.n, dy.array.reshape(flat), losses
        )
        return LossResult(sum(losses.tolist()) / target.size, dy, None)
