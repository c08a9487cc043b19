"""The layer that turns images into feature vectors."""

from math import prod

from fastconv.blocks import Blocks
from fastconv.layers.base import Layer, Workspace
from fastconv.shapes import Shape


class Flatten(Layer):
    """(N, C, H, W) to (N, C*H*W), in that order.  In lane blocks this is the same memory under another shape."""

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Accept any shape."""
        work.inside = shape[1:]
        return (shape[0], prod(shape[1:]))

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Return ``x`` under its new shape."""
        return x.flat()

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return ``dy`` under the input's shape."""
        return Blocks(dy.array.reshape(dy.array.shape[0], *work.inside, -1), dy.n)
