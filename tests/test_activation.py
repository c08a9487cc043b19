"""ReLU, dropout and softmax, forward and backward, against the oracle."""

import numpy as np
import pytest
from cases import FLOATS, assert_sum_close, each_float

import fastconv as fc
from fastconv import functional as F
from fastconv import reference
from fastconv_kernels import counter

SHAPES = [(1, 1), (1, 7), (15, 3), (16, 5), (17, 2), (33, 40), (2, 3, 4, 5), (17, 1, 3, 2), (0, 3), (0, 2, 4, 4)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def special(dtype):
    """Return numbers that are hard for a rectifier."""
    tiny = np.finfo(dtype).smallest_subnormal
    return np.array([-2, -tiny, -0.0, 0, tiny, np.finfo(dtype).tiny, 3, np.inf, -np.inf, np.nan, -np.nan], dtype)


# ----------------------------------------------------------------------------------------------------------- ReLU


@each_float
@each_shape
def test_relu(shape, dtype, rng):
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    layer = fc.ReLU().to(dtype)
    y = layer.forward(x, training=True)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, reference.relu(x))
    np.testing.assert_array_equal(F.relu(x), y)
    if shape[0]:
        np.testing.assert_array_equal(layer.backward(dy), reference.relu_backward(dy, y))


@each_float
@pytest.mark.parametrize("place", range(17))
def test_relu_of_special_values_in_every_lane(place, dtype):
    values = special(dtype)
    x = np.full((17, values.size), -1, dtype)
    x[place] = values
    layer = fc.ReLU().to(dtype)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(y, reference.relu(x))
    assert not np.signbit(y[~np.isnan(y)]).any(), "-0.0 becomes 0.0"
    dy = np.arange(1, x.size + 1, dtype=dtype).reshape(x.shape)
    np.testing.assert_array_equal(layer.backward(dy), reference.relu_backward(dy, y))


def test_relu_passes_the_gradient_where_the_output_is_nan_and_stops_it_at_zero():
    layer = fc.ReLU()
    layer.forward(np.array([[np.nan, 0.0, -0.0, 1e-40, -1.0]]), training=True)
    np.testing.assert_array_equal(layer.backward(np.array([[1, 2, 3, np.nan, np.nan]])), [[1, 0, 0, np.nan, 0]])


@pytest.mark.parametrize("shape", [(5,), (3, 4, 5), (2, 1, 2, 3, 2)], ids=str)
def test_functional_relu_takes_any_number_of_axes(shape, rng):
    x = rng.standard_normal(shape)
    np.testing.assert_array_equal(F.relu(x), reference.relu(x))


@pytest.mark.parametrize("name", ["relu", "softmax", "log_softmax"])
def test_a_single_number_is_refused(name):
    with pytest.raises(fc.ShapeError, match=f"{name}: expected x with a batch axis, got a single number"):
        getattr(F, name)(3.0)


# -------------------------------------------------------------------------------------------------------- dropout


@each_float
@pytest.mark.parametrize(("n", "features", "p"), [(1, 3, 0.5), (17, 5, 0.2), (33, 2, 0.9)])
def test_dropout_follows_its_random_bits(n, features, p, dtype, rng):
    """Bit for bit: what is dropped is a function of the seed, the pass and the element's number alone."""
    x = rng.standard_normal((n, features)).astype(dtype)
    layer = fc.Dropout(p, seed=7).to(dtype)
    layer.forward(x, training=True)
    comp = layer.forward(x, training=True)
    key = int(np.random.SeedSequence((7, 1)).generate_state(1, np.uint64)[0])
    keep = reference.dropout(np.ones(x.shape), key, p) != 0
    np.testing.assert_allclose(comp, reference.dropout(x, key, p), rtol=1e-6)
    np.testing.assert_array_equal(comp, np.where(keep, x * dtype(1 / (1 - p)), dtype(0)))
    dy = rng.standard_normal(x.shape).astype(dtype)
    np.testing.assert_array_equal(layer.backward(dy), np.where(keep, dy * dtype(1 / (1 - p)), dtype(0)))


