"""The transposed convolution.  Its loops are those of the convolution, in kernels/fastconv_kernels/convolution.py."""

from typing import Any

import numpy as np

from fastconv import shapes
from fastconv.blocks import Blocks
from fastconv.layers.base import Workspace
from fastconv.layers.conv import checked_channels
from fastconv.layers.weighted import Weighted
from fastconv.shapes import Shape, ShapeError, pair
from fastconv_kernels import convolution
from fastconv_kernels.tile import LANES


class ConvTranspose2d(Weighted):
    """Let every pixel add its multiple of a filter to the output: (N, C, H, W) to (N, F, OH, OW), mostly larger.

    It is the gradient of a convolution to its input.  Equations (64) to (67) of docs/backprop.md.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F.
    kernel_size, stride, dilation : int or (int, int)
        Vertical and horizontal; the stride is the distance between two pixels' shares in the output.
    padding : int or (int, int)
        Rows and columns that are left out on all sides of the output.
    output_padding : int or (int, int)
        Rows and columns that the output has in addition below and to the right; less than stride or dilation.
    groups : int
        Both channel numbers must divide by it.
    bias : bool
    init : str
        Name of the weight's initialiser in ``fastconv.init``; its ``fan_in`` is PyTorch's, F/groups times the window.

    Attributes
    ----------
    weight : Parameter, float[C, F/groups, KH, KW]
    bias : Parameter, float[F], or None

    Raises
    ------
    ShapeError
        If the arguments do not fit together.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        init: str = "he_normal",
    ) -> None:
        in_channels, out_channels, groups = checked_channels("ConvTranspose2d", in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups, self.init = in_channels, out_channels, groups, init
        self.kernel_size = pair(kernel_size, "kernel_size", "ConvTranspose2d", least=1)
        self.stride = pair(stride, "stride", "ConvTranspose2d", least=1)
        self.padding = pair(padding, "padding", "ConvTranspose2d")
        self.output_padding = pair(output_padding, "output_padding", "ConvTranspose2d")
        self.dilation = pair(dilation, "dilation", "ConvTranspose2d", least=1)
        most = tuple(max(steps) for steps in zip(self.stride, self.dilation, strict=True))
        if any(more >= step for more, step in zip(self.output_padding, most, strict=True)):
            raise ShapeError(
                f"ConvTranspose2d: expected output_padding below stride {self.stride} or dilation {self.dilation}, "
                f"got {self.output_padding}"
            )
        shape = (in_channels, out_channels // groups, *self.kernel_size)
        self._make_parameters(shape, out_channels, bias, init)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "groups": self.groups,
            "bias": self.bias is not None,
            "dilation": self.dilation,
            "init": self.init,
        }

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape and choose tiles; see ``Layer.plan``."""
        out = shapes.conv_transpose2d(
            shape, self.weight.shape, self.stride, self.padding, self.output_padding, self.dilation, self.groups
        )
        work.y, work.dx = work.empty(out), work.empty(shape)
        # The convolution of which this is the transpose: it takes the output to the input.
        geometry = convolution.Geometry(
            self.weight.shape, out[2:], shape[2:], self.stride, self.padding, self.dilation, self.groups, work.dtype
        )
        work.forward = convolution.backward_input(geometry, shape[0])
        work.backward_input = convolution.forward(geometry, shape[0])
        work.backward_filter = convolution.backward_filter(geometry, shape[0])
        work.no_input_bias = np.zeros(self.in_channels, work.dtype)
        work.last = work.empty((1, *shape[1:])).array
        work.last[...] = 0
        work.weight_shares = work.shares(self.weight, work.y.array.shape[0])
        self._plan_bias(self.out_channels, work)
        return out

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (64), through ReLU if one follows, into the workspace."""
        work.x = x if training else None
        work.forward(x.array, self.weight.value, work.y.array, self._bias_of(work), work.relu)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write equations (66) and (4) into the gradients and return (65)."""
        self._backward_bias(dy, work)
        self._backward_filter(dy.array, work.x, work)
        work.sum_shares()
        if not need_dx:
            return None
        work.backward_input(dy.array, self.weight.value, work.no_input_bias, work.dx.array, False)
        return work.dx

    def _backward_filter(self, dy: np.ndarray, x: Blocks, work: Workspace) -> None:
        """Write the shares of equation (66): x takes the place of dy in equation (2), and dy that of x."""
        whole = x.n // LANES
        if whole:
            work.backward_filter(x.array[:whole], dy[:whole], work.weight_shares[:whole])
        if x.n % LANES:
            # Lanes without an image may hold infinities, which dy's zeros would make NaN of.
            work.last[..., : x.n % LANES] = x.array[whole:, ..., : x.n % LANES]
            work.backward_filter(work.last, dy[whole:], work.weight_shares[whole:])
