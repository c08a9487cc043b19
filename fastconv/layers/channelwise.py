"""Two normalisations and the depthwise convolution between them as one step of training.

Its loops are in kernels/fastconv_kernels/channelwise.py.
"""

from typing import Any, NamedTuple

from fastconv.blocks import Blocks
from fastconv.layers.base import Layer, Workspace
from fastconv.layers.batchnorm import BatchNorm2d
from fastconv.layers.conv import Conv2d
from fastconv_kernels import channelwise


class Channelwise(NamedTuple):
    """BatchNorm2d, a depthwise Conv2d and BatchNorm2d, with their ReLUs, and with the bits of the layers by themselves.

    The workspace is the first layer's.
    """

    first: BatchNorm2d
    conv: Conv2d
    second: BatchNorm2d
    of_conv: Workspace
    of_second: Workspace
    kernels: channelwise.Channelwise

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (35) of (1) of (35), with the batch's own statistics."""
        work.x = x
        d, y = self.of_conv.y.array, self.of_second.y
        first, second = _forward(self.first, work), _forward(self.second, self.of_second)
        self.kernels.forward(x.array, x.n, first, self.conv.weight.value, second, d, y.array)
        self.first.track(work, x.n * x.array[0, 0, ..., 0].size)
        self.second.track(self.of_second, x.n * d[0, 0, ..., 0].size)
        return y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write equations (36) and (2) into the gradients and return (37) of (3) of (37)."""
        d, shares, dx = self.of_conv.y.array, self.of_conv.weight_shares, self.of_conv.dx
        first, second = _backward(self.first, work), _backward(self.second, self.of_second)
        self.kernels.backward(dy.array, d, work.x.array, dy.n, first, self.conv.weight.value, second, shares, dx.array)
        self.first.keep(work)
        self.second.keep(self.of_second)
        self.of_conv.sum_shares()
        return dx if need_dx else None


def _forward(norm: BatchNorm2d, work: Workspace) -> tuple[Any, ...]:
    return *norm.affine_of(work), norm.eps, work.relu, work.mean, work.var, work.scale, work.shift


def _backward(norm: BatchNorm2d, work: Workspace) -> tuple[Any, ...]:
    return work.mean, work.var, norm.eps, work.scale, work.shift, work.relu, work.dgamma, work.dbeta


def joined(steps: list[tuple[Layer, Workspace]]) -> list[tuple[Any, Workspace]]:
    """Return the steps of training, with each depthwise convolution between normalisations as one step with them."""
    out: list[tuple[Any, Workspace]] = []
    for step in steps:
        out.append(step)
        if [type(layer) for layer, _ in out[-3:]] == [BatchNorm2d, Conv2d, BatchNorm2d]:
            (first, of_first), (conv, of_conv), (second, of_second) = out[-3:]
            if _is_alone(conv, of_conv) and not (of_first.adds or of_second.adds):
                kernels = channelwise.Channelwise(of_conv.geometry)
                out[-3:] = [(Channelwise(first, conv, second, of_conv, of_second, kernels), of_first)]
    return out


def _is_alone(conv: Conv2d, work: Workspace) -> bool:
    """Whether it is one filter for each channel and nothing else: no bias, no ReLU, no copied padding."""
    return conv.bias is None and not work.relu and work.around is None and channelwise.fits(work.geometry)