def test_dropout_numbers_images_not_blocks():
    """The first images of a batch meet the same mask however many come after them."""
    few, many = (fc.Dropout(0.5, seed=1).forward(np.ones((n, 2, 3, 4)), training=True) for n in (5, 33))
    np.testing.assert_array_equal(many[:5], few)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_keeps_the_mean(p):
    y = fc.Dropout(p, seed=3).forward(np.ones((500, 40), np.float32), training=True)
    # Five standard deviations of the mean of 20,000 Bernoulli variables.
    assert abs((y == 0).mean() - p) < 5 * np.sqrt(p * (1 - p) / y.size)
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - p)], rtol=1e-6)


def test_dropout_changes_its_mask_with_every_pass_and_seed_and_repeats_itself():
    x = np.ones((16, 50))
    first, second = fc.Dropout(0.5, seed=1), fc.Dropout(0.5, seed=1)
    masks = [first.forward(x, training=True) for _ in range(3)]
    for mask in masks:
        np.testing.assert_array_equal(second.forward(x, training=True), mask)
    masks.append(fc.Dropout(0.5, seed=2).forward(x, training=True))
    assert len({mask.tobytes() for mask in masks}) == 4


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False), (0.0, False)])
def test_dropout_does_nothing(p, training, rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    layer = fc.Dropout(p)
    np.testing.assert_array_equal(layer.forward(x, training=training), x)
    assert layer.passes == 0
    if training:
        np.testing.assert_array_equal(layer.backward(x), x)


def test_dropout_keeps_nan_and_drops_infinity():
    x = np.full((16, 8), np.nan, np.float32)
    x[:, ::2] = np.inf
    y = fc.Dropout(0.5).forward(x, training=True)
    assert set(np.unique(y[:, ::2])) == {0, np.inf}
    assert {str(v) for v in np.unique(y[:, 1::2])} == {"0.0", "nan"}


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, np.nan, True, "0.5"])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match=r"Dropout: expected p of at least 0 and below 1, got "):
        fc.Dropout(p)


def test_hash_is_a_pure_function_of_key_and_number():
    hashed = getattr(counter.random_bits, "py_func", counter.random_bits)
    keys = [0, 1, 2**63, 2**64 - 1]
    with np.errstate(over="ignore"):
        comp = [int(hashed(np.uint64(key), np.uint64(number))) for key in keys for number in (0, 1, 2**40)]
    assert comp == [reference.random_bits(key, number) for key in keys for number in (0, 1, 2**40)]


@each_float
@pytest.mark.parametrize(("n", "channels", "p"), [(1, 3, 0.5), (17, 5, 0.2), (33, 2, 0.9)])
def test_dropout2d_drops_channels_by_its_random_bits(n, channels, p, dtype, rng):
    x, dy = (rng.standard_normal((n, channels, 2, 3)).astype(dtype) for _ in range(2))
    x[0, 0, 0, 0] = np.inf
    layer = fc.Dropout2d(p, seed=7).to(dtype)
    layer.forward(x, training=True)
    comp = layer.forward(x, training=True)
    key = int(np.random.SeedSequence((7, 1)).generate_state(1, np.uint64)[0])
    keep = reference.dropout(np.ones(x.shape), key, p, of_channels=True) != 0
    np.testing.assert_allclose(comp, reference.dropout(x, key, p, of_channels=True), rtol=1e-6)
    np.testing.assert_array_equal(comp, np.where(keep, x * dtype(1 / (1 - p)), dtype(0)))
    np.testing.assert_array_equal(layer.backward(dy), np.where(keep, dy * dtype(1 / (1 - p)), dtype(0)))
    np.testing.assert_array_equal(layer.forward(x), x)


def test_dropout2d_is_a_dropout_to_its_model(rng):
    model, x = fc.Sequential(fc.Dropout2d(0.5), fc.Dropout2d(0.5)), np.ones((16, 30, 1, 1), np.float32)
    model.reseed_dropout(3)
    first = model.forward(x, training=True)
    assert (model.forward(x, training=True) != first).any()
    model.reseed_dropout(3)
    np.testing.assert_array_equal(model.forward(x, training=True), first)
    assert set(np.unique(first)) == {0, 2, 4} - {2}
    assert 0.15 < (first > 0).mean() < 0.35


