"""Convolutions in PyTorch, as it comes.  Imports no fastconv, so it may run in another environment."""

import sys
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.peers import convolution_protocol
from benchmarks.peers.convolution_protocol import Ways
from benchmarks.shapes import DIRECTIONS, Shape


class TorchConvolution:
    """Methods as in ``convolution_protocol.Peer``."""

    version = f"torch {torch.__version__}"
    layouts = (torch.contiguous_format,)

    def _functions(self, shape: Shape, layout: torch.memory_format) -> list[Callable[[], torch.Tensor]]:
        x, k, bias, dy = map(torch.from_numpy, shape.arrays())
        x, k, dy = (each.contiguous(memory_format=layout) for each in (x, k, dy))
        stride, padding = [shape.stride] * 2, [shape.padding] * 2

        def forward() -> torch.Tensor:
            return torch.conv2d(x, k, bias, stride, padding, 1, shape.groups)

        def backward(wanted: int) -> torch.Tensor:
            mask = [number == wanted for number in range(3)]
            geometry = stride, padding, [1, 1], False, [0, 0], shape.groups
            return torch.ops.aten.convolution_backward(dy, x, k, None, *geometry, mask)[wanted]

        return [forward, lambda: backward(0), lambda: backward(1)]

    def ways(self, shape: Shape) -> Ways:
        """Return a way for each direction and each layout in memory."""
        ways = zip(*(self._functions(shape, layout) for layout in self.layouts), strict=True)
        return dict(zip(DIRECTIONS, ways, strict=True))

    def array(self, result: torch.Tensor) -> np.ndarray:
        """Return it as it is."""
        return result.numpy()


def main(peer: TorchConvolution) -> int:
    """Answer questions, without recording gradients."""
    torch.set_grad_enabled(False)
    return convolution_protocol.main(peer)


if __name__ == "__main__":
    sys.exit(main(TorchConvolution()))
