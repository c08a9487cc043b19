"""The convolution, forward and backward, against the oracle."""

from functools import cache

import numpy as np
import pytest
from cases import CONVOLUTIONS, FLOATS, SPECIAL, assert_sum_close, convolutions, each_float, parametrize
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv import functional as F
from fastconv import reference

pytestmark = pytest.mark.usefixtures("few_tiles")


@cache
def drawn(case):
    """Return x, weight, bias and dy, float32, for a case of the table."""
    shape, (filters, *taps), *how = case
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in (shape, (filters, shape[1] // how[3], *taps), filters)]
    arrays.append(rng.standard_normal(reference.conv2d(arrays[0][:1], arrays[1], None, *how).shape[1:]))
    arrays[3] = rng.standard_normal((shape[0], *arrays[3].shape))
    return [a.astype(np.float32) for a in arrays]


@cache
def forward(case):
    """Return the oracle's output, and what its terms' absolute values add up to."""
    x, weight, bias, _ = drawn(case)
    return [reference.conv2d(f(x), f(weight), f(bias), *case[2:]) for f in (np.asarray, np.abs)]


@cache
def backward(case):
    """Return the oracle's gradients of input, weight and bias, and what their terms' absolute values add up to."""
    x, weight, _, dy = drawn(case)
    return [
        (
            reference.conv2d_backward_input(f(dy), f(weight), x.shape, *case[2:]),
            reference.conv2d_backward_filter(f(dy), f(x), weight.shape, *case[2:]),
            reference.conv2d_backward_bias(f(dy)),
        )
        for f in (np.asarray, np.abs)
    ]


def layer_like(x, weight, bias, how):
    """Return a Conv2d layer that holds these weights."""
    taps, (stride, padding, dilation, groups) = weight.shape[2:], how
    layer = fc.Conv2d(x.shape[1], len(weight), taps, stride, padding, dilation, groups, bias is not None).to(x.dtype)
    layer.weight.value = weight
    if bias is not None:
        layer.bias.value = bias
    return layer


@each_float
@parametrize(CONVOLUTIONS | SPECIAL)
def test_forward(case, dtype):
    x, weight, bias, _ = (a.astype(dtype) for a in drawn(case))
    ref, magnitude = forward(case)
    comp = F.conv2d(x, weight, bias, *case[2:])
    assert comp.dtype == dtype
    assert_sum_close(comp, ref, magnitude, weight[0].size + 1)


@each_float
@parametrize(CONVOLUTIONS | SPECIAL)
def test_backward(case, dtype):
    x, weight, _, dy = (a.astype(dtype) for a in drawn(case))
    refs, magnitudes = backward(case)
    comps = F.conv2d_backward(dy, x, weight, *case[2:])
    pixels = dy[:, 0].size
    for comp, ref, magnitude, terms in zip(comps, refs, magnitudes, (weight[:, 0].size, pixels, pixels), strict=True):
        assert comp.dtype == dtype
        assert_sum_close(comp, ref, magnitude, terms)


@given(convolutions(), st.sampled_from(FLOATS), st.integers(0, 2**32 - 1))
def test_drawn_shapes_equal_the_oracle(case, dtype, seed):
    """Integers are summed exactly in any order, so equality is asked for."""
    shape, (filters, *taps), *how = case
    rng = np.random.default_rng(seed)
    x, weight, bias = (rng.integers(-4, 5, s) for s in (shape, (filters, shape[1] // how[3], *taps), filters))
    ref = reference.conv2d(x, weight, bias, *how)
    dy = rng.integers(-4, 5, ref.shape)
    floats = [a.astype(dtype) for a in (dy, x, weight)]
    np.testing.assert_array_equal(F.conv2d(*floats[1:], bias, *how), ref)
    dx, dweight, dbias = F.conv2d_backward(*floats, *how)
    np.testing.assert_array_equal(dx, reference.conv2d_backward_input(dy, weight, shape, *how))
    np.testing.assert_array_equal(dweight, reference.conv2d_backward_filter(dy, x, weight.shape, *how))
    np.testing.assert_array_equal(dbias, reference.conv2d_backward_bias(dy))


RELU = ["plain", "does not tile", "groups", "depthwise", "seventeen images", "winograd", "pointwise, ragged"]


@each_float
@pytest.mark.parametrize("name", RELU)
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_following_relu_is_applied_on_the_tile(name, with_bias, dtype):
    """Conv2d, ReLU in a model is one step; output and gradients are those of the two layers by themselves."""
    case = (CONVOLUTIONS | SPECIAL)[name]
    x, weight, bias, dy = (a.astype(dtype) for a in drawn(case))
    alone, fused = (layer_like(x, weight, bias if with_bias else None, case[2:]) for _ in range(2))
    model, relu = fc.Sequential(fused, fc.ReLU()).to(dtype), fc.ReLU().to(dtype)
    ref = relu.forward(alone.forward(x, training=True), training=True)
    np.testing.assert_array_equal(model.forward(x, training=True), ref)
    assert (ref == 0).any()
    np.testing.assert_array_equal(model.backward(dy), alone.backward(relu.backward(dy)))
    for comp, parameter in zip(model.parameters(), alone.parameters(), strict=True):
        np.testing.assert_array_equal(comp.grad, parameter.grad)


def test_without_bias_is_a_bias_of_zero(rng):
    x, weight = rng.standard_normal((2, 3, 5, 5)), rng.standard_normal((4, 3, 2, 2))
    np.testing.assert_array_equal(F.conv2d(x, weight), F.conv2d(x, weight, np.zeros(4)))
    assert [name for name, _ in fc.Conv2d(1, 2, 3, bias=False).named_parameters()] == ["weight"]


def test_two_dtypes_meet_in_the_wider_one(rng):
    x, weight = rng.standard_normal((1, 2, 4, 4)), rng.standard_normal((3, 2, 2, 2)).astype(np.float32)
    comp = F.conv2d(x, weight)
    assert comp.dtype == np.float64
    np.testing.assert_array_equal(comp, F.conv2d(x, weight.astype(np.float64)))


@pytest.mark.parametrize(
    "name", ["plain", "padding beyond filter", "groups", "winograd", "pointwise, ragged", "depthwise, three taps"]
)
def test_empty_batch(name):
    shape, (filters, *taps), *how = (CONVOLUTIONS | SPECIAL)[name]
    x, weight = np.zeros((0, *shape[1:])), np.ones((filters, shape[1] // how[3], *taps))
    y = F.conv2d(x, weight, np.ones(filters), *how)
    assert y.shape == reference.conv2d(x, weight, None, *how).shape
    dx, dweight, dbias = F.conv2d_backward(y, x, weight, *how)
    assert dx.shape == x.shape
    np.testing.assert_array_equal(dweight, np.zeros_like(weight))
    np.testing.assert_array_equal(dbias, np.zeros(filters))


def test_arguments_are_not_written_to(rng):
    arrays = rng.standard_normal((1, 2, 4, 4)), rng.standard_normal((2, 2, 3, 3)), rng.standard_normal(2)
    copies = [a.copy() for a in arrays]
    y = F.conv2d(*arrays, padding=1)
    F.conv2d_backward(y, *arrays[:2], padding=1)
    fc.Sequential(layer_like(*arrays, (1, 1, 1, 1)), fc.ReLU()).to(np.float64).forward(arrays[0])
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@each_float
@pytest.mark.parametrize("planted", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_reach_the_windows_that_see_them_and_no_other(planted, dtype, rng):
    shape, how = (17, 2, 6, 7), ((2, 1), (1, 2), (1, 2), 1)
    x, weight = rng.standard_normal(shape).astype(dtype), rng.standard_normal((3, 2, 3, 2)).astype(dtype)
    x[3, 1, 2, 4] = x[16, 0, 5, 0] = planted
    ref = reference.conv2d(x, weight, None, *how)
    comp = F.conv2d(x, weight, None, *how)
    assert not np.isfinite(ref).all()
    np.testing.assert_array_equal(np.isnan(comp), np.isnan(ref))
    np.testing.assert_array_equal(comp[np.isinf(ref)], ref[np.isinf(ref)])
    assert np.isfinite(comp[np.isfinite(ref)]).all()


@each_float
def test_denormals_are_not_flushed_to_zero(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x, weight = np.full((1, 2, 4, 4), tiny, dtype), np.ones((1, 2, 3, 3), dtype)
    np.testing.assert_array_equal(F.conv2d(x, weight), np.full((1, 1, 2, 2), 18 * tiny, dtype))
    dx, dweight, _ = F.conv2d_backward(np.full((1, 1, 2, 2), tiny, dtype), np.ones_like(x), weight)
    np.testing.assert_array_equal(dx[0, 0, 1, 1], 4 * tiny)
    np.testing.assert_array_equal(dweight, np.full_like(weight, 4 * tiny))


X, WEIGHT = np.zeros((2, 3, 6, 5)), np.zeros((4, 3, 3, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.conv2d(X, WEIGHT[:, :2]), r"\(N, 2, H, W\) for weight \(4, 2, 3, 2\), got \(2, 3, 6, 5\)"),
        (lambda: F.conv2d(X[0], WEIGHT), r"\(N, 3, H, W\) for weight \(4, 3, 3, 2\), got \(3, 6, 5\)"),
        (lambda: F.conv2d(X, WEIGHT[0]), r"weight of shape \(F, C/groups, KH, KW\), got \(3, 3, 2\)"),
        (lambda: F.conv2d(X, WEIGHT[:0]), r"weight of shape \(F, C/groups, KH, KW\), got \(0, 3, 3, 2\)"),
        (lambda: F.conv2d(X, WEIGHT, np.zeros(3)), r"bias of shape \(4,\), got \(3,\)"),
        (lambda: F.conv2d(X, WEIGHT, np.zeros((4, 1))), r"bias of shape \(4,\), got \(4, 1\)"),
        (lambda: F.conv2d(X[:, :, :2], WEIGHT), "filter of height 3 with dilation 1 .* height 2 with padding 0"),
        (lambda: F.conv2d(X, WEIGHT, dilation=(1, 5)), "filter of width 2 with dilation 5 .* width 5 with padding 0"),
        (lambda: F.conv2d(X[:, :, :, :0], WEIGHT), r"shape \(N, C, H, W\) .*, got \(2, 3, 6, 0\)"),
        (
            lambda: F.conv2d(X, WEIGHT[:, :1], groups=3),
            "in_channels and out_channels divisible by groups=3, got 3 and 4",
        ),
        (lambda: F.conv2d(X, WEIGHT, groups=0), "groups as a whole number of at least 1, got 0"),
        (lambda: F.conv2d(X, WEIGHT, stride=0), "stride as one or two whole numbers of at least 1, got 0"),
        (lambda: F.conv2d(X, WEIGHT, stride=(1, 2, 3)), r"stride as one or two whole .*, got \(1, 2, 3\)"),
        (lambda: F.conv2d(X, WEIGHT, padding=-1), "padding as one or two whole numbers of at least 0, got -1"),
        (lambda: F.conv2d(X, WEIGHT, padding=0.5), r"padding as one or two whole numbers of at least 0, got 0\.5"),
        (lambda: F.conv2d(X, WEIGHT, dilation=True), "dilation as one or two whole numbers of at least 1, got True"),
        (lambda: F.conv2d_backward(X, X, WEIGHT), r"dy of shape \(2, 4, 4, 4\), got \(2, 3, 6, 5\)"),
        (lambda: fc.Conv2d(3, 4, (3, 2))(X[:, :2]), r"\(N, 3, H, W\) for weight \(4, 3, 3, 2\), got \(2, 2, 6, 5\)"),
        (lambda: fc.Conv2d(3, 4, 0), "kernel_size as one or two whole numbers of at least 1, got 0"),
        (lambda: fc.Conv2d(3, 4.0, 1), r"out_channels as a whole number of at least 1, got 4\.0"),
        (lambda: fc.Conv2d(3, 4, 1, groups=2), "divisible by groups=2, got 3 and 4"),
        (lambda: fc.Sequential(fc.ReLU(), fc.Conv2d(2, 4, 1))(X), r"layer 1: conv2d: .*, got \(2, 3, 6, 5\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(fc.ShapeError, match=message):
        call()


def test_backward_needs_a_forward_pass_in_training_and_its_shape():
    layer = fc.Conv2d(3, 4, (3, 2))
    layer(X)
    with pytest.raises(RuntimeError, match=r"Conv2d\.backward: no saved input; call forward\(x, training=True\)"):
        layer.backward(np.zeros((2, 4, 4, 4)))
    layer.forward(X, training=True)
    with pytest.raises(fc.ShapeError, match=r"dy of the output's shape \(2, 4, 4, 4\), got \(1, 4, 4, 4\)"):
        layer.backward(np.zeros((1, 4, 4, 4)))


def test_weights_that_do_not_fit_are_refused_and_change_nothing():
    layer = fc.Conv2d(3, 4, (3, 2))
    before = layer.weight.value.copy()
    with pytest.raises(fc.ShapeError, match=r"value of shape \(4, 3, 3, 2\), got \(4, 3, 2, 3\)"):
        layer.weight.value = np.zeros((4, 3, 2, 3))
    with pytest.raises(fc.ShapeError, match=r"bias of shape \(4,\), got \(3,\)"):
        layer.load_state_dict({"weight": np.zeros((4, 3, 3, 2)), "bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"missing \['bias'\], unknown \['b'\]"):
        layer.load_state_dict({"weight": np.zeros((4, 3, 3, 2)), "b": np.zeros(4)})
    np.testing.assert_array_equal(layer.weight.value, before)
