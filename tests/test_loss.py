"""The losses against the oracle, and the exponential and logarithm beneath them against 40 digits."""

from decimal import Context, Decimal

import numpy as np
import pytest
from cases import assert_sum_close, each_float

import fastconv as fc
from fastconv import blocks, reference
from fastconv import functional as F
from fastconv_kernels.exponential import exp, log

EPS = np.finfo(np.float64).eps


# -------------------------------------------------------------------------------------------------- cross-entropy


@each_float
@pytest.mark.parametrize("images", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("classes", [1, 2, 10])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_cross_entropy(images, classes, smoothing, scale, dtype, rng):
    logits = (scale * rng.standard_normal((images, classes))).astype(dtype)
    labels = rng.integers(0, classes, images)
    ref, gradient = reference.cross_entropy(logits, labels, smoothing)
    loss = fc.CrossEntropyLoss(smoothing)
    comp = loss(logits, labels)
    assert type(comp) is float
    # Sums of float64 over images and classes, of terms up to the spread of the logits.
    assert abs(comp - ref) <= (images + 2 * classes + 8) * EPS * (np.ptp(logits) + np.log(classes) + 1)
    assert F.cross_entropy(logits, labels, smoothing) == comp

    eps = np.finfo(dtype).eps
    probabilities, target = np.exp(reference.log_softmax(logits)), np.full((images, classes), smoothing / classes)
    target[np.arange(images), labels] += 1 - smoothing
    comp = loss.backward()
    assert comp.dtype == dtype
    # Three roundings of each term; the oracle's exp(log p) adds |log p| units of float64.
    assert_sum_close(comp, gradient, (probabilities * (1 + 40 * EPS / eps) + target) / images, 3)


@each_float
@pytest.mark.parametrize("images", [5, 16, 33])
def test_right_answers_are_counted_and_the_first_of_equal_logits_wins(images, dtype, rng):
    logits, labels = rng.integers(0, 3, (images, 4)).astype(dtype), rng.integers(0, 4, images)
    packed = blocks.pack(logits, blocks.empty(logits.shape, dtype))
    result = fc.CrossEntropyLoss().of_blocks(packed, labels)
    assert result.hits == (logits.argmax(axis=1) == labels).sum()
    assert result.value == F.cross_entropy(logits, labels)


def test_padding_lanes_get_no_gradient(rng):
    logits = np.zeros((17, 3), np.float32)
    packed = blocks.pack(logits, blocks.empty(logits.shape, np.float32))
    packed.array[1, :, 1:] = 99
    result = fc.CrossEntropyLoss().of_blocks(packed, np.zeros(17, np.int64))
    np.testing.assert_array_equal(result.dy.array[1, :, 1:], 0)
    np.testing.assert_allclose(result.value, np.log(3), rtol=1e-15)


def test_knowing_nothing_costs_the_logarithm_of_the_classes():
    np.testing.assert_allclose(F.cross_entropy(np.full((8, 10), -1e4), np.arange(8)), np.log(10), rtol=1e-15)


@each_float
def test_logits_of_ten_thousand(dtype):
    logits = np.array([[1e4, -1e4], [1e4, -1e4], [-1e4, -1e4]], dtype)
    loss = fc.CrossEntropyLoss()
    np.testing.assert_allclose(loss(logits, np.array([0, 1, 0])), (0 + 2e4 + np.log(2)) / 3, rtol=1e-15)
    np.testing.assert_allclose(loss.backward(), np.array([[0, 0], [1, -1], [-0.5, 0.5]]) / 3, rtol=1e-7)


@each_float
def test_an_impossible_class_is_minus_infinity(dtype):
    """As in PyTorch: a masked class costs nothing, unless it is the label or takes part in the smoothing."""
    logits = np.array([[0.0, -np.inf, 0.0]], dtype)
    loss = fc.CrossEntropyLoss()
    np.testing.assert_allclose(loss(logits, [0]), np.log(2), rtol=1e-15)
    np.testing.assert_allclose(loss.backward(), [[-0.5, 0, 0.5]], rtol=1e-15)
    assert loss(logits, [1]) == np.inf
    assert fc.CrossEntropyLoss(0.1)(logits, [0]) == np.inf


@each_float
@pytest.mark.parametrize("planted", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 2])
def test_nan_and_infinity_make_the_loss_nan_and_stay_in_their_image(planted, place, dtype, rng):
    logits = rng.standard_normal((18, 3)).astype(dtype)
    logits[16, place] = planted
    loss = fc.CrossEntropyLoss()
    assert np.isnan(loss(logits, np.ones(18, int)))
    bad = np.isnan(loss.backward()).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(bad), [16])


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64, ">i4", list])
def test_labels_of_any_integer(kind, rng):
    logits, labels = rng.standard_normal((5, 10)), np.array([3, 0, 9, 9, 1])
    given = labels.tolist() if kind is list else labels.astype(kind)
    assert F.cross_entropy(logits, given) == F.cross_entropy(logits, labels)


