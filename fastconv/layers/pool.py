"""The pooling layers.  Their loops are in kernels/fastconv_kernels/pool2d.py."""

from typing import Any

import numpy as np

from fastconv import shapes
from fastconv.blocks import Blocks
from fastconv.layers.base import Layer, Workspace
from fastconv.shapes import Shape, pair
from fastconv_kernels import pool2d
from fastconv_kernels.pieces import Spread


class _Pool2d(Layer):
    """What both poolings share: the window's geometry."""

    knows_pieces = True

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
    ) -> None:
        name = type(self).__name__
        self.kernel_size = pair(kernel_size, "kernel_size", name, least=1)
        self.stride = pair(kernel_size if stride is None else stride, "stride", name, least=1)
        self.padding = pair(padding, "padding", name)
        self.ceil_mode = bool(ceil_mode)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "ceil_mode": self.ceil_mode,
        }

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape; see ``Layer.plan``."""
        out = shapes.pool2d(type(self).__name__, shape, self.kernel_size, self.stride, self.padding, self.ceil_mode)
        work.left = work.came and work.came.pooled(self.kernel_size, out[2:])
        work.y, work.dx = work.empty(out, work.left), work.empty(shape, work.came)
        return out

    def takes_pieces(self, shape: Shape, came: Spread) -> bool:
        """Whether every window lies within a piece."""
        return (
            self.stride == self.kernel_size
            and self.padding == (0, 0)
            and not self.ceil_mode
            and (came.pooled(self.kernel_size, came.size) is not None)
        )


class MaxPool2d(_Pool2d):
    """Take the maximum of each window: (N, C, H, W) to (N, C, OH, OW).

    The first maximum gets the gradient; NaN is larger than everything.  Equations (7) and (8) of docs/backprop.md.

    Parameters
    ----------
    kernel_size, padding : int or (int, int)
        Vertical and horizontal; padding is at most half the window.
    stride : int, (int, int) or None
        None means ``kernel_size``.
    ceil_mode : bool
        Round output sizes up, so that the last window may run past the end.

    Raises
    ------
    ShapeError
        If an argument is not one or two whole numbers.
    """

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape; see ``Layer.plan``."""
        out = super().plan(shape, work)
        work.place = work.empty(out, work.left).array
        work.no_shares = np.empty((0, 0), work.dtype)
        along_rows = self.kernel_size[1], self.stride[1], self.padding[1]
        width, columns = work.dx.array.shape[3], work.y.array.shape[3]
        work.forward = pool2d.max_pool2d_forward(pool2d.windows_together(width, columns, *along_rows))
        return out

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (7), and while training where each maximum was."""
        place = work.place if training else work.place[:0]
        work.forward(x.array, work.y.array, place, self.kernel_size, self.stride, self.padding)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (8), and through the ReLU before it, if there is one, (16) and (4)."""
        if not need_dx:
            return None
        y, shares = (work.y.array[:0], work.no_shares) if work.gates is None else (work.y.array, work.gates.bias_shares)
        geometry = self.kernel_size, self.stride, self.padding
        pool2d.max_pool2d_backward(dy.array, work.place, y, work.dx.array, *geometry, shares)
        return work.dx


class AvgPool2d(_Pool2d):
    """Take the average of each window: (N, C, H, W) to (N, C, OH, OW).

    Equations (9) and (10) of docs/backprop.md.

    Parameters
    ----------
    kernel_size, stride, padding, ceil_mode
        As in ``MaxPool2d``.
    count_include_pad : bool
        Whether padding counts as zeros, or not at all.

    Raises
    ------
    ShapeError
        As of ``MaxPool2d``.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = bool(count_include_pad)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().config() | {"count_include_pad": self.count_include_pad}

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (9)."""
        geometry = self.kernel_size, self.stride, self.padding, self.count_include_pad
        pool2d.avg_pool2d_forward(x.array, work.y.array, *geometry)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (10)."""
        if not need_dx:
            return None
        geometry = self.kernel_size, self.stride, self.padding, self.count_include_pad
        pool2d.avg_pool2d_backward(dy.array, work.dx.array, *geometry)
        return work.dx
