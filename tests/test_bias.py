"""The bias' gradient with ReLU's gate, and the sum of the blocks' shares: the kernels themselves."""

import numpy as np
import pytest
from cases import FLOATS, each_float

from fastconv_kernels import bias
from fastconv_kernels.many import CHUNK, Many
from fastconv_kernels.tile import LANES


def tree_sum(lanes):
    """Add the last axis as the kernels do: the two halves of the lanes, until one is left."""
    while lanes.shape[-1] > 1:
        lanes = lanes[..., : lanes.shape[-1] // 2] + lanes[..., lanes.shape[-1] // 2 :]
    return lanes[..., 0]


@each_float
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (3, 1, 40)], ids=str)
def test_bias_backward(shape, relu, dtype, rng):
    dy, y = rng.standard_normal((2, *shape, LANES)).astype(dtype)
    dz = np.where(y <= 0, dtype(0), dy) if relu else dy.copy()
    # Bit for bit: pixels are added in order in each lane, then the lanes in a tree.
    total = np.zeros((*shape[:2], LANES), dtype)
    for s in range(shape[2]):
        total += dz[:, :, s]
    shares = np.full(shape[:2], np.nan, dtype)
    bias.bias_backward(dy, y, relu, shares)
    np.testing.assert_array_equal(dy, dz)
    np.testing.assert_array_equal(shares, tree_sum(total), strict=True)


def test_without_relu_the_output_is_not_looked_at(rng):
    dy = rng.standard_normal((1, 2, 3, LANES))
    shares = np.zeros((1, 2))
    bias.bias_backward(dy, np.full_like(dy, np.nan), False, shares)
    np.testing.assert_allclose(shares, dy.sum(axis=(2, 3)), rtol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_gate_passes_nan_and_closes_at_zero(dtype):
    dy = np.ones((1, 1, 1, LANES), dtype)
    y = np.zeros_like(dy)
    y[..., :6] = [np.nan, np.inf, -np.inf, -0.0, np.finfo(dtype).smallest_subnormal, -1]
    shares = np.zeros((1, 1), dtype)
    bias.bias_backward(dy, y, True, shares)
    np.testing.assert_array_equal(dy[0, 0, 0, :6], [1, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(shares, [[3]])


@each_float
@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_shares_are_added_in_block_order(size, blocks, dtype, rng):
    shares = rng.standard_normal((blocks, size)).astype(dtype)
    ref = np.zeros(size, dtype)
    for share in shares:
        ref += share
    total = np.full(size, np.nan, dtype)
    bias.sum_shares(*Many([(shares, total)]).table, blocks)
    np.testing.assert_array_equal(total, ref, strict=True)
