"""Batch normalisation against the oracle: statistics, gradients, running values, and what is folded for evaluation."""

import numpy as np
import pytest
from cases import each_float, parametrize
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv import functional as F
from fastconv import reference
from fastconv.layers.base import Workspace
from fastconv.layers.batchnorm import Folded
from fastconv_kernels import batchnorm
from fastconv_kernels.tile import LANES

SHAPES = {
    "one value": (1, 1, 1, 1),
    "two images, one pixel": (2, 3, 1, 1),
    "one image": (1, 2, 5, 3),
    "fifteen": (15, 3, 2, 3),
    "sixteen": (16, 1, 3, 2),
    "seventeen": (17, 2, 4, 1),
    "thirty-three": (33, 2, 1, 3),
    "features": (19, 5),
    "two rows of features": (2, 1),
    "sequences": (17, 3, 5),
    "sequences of one": (15, 2, 1),
}


def normalization(shape, dtype, rng):
    """Return a layer for such inputs, with a scale and a shift that are not 1 and 0."""
    make = fc.BatchNorm2d if len(shape) == 4 else fc.BatchNorm1d
    layer = make(shape[1]).to(dtype)
    layer.weight.value, layer.bias.value = rng.standard_normal(shape[1]), rng.standard_normal(shape[1])
    return layer


def tolerance(dtype):
    return 2e-5 if dtype == np.float32 else 1e-12


@each_float
@parametrize(SHAPES)
def test_training_and_its_gradients(case, dtype, rng):
    x, dy = (3 + 2 * rng.standard_normal(case)).astype(dtype), rng.standard_normal(case).astype(dtype)
    layer = normalization(case, dtype, rng)
    y = layer.forward(x, training=True)
    mean, var = reference.batch_statistics(x.astype(np.float64))
    gamma, beta = layer.weight.value, layer.bias.value
    assert y.dtype == dtype
    # Rounding of x - mean is magnified by 1 / sqrt(var + eps), which a single value makes 300.
    magnified = max(1.0, float((1 / np.sqrt(var + layer.eps)).max()))
    close = {"rtol": tolerance(dtype) * magnified, "atol": tolerance(dtype) * magnified}
    np.testing.assert_allclose(y, reference.batch_norm(x.astype(float), mean, var, gamma, beta, layer.eps), **close)
    dx = layer.backward(dy)
    expected, dgamma, dbeta = reference.batch_norm_backward(dy.astype(float), x.astype(float), gamma, layer.eps)
    np.testing.assert_allclose(dx, expected, **close)
    np.testing.assert_allclose(layer.weight.grad, dgamma, rtol=tolerance(dtype), atol=10 * close["atol"])
    np.testing.assert_allclose(layer.bias.grad, dbeta, rtol=tolerance(dtype), atol=10 * tolerance(dtype))


@parametrize({name: shape for name, shape in SHAPES.items() if name != "one value"})
@pytest.mark.parametrize("relu", [False, True])
def test_gradcheck(case, relu, rng):
    layer = normalization(case, np.float64, rng)
    assert fc.gradcheck(fc.Sequential(layer, *[fc.ReLU()] * relu), rng.standard_normal(case)).checked > 0


def test_gradcheck_where_the_batchs_statistics_serve_evaluation_too(rng):
    layer = fc.BatchNorm2d(2, affine=False, track_running_stats=False)
    x = rng.standard_normal((3, 2, 2, 2))
    assert fc.gradcheck(layer, x).checked == x.size
    assert layer.state_dict() == {}
    np.testing.assert_array_equal(layer(x), layer.forward(x, training=True))


