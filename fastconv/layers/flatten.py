"""Layers that give the same numbers another shape: Flatten and Reshape."""

from math import prod
from typing import Any

from fastconv import shapes
from fastconv.blocks import Blocks
from fastconv.layers.base import Layer, Workspace
from fastconv.shapes import Shape, ShapeError


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


class Reshape(Layer):
    """(N, ...) to (N, C, H, W), (N, C, L) or (N, features), in the same order.  In lane blocks this is the same memory.

    Parameters
    ----------
    *shape : int
        One to three sizes, without the batch axis.  One of them may be -1: what is left.

    Raises
    ------
    ShapeError
        If these are no such sizes, or an image has another number of values.
    """

    def __init__(self, *shape: int) -> None:
        sizes = tuple(size for size in (shapes.whole(given, -1) for given in shape) if size)
        if len(sizes) not in (1, 2, 3) or len(sizes) < len(shape) or sizes.count(-1) > 1:
            raise ShapeError(
                f"Reshape: expected one to three whole numbers of at least 1, of which one may be -1, got {shape}"
            )
        self.shape = sizes

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments; the star says that they are positional."""
        return {"*shape": self.shape}

    def __repr__(self) -> str:
        return f"Reshape({', '.join(map(str, self.shape))})"

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the number of values; see ``Layer.plan``."""
        values, known = prod(shape[1:]), prod(size for size in self.shape if size > 0)
        if values % known or (-1 not in self.shape and values != known):
            raise ShapeError(
                f"Reshape: expected x with {'a multiple of ' * (-1 in self.shape)}{known} values an image for "
                f"{self.shape}, got {shape}"
            )
        work.inside, work.outside = shape[1:], tuple(values // known if size < 0 else size for size in self.shape)
        return (shape[0], *work.outside)

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Return ``x`` under its new shape."""
        return Blocks(x.array.reshape(x.array.shape[0], *work.outside, -1), x.n)

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return ``dy`` under the input's shape."""
        return Blocks(dy.array.reshape(dy.array.shape[0], *work.inside, -1), dy.n)
