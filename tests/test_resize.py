"""Upsample, ZeroPad2d and Reshape against the oracle."""

import numpy as np
import pytest
from cases import assert_sum_close, each_float, parametrize

import fastconv as fc
from fastconv import functional as F
from fastconv import reference

# (N, C, H, W), size, scale_factor
CASES = {
    "one pixel": ((1, 1, 1, 1), 1, None),
    "one pixel to many": ((1, 2, 1, 1), (2, 3), None),
    "twice": ((2, 3, 3, 4), None, 2),
    "three times": ((17, 1, 2, 3), None, 3.0),
    "uneven": ((2, 1, 3, 4), (7, 5), None),
    "by a fraction": ((2, 2, 5, 3), None, (1.3, 2.7)),
    "same size": ((15, 1, 2, 3), (2, 3), None),
    "smaller": ((2, 1, 7, 8), (3, 2), None),
    "smaller by a factor": ((33, 1, 5, 7), None, (0.6, 0.5)),
    "one row": ((2, 1, 1, 5), None, (3, 1.5)),
    "to one pixel": ((2, 1, 4, 3), 1, None),
}
MODES = [("nearest", False), ("bilinear", False), ("bilinear", True)]
each_mode = pytest.mark.parametrize(("mode", "align_corners"), MODES)


@each_float
@each_mode
@parametrize(CASES)
def test_upsample(case, mode, align_corners, dtype, rng):
    shape, size, factor = case
    x = rng.standard_normal(shape).astype(dtype)
    layer = fc.Upsample(size, factor, mode, align_corners).to(dtype)
    y = layer.forward(x, training=True)
    assert y.dtype == dtype
    np.testing.assert_array_equal(F.interpolate(x, size, factor, mode, align_corners), y)
    how = layer.scale_factor or (None, None), mode, align_corners
    out = y.shape[2:]
    assert out == (layer.size or tuple(int(s * f) for s, f in zip(shape[2:], layer.scale_factor, strict=True)))
    # A position is rounded like a number as large as the image, and moves a weight by as much.
    terms = 8 + 4 * max(shape[2:])
    magnitude = np.full(y.shape, abs(x).max())
    assert_sum_close(y, reference.interpolate(x, out, *how), magnitude, terms)
    dy = rng.standard_normal(y.shape).astype(dtype)
    ref = reference.interpolate_backward(dy, shape, *how)
    magnitude = np.full(shape, abs(dy).sum((2, 3)).max())
    assert_sum_close(layer.backward(dy), ref, magnitude, terms)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_mode
def test_the_gradient_is_the_transpose(mode, align_corners, dtype, rng):
    """Equation (29): <A x, dy> = <x, A^T dy>, exactly for weights that are small fractions of two."""
    layer = fc.Upsample((5, 9) if align_corners else (6, 10), None, mode, align_corners).to(dtype)
    x = rng.integers(-9, 9, (2, 2, 3, 5)).astype(dtype)
    y = layer.forward(x, training=True)
    dy = rng.integers(-9, 9, y.shape).astype(dtype)
    assert (y * dy).sum() == (x * layer.backward(dy)).sum()


def test_by_hand():
    x = np.array([[[[1.0, 5.0]]]])
    assert F.interpolate(x, (1, 4)).ravel().tolist() == [1, 1, 5, 5]
    assert F.interpolate(x, (1, 4), mode="bilinear").ravel().tolist() == [1, 2, 4, 5]
    assert F.interpolate(x, (1, 5), mode="bilinear", align_corners=True).ravel().tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "either size or scale_factor, got None and None"),
        ({"size": 2, "scale_factor": 2}, ValueError, "either size or scale_factor, got 2 and 2"),
        ({"size": 2, "mode": "cubic"}, ValueError, "mode as 'nearest' or 'bilinear', got 'cubic'"),
        ({"size": 2, "align_corners": True}, ValueError, "align_corners=False with mode 'nearest', got True"),
        ({"size": 0}, fc.ShapeError, "size as one or two whole numbers of at least 1, got 0"),
        ({"scale_factor": -1}, ValueError, "scale_factor as one or two numbers above 0, got -1"),
        ({"scale_factor": (1, 2, 3)}, ValueError, "scale_factor as one or two numbers above 0"),
        ({"scale_factor": np.nan}, ValueError, "scale_factor as one or two numbers above 0, got nan"),
        ({"scale_factor": True}, ValueError, "scale_factor as one or two numbers above 0, got True"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, error, message):
    with pytest.raises(error, match=f"Upsample: expected {message}"):
        fc.Upsample(**arguments)


