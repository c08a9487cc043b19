"""Branches against their parts: what is added, what stands side by side, and the sum of the gradients."""

import numpy as np
import pytest
from cases import each_float

import fastconv as fc


def conv(channels=3, filters=3, taps=3):
    return fc.Conv2d(channels, filters, taps, padding=taps // 2)


def body():
    return fc.Sequential(conv(3, 4), fc.ReLU(), conv(4, 3, 1))


def normalized(filters=3):
    return fc.Sequential(conv(3, 4), fc.ReLU(), conv(4, filters), fc.BatchNorm2d(filters))


MAKERS = {
    "residual": lambda: fc.Residual(body()),
    "residual of one layer": lambda: fc.Residual(conv()),
    "residual with a shortcut": lambda: fc.Residual(body(), conv(taps=1)),
    "residual that ends in a normalisation": lambda: fc.Residual(normalized()),
    "and with a shortcut that does": lambda: fc.Residual(normalized(), fc.Sequential(conv(), fc.BatchNorm2d(3))),
    "residual of a normalisation": lambda: fc.Residual(fc.BatchNorm2d(3)),
    "parallel with normalisations": lambda: fc.Parallel(normalized(), fc.BatchNorm2d(3), conv()),
    "normalisations nested": lambda: fc.Residual(fc.Sequential(fc.Residual(normalized()), fc.ReLU(), normalized())),
    "parallel": lambda: fc.Parallel(conv(), body(), conv(taps=5)),
    "concat": lambda: fc.Concat(conv(3, 2), body(), fc.MaxPool2d(3, 1, 1)),
    "nested": lambda: fc.Residual(fc.Sequential(fc.Residual(conv()), fc.ReLU(), fc.Concat(conv(3, 1), conv(3, 2)))),
}
makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def parts(layer, x):
    """Return what the layer computes, by its branches alone."""
    outputs = [x if branch is None else branch(x) for branch in layer.branches]
    return np.concatenate(outputs, axis=1) if isinstance(layer, fc.Concat) else sum(outputs[1:], outputs[0])


@each_float
@makers
@pytest.mark.parametrize("n", [0, 1, 15, 17])
def test_the_sum_of_the_parts(make, n, dtype, rng):
    layer = fc.Sequential(make()).to(dtype)[0]
    x = rng.standard_normal((n, 3, 4, 5)).astype(dtype)
    y = layer(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, parts(layer, x))


@makers
@pytest.mark.parametrize("relu", [False, True])
def test_gradcheck(make, relu, rng):
    layer = make()
    channels = layer.output_shape((1, 3, 4, 3))[1]
    model = fc.Sequential(conv(2, 3), layer, *[fc.ReLU()] * relu, fc.Conv2d(channels, 2, 1))
    assert fc.gradcheck(model, rng.standard_normal((3, 2, 4, 3))).checked > 0


def test_relu_behind_a_sum_is_applied_as_it_is_written(rng):
    residual = fc.Residual(conv())
    model = fc.Sequential(residual, fc.ReLU())
    x = rng.standard_normal((5, 3, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(model(x), np.maximum(residual(x), 0))
    assert (model(x) == 0).any()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shortcut", [None, fc.Sequential(conv(3, 4, 1), fc.BatchNorm2d(4))], ids=["", "shortcut"])
def test_a_normalisation_that_ends_a_branch_adds_the_other(relu, shortcut, rng):
    """To the same bits as its branches in turn, forward and backward, where a last block has empty lanes."""
    body = normalized(3 if shortcut is None else 4)
    whole = fc.Sequential(fc.Residual(body, shortcut), *[fc.ReLU()] * relu)
    x = rng.standard_normal((17, 3, 4, 5)).astype(np.float32)
    y = whole.forward(x, training=True)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dx, gradients = whole.backward(dy), [parameter.grad.copy() for parameter in whole.parameters()]
    apart = body.forward(x, training=True) + (x if shortcut is None else shortcut.forward(x, training=True))
    np.testing.assert_array_equal(y, np.maximum(apart, 0) if relu else apart)
    dz = np.where(y > 0, dy, 0) if relu else dy
    np.testing.assert_array_equal(dx, body.backward(dz) + (dz if shortcut is None else shortcut.backward(dz)))
    for parameter, gradient in zip(whole.parameters(), gradients, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


def test_features_may_branch_too(rng):
    model = fc.Sequential(
        fc.Concat(fc.Linear(4, 3), fc.Sequential(fc.Linear(4, 2), fc.ReLU())), fc.Residual(fc.Linear(5, 5))
    )
    x = rng.standard_normal((7, 4))
    assert model(x).shape == (7, 5)
    assert fc.gradcheck(model, x).checked > 0
    normalized_sum = fc.Sequential(fc.Residual(fc.Sequential(fc.Linear(4, 4), fc.BatchNorm1d(4))), fc.ReLU())
    assert fc.gradcheck(normalized_sum, x).checked > 0


class Doubling(fc.Layer):
    """Somebody's layer, which writes its gradient where dy was."""

    def plan(self, shape, work):
        work.y = work.empty(shape)
        return shape

    def forward_blocks(self, x, work, training):
        np.multiply(x.array, 2, out=work.y.array)
        return work.y

    def backward_blocks(self, dy, work, need_dx):
        dy.array[...] *= 2
        return dy


@pytest.mark.parametrize(
    "make",
    [
        lambda: fc.Residual(Doubling()),
        lambda: fc.Residual(fc.Conv2d(2, 2, 1), Doubling()),
        lambda: fc.Parallel(Doubling(), fc.Sequential(Doubling()), Doubling()),
        lambda: fc.Concat(Doubling(), Doubling()),
    ],
)
def test_a_branch_may_overwrite_its_gradient(make, rng):
    assert fc.gradcheck(fc.Sequential(make(), fc.ReLU()), rng.standard_normal((2, 2, 3, 3))).checked > 0


@makers
def test_a_model_with_branches_is_saved_and_loaded(make, tmp_path, rng):
    model = fc.Sequential(make())
    x = rng.standard_normal((3, 3, 4, 5)).astype(np.float32)
    fc.save(model, tmp_path / "model.safetensors")
    again = fc.load(tmp_path / "model.safetensors")
    assert repr(again) == repr(model)
    np.testing.assert_array_equal(again(x), model(x))


def test_weights_have_names_by_branch_and_starts_of_their_own():
    model = fc.Sequential(fc.Residual(conv(), conv()), fc.Concat(conv(), conv()))
    names = ["0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias", "1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias"]
    assert list(model.state_dict()) == names
    weights = [model.state_dict()[name] for name in names[::2]]
    assert all(not np.array_equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


def test_dropout_inside_a_branch_is_seeded_by_its_place(rng):
    model = fc.Sequential(fc.Residual(fc.Dropout(0.5)), fc.Concat(fc.Dropout(0.5), fc.Dropout(0.5)))
    x = np.ones((4, 2, 8, 8), np.float32)
    model.reseed_dropout(3)
    first = model.forward(x, training=True)
    model.reseed_dropout(3)
    np.testing.assert_array_equal(model.forward(x, training=True), first)
    assert not np.array_equal(first[:, :2], first[:, 2:])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fc.Residual("conv"), TypeError, "Residual: expected layers, got str as branch 0"),
        (lambda: fc.Residual(None), TypeError, "Residual: expected layers, got NoneType as branch 0"),
        (lambda: fc.Parallel(None, fc.ReLU()), TypeError, "Parallel: expected layers, got NoneType as branch 0"),
        (lambda: fc.Concat(fc.ReLU()), TypeError, "Concat: expected at least two branches, got 1"),
        (lambda: fc.Parallel(), TypeError, "Parallel: expected at least two branches, got 0"),
        (
            lambda: fc.Residual(conv(3, 4))(np.zeros((2, 3, 4, 4))),
            fc.ShapeError,
            r"Residual: expected branches with outputs of one shape, got \(2, 4, 4, 4\) from branch 0 and "
            r"\(2, 3, 4, 4\) from branch 1",
        ),
        (
            lambda: fc.Concat(conv(), fc.MaxPool2d(2))(np.zeros((2, 3, 4, 4))),
            fc.ShapeError,
            r"Concat: expected branches with outputs of one height and width, got \(.*4, 4\) from branch 0 and "
            r"\(.*2, 2\) from branch 1",
        ),
        (
            lambda: fc.Sequential(fc.ReLU(), fc.Residual(conv(5, 5)))(np.zeros((2, 3, 4, 4))),
            fc.ShapeError,
            r"layer 1: branch 0: conv2d: expected x of shape",
        ),
    ],
)
def test_what_is_wrong_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_layer_may_stand_in_one_branch_only():
    shared = conv()
    with pytest.raises(ValueError, match="are the same Conv2d"):
        fc.Sequential(fc.Concat(shared, shared))


def test_the_summary_shows_what_is_inside():
    text = str(fc.Sequential(fc.Residual(fc.Sequential(conv(3, 4), conv(4, 3)), conv(taps=1))).summary((3, 6, 6)))
    for line in ("0.0.0 Conv2d", "0.0.1 Conv2d", "0.1 Conv2d"):
        assert line in text
    assert f"{3 * 4 * 9 + 4 + 4 * 3 * 9 + 3 + 9 + 3:,}" in text