LOGITS = np.zeros((3, 4))


@pytest.mark.parametrize(
    ("error", "logits", "labels", "message"),
    [
        (ValueError, LOGITS, [0, 4, 1], "labels from 0 to 3, got 4 at position 1"),
        (ValueError, LOGITS, [0, 1, -1], "labels from 0 to 3, got -1 at position 2"),
        (ValueError, LOGITS, np.array([0, 1, 2**63], np.uint64), "got 9223372036854775808 at position 2"),
        (fc.ShapeError, LOGITS, [0, 1], r"3 labels, one an image, got shape \(2,\)"),
        (fc.ShapeError, LOGITS, [[0], [1], [2]], r"3 labels, one an image, got shape \(3, 1\)"),
        (fc.ShapeError, LOGITS[:, :, None, None], [0, 1, 2], r"shape \(N, classes\), got \(3, 4, 1, 1\)"),
        (fc.ShapeError, LOGITS[0], [0, 1, 2], r"\(N, features\), got \(4,\)"),
        (fc.ShapeError, LOGITS[:0], [], r"at least one row, got y of shape \(0, 4\)"),
        (TypeError, LOGITS, [0.0, 1.0, 2.0], "labels as whole numbers, got float64"),
        (TypeError, LOGITS, [True, False, True], "labels as whole numbers, got bool"),
        (TypeError, LOGITS, ["0", "1", "2"], "labels as whole numbers, got <U1"),
        (TypeError, LOGITS, np.ma.masked_array([0, 1, 2], [0, 1, 0]), "plain array, got a masked array"),
        (TypeError, LOGITS.astype(complex), [0, 1, 2], "y of float32 or float64, got complex128"),
    ],
)
def test_what_does_not_fit_is_named(error, logits, labels, message):
    with pytest.raises(error, match=message):
        F.cross_entropy(logits, labels)


@pytest.mark.parametrize("smoothing", [-0.1, 1, 2.0, np.nan, "0.1", None, True])
def test_smoothing_outside_its_range_is_refused(smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing of at least 0 and below 1, got"):
        fc.CrossEntropyLoss(smoothing)


@pytest.mark.parametrize("loss", [fc.CrossEntropyLoss, fc.MSELoss, fc.HuberLoss])
def test_backward_needs_a_forward_pass(loss):
    with pytest.raises(RuntimeError, match=rf"{loss.__name__}\.backward: call forward\(y, target\) first"):
        loss().backward()


# -------------------------------------------------------------------------------------------------- squared error


@each_float
@pytest.mark.parametrize("shape", [(1, 1), (15, 3), (16, 1), (17, 5), (33, 2), (17, 2, 3, 4)], ids=str)
def test_mse(shape, dtype, rng):
    y, target = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    ref, gradient = reference.mse(y, target)
    loss = fc.MSELoss()
    np.testing.assert_allclose(loss(y, target), ref, rtol=(y.size + 2) * EPS)
    assert F.mse_loss(y, target) == loss(y, target)
    comp = loss.backward()
    assert comp.dtype == dtype
    assert_sum_close(comp, gradient, abs(gradient), 2)


def test_mse_ignores_padding_and_propagates_nan():
    y = blocks.Blocks(np.full((2, 3, 16), 99, np.float32), 17)
    target = np.full((17, 3), 99, np.float32)
    result = fc.MSELoss().of_blocks(y, target)
    assert result.value == 0
    np.testing.assert_array_equal(result.dy.array, 0)
    target[3, 1] = np.nan
    assert np.isnan(F.mse_loss(np.zeros((17, 3)), target))


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (np.zeros((3, 5)), fc.ShapeError, r"target of the output's shape \(3, 4\), got \(3, 5\)"),
        (np.zeros(3), fc.ShapeError, r"target of the output's shape \(3, 4\), got \(3,\)"),
        (np.zeros((3, 4), object), TypeError, "target of float32 or float64, got object"),
    ],
)
def test_targets_that_do_not_fit_are_named(target, error, message):
    with pytest.raises(error, match=message):
        F.mse_loss(LOGITS, target)


# ------------------------------------------------------------------------------- weights and probabilities of classes


