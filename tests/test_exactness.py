"""Identities that hold to the last bit: sums of small integers are exact, so both sides are equal or wrong.

None of them looks at the oracle.  Equation (29) of docs/backprop.md says why adjointness is worth more than numeric
gradients; the others relate one geometry to another, which catches an index that is wrong in one of them.
"""

import numpy as np
import pytest
from cases import FLOATS, convolutions, poolings
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv import functional as F

pytestmark = pytest.mark.usefixtures("few_tiles")

floats = st.sampled_from(FLOATS)
seeds = st.integers(0, 2**32 - 1)


def integers(rng, shape, dtype):
    return rng.integers(-4, 5, shape).astype(dtype)


def inner(a, b):
    """Return <a, b>, in Python's integers."""
    assert (a == np.rint(a)).all()
    return int(np.sum(a.astype(np.int64) * b.astype(np.int64)))


def drawn(case, dtype, seed):
    """Return a generator, x, the weight and the other arguments of a drawn convolution."""
    shape, (filters, *taps), *how = case
    rng = np.random.default_rng(seed)
    weight = integers(rng, (filters, shape[1] // how[3], *taps), dtype)
    return rng, integers(rng, shape, dtype), weight, how


@given(convolutions(), floats, seeds)
def test_conv2d_and_its_gradients_are_adjoint(case, dtype, seed):
    rng, x, weight, how = drawn(case, dtype, seed)
    y = F.conv2d(x, weight, None, *how)
    dy = integers(rng, y.shape, dtype)
    dx, dweight, dbias = F.conv2d_backward(dy, x, weight, *how)
    assert inner(y, dy) == inner(x, dx) == inner(weight, dweight)
    np.testing.assert_array_equal(dbias, dy.sum(axis=(0, 2, 3)))


@given(convolutions(), floats, seeds)
def test_conv2d_is_linear_in_input_filter_and_bias(case, dtype, seed):
    rng, x, weight, how = drawn(case, dtype, seed)
    other, more, bias = (
        integers(rng, x.shape, dtype),
        integers(rng, weight.shape, dtype),
        integers(rng, len(weight), dtype),
    )
    y = F.conv2d(x, weight, None, *how)
    np.testing.assert_array_equal(
        F.conv2d(3 * x - other, weight, None, *how), 3 * y - F.conv2d(other, weight, None, *how)
    )
    np.testing.assert_array_equal(F.conv2d(x, weight + more, None, *how), y + F.conv2d(x, more, None, *how))
    np.testing.assert_array_equal(F.conv2d(x, weight, bias, *how), y + bias[:, None, None])


@given(convolutions(), floats, seeds)
def test_conv2d_moves_with_the_image(case, dtype, seed):
    """One stride further into the image is one output further into the response."""
    _, x, weight, (stride, _, dilation, groups) = drawn(case, dtype, seed)
    x = np.pad(x, ((0, 0), (0, 0), (6, stride[0]), (6, stride[1])))
    y = F.conv2d(x, weight, None, stride, 0, dilation, groups)
    moved = F.conv2d(x[:, :, stride[0] :, stride[1] :], weight, None, stride, 0, dilation, groups)
    np.testing.assert_array_equal(moved, y[:, :, 1:, 1:])


@given(convolutions(), floats, seeds)
def test_padding_is_zeros_around_the_image(case, dtype, seed):
    _, x, weight, (stride, (ph, pw), dilation, groups) = drawn(case, dtype, seed)
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    np.testing.assert_array_equal(
        F.conv2d(x, weight, None, stride, (ph, pw), dilation, groups),
        F.conv2d(padded, weight, None, stride, 0, dilation, groups),
    )


@given(convolutions(), floats, seeds)
def test_stride_leaves_outputs_out(case, dtype, seed):
    _, x, weight, (stride, *how) = drawn(case, dtype, seed)
    every = F.conv2d(x, weight, None, 1, *how)
    np.testing.assert_array_equal(F.conv2d(x, weight, None, stride, *how), every[:, :, :: stride[0], :: stride[1]])


@given(convolutions(), floats, seeds)
def test_dilation_is_a_filter_with_zeros_between_its_taps(case, dtype, seed):
    _, x, weight, (stride, padding, dilation, groups) = drawn(case, dtype, seed)
    taps = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    spread = np.zeros((*weight.shape[:2], *taps), dtype)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    np.testing.assert_array_equal(
        F.conv2d(x, weight, None, stride, padding, dilation, groups),
        F.conv2d(x, spread, None, stride, padding, 1, groups),
    )


@given(convolutions(), floats, seeds)
def test_groups_are_convolutions_side_by_side(case, dtype, seed):
    _, x, weight, (*how, groups) = drawn(case, dtype, seed)
    parts = zip(np.split(x, groups, axis=1), np.split(weight, groups), strict=True)
    apart = [F.conv2d(part, filters, None, *how) for part, filters in parts]
    np.testing.assert_array_equal(F.conv2d(x, weight, None, *how, groups), np.concatenate(apart, axis=1))


@given(convolutions(), floats, seeds)
def test_a_filter_with_one_tap_copies_a_shifted_image(case, dtype, seed):
    rng, x, weight, (*_, groups) = drawn(case, dtype, seed)
    channel, u, v = (int(rng.integers(size)) for size in weight.shape[1:])
    weight[:] = 0
    weight[0, channel, u, v] = 1
    height, width = weight.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), (0, height), (0, width)))
    y = F.conv2d(x, weight, groups=groups)
    np.testing.assert_array_equal(y[:, 0], x[:, channel, u : u + y.shape[2], v : v + y.shape[3]])
    assert not y[:, 1:].any()


