"""Padding: of all kinds around a convolution, and by itself; forward and backward, against the oracle."""

import numpy as np
import pytest
from cases import FLOATS, each_float
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv import functional as F
from fastconv import reference
from fastconv_kernels import convolution, padding, pieces, pointwise, winograd

pytestmark = pytest.mark.usefixtures("few_tiles")

MODES = ["constant", "reflect", "replicate", "circular"]
each_mode = pytest.mark.parametrize("mode", MODES)

# (N, C, H, W), (F, KH, KW), stride, padding, dilation, groups
CASES = {
    "one pixel": ((1, 1, 1, 1), (1, 2, 3), 1, ((1, 0), (0, 2)), 1, 1),
    "right and below": ((2, 2, 5, 4), (3, 2, 3), 1, ((0, 1), (0, 2)), 1, 1),
    "left and above": ((17, 2, 5, 4), (3, 2, 3), (2, 1), ((1, 0), (2, 0)), 1, 1),
    "beyond the filter": ((2, 1, 2, 3), (2, 2, 2), 1, ((0, 5), (4, 1)), 1, 1),
    "strided": ((1, 2, 7, 8), (3, 3, 2), (2, 3), ((2, 1), (0, 1)), (1, 2), 1),
    "winograd": ((17, 10, 4, 6), (12, 3, 3), 1, ((0, 2), (2, 0)), 1, 1),
    "winograd, more below": ((1, 20, 5, 7), (20, 3, 3), 1, ((1, 4), (0, 3)), 1, 1),
    "not pointwise": ((2, 3, 4, 5), (4, 1, 1), 1, ((0, 1), (0, 0)), 1, 1),
    "depthwise": ((15, 3, 6, 9), (3, 3, 5), (1, 2), ((0, 2), (3, 1)), 1, 3),
    "groups": ((33, 4, 5, 3), (6, 3, 2), 1, ((1, 2), (1, 0)), 1, 2),
    "same": ((2, 2, 5, 6), (3, 3, 3), 1, "same", 1, 1),
    "same, even": ((17, 2, 5, 6), (3, 2, 4), 1, "same", 1, 1),
    "same, dilated": ((1, 2, 7, 6), (2, 2, 3), 1, "same", (3, 2), 1),
    "same, depthwise": ((2, 4, 5, 6), (4, 4, 2), 1, "same", 1, 4),
    "same, 1x1": ((2, 4, 3, 2), (3, 1, 1), 1, "same", 1, 1),
    "valid": ((2, 2, 5, 6), (3, 3, 2), 2, "valid", 1, 1),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def integers(case, seed=0):
    """Return x, weight, bias and dy, for sums that are exact in any order."""
    shape, (filters, *taps), *how = case
    rng = np.random.default_rng(seed)
    x, weight, bias = (rng.integers(-4, 5, s) for s in (shape, (filters, shape[1] // how[3], *taps), filters))
    return x, weight, bias, rng.integers(-4, 5, reference.conv2d(x, weight, bias, *how).shape)


def check(case, mode, dtype, seed=0):
    """Compare output and gradients with the oracle's."""
    x, weight, bias, dy = integers(case, seed)
    how = *case[2:], mode
    floats = [a.astype(dtype) for a in (x, weight, bias, dy)]
    comp = F.conv2d(*floats[:3], *how)
    assert comp.dtype == dtype
    np.testing.assert_array_equal(comp, reference.conv2d(x, weight, bias, *how))
    dx, dweight, dbias = F.conv2d_backward(floats[3], *floats[:2], *how)
    np.testing.assert_array_equal(dx, reference.conv2d_backward_input(dy, weight, x.shape, *how))
    np.testing.assert_array_equal(dweight, reference.conv2d_backward_filter(dy, x, weight.shape, *how))
    np.testing.assert_array_equal(dbias, dy.sum(axis=(0, 2, 3)))


@each_float
@each_case
def test_convolution(case, dtype):
    check(case, "zeros", dtype)


@st.composite
def padded(draw):
    """Draw a convolution with padding that every mode allows."""
    pairs = lambda least, most: draw(st.tuples(*[st.integers(least, most)] * 2))  # noqa: E731
    size, taps, stride, dilation = pairs(1, 6), pairs(1, 3), pairs(1, 3), pairs(1, 2)
    groups, channels, filters = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    spans = [d * (k - 1) + 1 for k, d in zip(taps, dilation, strict=True)]
    size = [max(old, -(-span // 2)) for old, span in zip(size, spans, strict=True)]
    sides = []
    for old, span in zip(size, spans, strict=True):
        most = old - 1
        first = draw(st.integers(0, most))
        sides.append((first, draw(st.integers(min(most, max(0, span - old - first)), most))))
    shape = draw(st.sampled_from([1, 2, 17])), groups * channels, *size
    return shape, (groups * filters, *taps), stride, tuple(sides), dilation, groups


@given(padded(), st.sampled_from(["zeros", *MODES[1:]]), st.sampled_from(FLOATS), st.integers(0, 2**32 - 1))
def test_drawn_convolutions(case, mode, dtype, seed):
    shape, (_, *taps), _, sides, dilation, _ = case
    spans = [d * (k - 1) + 1 for k, d in zip(taps, dilation, strict=True)]
    if all(old + sum(side) >= span for old, side, span in zip(shape[2:], sides, spans, strict=True)):
        check(case, mode, dtype, seed)


@each_float
@each_mode
@pytest.mark.parametrize("n", [1, 15, 17, 33])
def test_pad(n, mode, dtype, rng):
    x = rng.standard_normal((n, 3, 4, 5)).astype(dtype)
    for around in ((0, 0, 0, 0), (4, 3, 2, 1), (0, 1, 3, 0), (2, 0, 0, 3)):
        np.testing.assert_array_equal(F.pad(x, around, mode, 1.5), reference.pad(x, around, mode, 1.5).astype(dtype))


@each_mode
def test_cutting_off(mode, rng):
    x = rng.standard_normal((2, 1, 4, 5))
    np.testing.assert_array_equal(F.pad(x, (-1, -2, 0, -3), mode), x[:, :, :1, 1:3])
    assert F.pad(x, (-1, 2, 1, -1), mode).shape == (2, 1, 4, 6)


def test_a_row_of_each_mode():
    row = np.arange(1.0, 5).reshape(1, 1, 1, 4)
    expected = {
        "constant": [9, 9, 9, 1, 2, 3, 4, 9, 9],
        "reflect": [4, 3, 2, 1, 2, 3, 4, 3, 2],
        "replicate": [1, 1, 1, 1, 2, 3, 4, 4, 4],
        "circular": [2, 3, 4, 1, 2, 3, 4, 1, 2],
    }
    for mode, values in expected.items():
        np.testing.assert_array_equal(F.pad(row, (3, 2, 0, 0), mode, 9)[0, 0, 0], values)


@each_float
@each_mode
def test_the_gradient_is_the_transpose(mode, dtype, rng):
    """Of images and gradients of integers, to the last bit; lanes without an image stay as they are."""
    sides = (2, 1), (0, 3)
    around = padding.Padding((4, 5), sides, mode, 0, np.dtype(dtype))
    x, dy = (rng.integers(-4, 5, (2, 3, *size, 16)).astype(dtype) for size in ((4, 5), (7, 8)))
    y, dx = np.full_like(dy, np.nan), np.full_like(x, np.nan)
    dy[..., 9:] = 0
    around.forward(x, y)
    around.backward(dy, dx)
    assert (y * dy).sum() == (x * dx).sum()
    assert not dx[..., 9:].any()
    images = [np.moveaxis(a[0], -1, 0) for a in (dy, dx)]
    ref = reference.pad_backward(images[0], images[1].shape, (0, 3, 2, 1), mode)
    np.testing.assert_array_equal(images[1], ref)


@each_float
@pytest.mark.parametrize("size", [(5, 6), (1, 4)], ids=str)
def test_a_circular_convolution_moves_with_the_image_round_and_round(size, dtype, rng):
    """What leaves on one side comes in on the other, so every shift of the image is that shift of the response."""
    x, weight = rng.integers(-4, 5, (2, 2, *size)).astype(dtype), rng.integers(-4, 5, (3, 2, 1, 4)).astype(dtype)
    y = F.conv2d(x, weight, padding="same", padding_mode="circular")
    dy = rng.integers(-4, 5, y.shape).astype(dtype)
    dx, dweight, _ = F.conv2d_backward(dy, x, weight, padding="same", padding_mode="circular")
    for shift in ((1, 0), (0, 1), (2, 3)):
        moved, upstream = (np.roll(a, shift, (2, 3)) for a in (x, dy))
        comp = F.conv2d(moved, weight, padding="same", padding_mode="circular")
        np.testing.assert_array_equal(comp, np.roll(y, shift, (2, 3)))
        comp = F.conv2d_backward(upstream, moved, weight, padding="same", padding_mode="circular")
        np.testing.assert_array_equal(comp[0], np.roll(dx, shift, (2, 3)))
        np.testing.assert_array_equal(comp[1], dweight)


@pytest.mark.parametrize("mode", ["zeros", *MODES[1:]])
def test_convolution_and_gradients_are_adjoint(mode, rng):
    x, weight = rng.integers(-4, 5, (17, 4, 6, 5)), rng.integers(-4, 5, (6, 2, 3, 2))
    how = (2, 1), ((2, 1), (0, 3)), (1, 2), 2, mode
    y = F.conv2d(x, weight, None, *how)
    dy = rng.integers(-4, 5, y.shape)
    dx, dweight, _ = F.conv2d_backward(dy, x, weight, *how)
    assert (y * dy).sum() == (x * dx).sum() == (weight * dweight).sum() != 0
    other = rng.integers(-4, 5, x.shape)
    linear = F.conv2d(3 * x - other, weight, None, *how)
    np.testing.assert_array_equal(linear, 3 * y - F.conv2d(other, weight, None, *how))


def test_zeros_are_never_copied(monkeypatch):
    monkeypatch.setattr("fastconv.layers.conv.Padding", None)
    for around in (0, 2, "same", ((1, 2), (0, 3))):
        fc.Conv2d(2, 3, 3, padding=around).forward(np.zeros((2, 2, 5, 6)))
    fc.Conv2d(2, 3, 3, padding_mode="reflect").forward(np.zeros((2, 2, 5, 6)))


def geometry(shape, weight, output, before):
    return convolution.Geometry(weight, shape, output, (1, 1), before, (1, 1), 1, np.dtype(np.float32))


def test_the_choice_of_kernels_knows_what_is_below_and_to_the_right():
    assert pointwise.fits(geometry((4, 5), (3, 2, 1, 1), (4, 5), (0, 0)))
    assert not pointwise.fits(geometry((4, 5), (3, 2, 1, 1), (5, 5), (0, 0)))
    found = geometry((4, 6), (12, 12, 3, 3), (4, 6), (0, 2))
    assert winograd.pays(found, found.output)


@each_float
@pytest.mark.parametrize("sides", [((0, 2), (2, 0)), ((1, 2), (0, 0)), ((3, 0), (0, 4))], ids=str)
def test_few_images_are_cut_with_any_padding(sides, dtype, monkeypatch, rng):
    monkeypatch.setattr(pieces, "_LEAST", 0)
    monkeypatch.setattr(pieces, "_LEAST_EACH", 0)
    for n in (1, 3, 8):
        check(((n, 2, 9, 7), (3, 3, 3), 1, sides, 1, 1), "zeros", dtype)


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_following_relu_and_pooling_and_normalisation_work_on_the_copy(mode, rng):
    """Folded into the convolution in evaluation, the normalisation is that of training."""
    model = fc.Sequential(
        fc.Conv2d(2, 3, 3, padding=1, padding_mode=mode), fc.BatchNorm2d(3), fc.ReLU(), fc.MaxPool2d(2),
        fc.Conv2d(3, 2, 2, padding="same", padding_mode=mode), fc.ReLU(), fc.MaxPool2d(2),
    ).to(np.float64)  # fmt: skip
    x = rng.standard_normal((17, 2, 4, 6))
    model.forward(x, training=True)
    parts, ref = model.layers, x
    for layer in parts:
        ref = layer.forward(ref)
    np.testing.assert_allclose(model.forward(x), ref, rtol=0, atol=1e-13)
    fc.gradcheck(model, x[:2], max_elements=20)


def test_empty_batch():
    x, weight = np.zeros((0, 2, 4, 5)), np.ones((3, 2, 3, 2))
    y = F.conv2d(x, weight, None, 1, "same", padding_mode="reflect")
    assert y.shape == (0, 3, 4, 5)
    dx, dweight, _ = F.conv2d_backward(y, x, weight, 1, "same", padding_mode="reflect")
    assert dx.shape == x.shape
    assert not dweight.any()
    assert F.pad(x, (1, 0, 2, 0)).shape == (0, 2, 6, 6)


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        (2, (2, 2)),
        ((1, 2), (1, 2)),
        (((1, 1), (0, 0)), (1, 0)),
        ([[1, 2], [0, 3]], ((1, 2), (0, 3))),
        ("same", "same"),
        ("valid", "valid"),
    ],
    ids=str,
)
def test_config_builds_the_layer_again(given_, kept, tmp_path):
    model = fc.Sequential(fc.Conv2d(2, 3, 4, padding=given_, padding_mode="circular"))
    assert model[0].config()["padding"] == kept
    fc.save(model, tmp_path / "net.safetensors")
    again = fc.load(tmp_path / "net.safetensors")
    assert again[0].config() == model[0].config()
    x = np.random.default_rng(0).standard_normal((2, 2, 7, 8))
    np.testing.assert_array_equal(again(x), model(x))


X, WEIGHT = np.zeros((2, 3, 6, 5)), np.zeros((4, 3, 3, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.conv2d(X, WEIGHT, None, 2, "same"), r"expected stride 1 with padding 'same', got \(2, 2\)"),
        (lambda: F.conv2d(X, WEIGHT, None, 1, "full"), "padding 'same', 'valid' or whole numbers, got 'full'"),
        (lambda: F.conv2d(X, WEIGHT, None, 1, ((1, 2), 3)), "padding as one or two whole numbers of at least 0"),
        (lambda: F.conv2d(X, WEIGHT, None, 1, ((1, 2), (3, -4))), r"whole numbers of at least 0, got \(3, -4\)"),
        (lambda: F.conv2d(X, WEIGHT, None, 1, ((1, 2, 3), (3, 4))), r"one or two whole numbers .*, got \(1, 2, 3\)"),
        (
            lambda: F.conv2d(X, WEIGHT, None, 1, (6, 0), padding_mode="reflect"),
            r"reflect padding of at most 5 for an input of height 6, got \(6, 6\)",
        ),
        (
            lambda: F.conv2d(X, WEIGHT, None, 1, ((0, 0), (0, 6)), padding_mode="circular"),
            r"circular padding of at most 5 for an input of width 5, got \(0, 6\)",
        ),
        (
            lambda: F.conv2d(X[:, :, :1], WEIGHT, None, 1, ((0, 1), (0, 0))),
            r"filter of height 3 .* input of height 1 with padding \(0, 1\)",
        ),
        (lambda: F.pad(X, (1, 2)), r"four whole numbers \(left, right, above, below\), got \(1, 2\)"),
        (lambda: F.pad(X, (1, 2, 3, 0.5)), r"four whole numbers .*, got \(1, 2, 3, 0\.5\)"),
        (lambda: F.pad(X[0], (1, 2, 3, 4)), r"x of shape \(N, C, H, W\), got \(3, 6, 5\)"),
        (lambda: F.pad(X, (5, 0, 0, 0), "reflect"), r"reflect padding of at most 4 .* width 5, got \(5, 0\)"),
        (lambda: F.pad(X, (0, 0, 0, 7), "circular"), r"circular padding of at most 6 .* height 6, got \(0, 7\)"),
        (lambda: F.pad(X, (-2, -3, 0, 0)), r"padding \(-2, -3\) leaves nothing of an input of width 5"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(fc.ShapeError, match=message):
        call()


def test_modes_that_do_not_exist_are_named():
    with pytest.raises(ValueError, match=r"Conv2d: expected padding_mode as one of 'zeros', .*, got 'mirror'"):
        fc.Conv2d(1, 2, 3, padding_mode="mirror")
    with pytest.raises(ValueError, match=r"pad: expected mode as one of 'constant', .*, got 'zeros'"):
        F.pad(X, (1, 1, 1, 1), "zeros")
