"""Group and layer normalisation against the oracle, by gradients, and in lanes that hold no image."""

import numpy as np
import pytest
from cases import each_float, parametrize

import fastconv as fc
from fastconv import functional as F
from fastconv import reference
from fastconv.layers.base import Workspace

# Shape of the input, groups; None is layer normalisation
CASES = {
    "one value": ((1, 1, 1, 1), 1),
    "one group": ((2, 3, 4, 5), 1),
    "a group a channel": ((15, 4, 3, 2), 4),
    "groups of two": ((17, 6, 1, 3), 3),
    "thirty-three": ((33, 2, 2, 1), 2),
    "features in groups": ((5, 8), 2),
    "sequences in groups": ((17, 4, 3), 2),
    "layer, images": ((3, 2, 3, 4), None),
    "layer, sequences": ((17, 2, 5), None),
    "layer, features": ((18, 7), None),
}


def norm(shape, groups, dtype, rng, affine=True):
    """Return the layer, with a scale and a shift that are not 1 and 0."""
    layer = (
        fc.LayerNorm(shape[1:], elementwise_affine=affine)
        if groups is None
        else fc.GroupNorm(groups, shape[1], affine=affine)
    )
    for parameter in layer.to(dtype).parameters():
        parameter.value = rng.standard_normal(parameter.shape)
    return layer


@each_float
@parametrize(CASES)
def test_forward(case, dtype, rng):
    shape, groups = case
    layer, x = norm(shape, groups, dtype, rng), (2 + 3 * rng.standard_normal(shape)).astype(dtype)
    y = layer(x)
    expected = reference.group_norm(x.astype(float), groups or 1, layer.weight.value, layer.bias.value, layer.eps)
    assert y.dtype == dtype
    # A group whose values are equal has variance 0, and 1 / sqrt(eps) magnifies rounding.
    bound = 2e-4 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(y, expected, rtol=bound, atol=bound)
    np.testing.assert_array_equal(layer.forward(x, training=True), y)
    arrays = layer.weight.value, layer.bias.value
    stateless = F.layer_norm(x, shape[1:], *arrays) if groups is None else F.group_norm(x, groups, *arrays)
    np.testing.assert_array_equal(stateless, y, strict=True)


@each_float
@parametrize(CASES)
def test_gradients(case, dtype, rng):
    """LayerNorm's scales are one a value: channels of one pixel, to the oracle."""
    shape, groups = case
    layer = norm(shape, groups, dtype, rng)
    x, dy = ((2 + 3 * rng.standard_normal(shape)).astype(dtype) for _ in range(2))
    layer.forward(x, training=True)
    dx = layer.backward(dy)
    seen = shape if groups else (shape[0], -1)
    ref_dx, dgamma, dbeta = reference.group_norm_backward(
        *(array.astype(float).reshape(seen) for array in (dy, x)),
        groups or 1,
        layer.weight.value.astype(float).reshape(-1),
        layer.eps,
    )
    bound = 2e-3 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(dx, ref_dx.reshape(shape), rtol=bound, atol=bound)
    np.testing.assert_allclose(layer.weight.grad.reshape(-1), dgamma, rtol=bound, atol=bound)
    np.testing.assert_allclose(layer.bias.grad.reshape(-1), dbeta, rtol=bound, atol=bound)


@parametrize({name: case for name, case in CASES.items() if name != "one value"})
@pytest.mark.parametrize("affine", [True, False])
def test_gradcheck(case, affine, rng):
    shape, groups = case
    fc.gradcheck(norm(shape, groups, np.float64, rng, affine), rng.standard_normal(shape))


def test_layer_norm_without_a_shift(rng):
    layer = fc.LayerNorm(5, bias=False)
    assert list(layer.state_dict()) == ["weight"]
    fc.gradcheck(layer, rng.standard_normal((4, 5)))


@pytest.mark.parametrize("groups", [2, None])
def test_padding_lanes_change_nothing(groups, rng):
    shape = (17, 4, 3, 2)
    layer, work = norm(shape, groups, np.float64, rng), Workspace(np.float64)
    layer.plan(shape, work)
    x, upstream = work.empty(shape), rng.standard_normal((2, 4, 3, 2, 16))
    x.array[...] = rng.standard_normal(x.array.shape)
    upstream[1, ..., 1:] = 0
    results = []
    for fill in (7.0, np.nan, np.inf):
        x.array[1, ..., 1:] = fill
        dy = work.empty(shape)
        dy.array[...] = upstream
        layer.forward_blocks(x, work, True)
        dx = layer.backward_blocks(dy, work, True)
        assert not dx.array[1, ..., 1:].any()
        results.append([dx.array.copy(), *(parameter.grad.copy() for parameter in layer.parameters())])
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


@parametrize(CASES)
def test_saved_and_loaded(case, tmp_path, rng):
    shape, groups = case
    model = fc.Sequential(norm(shape, groups, np.float32, rng))
    fc.save(model, tmp_path / "model.safetensors")
    x = rng.standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(fc.load(tmp_path / "model.safetensors")(x), model(x))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fc.GroupNorm(0, 4), fc.ShapeError, "GroupNorm: expected num_groups as a whole number of at least 1"),
        (lambda: fc.GroupNorm(3, 4), fc.ShapeError, "expected num_channels divisible by num_groups=3, got 4"),
        (lambda: fc.GroupNorm(2, 4, eps=-1), ValueError, "GroupNorm: expected eps above 0, got -1"),
        (
            lambda: fc.LayerNorm((2, 3, 4, 5)),
            fc.ShapeError,
            r"as features, \(C, L\) or \(C, H, W\), .* got \(2, 3, 4, 5\)",
        ),
        (lambda: fc.LayerNorm(None), fc.ShapeError, r"expected normalized_shape as features, .* got None"),
        (
            lambda: F.group_norm(np.zeros((1, 4, 2, 2)), 2, np.ones(3)),
            fc.ShapeError,
            r"group_norm: expected weight of shape \(4,\), got \(3,\)",
        ),
        (
            lambda: F.layer_norm(np.zeros((1, 4)), 4, bias=np.ones((4, 1))),
            fc.ShapeError,
            r"layer_norm: expected bias of shape \(4,\), got \(4, 1\)",
        ),
        (
            lambda: fc.GroupNorm(2, 4)(np.zeros((1, 3, 2, 2))),
            fc.ShapeError,
            r"GroupNorm: expected x of shape \(N, 4, \.\.\.\), got \(1, 3, 2, 2\)",
        ),
        (
            lambda: fc.LayerNorm((3, 2, 2))(np.zeros((1, 3, 2, 1))),
            fc.ShapeError,
            r"LayerNorm: expected x of shape \(N, 3, 2, 2\), got \(1, 3, 2, 1\)",
        ),
    ],
)
def test_what_is_wrong_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()
