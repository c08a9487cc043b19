"""Convolution layers.  Their loops are in kernels/fastconv_kernels: convolution.py says which."""

from typing import Any, NamedTuple

import numpy as np

from fastconv import shapes
from fastconv.blocks import Blocks
from fastconv.layers.base import Workspace
from fastconv.layers.weighted import Weighted
from fastconv.shapes import Pair, Shape, ShapeError, Sides, choice, padding_sides, pair
from fastconv_kernels import convolution
from fastconv_kernels.padding import Padding
from fastconv_kernels.pieces import Spread

Padded = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | str
"""'same', 'valid', a number, (vertical, horizontal) or ((above, below), (left, right))."""

MODES = ("zeros", "reflect", "replicate", "circular")


class How(NamedTuple):
    """A convolution's arguments, checked, as those of two axes."""

    window: Pair
    stride: Pair
    sides: Sides
    dilation: Pair


class Convolution(Weighted):
    """What convolutions along one axis and two have in common; see ``Conv2d`` for the arguments.

    ``how`` says for two axes what a subclass keeps as its user said it.
    """

    kernel_size: int | Pair
    stride: int | Pair
    padding: Padded | Sides
    dilation: int | Pair

    def __init__(
        self, in_channels: int, out_channels: int, how: How, groups: int, bias: bool, padding_mode: str, init: str
    ) -> None:
        name = type(self).__name__
        in_channels, out_channels, groups = checked_channels(name, in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.padding_mode = choice(padding_mode, MODES, "padding_mode", name)
        self.init, self.how = init, how
        self.filters = (out_channels, in_channels // groups, *how.window)
        self._make_parameters(self._weight_shape(), out_channels, bias, init)

    def _weight_shape(self) -> Shape:
        return self.filters

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "bias": self.bias is not None,
            "padding_mode": self.padding_mode,
            "init": self.init,
        }

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape and choose tiles; see ``Layer.plan``."""
        operation = type(self).__name__.lower()
        _, stride, sides, dilation = self.how
        out = shapes.conv2d(shape, self.filters, stride, sides, dilation, self.groups, operation)
        work.around = None
        work.dx = work.empty(shape, work.came)
        if self._copies_padding():
            whole = shapes.padded(operation, shape, sides, self.padding_mode)
            work.around = Padding(shape[2:], sides, self.padding_mode, 0, work.dtype)
            work.padded, work.dpadded = work.empty(whole), work.empty(whole)
            shape, sides = whole, ((0, 0), (0, 0))
        geometry = work.geometry = self._geometry(shape, out, sides, work.dtype)
        work.left = convolution.stays_in_pieces(geometry, shape[0]) if work.may_stay and self.knows_pieces else None
        work.y = work.empty(out, work.left)
        pieces = work.came, work.left is not None
        work.forward = convolution.forward(geometry, shape[0], *pieces)
        work.backward = convolution.backward(geometry, shape[0], work.forward, *pieces)
        work.weight_shares = work.shares(self.weight, work.y.array.shape[0])
        self._plan_bias(self.out_channels, work)
        return out

    def _copies_padding(self) -> bool:
        """Whether what lies around an image must be written beside it; zeros need not."""
        return self.padding_mode != "zeros" and self.how.sides != ((0, 0), (0, 0))

    def _geometry(self, shape: Shape, out: Shape, sides: Sides, dtype: np.dtype) -> convolution.Geometry:
        _, stride, _, dilation = self.how
        before = sides[0][0], sides[1][0]
        return convolution.Geometry(self.filters, shape[2:], out[2:], stride, before, dilation, self.groups, dtype)

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (1), through ReLU if one follows, into the workspace."""
        y = self.apply(x, work, self.weight.value, self._bias_of(work), work.relu)
        work.x = None if not training else work.padded if work.around else x
        return y

    def apply(self, x: Blocks, work: Workspace, weight: np.ndarray, bias: np.ndarray, relu: bool) -> Blocks:
        """Write equation (1) with this weight and bias, through ReLU if asked to, into the workspace."""
        if work.around:
            work.around.forward(x.array, work.padded.array)
            x = work.padded
        work.forward(x.array, weight.reshape(self.filters), bias, work.y.array, relu)
        return work.y

    def apply_outside(self, x: Blocks, work: Workspace, weight: np.ndarray, bias: np.ndarray, relu: bool) -> Blocks:
        """As ``apply``, for blocks as ``forward_blocks`` takes and returns them."""
        return self.apply(x, work, weight, bias, relu)

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write equations (2) and (4) into the gradients and return (3), through (61) if the padding was copied."""
        if not work.gated:
            self._backward_bias(dy, work)
        dx = (work.dpadded if work.around else work.dx).array if need_dx else None
        shares = work.weight_shares.reshape(-1, *self.filters)
        work.backward(dy.array, work.x.array, self.weight.value.reshape(self.filters), shares, dx)
        work.sum_shares()
        if need_dx and work.around:
            work.around.backward(dx, work.dx.array)
        return work.dx if need_dx else None


def checked_channels(operation: str, in_channels: int, out_channels: int, groups: int) -> tuple[int, int, int]:
    """Return channels and groups as all convolutions ask for them; raises ShapeError."""
    groups = shapes.count(operation, "groups", groups)
    in_channels = shapes.count(operation, "in_channels", in_channels)
    out_channels = shapes.count(operation, "out_channels", out_channels)
    if in_channels % groups or out_channels % groups:
        raise ShapeError(
            f"{operation}: expected in_channels and out_channels divisible by groups={groups}, "
            f"got {in_channels} and {out_channels}"
        )
    return in_channels, out_channels, groups


class Conv2d(Convolution):
    """Slide learned filters over an image: (N, C, H, W) to (N, F, OH, OW).

    "Convolution" is cross-correlation, and output sizes are rounded down, as in PyTorch.  Equations (1) to (5) of
    docs/backprop.md, and (60) to (63) for padding.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F.
    kernel_size, stride, dilation : int or (int, int)
        Vertical and horizontal.
    padding : int, (int, int), ((int, int), (int, int)), 'same' or 'valid'
        One number, vertical and horizontal, or ((above, below), (left, right)).  'same' keeps the image's size, at
        stride 1; an odd number of rows or columns has one more below or to the right.  'valid' is 0.
    groups : int
        Both channel numbers must divide by it; filter group g sees channel group g only.
    bias : bool
    padding_mode : 'zeros', 'reflect', 'replicate' or 'circular'
        What the padding holds: zeros, the image mirrored at its outermost pixels, these pixels themselves, or the
        image's other side.
    init : str
        Name of the weight's initialiser in ``fastconv.init``.

    Attributes
    ----------
    weight : Parameter, float[F, C/groups, KH, KW]
    bias : Parameter, float[F], or None

    Raises
    ------
    ShapeError, ValueError
        If the arguments do not fit together.
    """

    knows_pieces = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Padded = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        init: str = "he_normal",
    ) -> None:
        self.kernel_size = pair(kernel_size, "kernel_size", "Conv2d", least=1)
        self.stride = pair(stride, "stride", "Conv2d", least=1)
        self.dilation = pair(dilation, "dilation", "Conv2d", least=1)
        sides = padding_sides(padding, self.kernel_size, self.stride, self.dilation, "Conv2d")
        alike = all(first == last for first, last in sides)
        self.padding = padding if isinstance(padding, str) else (sides[0][0], sides[1][0]) if alike else sides
        how = How(self.kernel_size, self.stride, sides, self.dilation)
        super().__init__(in_channels, out_channels, how, groups, bias, padding_mode, init)

    def takes_pieces(self, shape: Shape, came: Spread) -> bool:
        """Whether it would be computed in pieces anyway."""
        _, stride, sides, dilation = self.how
        if self._copies_padding():
            return False
        out = shapes.conv2d(shape, self.filters, stride, sides, dilation, self.groups)
        return convolution.stays_in_pieces(self._geometry(shape, out, sides, self.dtype), shape[0]) is not None
