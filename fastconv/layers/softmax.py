"""Softmax and its logarithm.  Their loops are in kernels/fastconv_kernels/loss.py."""

from fastconv.blocks import Blocks, planes
from fastconv.layers.base import Layer, Workspace
from fastconv.shapes import Shape
from fastconv_kernels import loss


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
        loss.softmax_forward(planes(x.array), planes(work.y.array), False)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (18)."""
        loss.softmax_backward(planes(dy.array), planes(work.y.array), planes(work.dx.array))
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
        loss.softmax_forward(planes(x.array), planes(work.y.array), True)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (59)."""
        loss.log_softmax_backward(planes(dy.array), planes(work.y.array), dy.n, planes(work.dx.array))
        return work.dx