def test_images_that_vanish_are_refused():
    with pytest.raises(fc.ShapeError, match=r"nothing is left of x of shape \(2, 1, 3, 4\) with scale_factor"):
        fc.Upsample(scale_factor=0.3)(np.zeros((2, 1, 3, 4)))


@pytest.mark.parametrize("layer", [fc.Upsample(scale_factor=2), fc.ZeroPad2d((1, 1, 1, 2))], ids=repr)
def test_empty_batch_and_features(layer):
    assert layer(np.zeros((0, 3, 4, 5)))[:, :, :, :7].shape[:2] == (0, 3)
    with pytest.raises(fc.ShapeError, match=r"expected x of shape \(N, C, H, W\), got \(2, 3\)"):
        layer(np.zeros((2, 3)))


# ------------------------------------------------------------------------------------------- zeros, and other shapes


@each_float
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (17, 2, 3, 4), (2, 1, 5, 1)], ids=str)
@pytest.mark.parametrize("padding", [0, 2, (1, 0, 2, 3), (0, 0, 0, 1)])
def test_zero_pad(padding, shape, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    x[0, 0, 0, 0] = np.nan
    layer = fc.ZeroPad2d(padding).to(dtype)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(y, reference.pad(x, layer.padding).astype(dtype), strict=True)
    dy = rng.standard_normal(y.shape).astype(dtype)
    np.testing.assert_array_equal(layer.backward(dy), reference.pad_backward(dy, x.shape, layer.padding).astype(dtype))


@pytest.mark.parametrize("padding", [-1, (1, 2), (1, 2, 3, -4), 1.5, True, None, (1, 2, 3, True)])
def test_frames_that_are_none_are_refused(padding):
    with pytest.raises(fc.ShapeError, match="ZeroPad2d: expected padding as one whole number of at least 0, or four"):
        fc.ZeroPad2d(padding)


@pytest.mark.parametrize(
    ("given", "shape", "out"),
    [
        ((17, 12), (3, 2, 2), (17, 3, 2, 2)),
        ((17, 12), (3, -1, 1), (17, 3, 4, 1)),
        ((2, 3, 2, 2), (-1,), (2, 12)),
        ((2, 3, 2, 2), (12,), (2, 12)),
        ((2, 3, 2, 2), (1, 4, 3), (2, 1, 4, 3)),
        ((0, 12), (3, 2, -1), (0, 3, 2, 2)),
        ((17, 12), (3, 4), (17, 3, 4)),
        ((2, 3, 2, 2), (-1, 2), (2, 6, 2)),
        ((2, 3, 4), (4, 3), (2, 4, 3)),
    ],
)
def test_reshape(given, shape, out, rng):
    x = rng.standard_normal(given)
    layer = fc.Reshape(*shape).to(np.float64)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(y, x.reshape(out), strict=True)
    if given[0]:
        np.testing.assert_array_equal(layer.backward(y), x)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (-1, -1), (-1, -1, 2), (-2,), (True,), (2.0,), (1, 2, 3, 4)])
def test_shapes_that_are_none_are_refused(shape):
    with pytest.raises(fc.ShapeError, match="Reshape: expected one to three whole numbers of at least 1"):
        fc.Reshape(*shape)


def test_a_reshape_that_does_not_fit_is_named():
    with pytest.raises(fc.ShapeError, match=r"x with 8 values an image for \(2, 2, 2\), got \(3, 9\)"):
        fc.Reshape(2, 2, 2)(np.zeros((3, 9)))
    with pytest.raises(fc.ShapeError, match=r"x with a multiple of 4 values an image for \(2, -1, 2\), got \(3, 9\)"):
        fc.Reshape(2, -1, 2)(np.zeros((3, 9)))


@pytest.mark.parametrize(
    ("size", "factor", "expected"), [(2, 1.3, [0, 1]), (2, 2.3, [0, 0, 1, 1]), (3, 1.9, [0, 0, 1, 1, 2])]
)
def test_nearest_goes_by_the_sizes_where_these_stay_or_double(size, factor, expected):
    """As in PyTorch: floor(i / factor) would repeat the first pixel of two, and lose the last."""
    x = np.arange(float(size)).reshape(1, 1, size, 1)
    assert F.interpolate(x, scale_factor=(factor, 1.0)).reshape(-1).tolist() == expected


@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_copies_where_the_size_stays(align_corners):
    """As in PyTorch, by a factor that is lost in rounding."""
    x = np.arange(2.0).reshape(1, 1, 2, 1)
    y = F.interpolate(x, scale_factor=(1.3, 1.0), mode="bilinear", align_corners=align_corners)
    assert y.reshape(-1).tolist() == [0, 1]
