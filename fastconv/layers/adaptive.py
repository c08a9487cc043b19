"""Pooling to a size that is given, and over whole images.  Its loops are in kernels/fastconv_kernels/adaptive.py."""

from operator import index
from typing import Any

from fastconv import shapes
from fastconv.blocks import Blocks
from fastconv.layers.base import Layer, Workspace
from fastconv.shapes import Shape, ShapeError
from fastconv_kernels import adaptive

OutputSize = int | None | tuple[int | None, int | None]


class _AdaptivePool2d(Layer):
    """What both share: the output's size."""

    def __init__(self, output_size: OutputSize) -> None:
        given = output_size if isinstance(output_size, tuple | list) else (output_size,) * 2
        try:
            sizes = [None if size is None else index(size) for size in given if not isinstance(size, bool)]
        except TypeError:
            sizes = []
        if len(sizes) != 2 or any(size is not None and size < 1 for size in sizes):
            raise ShapeError(
                f"{type(self).__name__}: expected output_size as one or two whole numbers of at least 1, or None for "
                f"the input's, got {output_size!r}"
            )
        self.output_size = (sizes[0], sizes[1])

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"output_size": self.output_size}

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape; see ``Layer.plan``."""
        n, c, *size = shapes.images(type(self).__name__, shape)
        out = n, c, *(given if wanted is None else wanted for wanted, given in zip(self.output_size, size, strict=True))
        work.y, work.dx = work.empty(out), work.empty(shape)
        return out


class AdaptiveAvgPool2d(_AdaptivePool2d):
    """Take the average of each of OH x OW windows that share out the image: (N, C, H, W) to (N, C, OH, OW).

    Equations (50) to (52) of docs/backprop.md.

    Parameters
    ----------
    output_size : int or (OH, OW)
        None keeps the input's height or width.  It may be larger than the input.

    Raises
    ------
    ShapeError
        If these are no such sizes.
    """

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (51)."""
        adaptive.adaptive_avg_pool2d_forward(x.array, work.y.array)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (52)."""
        if not need_dx:
            return None
        adaptive.adaptive_avg_pool2d_backward(dy.array, work.dx.array)
        return work.dx


class AdaptiveMaxPool2d(_AdaptivePool2d):
    """Take the maximum of each of OH x OW windows that share out the image: (N, C, H, W) to (N, C, OH, OW).

    Equations (50), (53) and (54) of docs/backprop.md.  The first maximum gets the gradient; NaN is larger than
    everything.

    Parameters
    ----------
    output_size
        As in ``AdaptiveAvgPool2d``.

    Raises
    ------
    ShapeError
        As of ``AdaptiveAvgPool2d``.
    """

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape; see ``Layer.plan``."""
        out = super().plan(shape, work)
        work.place = work.empty(out).array
        return out

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (53), and while training where each maximum was."""
        adaptive.adaptive_max_pool2d_forward(x.array, work.y.array, work.place if training else work.place[:0])
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (54)."""
        if not need_dx:
            return None
        adaptive.adaptive_max_pool2d_backward(dy.array, work.place, work.dx.array)
        return work.dx


class GlobalAvgPool2d(AdaptiveAvgPool2d):
    """Take the average of each channel of each image: (N, C, H, W) to (N, C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__(1)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments: there are none."""
        return {}


class GlobalMaxPool2d(AdaptiveMaxPool2d):
    """Take the maximum of each channel of each image: (N, C, H, W) to (N, C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__(1)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments: there are none."""
        return {}
