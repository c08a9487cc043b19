"""Softmax and its logarithm.  Their loops are in kernels/fastconv_kernels/loss.py."""

import numpy as np

from fastconv.blocks import Blocks, channels
from fastconv.layers.base import Layer, Workspace
from fastconv.shapes import Shape
from fastconv_kernels import loss, memory
from fastconv_kernels.tile import LANES


def _scratch() -> np.ndarray:
    return memory.scratch((2 * loss.STRIP * LANES,), np.float64)


def write_softmax(x: Blocks, y: Blocks, take_log: bool = False) -> None:
    """Write equation (17) of docs/backprop.md, or (19) if ``take_log``, into ``y``."""
    loss.softmax_forward(channels(x), channels(y), take_log, _scratch())


def write_softmax_gradient(dy: Blocks, y: Blocks, dx: Blocks) -> None:
    """Write equation (18) of docs/backprop.md into ``dx``."""
    loss.softmax_backward(channels(dy), channels(y), channels(dx), _scratch())


class Softmax(Layer):
    """Turn the logits of each image, or of each pixel across channels, into probabilities: along axis 1.

    Equations (17) and (18) of docs/backprop.md.  For training, prefer ``CrossEntropyLoss`` on the logits: it is the
    same mathematics, fused, and stable.
    """

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Accept any shape."""
        work.y, work.dx = work.empty(shape), work.empty(shape)
        return shape

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (17)."""
        write_softmax(x, work.y)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (18)."""
        write_softmax_gradient(dy, work.y, work.dx)
        return work.dx


class LogSoftmax(Layer):
    """The logarithms of ``Softmax``, along axis 1, without its rounding to 0.

    Equations (19) and (59) of docs/backprop.md.
    """

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Accept any shape."""
        work.y, work.dx = work.empty(shape), work.empty(shape)
        return shape

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (19)."""
        write_softmax(x, work.y, take_log=True)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (59)."""
        arrays = channels(dy), channels(work.y), dy.n, channels(work.dx)
        loss.log_softmax_backward(*arrays, _scratch())
        return work.dx
