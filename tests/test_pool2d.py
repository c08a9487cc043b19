"""Max and average pooling, forward and backward, against the oracle."""

import numpy as np
import pytest
from cases import FLOATS, POOLINGS, assert_sum_close, each_float, parametrize, poolings
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv import functional as F
from fastconv import reference

each_ceil_mode = pytest.mark.parametrize("ceil_mode", [False, True])
each_count = pytest.mark.parametrize("count_include_pad", [True, False])


def pixels(kind, shape):
    """Return float32 images that are hard for a maximum."""
    rng = np.random.default_rng(0)
    return {
        "normal": lambda: rng.standard_normal(shape),
        "ties": lambda: rng.integers(0, 3, shape),
        "all equal": lambda: np.full(shape, -7.0),
        "nan": lambda: np.where(rng.random(shape) < 0.3, np.nan, rng.standard_normal(shape)),
        "all nan": lambda: np.full(shape, np.nan),
        "minus infinity": lambda: np.full(shape, -np.inf),
        "infinities": lambda: rng.choice([-np.inf, 0.0, np.inf], shape),
        "denormals": lambda: rng.integers(-3, 4, shape) * np.finfo(np.float32).smallest_subnormal,
    }[kind]().astype(np.float32)


def check_max_pool(x, how, ceil_mode, dtype):
    """Compare outputs and gradients with ``==``: a maximum rounds nothing, and neither do sums of integers."""
    ref, index = reference.max_pool2d(x, *how, ceil_mode)
    dy = np.random.default_rng(1).integers(-4, 5, ref.shape)
    layer = fc.MaxPool2d(*how, ceil_mode).to(dtype)
    comp = layer.forward(x, training=True)
    assert comp.dtype == dtype
    np.testing.assert_array_equal(comp, ref)
    np.testing.assert_array_equal(layer.backward(dy), reference.max_pool2d_backward(dy, index, x.shape))
    np.testing.assert_array_equal(F.max_pool2d(x, *how, ceil_mode), ref)


def check_avg_pool(x, how, ceil_mode, count_include_pad, dtype):
    options = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    ref = reference.avg_pool2d(x, *how, **options)
    dy = np.random.default_rng(1).standard_normal(ref.shape).astype(np.float32)
    layer = fc.AvgPool2d(*how, **options).to(dtype)
    window = layer.kernel_size[0] * layer.kernel_size[1]
    comp = layer.forward(x, training=True)
    assert comp.dtype == dtype
    assert_sum_close(comp, ref, reference.avg_pool2d(abs(x), *how, **options), window + 1)
    dx, magnitude = (reference.avg_pool2d_backward(d, x.shape, *how, **options) for d in (dy, abs(dy)))
    assert_sum_close(layer.backward(dy), dx, magnitude, 2 * window)
    np.testing.assert_array_equal(F.avg_pool2d(x.astype(dtype), *how, **options), comp)


@each_float
@each_ceil_mode
@parametrize(POOLINGS)
def test_max_pool(case, ceil_mode, dtype):
    check_max_pool(pixels("normal", case[0]), case[1:], ceil_mode, dtype)


@each_float
@pytest.mark.parametrize("name", ["overlapping", "last window over the padding", "seventeen images"])
@pytest.mark.parametrize("kind", ["ties", "all equal", "nan", "all nan", "minus infinity", "infinities", "denormals"])
def test_max_pool_of_special_values(kind, name, dtype):
    """The first of equal maxima wins; a NaN beats every number, the last NaN the others; -inf alone is still found."""
    case = POOLINGS[name]
    check_max_pool(pixels(kind, case[0]), case[1:], True, dtype)


def test_the_first_maximum_gets_the_gradient():
    layer = fc.MaxPool2d(2)
    layer.forward(np.array([[[[1, 5, 2, 2], [5, 5, 2, 2]]]]), training=True)
    np.testing.assert_array_equal(layer.backward(np.array([[[[3, 4]]]])), [[[[0, 3, 4, 0], [0, 0, 0, 0]]]])


def test_a_pixel_that_wins_several_windows_collects_from_all():
    layer = fc.MaxPool2d(3, stride=1, padding=1)
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 1, 1] = 1
    layer.forward(x, training=True)
    dx = layer.backward(np.arange(1, 10).reshape(1, 1, 3, 3))
    np.testing.assert_array_equal(dx, x * 45)


