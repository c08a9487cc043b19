"""Puts images together that were cut into pieces.  The loop is in kernels/fastconv_kernels/pieces.py."""

from fastconv.blocks import Blocks
from fastconv.layers.base import Layer, Workspace
from fastconv.shapes import Shape
from fastconv_kernels.pieces import Move, Spread, whole


class Together(Layer):
    """A step that ``Sequential`` puts in front of a layer that takes no pieces."""

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Prepare both ways; ``work.came`` says how the pieces lie."""
        if work.came is None:
            raise TypeError("Together: expected images in pieces")
        work.y, work.dx = work.empty(shape), work.empty(shape, work.came)
        one_a_lane = whole(shape[0], shape[2:])
        work.join, work.cut = Move(work.came, one_a_lane), Move(one_a_lane, work.came)
        return shape

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Give every image a lane."""
        work.join(x.array, work.y.array)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Cut the gradient."""
        work.cut(dy.array, work.dx.array)
        return work.dx


def together(shape: Shape, work: Workspace, spread: Spread) -> tuple[Layer, Workspace]:
    """Return the step, planned, for images of this shape that lie so."""
    layer = Together()
    inner = work.within(layer)
    inner.came = spread
    layer.plan(shape, inner)
    return layer, inner