@each_float
@pytest.mark.parametrize("images", [1, 15, 17, 33])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_weights_and_probabilities(images, smoothing, weighted, soft, scale, dtype, rng):
    logits = (scale * rng.standard_normal((images, 7))).astype(dtype)
    target = rng.random((images, 7)).astype(dtype) if soft else rng.integers(0, 7, images)
    weight = rng.uniform(0.2, 3, 7) if weighted else None
    ref, gradient = reference.cross_entropy(logits, target, smoothing, weight)
    loss = fc.CrossEntropyLoss(smoothing, weight)
    comp = loss(logits, target)
    # All terms are positive; each class's takes a few roundings, of the spread of the logits.
    np.testing.assert_allclose(comp, ref, rtol=(images + 60) * EPS, atol=60 * EPS * (np.ptp(logits) + 2))
    assert F.cross_entropy(logits, target, smoothing, weight) == comp
    comp = loss.backward()
    assert comp.dtype == dtype
    most = 3 * 7 if soft else 3
    np.testing.assert_allclose(comp, gradient, rtol=0, atol=8 * np.finfo(dtype).eps * most / images * 2)


@each_float
def test_the_largest_probability_is_what_is_right(dtype):
    logits = np.array([[3, 1, 2], [0, 2, 2], [1, 0, 0]], dtype)
    target = np.array([[0.5, 0.5, 0], [0, 0.4, 0.6], [0.2, 0.7, 0.1]], dtype)
    packed = blocks.pack(logits, blocks.empty(logits.shape, dtype))
    assert fc.CrossEntropyLoss().of_blocks(packed, target).hits == 1


def test_labels_as_probabilities_cost_the_same(rng):
    logits, labels = rng.standard_normal((20, 4)), rng.integers(0, 4, 20)
    assert F.cross_entropy(logits, np.eye(4)[labels]) == pytest.approx(F.cross_entropy(logits, labels), rel=1e-14)


def test_weights_are_what_the_loss_is_divided_by(rng):
    logits, labels = np.zeros((4, 2)), np.array([0, 0, 0, 1])
    packed = blocks.pack(logits, blocks.empty(logits.shape, np.float64))
    result = fc.CrossEntropyLoss(weight=[1, 5]).of_blocks(packed, labels)
    assert result.weight == 8
    assert result.value == pytest.approx(np.log(2))
    np.testing.assert_allclose(blocks.unpack(result.dy)[:, 0], [-0.0625, -0.0625, -0.0625, 0.3125])


def test_a_batch_of_labels_that_count_nothing_is_nan():
    loss = fc.CrossEntropyLoss(weight=[0, 1])
    assert np.isnan(loss(np.zeros((2, 2)), [0, 0]))
    assert np.isnan(loss.backward()).all()


@pytest.mark.parametrize(
    ("error", "target", "weight", "message"),
    [
        (fc.ShapeError, np.zeros((3, 5)), None, r"probabilities of the outputs' shape \(3, 4\), got \(3, 5\)"),
        (ValueError, np.full((3, 4), -0.5), None, r"finite probabilities of at least 0, got -0.5 at \[0, 0\]"),
        (ValueError, np.where(np.eye(3, 4, 1), np.nan, 0), None, r"got nan at \[0, 1\]"),
        (ValueError, np.where(np.eye(3, 4, -2), np.inf, 0), None, r"got inf at \[2, 0\]"),
        (fc.ShapeError, [0, 1, 2], [1, 2, 3], "outputs of 3 classes, as many as weights, got 4"),
        (fc.ShapeError, [0, 1, 2], [[1, 2, 3, 4]], r"weight of shape \(classes,\), got \(1, 4\)"),
        (ValueError, [0, 1, 2], [1, 2, -3, 4], "expected weight finite and at least 0, got"),
        (ValueError, [0, 1, 2], [1, 2, np.nan, 4], "expected weight finite and at least 0, got"),
    ],
)
def test_weights_and_probabilities_that_do_not_fit_are_named(error, target, weight, message):
    with pytest.raises(error, match=message):
        F.cross_entropy(LOGITS, target, weight=weight)


# ------------------------------------------------------------------------------------- other means over all elements

TERMS = {
    "l1": (fc.L1Loss, F.l1_loss, reference.l1, ()),
    "huber": (fc.HuberLoss, F.huber_loss, reference.huber, ()),
    "huber, 0.3": (fc.HuberLoss, F.huber_loss, reference.huber, (0.3,)),
    "bce": (fc.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits, reference.binary_cross_entropy, ()),
    "bce, 3": (fc.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits, reference.binary_cross_entropy, (3.0,)),
}
each_term = pytest.mark.parametrize(("make", "function", "oracle", "options"), TERMS.values(), ids=TERMS.keys())