def test_a_nan_stays_in_its_image_and_window(rng):
    x = rng.standard_normal((17, 2, 6, 6)).astype(np.float32)
    x[16, 1, 2, 3] = np.nan
    for comp in (F.max_pool2d(x, 2), F.avg_pool2d(x, 2)):
        assert np.isnan(comp[16, 1, 1, 1])
        assert np.isnan(comp).sum() == 1


@each_float
@each_ceil_mode
@each_count
@parametrize(POOLINGS)
def test_avg_pool(case, ceil_mode, count_include_pad, dtype):
    check_avg_pool(pixels("normal", case[0]), case[1:], ceil_mode, count_include_pad, dtype)


@given(poolings(), st.booleans(), st.booleans(), st.sampled_from(FLOATS))
def test_drawn_shapes(case, ceil_mode, count_include_pad, dtype):
    x = pixels("normal", case[0])
    check_max_pool(pixels("ties", case[0]), case[1:], ceil_mode, dtype)
    check_avg_pool(x, case[1:], ceil_mode, count_include_pad, dtype)


def test_infinity_and_nan_in_an_average():
    x = np.array([[[[np.inf, 1.0, np.nan, 1.0], [1.0, 1.0, np.inf, -np.inf]]]], np.float32)
    np.testing.assert_array_equal(F.avg_pool2d(x, 2), [[[[np.inf, np.nan]]]])
    np.testing.assert_array_equal(F.avg_pool2d(x, (2, 1)), [[[[np.inf, 1.0, np.nan, -np.inf]]]])


@pytest.mark.parametrize("layer", [fc.MaxPool2d, fc.AvgPool2d])
def test_empty_batch(layer):
    assert layer(2)(np.zeros((0, 3, 6, 8))).shape == (0, 3, 3, 4)


X = np.zeros((2, 3, 6, 5))


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0], 2), r"x of shape \(N, C, H, W\).*, got \(3, 6, 5\)"),
        ((X[:, :, 0], 2), r"x of shape \(N, C, H, W\).*, got \(2, 3, 5\)"),
        ((X[:, :0], 2), r"x of shape \(N, C, H, W\).*, got \(2, 0, 6, 5\)"),
        ((X, 7), "a window of height 7 does not fit an input of height 6 with padding 0"),
        ((X, (2, 8), 1, (0, 1)), "a window of width 8 does not fit an input of width 5 with padding 1"),
        ((X, 3, 1, 2), "padding of at most half the window's height 3, got 2"),
        ((X, (4, 1), 1, (2, 1)), "padding of at most half the window's width 1, got 1"),
        ((X, 0), "kernel_size as one or two whole numbers of at least 1, got 0"),
        ((X, 2, (1, 0)), r"stride as one or two whole numbers of at least 1, got \(1, 0\)"),
        ((X, 2, 2, -1), "padding as one or two whole numbers of at least 0, got -1"),
    ],
)
def test_shapes_that_do_not_fit_are_named(name, arguments, message):
    with pytest.raises(fc.ShapeError, match=message):
        getattr(F, name)(*arguments)


def test_ceil_mode_takes_a_window_larger_than_the_image_as_pytorch_does():
    x = np.array([[[[1.0, 5.0], [3.0, 4.0]]]])
    assert F.max_pool2d(x, 3, 2, ceil_mode=True).tolist() == [[[[5.0]]]]
    assert F.avg_pool2d(x, 3, 2, ceil_mode=True).tolist() == [[[[13 / 4]]]]
    with pytest.raises(fc.ShapeError, match="a window of height 3 does not fit an input of height 2"):
        F.max_pool2d(x, 3, 2)
    with pytest.raises(fc.ShapeError, match="a window of height 4 does not fit an input of height 2"):
        F.max_pool2d(x, 4, 2, ceil_mode=True)


def test_features_are_no_images():
    with pytest.raises(fc.ShapeError, match=r"MaxPool2d: expected x of shape \(N, C, H, W\), got \(2, 3\)"):
        fc.MaxPool2d(2)(np.zeros((2, 3)))


def test_backward_needs_its_shape():
    layer = fc.AvgPool2d(2)
    layer.forward(X, training=True)
    with pytest.raises(fc.ShapeError, match=r"AvgPool2d.backward: .* shape \(2, 3, 3, 2\), got \(2, 3, 3, 3\)"):
        layer.backward(np.zeros((2, 3, 3, 3)))
