"""Convolutions in fastconv: the kernels' calls on lane blocks, as the layer makes them."""

import sys

import numpy as np

import fastconv as fc
from benchmarks.peers import convolution_protocol
from benchmarks.peers.convolution_protocol import Ways
from benchmarks.shapes import DIRECTIONS, Shape
from fastconv import blocks
from fastconv.blocks import Blocks
from fastconv_kernels import convolution
from fastconv_kernels.bias import sum_shares
from fastconv_kernels.many import Many


class FastconvConvolution:
    """Methods as in ``convolution_protocol.Peer``."""

    version = f"fastconv {fc.__version__}"

    def ways(self, shape: Shape) -> Ways:
        """Return one way for each direction; packing the filters belongs to it, packing the images does not."""
        x, k, bias, dy = shape.arrays()
        xb, dyb = (blocks.pack(each, blocks.empty(each.shape, each.dtype)) for each in (x, dy))
        yb, dxb = (blocks.empty(each.shape, each.dtype) for each in (dy, x))
        dk, shares = np.empty_like(k), np.empty((len(xb.array), *k.shape), k.dtype)
        sizes = k.shape, (shape.size, shape.size), (shape.out, shape.out)
        how = (shape.stride, shape.stride), (shape.padding, shape.padding), (1, 1), shape.groups
        geometry = convolution.Geometry(*sizes, *how, k.dtype)
        to_output, to_input = convolution.forward(geometry), convolution.backward_input(geometry)
        to_filters, sums = convolution.backward_filter(geometry), Many([(shares, dk)])

        def forward() -> Blocks:
            to_output(xb.array, k, bias, yb.array, False)
            return yb

        def backward_input() -> Blocks:
            to_input(dyb.array, k, dxb.array)
            return dxb

        def backward_filter() -> np.ndarray:
            to_filters(dyb.array, xb.array, shares)
            sum_shares(*sums.table, len(shares))
            return dk

        return {name: [way] for name, way in zip(DIRECTIONS, (forward, backward_input, backward_filter), strict=True)}

    def array(self, result: Blocks | np.ndarray) -> np.ndarray:
        """Take images out of their lane blocks."""
        return blocks.unpack(result) if isinstance(result, Blocks) else result


if __name__ == "__main__":
    sys.exit(convolution_protocol.main(FastconvConvolution()))
