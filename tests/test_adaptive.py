"""Pooling to a given size, and over whole images, against the oracle."""

import numpy as np
import pytest
from cases import assert_sum_close, each_float, parametrize

import fastconv as fc
from fastconv import functional as F
from fastconv import reference

# (N, C, H, W), output_size
CASES = {
    "one pixel": ((1, 1, 1, 1), 1),
    "global": ((17, 2, 3, 4), 1),
    "tiles": ((2, 3, 4, 6), (2, 3)),
    "uneven": ((2, 1, 7, 5), (3, 2)),
    "uneven, one row": ((1, 2, 1, 9), (1, 4)),
    "same size": ((15, 1, 3, 2), (3, 2)),
    "kept height": ((16, 1, 3, 5), (None, 2)),
    "larger": ((2, 2, 2, 3), (5, 7)),
    "larger and smaller": ((33, 1, 2, 7), (3, 2)),
}


def wanted(case):
    (*_, height, width), size = case
    both = size if isinstance(size, tuple) else (size, size)
    return both[0] or height, both[1] or width


@each_float
@parametrize(CASES)
def test_average(case, dtype, rng):
    shape, size = case
    x = rng.standard_normal(shape).astype(dtype)
    layer = fc.AdaptiveAvgPool2d(size).to(dtype)
    y = layer.forward(x, training=True)
    assert y.dtype == dtype
    terms = shape[2] * shape[3] + 1
    ref, magnitude = (reference.adaptive_avg_pool2d(v, wanted(case)) for v in (x, abs(x)))
    assert_sum_close(y, ref, magnitude, terms)
    dy = rng.standard_normal(ref.shape).astype(dtype)
    dx, magnitude = (reference.adaptive_avg_pool2d_backward(d, shape) for d in (dy, abs(dy)))
    assert_sum_close(layer.backward(dy), dx, magnitude, ref.size)
    np.testing.assert_array_equal(F.adaptive_avg_pool2d(x, size), y)


@each_float
@parametrize(CASES)
@pytest.mark.parametrize("kind", ["normal", "ties", "nan", "minus infinity"])
def test_maximum(case, kind, dtype, rng):
    shape, size = case
    x = rng.standard_normal(shape) if kind == "normal" else rng.integers(0, 3, shape).astype(float)
    if kind in ("nan", "minus infinity"):
        x[rng.random(shape) < 0.6] = np.nan if kind == "nan" else -np.inf
    x = x.astype(dtype)
    ref, index = reference.adaptive_max_pool2d(x, wanted(case))
    layer = fc.AdaptiveMaxPool2d(size).to(dtype)
    np.testing.assert_array_equal(layer.forward(x, training=True), ref)
    np.testing.assert_array_equal(F.adaptive_max_pool2d(x, size), ref)
    dy = rng.integers(-4, 5, ref.shape)
    np.testing.assert_array_equal(layer.backward(dy), reference.max_pool2d_backward(dy, index, shape))


def test_over_whole_images(rng):
    x = rng.integers(-9, 9, (17, 3, 4, 8)).astype(np.float32)
    np.testing.assert_array_equal(fc.GlobalAvgPool2d()(x), x.mean((2, 3), keepdims=True))
    np.testing.assert_array_equal(fc.GlobalMaxPool2d()(x), x.max((2, 3), keepdims=True))
    assert repr(fc.GlobalAvgPool2d()) == "GlobalAvgPool2d()"


def test_an_average_of_equal_numbers_is_that_number():
    assert (F.adaptive_avg_pool2d(np.full((1, 1, 7, 11), 3.0, np.float32), 1) == 3).all()


@pytest.mark.parametrize("make", [fc.AdaptiveAvgPool2d, fc.AdaptiveMaxPool2d])
def test_empty_batch(make):
    assert make((2, None))(np.zeros((0, 3, 4, 5))).shape == (0, 3, 2, 5)


@pytest.mark.parametrize("size", [0, (1, 2, 3), (1, -1), 1.5, True, "2", (2,), (True, 2)])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(fc.ShapeError, match="AdaptiveAvgPool2d: expected output_size as one or two whole numbers"):
        fc.AdaptiveAvgPool2d(size)


def test_features_are_no_images():
    with pytest.raises(fc.ShapeError, match=r"GlobalMaxPool2d: expected x of shape \(N, C, H, W\), got \(2, 3\)"):
        fc.GlobalMaxPool2d()(np.zeros((2, 3)))