@each_float
@each_term
@pytest.mark.parametrize("shape", [(1, 1), (15, 3), (16, 1), (17, 5), (33, 2), (17, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("scale", [1, 1e4])
def test_means_over_all_elements(make, function, oracle, options, shape, scale, dtype, rng):
    y, target = (scale * rng.standard_normal(shape)).astype(dtype), rng.random(shape).astype(dtype)
    ref, gradient = oracle(y, target, *options)
    loss = make(*options)
    comp = loss(y, target)
    np.testing.assert_allclose(comp, ref, rtol=(y.size + 8) * EPS)
    assert function(y, target, *options) == comp
    comp = loss.backward()
    assert comp.dtype == dtype
    # Of two terms up to the weight of a yes that cancel.
    np.testing.assert_allclose(comp, gradient, rtol=0, atol=8 * np.finfo(dtype).eps * 3 / y.size)


@each_term
def test_their_gradients_are_those_of_the_values(make, function, oracle, options, rng):
    y, target = rng.standard_normal((17, 3)), rng.random((17, 3))
    loss = make(*options)
    loss(y, target)
    numeric = reference.numeric_gradient(lambda moved: function(moved, target, *options), y)
    np.testing.assert_allclose(loss.backward(), numeric, atol=1e-8)


@each_term
def test_they_ignore_padding(make, function, oracle, options, rng):
    y, target = rng.standard_normal((17, 3)).astype(np.float32), rng.random((17, 3)).astype(np.float32)
    packed = blocks.pack(y, blocks.empty(y.shape, np.float32))
    packed.array[1, :, 1:] = np.nan
    result = make(*options).of_blocks(packed, target)
    assert result.value == function(y, target, *options)
    assert result.hits is None
    np.testing.assert_array_equal(result.dy.array[1, :, 1:], 0)


def test_weights_of_yes_spread_over_the_features(rng):
    y, target = rng.standard_normal((5, 2, 3, 4)), rng.random((5, 2, 3, 4))
    for weight in (np.array([1.0, 2, 3, 4]), np.array([[[2.0]], [[5.0]]])):
        loss = fc.BCEWithLogitsLoss(weight)
        ref, gradient = reference.binary_cross_entropy(y, target, weight)
        np.testing.assert_allclose(loss(y, target), ref, rtol=1e-14)
        np.testing.assert_allclose(loss.backward(), gradient, rtol=0, atol=1e-16)


def test_a_sigmoid_far_out_loses_nothing():
    """-log sigmoid(50) is exp(-50), although the sigmoid itself is 1 in float64."""
    assert F.binary_cross_entropy_with_logits(np.array([[50.0]]), np.ones((1, 1))) == pytest.approx(
        np.exp(-50), rel=1e-14
    )
    assert F.binary_cross_entropy_with_logits(np.array([[-1e4]]), np.ones((1, 1))) == 1e4


@pytest.mark.parametrize(
    ("error", "run", "message"),
    [
        (ValueError, lambda: fc.HuberLoss(0), "HuberLoss: expected a finite delta above 0, got 0"),
        (ValueError, lambda: fc.HuberLoss(np.inf), "HuberLoss: expected a finite delta above 0, got inf"),
        (ValueError, lambda: fc.BCEWithLogitsLoss(-1), "BCEWithLogitsLoss: expected pos_weight finite and at least 0"),
        (
            fc.ShapeError,
            lambda: fc.BCEWithLogitsLoss([1, 2, 3])(LOGITS, LOGITS),
            r"spreads over the features \(4,\), got \(3,\)",
        ),
        (
            fc.ShapeError,
            lambda: F.l1_loss(LOGITS, LOGITS[:2]),
            r"L1Loss: expected target of the output's shape \(3, 4\)",
        ),
    ],
)
def test_what_other_losses_refuse(error, run, message):
    with pytest.raises(error, match=message):
        run()


# -------------------------------------------------------------------------------------- exponential and logarithm

_DIGITS = Context(prec=40)


def units(comp, exact):
    """Return the difference in units of float64's epsilon of the exact value."""
    return float(abs((Decimal(comp) - exact) / exact)) / EPS


def test_exp_is_right_to_a_unit_in_the_last_place(rng):
    for x in [*rng.uniform(-708, 709, 500), *rng.uniform(-1, 0, 500), *-np.exp(rng.uniform(-40, 0, 100))]:
        assert units(exp(x), _DIGITS.exp(Decimal(float(x)))) <= 1


def test_log_is_right_to_two_units_in_the_last_place(rng):
    large, near_one = np.exp(rng.uniform(-700, 700, 500)), 1 + np.exp(rng.uniform(-36, 2, 500))
    for x in [*large, *near_one, *np.linspace(0.7, 1.42, 300), np.finfo(float).tiny, np.finfo(float).max]:
        assert units(log(x), _DIGITS.ln(Decimal(float(x)))) <= 2


def test_exp_and_log_at_the_ends():
    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(
        [exp(x) for x in (0.0, -0.0, -inf, -1e300, -709.0, inf, 710.0, nan)], [1, 1, 0, 0, 0, inf, inf, nan]
    )
    np.testing.assert_array_equal([log(x) for x in (1.0, 0.0, inf, nan)], [0, -inf, inf, nan])
