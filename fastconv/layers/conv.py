"""The convolution layer.  Its loops are in kernels/fastconv_kernels: convolution.py says which."""

from typing import Any

import numpy as np

from fastconv import init as initializers
from fastconv import shapes
from fastconv.blocks import Blocks, planes
from fastconv.layers.base import Layer, Parameter, Workspace
from fastconv.shapes import Shape, ShapeError, pair
from fastconv_kernels import convolution
from fastconv_kernels.bias import bias_backward


class Conv2d(Layer):
    """Slide learned filters over an image: (N, C, H, W) to (N, F, OH, OW).

    "Convolution" is cross-correlation, and output sizes are rounded down, as in PyTorch.  Equations (1) to (5) of
    docs/backprop.md.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F.
    kernel_size, stride, padding, dilation : int or (int, int)
        Vertical and horizontal.
    groups : int
        Both channel numbers must divide by it; filter group g sees channel group g only.
    bias : bool
    init : str
        Name of the weight's initialiser in ``fastconv.init``.

    Attributes
    ----------
    weight : Parameter, float[F, C/groups, KH, KW]
    bias : Parameter, float[F], or None

    Raises
    ------
    ShapeError
        If the arguments do not fit together.
    """

    fuses_relu = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        init: str = "he_normal",
    ) -> None:
        for name, number in (("groups", groups), ("in_channels", in_channels), ("out_channels", out_channels)):
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ShapeError(f"Conv2d: expected {name} as a whole number of at least 1, got {number!r}")
        if in_channels % groups or out_channels % groups:
            raise ShapeError(
                f"Conv2d: expected in_channels and out_channels divisible by groups={groups}, "
                f"got {in_channels} and {out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, "kernel_size", "Conv2d", least=1)
        self.stride = pair(stride, "stride", "Conv2d", least=1)
        self.padding = pair(padding, "padding", "Conv2d")
        self.dilation = pair(dilation, "dilation", "Conv2d", least=1)
        self.init = init
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(shape, initializers.by_name(init))
        self.bias = Parameter((out_channels,), initializers.zeros) if bias else None

    def own_parameters(self) -> dict[str, Parameter]:
        """Return weight and bias."""
        return {"weight": self.weight} | ({"bias": self.bias} if self.bias else {})

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
            "init": self.init,
        }

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape and choose tiles; see ``Layer.plan``."""
        out = shapes.conv2d(shape, self.weight.shape, self.stride, self.padding, self.dilation, self.groups)
        work.y, work.dx = work.empty(out), work.empty(shape)
        geometry = convolution.Geometry(
            self.weight.shape, shape[2:], out[2:], self.stride, self.padding, self.dilation, self.groups, work.dtype
        )
        work.forward = convolution.forward(geometry, shape[0])
        work.backward = convolution.backward(geometry, shape[0], work.forward)
        count = work.y.array.shape[0]
        work.no_bias = np.zeros(self.out_channels, work.dtype)
        work.weight_shares = work.shares(self.weight, count)
        work.bias_shares = (
            work.shares(self.bias, count) if self.bias else np.empty((count, self.out_channels), work.dtype)
        )
        return out

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (1), through ReLU if one follows, into the workspace."""
        work.x = x if training else None
        bias = self.bias.value if self.bias else work.no_bias
        return self.apply(x, work, self.weight.value, bias, work.relu)

    def apply(self, x: Blocks, work: Workspace, weight: np.ndarray, bias: np.ndarray, relu: bool) -> Blocks:
        """Write equation (1) with this weight and bias, through ReLU if asked to, into the workspace."""
        work.forward(x.array, weight, bias, work.y.array, relu)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write equations (2) and (4) into the gradients and return (3)."""
        if (work.relu or self.bias) and not work.gated:
            bias_backward(planes(dy.array), planes(work.y.array), work.relu, work.bias_shares)
        dx = work.dx if need_dx else None
        work.backward(dy.array, work.x.array, self.weight.value, work.weight_shares, dx.array if dx else None)
        work.sum_shares()
        return dx
