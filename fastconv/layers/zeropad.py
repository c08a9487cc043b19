"""The layer that frames images with zeros.  Its loops are in kernels/fastconv_kernels/padding.py."""

from collections.abc import Sequence
from operator import index
from typing import Any

from fastconv import shapes
from fastconv.blocks import Blocks
from fastconv.layers.base import Layer, Workspace
from fastconv.shapes import Shape, ShapeError
from fastconv_kernels.padding import Padding


class ZeroPad2d(Layer):
    """Put zeros around images: (N, C, H, W) to (N, C, H + top + bottom, W + left + right).

    Equations (60) and (61) of docs/backprop.md.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        How many columns and rows, each at least 0.

    Raises
    ------
    ShapeError
        If these are neither one nor four such numbers.
    """

    def __init__(self, padding: int | tuple[int, int, int, int]) -> None:
        try:
            given = list(padding) if isinstance(padding, Sequence) else [padding] * 4
            sides = [index(side) for side in given if not isinstance(side, bool)]
        except TypeError:
            sides = []
        if len(sides) != 4 or min(sides) < 0:
            raise ShapeError(
                "ZeroPad2d: expected padding as one whole number of at least 0, or four (left, right, top, bottom), "
                f"got {padding!r}"
            )
        self.padding = (sides[0], sides[1], sides[2], sides[3])

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"padding": self.padding}

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape; see ``Layer.plan``."""
        n, c, height, width = shapes.images("ZeroPad2d", shape)
        left, right, top, bottom = self.padding
        out = n, c, height + top + bottom, width + left + right
        work.y, work.dx = work.empty(out), work.empty(shape)
        work.frame = Padding(shape[2:], ((top, bottom), (left, right)), "constant", 0, work.dtype)
        return out

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (60)."""
        work.frame.forward(x.array, work.y.array)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (61)."""
        if not need_dx:
            return None
        work.frame.backward(dy.array, work.dx.array)
        return work.dx
