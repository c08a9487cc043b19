"""The fully connected layer, forward and backward, against the oracle."""

import numpy as np
import pytest
from cases import FLOATS, assert_sum_close, each_float
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv import functional as F
from fastconv import reference

pytestmark = pytest.mark.usefixtures("few_tiles")

# Images, inputs, outputs: around the sixteen lanes, and around tiles of 2 x 3.
SIZES = [
    (1, 1, 1),
    (1, 7, 3),
    (2, 40, 1),
    (15, 3, 2),
    (16, 16, 5),
    (17, 17, 3),
    (33, 33, 4),
    (40, 31, 7),
    (50, 48, 2),
    (65, 5, 9),
    (70, 130, 6),
]
sizes = pytest.mark.parametrize(("images", "inputs", "outputs"), SIZES)


def layer_like(weight, bias, dtype):
    layer = fc.Linear(weight.shape[1], weight.shape[0], bias is not None).to(dtype)
    layer.weight.value = weight
    if bias is not None:
        layer.bias.value = bias
    return layer


@each_float
@sizes
def test_forward_and_backward(images, inputs, outputs, dtype, rng):
    x, weight, bias, dy = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((images, inputs), (outputs, inputs), outputs, (images, outputs))
    )
    layer = layer_like(weight, bias, dtype)
    comp = layer.forward(x, training=True)
    assert comp.dtype == dtype
    magnitude = reference.linear(abs(x), abs(weight), abs(bias))
    assert_sum_close(comp, reference.linear(x, weight, bias), magnitude, inputs + 1)
    np.testing.assert_array_equal(F.linear(x.astype(dtype), weight, bias), comp)

    comps = layer.backward(dy), layer.weight.grad, layer.bias.grad
    refs, magnitudes = (reference.linear_backward(f(dy), f(x), f(weight)) for f in (np.asarray, np.abs))
    for comp, ref, magnitude, terms in zip(comps, refs, magnitudes, (outputs, images, images), strict=True):
        assert_sum_close(comp, ref, magnitude, terms)


@given(st.integers(1, 50), st.integers(1, 70), st.integers(1, 12), st.sampled_from(FLOATS))
def test_drawn_sizes_equal_the_oracle(images, inputs, outputs, dtype):
    """Integers are summed exactly in any order, so equality is asked for."""
    rng = np.random.default_rng(0)
    x, weight, bias, dy = (
        rng.integers(-4, 5, shape) for shape in ((images, inputs), (outputs, inputs), outputs, (images, outputs))
    )
    layer = layer_like(weight, bias, dtype)
    np.testing.assert_array_equal(layer.forward(x, training=True), reference.linear(x, weight, bias))
    comps = layer.backward(dy), layer.weight.grad, layer.bias.grad
    for comp, ref in zip(comps, reference.linear_backward(dy, x, weight), strict=True):
        np.testing.assert_array_equal(comp, ref)


@each_float
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_following_relu_is_applied_on_the_tile(with_bias, dtype, rng):
    x, dy = rng.standard_normal((17, 9)), rng.standard_normal((17, 5))
    weight, bias = rng.standard_normal((5, 9)), rng.standard_normal(5) if with_bias else None
    alone, fused = layer_like(weight, bias, dtype), layer_like(weight, bias, dtype)
    model, relu = fc.Sequential(fused, fc.ReLU()).to(dtype), fc.ReLU().to(dtype)
    ref = relu.forward(alone.forward(x, training=True), training=True)
    np.testing.assert_array_equal(model.forward(x, training=True), ref)
    np.testing.assert_array_equal(model.backward(dy), alone.backward(relu.backward(dy)))
    for comp, parameter in zip(model.parameters(), alone.parameters(), strict=True):
        np.testing.assert_array_equal(comp.grad, parameter.grad)


def test_without_bias_is_a_bias_of_zero(rng):
    x, weight = rng.standard_normal((3, 4)), rng.standard_normal((2, 4))
    np.testing.assert_array_equal(F.linear(x, weight), F.linear(x, weight, np.zeros(2)))
    assert [name for name, _ in fc.Linear(4, 2, bias=False).named_parameters()] == ["weight"]


def test_empty_batch():
    assert F.linear(np.zeros((0, 4)), np.ones((2, 4))).shape == (0, 2)
    assert fc.Linear(4, 2).forward(np.zeros((0, 4)), training=True).shape == (0, 2)


@each_float
@pytest.mark.parametrize("planted", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_in_their_image(planted, dtype, rng):
    x, weight = rng.standard_normal((18, 6)).astype(dtype), rng.standard_normal((4, 6)).astype(dtype)
    x[16, 2] = planted
    comp = F.linear(x, weight)
    ref = reference.linear(x, weight)
    np.testing.assert_array_equal(comp[16], ref[16])
    assert np.isfinite(np.delete(comp, 16, 0)).all()


@each_float
def test_denormals_are_not_flushed_to_zero(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    comp = F.linear(np.full((2, 5), tiny, dtype), np.ones((3, 5), dtype))
    np.testing.assert_array_equal(comp, np.full((2, 3), 5 * tiny, dtype))


X, WEIGHT = np.zeros((2, 3)), np.zeros((4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.linear(X[:, :2], WEIGHT), r"x of shape \(N, 3\) for weight \(4, 3\), got \(2, 2\)"),
        (lambda: F.linear(X[0], WEIGHT), r"x of shape \(N, 3\) for weight \(4, 3\), got \(3,\)"),
        (lambda: F.linear(np.zeros((2, 3, 1, 1)), WEIGHT), r"for weight \(4, 3\), got \(2, 3, 1, 1\)"),
        (lambda: F.linear(X, WEIGHT[0]), r"x of shape \(N, in_features\) for weight \(3,\), got \(2, 3\)"),
        (lambda: F.linear(X, WEIGHT[:0]), r"for weight \(0, 3\), got \(2, 3\)"),
        (lambda: F.linear(X, WEIGHT, np.zeros(3)), r"linear: expected bias of shape \(4,\), got \(3,\)"),
        (lambda: fc.Linear(3, 4)(X[:, :2]), r"x of shape \(N, 3\) for weight \(4, 3\), got \(2, 2\)"),
        (lambda: fc.Linear(3, 0), "out_features as a whole number of at least 1, got 0"),
        (lambda: fc.Linear("3", 4), "in_features as a whole number of at least 1, got '3'"),
        (lambda: fc.Sequential(fc.Flatten(), fc.Linear(3, 4))(X[:, :2]), r"layer 1: linear: .*, got \(2, 2\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(fc.ShapeError, match=message):
        call()


def test_backward_needs_a_forward_pass_in_training_and_its_shape():
    layer = fc.Linear(3, 4)
    layer(X)
    with pytest.raises(RuntimeError, match=r"Linear\.backward: no saved input"):
        layer.backward(np.zeros((2, 4)))
    layer.forward(X, training=True)
    with pytest.raises(fc.ShapeError, match=r"dy of the output's shape \(2, 4\), got \(2, 3\)"):
        layer.backward(np.zeros((2, 3)))