@given(st.integers(1, 40), st.integers(1, 9), st.integers(-1000, 1000))
def test_statistics_of_integers_are_exact_wherever_they_lie(n, size, shift):
    """A mean far from zero costs no digits: the squares are those of what is left without it."""
    dice = np.random.default_rng(n * 100 + size)
    values = dice.integers(-3, 4, (n, 1, size)) * 2
    values[::2] = -values[1::2][: len(values[::2])] if n % 2 == 0 else values[::2]
    x = np.full((-(-n // LANES), 1, size, LANES), 12345.0)
    for image in range(n):
        x[image // LANES, 0, :, image % LANES] = values[image, 0] + shift
    mean, var = np.empty(1), np.empty(1)
    line = np.ones(1), np.zeros(1)
    batchnorm.batch_norm_forward(x, n, *line, 1e-5, x[:0], False, mean, var, *line, np.empty_like(x))
    np.testing.assert_allclose(mean, values.mean() + shift, rtol=1e-14, atol=1e-13)
    np.testing.assert_allclose(var, values.var(), rtol=1e-12, atol=1e-12)


def test_float32_keeps_the_variance_of_a_channel_far_from_zero(rng):
    x = (10_000 + rng.standard_normal((32, 1, 28, 28))).astype(np.float32)
    layer = fc.BatchNorm2d(1, momentum=1.0)
    layer.forward(x, training=True)
    np.testing.assert_allclose(layer.running_mean, x.astype(float).mean(), rtol=1e-7)
    np.testing.assert_allclose(layer.running_var, x.astype(float).var(ddof=1), rtol=1e-5)


def test_float32_keeps_a_variance_whose_blocks_lie_far_apart(rng):
    """Squares are taken about the mean of the blocks before: these are 10,000 away from each other."""
    x = rng.standard_normal((64, 1, 5, 5)).astype(np.float32)
    x += np.repeat(np.array([0, 10_000, -10_000, 5_000], np.float32), 16)[:, None, None, None]
    layer = fc.BatchNorm2d(1, momentum=1.0)
    layer.forward(x, training=True)
    np.testing.assert_allclose(layer.running_mean, x.astype(float).mean(), rtol=1e-6)
    np.testing.assert_allclose(layer.running_var, x.astype(float).var(ddof=1), rtol=1e-6)


def test_running_statistics_are_pytorchs(rng):
    layer, average = fc.BatchNorm2d(2, momentum=0.25).to(np.float64), fc.BatchNorm2d(2, momentum=None).to(np.float64)
    mean, var, means, variances = np.zeros(2), np.ones(2), [], []
    for n in (3, 17, 1):
        x = rng.standard_normal((n, 2, 3, 3)) * 4 - 1
        layer.forward(x, training=True)
        average.forward(x, training=True)
        batch_mean, batch_var = reference.batch_statistics(x)
        means.append(batch_mean)
        variances.append(batch_var * (9 * n) / (9 * n - 1))
        mean += 0.25 * (means[-1] - mean)
        var += 0.25 * (variances[-1] - var)
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, var, rtol=1e-12)
    np.testing.assert_allclose(average.running_mean, np.mean(means, axis=0), rtol=1e-12)
    np.testing.assert_allclose(average.running_var, np.mean(variances, axis=0), rtol=1e-12)
    assert layer.num_batches_tracked == 3
    before = layer.state_dict()
    layer(x)
    assert all(np.array_equal(before[name], value) for name, value in layer.state_dict().items())


def test_padding_lanes_change_nothing(rng):
    """Seventeen images fill two blocks; what stands in the empty lanes must not be seen, and gets no gradient."""
    layer = normalization((17, 2, 3, 3), np.float64, rng)
    work = Workspace(np.float64)
    layer.plan((17, 2, 3, 3), work)
    x, dy = work.empty((17, 2, 3, 3)), work.empty((17, 2, 3, 3))
    x.array[...] = rng.standard_normal(x.array.shape)
    dy.array[...] = rng.standard_normal(dy.array.shape)
    dy.array[1, ..., 1:] = 0
    results = []
    for fill in (7.0, np.nan, np.inf):
        x.array[1, ..., 1:] = fill
        gradient = work.empty((17, 2, 3, 3))
        gradient.array[...] = dy.array
        y = layer.forward_blocks(x, work, True).array.copy()
        dx = layer.backward_blocks(gradient, work, True)
        assert not dx.array[1, ..., 1:].any()
        results.append([y[0], y[1, ..., 0], dx.array.copy(), layer.weight.grad.copy(), layer.bias.grad.copy()])
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


def small(rng, bias=True):
    model = fc.Sequential(
        fc.Conv2d(2, 5, 3, padding=1, bias=bias),
        fc.BatchNorm2d(5),
        fc.ReLU(),
        fc.Conv2d(5, 4, 3, stride=2),
        fc.BatchNorm2d(4),
        fc.Sequential(fc.BatchNorm2d(4), fc.ReLU()),
    ).to(np.float64)
    for name, array in model.named_state():
        if array.dtype == np.float64 and "running_var" not in name:
            array[...] = rng.standard_normal(array.shape)
        elif array.dtype == np.float64:
            array[...] = rng.uniform(0.5, 2, array.shape)
    return model


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n", [1, 5, 33])
def test_evaluation_folds_what_stands_behind_a_convolution(n, bias, rng):
    model, x = small(rng, bias), rng.standard_normal((n, 2, 9, 7))
    expected = x
    for layer in model:
        expected = layer(expected)
    np.testing.assert_allclose(model(x), expected, rtol=1e-12, atol=1e-12)
    work = Workspace(np.float64)
    model.plan(x.shape, work)
    kinds = [type(step).__name__ for step, _ in work.evaluation]
    assert kinds == ["Folded", "Folded", "Sequential"]
    assert [step.relu for step, _ in work.evaluation if isinstance(step, Folded)] == [True, False]
    assert len(work.steps) == 5


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"groups": 2}, {"padding_mode": "reflect"}], ids=str)
@pytest.mark.parametrize("n", [1, 5, 33])
def test_evaluation_folds_what_stands_behind_a_convolution_of_sequences(n, options, rng):
    body = fc.Sequential(fc.Conv1d(4, 4, 3, padding=1), fc.BatchNorm1d(4))
    model = fc.Sequential(
        fc.Conv1d(2, 4, 3, padding=1, **options), fc.BatchNorm1d(4), fc.ReLU(), fc.Residual(body), fc.ReLU()
    ).to(np.float64)
    for name, array in model.named_state():
        if array.dtype == np.float64:
            array[...] = rng.uniform(0.5, 2, array.shape) if "running_var" in name else rng.standard_normal(array.shape)
    x = rng.standard_normal((n, 2, 9))
    first, norm, relu, *_ = model
    inside = relu(norm(first(x)))
    expected = np.maximum(0, body[1](body[0](inside)) + inside)
    np.testing.assert_allclose(model(x), expected, rtol=1e-12, atol=1e-12)
    work = Workspace(np.float64)
    model.plan(x.shape, work)
    assert [type(step).__name__ for step, _ in work.evaluation] == ["Folded", "Residual"]
    assert "BatchNorm1d" in model.summary((2, 9))