@given(poolings(), floats, seeds)
def test_max_pool_and_its_gradient_are_adjoint_at_their_winners(case, dtype, seed):
    """Each output is one input, so <y, dy> = <x, dx> although a maximum is not linear."""
    shape, *how = case
    rng = np.random.default_rng(seed)
    x = integers(rng, shape, dtype)
    layer = fc.MaxPool2d(*how).to(dtype)
    y = layer.forward(x, training=True)
    dy = integers(rng, y.shape, dtype)
    assert inner(y, dy) == inner(x, layer.backward(dy))


@given(
    st.sampled_from([1, 17]),
    st.tuples(*[st.sampled_from([1, 2, 4])] * 2),
    st.tuples(*[st.integers(1, 5)] * 2),
    st.tuples(*[st.integers(4, 9)] * 2),
    floats,
    seeds,
)
def test_avg_pool_and_its_gradient_are_adjoint(n, window, stride, size, dtype, seed):
    """Windows of 2**k pixels, padding counted, divide exactly."""
    rng = np.random.default_rng(seed)
    area = window[0] * window[1]
    layer = fc.AvgPool2d(window, stride, (window[0] // 2, window[1] // 2)).to(dtype)
    x = integers(rng, (n, 2, *size), dtype)
    y = layer.forward(x, training=True)
    dy = integers(rng, y.shape, dtype)
    dx = layer.backward(dy)
    assert inner(y * area, dy) == inner(x, dx * area)


@given(st.sampled_from([1, 16, 17, 50]), st.integers(1, 40), st.integers(1, 9), floats, seeds)
def test_linear_and_its_gradients_are_adjoint(n, inputs, outputs, dtype, seed):
    rng = np.random.default_rng(seed)
    layer = fc.Linear(inputs, outputs).to(dtype)
    layer.weight.value = integers(rng, (outputs, inputs), dtype)
    x, dy = integers(rng, (n, inputs), dtype), integers(rng, (n, outputs), dtype)
    y = layer.forward(x, training=True)
    dx = layer.backward(dy)
    assert inner(y, dy) == inner(x, dx) == inner(layer.weight.value, layer.weight.grad)
    np.testing.assert_array_equal(layer.bias.grad, dy.sum(axis=0))


@given(st.integers(1, 40), st.integers(1, 9), floats, seeds)
def test_relu_and_its_gradient_are_adjoint(n, features, dtype, seed):
    rng = np.random.default_rng(seed)
    x, dy = integers(rng, (n, features), dtype), integers(rng, (n, features), dtype)
    layer = fc.ReLU().to(dtype)
    assert inner(layer.forward(x, training=True), dy) == inner(x, layer.backward(dy))


@given(seeds, floats)
def test_a_model_of_linear_layers_is_adjoint_end_to_end(seed, dtype):
    """Gradients travel back through lane blocks, reshapes and layers, and every product of the way forward is met."""
    rng = np.random.default_rng(seed)
    model = fc.Sequential(
        fc.Conv2d(2, 3, 3, padding=1, bias=False),
        fc.Sequential(fc.AvgPool2d(2), fc.Conv2d(3, 2, (2, 3), stride=(1, 2), bias=False)),
        fc.Flatten(),
        fc.Linear(4, 3, bias=False),
    ).to(dtype)
    for parameter in model.parameters():
        parameter.value = rng.integers(-1, 2, parameter.shape)
    x, dy = integers(rng, (17, 2, 6, 8), dtype), integers(rng, (17, 3), dtype)
    y = model.forward(x, training=True)
    dx = model.backward(dy)
    product = inner(4 * y, dy)
    assert product == inner(x, 4 * dx)
    for parameter in model.parameters():
        assert product == inner(parameter.value, 4 * parameter.grad)
