"""Batch normalisation, ReLU and max pooling as one step against the oracle, and against the three layers."""

import numpy as np
import pytest
from cases import each_float, parametrize

import fastconv as fc
from fastconv import reference
from fastconv.layers.base import Workspace
from fastconv.layers.normpool import Pooled

CASES = {
    "one pixel": ((2, 1, 1, 1), 1),
    "even": ((3, 2, 4, 6), 2),
    "a row and a column are left": ((15, 3, 5, 7), 2),
    "only rows are left": ((17, 2, 5, 3), (2, 3)),
    "only columns are left": ((16, 1, 2, 5), (1, 3)),
    "three blocks": ((33, 2, 3, 3), (3, 1)),
}


def model(shape, window, rng, dtype=np.float64):
    net = fc.Sequential(fc.BatchNorm2d(shape[1]), fc.ReLU(), fc.MaxPool2d(window)).to(dtype)
    net[0].weight.value, net[0].bias.value = rng.standard_normal(shape[1]), rng.standard_normal(shape[1])
    return net


@each_float
@parametrize(CASES)
def test_against_the_oracle(case, dtype, rng):
    shape, window = case
    net = model(shape, window, rng, dtype)
    norm = net[0]
    x = (1 + 2 * rng.standard_normal(shape)).astype(dtype)
    y = net.forward(x, training=True)
    wide, gamma = x.astype(float), norm.weight.value.astype(float)
    z = reference.relu(
        reference.batch_norm(wide, *reference.batch_statistics(wide), gamma, norm.bias.value.astype(float), norm.eps)
    )
    expected, index = reference.max_pool2d(z, window)
    magnified = max(1.0, float((1 / np.sqrt(reference.batch_statistics(wide)[1] + norm.eps)).max()))
    close = (
        {"rtol": 1e-5 * magnified, "atol": 1e-5 * magnified} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-9}
    )
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, **close)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dz = np.where(z > 0, reference.max_pool2d_backward(dy.astype(float), index, shape), 0)
    dx, dgamma, dbeta = reference.batch_norm_backward(dz, wide, gamma, norm.eps)
    close["atol"] *= 10
    np.testing.assert_allclose(net.backward(dy), dx, **close)
    np.testing.assert_allclose(norm.weight.grad, dgamma, **close)
    np.testing.assert_allclose(norm.bias.grad, dbeta, **close)


@parametrize({name: case for name, case in CASES.items() if name != "one pixel"})
def test_gradcheck(case, rng):
    shape, window = case
    fc.gradcheck(model(shape, window, rng), rng.standard_normal(shape))


@parametrize(CASES)
def test_the_three_layers_have_the_same_outputs_and_statistics(case, rng):
    shape, window = case
    net = model(shape, window, rng, np.float32)
    x = rng.standard_normal(shape).astype(np.float32)
    x[0, 0, 0, 0] = np.nan
    y, found = net.forward(x, training=True), net.state_dict()
    alone = fc.BatchNorm2d(shape[1])
    alone.weight.value, alone.bias.value = net[0].weight.value, net[0].bias.value
    apart = fc.MaxPool2d(window)(fc.ReLU()(alone.forward(x, training=True)))
    np.testing.assert_array_equal(y, apart)
    for name, value in alone.state_dict().items():
        np.testing.assert_array_equal(found[f"0.{name}"], value)


def test_what_is_joined_and_what_is_not():
    def kinds(*layers):
        work = Workspace(np.float32)
        fc.Sequential(*layers).plan((3, 2, 6, 6), work)
        return [[type(layer).__name__ for layer, _ in steps] for steps in (work.steps, work.evaluation)]

    one = [fc.Conv2d(2, 2, 1), fc.BatchNorm2d(2), fc.ReLU(), fc.MaxPool2d(2)]
    assert kinds(*one) == [["Conv2d", "Pooled"], ["Folded", "MaxPool2d"]]
    assert kinds(fc.BatchNorm2d(2), fc.MaxPool2d(2))[0] == ["BatchNorm2d", "MaxPool2d"]
    for pool in (fc.MaxPool2d(3, 2), fc.MaxPool2d(2, padding=1), fc.MaxPool2d(4, ceil_mode=True)):
        assert kinds(fc.BatchNorm2d(2), fc.ReLU(), pool)[0] == ["BatchNorm2d", "MaxPool2d"]


def test_padding_lanes_change_nothing(rng):
    """Seventeen images fill two blocks; what stands in the empty lanes must not be seen, and gets no gradient."""
    net, shape, results = model((17, 2, 5, 5), 2, rng), (17, 2, 5, 5), []
    work = Workspace(np.float64)
    net.plan(shape, work)
    assert isinstance(work.steps[0][0], Pooled)
    x, dy = work.empty(shape), work.empty((17, 2, 2, 2))
    x.array[...], dy.array[...] = rng.standard_normal(x.array.shape), rng.standard_normal(dy.array.shape)
    dy.array[1, ..., 1:] = 0
    for fill in (7.0, np.nan, np.inf):
        x.array[1, ..., 1:] = fill
        y = net.forward_blocks(x, work, True).array.copy()
        dx = net.backward_blocks(dy, work, True)
        assert not dx.array[1, ..., 1:].any()
        results.append([y[0], y[1, ..., 0], dx.array.copy(), net[0].weight.grad.copy(), net[0].bias.grad.copy()])
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}, {"momentum": None}], ids=str)
def test_options_of_the_normalisation(options, rng):
    x = rng.standard_normal((5, 2, 4, 4))
    net = fc.Sequential(fc.BatchNorm2d(2, **options), fc.ReLU(), fc.MaxPool2d(2)).to(np.float64)
    alone = fc.BatchNorm2d(2, **options).to(np.float64)
    for _ in range(2):
        expected = fc.MaxPool2d(2).to(np.float64)(np.maximum(alone.forward(x, training=True), 0))
        np.testing.assert_array_equal(net.forward(x, training=True), expected)
    np.testing.assert_array_equal(net(x), fc.MaxPool2d(2).to(np.float64)(np.maximum(alone(x), 0)))
    fc.gradcheck(net, x)


def test_an_empty_batch_is_an_empty_batch():
    net = fc.Sequential(fc.BatchNorm2d(3), fc.ReLU(), fc.MaxPool2d(2))
    assert net.forward(np.zeros((0, 3, 4, 4)), training=True).shape == (0, 3, 2, 2)