def test_folded_weights_follow_training(rng):
    model, x = small(rng), rng.standard_normal((4, 2, 9, 7))
    before = model(x)
    model.forward(x, training=True)  # moves the running statistics
    after = model(x)
    assert not np.allclose(before, after)
    expected = x
    for layer in model:
        expected = layer(expected)
    np.testing.assert_allclose(after, expected, rtol=1e-12, atol=1e-12)


def test_statistics_travel_with_the_model(tmp_path, rng):
    model, x = small(rng).to(np.float32), rng.standard_normal((4, 2, 9, 7)).astype(np.float32)
    model.forward(x, training=True)
    fc.save(model, tmp_path / "model.safetensors")
    again = fc.load(tmp_path / "model.safetensors")
    assert list(again.state_dict()) == list(model.state_dict())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)
        assert again.state_dict()[name].dtype == value.dtype
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fc.BatchNorm2d(0), fc.ShapeError, "expected num_features as a whole number of at least 1, got 0"),
        (lambda: fc.BatchNorm1d(2.0), fc.ShapeError, r"BatchNorm1d: expected num_features .* got 2\.0"),
        (lambda: fc.BatchNorm2d(3, eps=0), ValueError, "expected eps above 0, got 0"),
        (lambda: fc.BatchNorm2d(3, momentum="x"), ValueError, "expected momentum from 0 to 1, or None, got 'x'"),
        (lambda: fc.BatchNorm2d(3, momentum=True), ValueError, "expected momentum from 0 to 1, or None, got True"),
        (lambda: fc.BatchNorm2d(3, momentum=1.5), ValueError, r"expected momentum from 0 to 1, or None, got 1\.5"),
        (
            lambda: fc.BatchNorm2d(3)(np.zeros((2, 4, 5, 5))),
            fc.ShapeError,
            r"BatchNorm2d: expected x of shape \(N, 3, H, W\), got \(2, 4, 5, 5\)",
        ),
        (
            lambda: fc.BatchNorm1d(3)(np.zeros((2, 3, 5, 5))),
            fc.ShapeError,
            r"BatchNorm1d: expected x of shape \(N, 3\) or \(N, 3, L\), got \(2, 3, 5, 5\)",
        ),
    ],
)
def test_what_is_wrong_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()


@each_float
@parametrize(SHAPES)
def test_the_stateless_form(case, dtype, rng):
    x, layer = rng.standard_normal(case).astype(dtype), normalization(case, dtype, rng)
    gamma, beta = layer.weight.value, layer.bias.value
    np.testing.assert_array_equal(F.batch_norm(x, weight=gamma, bias=beta), layer.forward(x, training=True))
    layer.running_mean[...], layer.running_var[...] = rng.standard_normal(case[1]), rng.uniform(0.5, 2, case[1])
    statistics = layer.running_mean.copy(), layer.running_var.copy()
    np.testing.assert_array_equal(F.batch_norm(x, *statistics, gamma, beta), layer(x), strict=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3),), r"expected x of shape \(N, C, H, W\), \(N, C, L\) or \(N, C\), got \(3,\)"),
        ((np.zeros((2, 3)), np.zeros(3)), "expected running_mean and running_var, or neither, got one of them"),
        ((np.zeros((2, 3)), np.zeros(3), np.ones(2)), r"expected running_var of shape \(3,\), got \(2,\)"),
        ((np.zeros((2, 3)), None, None, np.ones(4)), r"expected weight of shape \(3,\), got \(4,\)"),
    ],
)
def test_the_stateless_form_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=f"batch_norm: {message}"):
        F.batch_norm(*arguments)


def test_an_empty_batch_is_an_empty_batch():
    layer = fc.BatchNorm2d(3)
    assert layer(np.zeros((0, 3, 2, 2))).shape == (0, 3, 2, 2)
    assert layer.num_batches_tracked == 0
