"""Convolution along one axis: Conv2d's kernels on images of one row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import shapes
from fastconv.blocks import Blocks
from fastconv.layers.base import Workspace
from fastconv.layers.conv import Convolution, How
from fastconv.shapes import Shape, ShapeError, padding_sides, pair


class Conv1d(Convolution):
    """Slide learned filters along a sequence: (N, C, L) to (N, F, OL).

    Equations (1) to (5) of docs/backprop.md for an image of one row; docs/adr/0021.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F.
    kernel_size, stride, dilation : int
        Or a sequence of one, as PyTorch has it.
    padding : int, (int, int), 'same' or 'valid'
        A number, or (before, after); 'same' and 'valid' as in ``Conv2d``.
    groups, bias, padding_mode, init
        As in ``Conv2d``.

    Attributes
    ----------
    weight : Parameter, float[F, C/groups, K]
    bias : Parameter, float[F], or None

    Raises
    ------
    ShapeError, ValueError
        If the arguments do not fit together.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] | tuple[int, int] | str = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        init: str = "he_normal",
    ) -> None:
        self.kernel_size = _single(kernel_size, "kernel_size", least=1)
        self.stride = _single(stride, "stride", least=1)
        self.dilation = _single(dilation, "dilation", least=1)
        window, steps, spread = (1, self.kernel_size), (1, self.stride), (1, self.dilation)
        if isinstance(padding, str):
            self.padding = padding
            sides = padding_sides(padding, window, steps, spread, "Conv1d")
        else:
            before, after = pair(_alone(padding), "padding", "Conv1d")
            self.padding = before if before == after else (before, after)
            sides = (0, 0), (before, after)
        super().__init__(in_channels, out_channels, How(window, steps, sides, spread), groups, bias, padding_mode, init)

    def _weight_shape(self) -> Shape:
        return (*self.filters[:2], self.filters[3])

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Plan for images of one row; see ``Layer.plan``."""
        if len(shape) != 3 or shape[1] != self.in_channels:
            raise ShapeError(f"Conv1d: expected x of shape (N, {self.in_channels}, L), got {shape}")
        out = super().plan((*shape[:2], 1, shape[2]), work)
        return (*out[:2], out[3])

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (1), through ReLU if one follows, into the workspace."""
        return _sequences(super().forward_blocks(_rows(x), work, training))

    def apply_outside(self, x: Blocks, work: Workspace, weight: np.ndarray, bias: np.ndarray, relu: bool) -> Blocks:
        """As ``apply``, for sequences."""
        return _sequences(self.apply(_rows(x), work, weight, bias, relu))

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write equations (2) and (4) into the gradients and return (3)."""
        dx = super().backward_blocks(_rows(dy), work, need_dx)
        return None if dx is None else _sequences(dx)


def _alone(value: Any) -> Any:
    """Return what a sequence of one holds, and anything else as it is."""
    return value[0] if isinstance(value, Sequence) and len(value) == 1 else value


def _single(value: int | tuple[int], name: str, least: int) -> int:
    """Return a whole number that may come as a sequence of one."""
    number = shapes.whole(_alone(value), least)
    if number is None:
        raise ShapeError(f"Conv1d: expected {name} as a whole number of at least {least}, got {value!r}")
    return number


def _rows(x: Blocks) -> Blocks:
    """View sequences, (B, C, L, 16), as images of one row, (B, C, 1, L, 16)."""
    blocks, channels, length, lanes = x.array.shape
    return Blocks(x.array.reshape(blocks, channels, 1, length, lanes), x.n)


def _sequences(x: Blocks) -> Blocks:
    """View images of one row as sequences: what ``_rows`` undoes."""
    blocks, channels, _, length, lanes = x.array.shape
    return Blocks(x.array.reshape(blocks, channels, length, lanes), x.n)
