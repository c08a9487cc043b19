"""The convolution of sequences, and batches of three axes."""

import numpy as np
import pytest
from cases import FLOATS, each_float
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv import functional as F
from fastconv import reference

pytestmark = pytest.mark.usefixtures("few_tiles")

# (N, C, L), (F, K), stride, padding, dilation, groups
CASES = {
    "plain": ((2, 3, 9), (4, 3), 1, 0, 1, 1),
    "one of everything": ((1, 1, 1), (1, 1), 1, 0, 1, 1),
    "strided": ((17, 2, 11), (3, 4), 3, 2, 1, 1),
    "dilated": ((15, 2, 12), (3, 3), 2, 1, 4, 1),
    "groups": ((33, 4, 7), (6, 2), 1, 1, 1, 2),
    "depthwise": ((2, 5, 8), (5, 3), 1, 1, 1, 5),
    "pointwise": ((16, 5, 8), (3, 1), 1, 0, 1, 1),
    "longer than a row of tiles": ((1, 2, 50), (3, 7), 1, 3, 1, 1),
}


def check(case, dtype, seed=0):
    """Compare output and gradients with the oracle's, on integers."""
    shape, (filters, taps), *how = case
    stride, padding, dilation, groups = how
    rng = np.random.default_rng(seed)
    x, weight, bias = (rng.integers(-4, 5, s) for s in (shape, (filters, shape[1] // groups, taps), filters))
    ref = reference.conv1d(x, weight, bias, *how)
    dy = rng.integers(-4, 5, ref.shape)
    layer = fc.Conv1d(shape[1], filters, taps, stride, padding, dilation, groups).to(dtype)
    layer.weight.value, layer.bias.value = weight, bias
    comp = layer.forward(x, training=True)
    assert comp.dtype == dtype
    np.testing.assert_array_equal(comp, ref)
    np.testing.assert_array_equal(F.conv1d(x.astype(dtype), weight, bias, *how), ref)
    dx, dweight, dbias = reference.conv1d_backward(dy, x, weight, *how)
    np.testing.assert_array_equal(layer.backward(dy), dx)
    np.testing.assert_array_equal(layer.weight.grad, dweight)
    np.testing.assert_array_equal(layer.bias.grad, dbias)
    assert (comp.astype(int) * dy).sum() == (x * dx).sum() + (bias * dbias).sum()
    assert (x * dx).sum() == (weight * dweight).sum()


@each_float
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_against_the_oracle(case, dtype):
    check(case, dtype)


@st.composite
def sequences(draw):
    number = lambda least, most: draw(st.integers(least, most))  # noqa: E731
    taps, stride, padding, dilation = number(1, 5), number(1, 4), number(0, 3), number(1, 3)
    length = max(1, dilation * (taps - 1) + 1 - 2 * padding) + number(0, 6)
    groups = number(1, 3)
    shape = draw(st.sampled_from([1, 2, 17])), groups * number(1, 3), length
    return shape, (groups * number(1, 3), taps), stride, padding, dilation, groups


@given(sequences(), st.sampled_from(FLOATS), st.integers(0, 2**32 - 1))
def test_drawn_shapes_equal_the_oracle(case, dtype, seed):
    check(case, dtype, seed)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [2, (2, 1), "same"], ids=str)
def test_padding_is_that_of_one_row(padding, mode, rng):
    x, weight = rng.standard_normal((3, 2, 6)), rng.standard_normal((4, 2, 4))
    around = padding if padding == "same" else ((0, 0), np.broadcast_to(padding, 2).tolist())
    ref = F.conv2d(x[:, :, None], weight[:, :, None], None, 1, around, padding_mode=mode)[:, :, 0]
    np.testing.assert_array_equal(F.conv1d(x, weight, None, 1, padding, padding_mode=mode), ref)


def test_a_model_of_sequences(tmp_path, rng):
    """Trained, saved, loaded, and asked for predictions; from uint8 and floats."""
    model = fc.Sequential(
        fc.Conv1d(2, 4, 3, padding="same"), fc.ReLU(), fc.Conv1d(4, 4, 4, 2), fc.Dropout(0.1), fc.Flatten(),
        fc.Linear(20, 3),
    )  # fmt: skip
    x, labels = rng.integers(0, 256, (40, 2, 12)).astype(np.uint8), np.arange(40) % 3
    history = model.fit(x, labels, epochs=2, batch_size=16, verbose=False)
    assert len(history) == 2
    assert model.predict(x).shape == (40,)
    fc.save(model, tmp_path / "net.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "net.safetensors").predict_proba(x), model.predict_proba(x))
    assert "4 x 5" in model.summary((2, 12))
    assert f"{2e-6 * (4 * 12 * 6 + 4 * 5 * 16 + 60):.3f}" in model.summary((2, 12)).splitlines()[-2]
    assert fc.gradcheck(model, rng.standard_normal((3, 2, 12))).checked > 0


def test_a_fused_relu_is_that_of_the_two_layers(rng):
    x, dy = rng.standard_normal((17, 2, 9)), rng.standard_normal((17, 3, 7))
    layer, relu = fc.Conv1d(2, 3, 3).to(np.float64), fc.ReLU().to(np.float64)
    model = fc.Sequential(fc.Conv1d(2, 3, 3), fc.ReLU()).to(np.float64)
    model[0].load_state_dict(layer.state_dict())
    ref = relu.forward(layer.forward(x, training=True), training=True)
    np.testing.assert_array_equal(model.forward(x, training=True), ref)
    np.testing.assert_array_equal(model.backward(dy), layer.backward(relu.backward(dy)))


def test_empty_batch():
    assert F.conv1d(np.zeros((0, 2, 9)), np.ones((3, 2, 3))).shape == (0, 3, 7)


X, WEIGHT = np.zeros((2, 3, 6)), np.zeros((4, 3, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.conv1d(X[:, :2], WEIGHT), r"Conv1d: expected x of shape \(N, 3, L\), got \(2, 2, 6\)"),
        (lambda: F.conv1d(X[0], WEIGHT), r"Conv1d: expected x of shape \(N, 3, L\), got \(3, 6\)"),
        (lambda: F.conv1d(X[..., None], WEIGHT), r"expected x of shape \(N, 3, L\), got \(2, 3, 6, 1\)"),
        (lambda: F.conv1d(X, WEIGHT[0]), r"conv1d: expected weight of shape \(F, C/groups, K\), got \(3, 2\)"),
        (lambda: F.conv1d(X, WEIGHT, np.zeros(3)), r"conv1d: expected bias of shape \(4,\), got \(3,\)"),
        (lambda: F.conv1d(X, WEIGHT, dilation=6), "conv1d: a filter of width 2 with dilation 6 .* width 6"),
        (lambda: fc.Conv1d(1, 2, (3, 3)), r"kernel_size as a whole number of at least 1, got \(3, 3\)"),
        (lambda: fc.Conv1d(1, 2, 3, 0), "stride as a whole number of at least 1, got 0"),
        (lambda: fc.Conv1d(1, 2, 3, 1, -1), "padding as one or two whole numbers of at least 0, got -1"),
        (lambda: fc.Conv1d(1, 2, 3, 2, "same"), r"expected stride 1 with padding 'same', got \(1, 2\)"),
        (lambda: fc.Conv2d(3, 2, 3)(X), r"conv2d: expected x of shape \(N, 3, H, W\) .*, got \(2, 3, 6\)"),
        (lambda: fc.MaxPool2d(2)(X), r"x of shape \(N, C, H, W\), got \(2, 3, 6\)"),
        (lambda: fc.BatchNorm2d(3)(X), r"x of shape \(N, 3, H, W\), got \(2, 3, 6\)"),
        (lambda: fc.Linear(6, 2)(X), r"linear: expected x of shape \(N, 6\) .*, got \(2, 3, 6\)"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(fc.ShapeError, match=message):
        call()


def test_arguments_may_be_sequences_of_one():
    layer = fc.Conv1d(2, 3, (5,), (2,), (1,), (1,))
    assert (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == (5, 2, 1, 1)
    assert fc.Conv1d(**layer.config()).config() == layer.config()