def test_dropout2d_refuses_features_and_no_probability():
    with pytest.raises(fc.ShapeError, match=r"Dropout2d: expected x of shape \(N, C, H, W\), got \(2, 3\)"):
        fc.Dropout2d()(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"Dropout2d: expected p of at least 0 and below 1, got 1"):
        fc.Dropout2d(1)


# -------------------------------------------------------------------------------------------------------- softmax


@each_float
@pytest.mark.parametrize("scale", [1, 100, 1e4])
@pytest.mark.parametrize("shape", [*SHAPES, (3, 1), (2, 3, 4)], ids=str)
def test_softmax_and_log_softmax(shape, scale, dtype, rng):
    x = (scale * rng.standard_normal(shape)).astype(dtype)
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    ref = reference.softmax(x)
    comp = F.softmax(x)
    assert comp.dtype == dtype
    # float64: exp moves a rounding of its argument, at most eps/2 of the largest exponent 708, into a relative error.
    rtol = 3 * eps if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(comp, ref, rtol=rtol, atol=tiny)
    log_ref = reference.log_softmax(x)
    np.testing.assert_allclose(F.log_softmax(x), log_ref, rtol=4 * eps, atol=4e-16 * shape[1])


@each_float
@pytest.mark.parametrize("shape", [(17, 10), (2, 3, 4, 5), (3, 1)], ids=str)
def test_softmax_backward(shape, dtype, rng):
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    layer = fc.Softmax().to(dtype)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(y, F.softmax(x))
    ref = reference.softmax_backward(dy, y)
    magnitude = y * (abs(dy) + np.sum(abs(dy) * y, axis=1, keepdims=True))
    assert_sum_close(layer.backward(dy), ref, magnitude, shape[1] + 3)


@each_float
@pytest.mark.parametrize("shape", [(17, 10), (2, 3, 4, 5), (3, 1)], ids=str)
def test_log_softmax_layer(shape, dtype, rng):
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    layer = fc.LogSoftmax().to(dtype)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(y, F.log_softmax(x))
    magnitude = abs(dy) + abs(dy).sum(axis=1, keepdims=True)
    assert_sum_close(layer.backward(dy), reference.log_softmax_backward(dy, y), magnitude, shape[1] + 4)


@each_float
def test_softmax_of_special_values(dtype):
    inf, nan = np.inf, np.nan
    x = np.array([[0, -inf, 0], [1e4, -1e4, 1e4], [-1e4, -1e4, -1e4], [inf, 0, 0], [0, nan, 0], [-inf] * 3], dtype)
    ref = np.array([[0.5, 0, 0.5], [0.5, 0, 0.5], [1 / 3] * 3, [nan] * 3, [nan] * 3, [nan] * 3], dtype)
    ref[3, 1:] = nan
    comp = F.softmax(x)
    np.testing.assert_allclose(comp[[0, 1, 2]], ref[[0, 1, 2]], rtol=np.finfo(dtype).eps)
    assert np.isnan(comp[3, 0])
    assert np.isnan(comp[4:]).all()
    np.testing.assert_array_equal(F.log_softmax(x[:1]) == -inf, [[False, True, False]])


@pytest.mark.parametrize("dtype", FLOATS)
def test_probabilities_of_a_planted_winner(dtype):
    x = np.full((17, 10), -1e4, dtype)
    x[np.arange(17), np.arange(17) % 10] = 1e4
    np.testing.assert_array_equal(F.softmax(x), (x > 0).astype(dtype))
    np.testing.assert_array_equal(F.log_softmax(x), np.where(x > 0, 0, -2e4).astype(dtype))


@pytest.mark.parametrize("operation", [F.softmax, F.log_softmax])
def test_softmax_needs_an_axis_of_classes(operation):
    with pytest.raises(fc.ShapeError, match=r"softmax: expected x of shape \(N, K, \.\.\.\), K classes, got \(3,\)"):
        operation(np.array([1.0, 2, 3]))
