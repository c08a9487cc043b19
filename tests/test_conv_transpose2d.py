"""The transposed convolution, forward and backward, against the oracle."""

import numpy as np
import pytest
from cases import FLOATS, assert_sum_close, each_float
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv import functional as F
from fastconv import reference
from fastconv_kernels import pieces

pytestmark = pytest.mark.usefixtures("few_tiles")

# (N, C, H, W), (F, KH, KW), stride, padding, output_padding, groups, dilation
CASES = {
    "plain": ((2, 3, 5, 4), (4, 3, 2), 1, 0, 0, 1, 1),
    "one of everything": ((1, 1, 1, 1), (1, 1, 1), 1, 0, 0, 1, 1),
    "one pixel": ((1, 2, 1, 1), (3, 4, 5), 2, 1, 1, 1, 1),
    "twice the size": ((2, 3, 4, 5), (2, 4, 4), 2, 1, 0, 1, 1),
    "twice the size, odd filter": ((17, 2, 3, 4), (3, 3, 3), 2, 1, 1, 1, 1),
    "non-square": ((2, 2, 3, 5), (3, 2, 4), (3, 1), (0, 2), (2, 0), 1, 1),
    "gaps between the shares": ((2, 2, 3, 4), (3, 2, 1), (4, 3), 0, (3, 2), 1, 1),
    "dilated": ((2, 2, 4, 3), (2, 3, 2), (2, 3), (1, 2), (1, 2), 1, (3, 2)),
    "output padding beyond the stride": ((1, 2, 3, 4), (2, 2, 3), 1, 1, (2, 1), 1, (3, 2)),
    "padding beyond the filter": ((2, 2, 7, 6), (2, 2, 3), 1, (2, 3), 0, 1, 1),
    "groups": ((2, 6, 3, 4), (4, 3, 2), (2, 1), (1, 0), (1, 0), 2, 1),
    "depthwise": ((17, 3, 4, 5), (3, 3, 3), 2, 1, 1, 3, 1),
    "depthwise multiplied": ((1, 3, 4, 5), (6, 3, 2), 2, 1, 0, 3, 1),
    "1x1": ((33, 3, 2, 3), (5, 1, 1), 1, 0, 0, 1, 1),
    "1x1 with rows to come": ((2, 3, 2, 3), (4, 1, 1), 1, 0, (1, 2), 1, 3),
    "winograd": ((17, 12, 4, 6), (10, 3, 3), 1, 1, 0, 1, 1),
    "winograd, odd": ((1, 22, 7, 5), (23, 3, 3), 1, (0, 2), 0, 1, 1),
    "winograd's filters": ((17, 29, 6, 8), (30, 3, 3), 1, 1, 0, 1, 1),
    "fifteen images": ((15, 2, 3, 2), (3, 2, 3), (1, 2), 0, 0, 1, 1),
    "sixteen images": ((16, 2, 3, 2), (3, 2, 3), (2, 1), 1, 0, 1, 1),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def drawn(case, dtype, integers=False, seed=0):
    """Return x, weight, bias and dy."""
    shape, (filters, *taps), *how = case
    rng = np.random.default_rng(seed)
    sizes = [shape, (shape[1], filters // how[3], *taps), filters]
    out = reference.conv_transpose2d(np.zeros((1, *shape[1:])), np.zeros(sizes[1]), None, *how).shape
    sizes.append((shape[0], *out[1:]))
    return [(rng.integers(-4, 5, s) if integers else rng.standard_normal(s)).astype(dtype) for s in sizes]


def layer_like(x, weight, bias, how):
    stride, padding, output_padding, groups, dilation = how
    filters, taps = weight.shape[1] * groups, weight.shape[2:]
    layer = fc.ConvTranspose2d(
        x.shape[1], filters, taps, stride, padding, output_padding, groups, bias is not None, dilation
    ).to(x.dtype)
    layer.weight.value = weight
    if bias is not None:
        layer.bias.value = bias
    return layer


def gradients(layer, x, dy):
    """Return output and gradients."""
    y = layer.forward(x, training=True)
    dx = layer.backward(dy)
    return [y, dx, *(parameter.grad for parameter in layer.parameters())]


@each_float
@each_case
def test_against_the_oracle(case, dtype):
    x, weight, bias, dy = drawn(case, dtype)
    how = case[2:]
    y, *comps = gradients(layer_like(x, weight, bias, how), x, dy)
    ref, magnitude = (reference.conv_transpose2d(f(x), f(weight), f(bias), *how) for f in (np.asarray, np.abs))
    assert y.dtype == dtype
    terms = weight[:, 0].size + 1
    assert_sum_close(y, ref, np.full_like(ref, magnitude.max()), terms)  # Winograd's error is that of a patch
    np.testing.assert_array_equal(F.conv_transpose2d(x, weight, bias, *how), y)
    refs, magnitudes = (reference.conv_transpose2d_backward(f(dy), f(x), f(weight), *how) for f in (np.asarray, np.abs))
    for comp, ref, size, count in zip(
        comps, refs, magnitudes, (weight[0].size, x[:, 0].size, dy[:, 0].size), strict=True
    ):
        assert comp.dtype == dtype
        assert_sum_close(comp, ref, np.full_like(ref, size.max()), count + 1)


@st.composite
def transposed(draw):
    """Draw a transposed convolution of which something is left."""
    pairs = lambda least, most: draw(st.tuples(*[st.integers(least, most)] * 2))  # noqa: E731
    size, taps, stride, dilation = pairs(1, 4), pairs(1, 4), pairs(1, 4), pairs(1, 3)
    spans = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(size, stride, dilation, taps, strict=True)]
    padding = tuple(draw(st.integers(0, min(3, (span - 1) // 2))) for span in spans)
    more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    groups, channels, filters = (draw(st.integers(1, 3)) for _ in range(3))
    shape = draw(st.sampled_from([1, 2, 17])), groups * channels, *size
    return shape, (groups * filters, *taps), stride, padding, more, groups, dilation


@given(transposed(), st.sampled_from(FLOATS), st.integers(0, 2**32 - 1))
def test_drawn_shapes_equal_the_oracle(case, dtype, seed):
    check_exactly(case, dtype, seed)


def check_exactly(case, dtype, seed=0):
    x, weight, bias, dy = drawn(case, np.int64, integers=True, seed=seed)
    how = case[2:]
    floats = [a.astype(dtype) for a in (x, weight, bias, dy)]
    y, *comps = gradients(layer_like(*floats[:3], how), floats[0], floats[3])
    np.testing.assert_array_equal(y, reference.conv_transpose2d(x, weight, bias, *how))
    for comp, ref in zip(comps, reference.conv_transpose2d_backward(dy, x, weight, *how), strict=True):
        np.testing.assert_array_equal(comp, ref)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_few_images_are_cut(n, monkeypatch):
    monkeypatch.setattr(pieces, "_LEAST", 0)
    monkeypatch.setattr(pieces, "_LEAST_EACH", 0)
    for how in ((1, 1, 0, 1, 1), (2, (0, 1), 1, 1, 1), (1, (3, 2), (1, 0), 1, 2)):
        check_exactly(((n, 2, 9, 7), (3, 3, 3), *how), np.float32)


@given(transposed(), st.sampled_from(FLOATS), st.integers(0, 2**32 - 1))
def test_it_is_the_transpose_of_the_convolution(case, dtype, seed):
    """<conv_transpose(x), d> = <x, conv(d)>: equation (29) read backwards, with integers to the last bit."""
    x, weight, _, d = drawn(case, dtype, integers=True, seed=seed)
    _, _, stride, padding, _, groups, dilation = case
    y = F.conv_transpose2d(x, weight, None, *case[2:])
    forward = F.conv2d(d, weight, None, stride, padding, dilation, groups)[:, :, : x.shape[2], : x.shape[3]]
    assert (y * d).sum() == (x * forward).sum()
    layer = layer_like(x, weight, None, case[2:])
    y, dx, dweight = gradients(layer, x, d)
    assert (y * d).sum() == (x * dx).sum() == (weight * dweight).sum()
    np.testing.assert_array_equal(dx, forward)


@each_float
def test_a_pixel_leaves_its_multiple_of_the_filter(dtype):
    weight = np.arange(1.0, 7).reshape(1, 1, 2, 3).astype(dtype)
    x = np.zeros((1, 1, 3, 3), dtype)
    x[0, 0, 1, 2] = 10
    y = F.conv_transpose2d(x, weight, None, 2)
    ref = np.zeros((6, 7))
    ref[2:4, 4:7] = 10 * weight[0, 0]
    np.testing.assert_array_equal(y[0, 0], ref)


@each_float
@pytest.mark.parametrize("name", ["plain", "gaps between the shares", "depthwise", "1x1", "winograd"])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_following_relu_is_applied_on_the_tile(name, with_bias, dtype):
    x, weight, bias, dy = drawn(CASES[name], dtype)
    alone, fused = (layer_like(x, weight, bias if with_bias else None, CASES[name][2:]) for _ in range(2))
    model, relu = fc.Sequential(fused, fc.ReLU()).to(dtype), fc.ReLU().to(dtype)
    ref = relu.forward(alone.forward(x, training=True), training=True)
    np.testing.assert_array_equal(model.forward(x, training=True), ref)
    assert (ref == 0).any()
    np.testing.assert_array_equal(model.backward(dy), alone.backward(relu.backward(dy)))
    for comp, parameter in zip(model.parameters(), alone.parameters(), strict=True):
        np.testing.assert_array_equal(comp.grad, parameter.grad)


@pytest.mark.parametrize("n", [1, 15, 17, 33])
def test_lanes_without_an_image_reach_no_gradient(n, rng):
    """They may hold anything, such as what is left of another batch, and infinities."""
    model = fc.Sequential(fc.ConvTranspose2d(2, 3, 3, 2, 1, 1))
    x, dy = rng.integers(-4, 5, (n, 2, 3, 4)), rng.integers(-4, 5, (n, 3, 6, 8))
    for planted in (0, np.inf, np.nan):
        found = model.run_batch(x.astype(np.float32), None, True)
        model._running.x.array[-1, ..., (n - 1) % 16 + 1 :] = planted
        upstream = fc.blocks.pack(dy.astype(np.float32), fc.blocks.empty(dy.shape, np.float32))
        assert found.n == n
        dx = model.backward_batch(upstream, need_dx=True)
        assert not dx.array[-1, ..., (n - 1) % 16 + 1 :].any()
        weight = model[0].weight
        ref = reference.conv_transpose2d_backward(dy, x, weight.value, 2, 1, 1)
        np.testing.assert_array_equal(weight.grad, ref[1])


@pytest.mark.parametrize("planted", [np.nan, np.inf])
def test_nan_and_infinity_stay_in_their_image_and_share(planted, rng):
    x, weight = rng.standard_normal((17, 2, 4, 5)), rng.standard_normal((2, 3, 2, 3))
    x[16, 1, 2, 3] = planted
    comp, ref = (f(x, weight, None, 2) for f in (F.conv_transpose2d, reference.conv_transpose2d))
    assert not np.isfinite(ref).all()
    np.testing.assert_array_equal(np.isnan(comp), np.isnan(ref))
    np.testing.assert_array_equal(np.isinf(comp), np.isinf(ref))


def test_empty_batch():
    assert F.conv_transpose2d(np.zeros((0, 2, 4, 5)), np.ones((2, 3, 3, 2)), None, 2).shape == (0, 3, 9, 10)


def test_summary_counts_every_pixels_multiply_adds():
    model = fc.Sequential(fc.ConvTranspose2d(8, 4, 4, 2, 1), fc.ReLU(), fc.Conv2d(4, 1, 3))
    table = model.summary((8, 5, 6))
    assert f"{2e-6 * 5 * 6 * 8 * 4 * 16:.3f}" in table.splitlines()[2]
    assert "4 x 10 x 12" in table


def test_config_builds_the_layer_again(tmp_path, rng):
    model = fc.Sequential(fc.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, False, (1, 2)))
    fc.save(model, tmp_path / "net.safetensors")
    again = fc.load(tmp_path / "net.safetensors")
    assert again[0].config() == model[0].config()
    x = rng.standard_normal((2, 4, 3, 4))
    np.testing.assert_array_equal(again(x), model(x))


X, WEIGHT = np.zeros((2, 3, 6, 5)), np.zeros((3, 4, 3, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.conv_transpose2d(X[:, :2], WEIGHT), r"\(N, 3, H, W\) for weight \(3, 4, 3, 2\), got \(2, 2, 6, 5\)"),
        (lambda: F.conv_transpose2d(X[0], WEIGHT), r"\(N, 3, H, W\) for weight \(3, 4, 3, 2\), got \(3, 6, 5\)"),
        (lambda: F.conv_transpose2d(X, WEIGHT[0]), r"weight of shape \(C, F/groups, KH, KW\), got \(4, 3, 2\)"),
        (lambda: F.conv_transpose2d(X, WEIGHT, np.zeros(3)), r"bias of shape \(4,\), got \(3,\)"),
        (lambda: F.conv_transpose2d(X, WEIGHT, groups=2), "divisible by groups=2, got 3 and 8"),
        (
            lambda: F.conv_transpose2d(X, WEIGHT, output_padding=1),
            r"output_padding below stride \(1, 1\) or dilation \(1, 1\), got \(1, 1\)",
        ),
        (
            lambda: F.conv_transpose2d(X[:, :, :1], WEIGHT, padding=(2, 0)),
            "input of height 1 gives an output of height 3, of which padding 2 and output_padding 0 leave -1",
        ),
        (lambda: fc.ConvTranspose2d(1, 2, 3, padding=-1), "padding as one or two whole numbers of at least 0, got -1"),
        (lambda: fc.ConvTranspose2d(3, 0, 3), "out_channels as a whole number of at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(fc.ShapeError, match=message):
        call()
