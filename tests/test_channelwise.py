"""A depthwise convolution between two normalisations as one step: against the oracle, and against the layers alone."""

import numpy as np
import pytest
from cases import each_float, parametrize

import fastconv as fc
from fastconv import reference
from fastconv.layers.base import Workspace
from fastconv.layers.channelwise import Channelwise

CASES = {  # shape of x; kernel size, stride, padding, dilation; whether a ReLU follows each normalisation
    "one image": ((1, 2, 5, 3), (3, 1, 1, 1), (True, True)),
    "seventeen": ((17, 2, 4, 9), (3, 1, 1, 1), (True, True)),
    "strided": ((33, 2, 5, 5), (3, 2, 1, 1), (True, True)),
    "one row of the stride": ((5, 2, 6, 6), ((3, 2), (2, 1), (1, 0), 1), (True, False)),
    "dilated": ((16, 3, 8, 7), (3, 1, 2, 2), (False, True)),
    "five taps, no padding": ((15, 2, 9, 6), (5, 1, 0, 1), (False, False)),
    "one tap": ((4, 3, 2, 3), (1, 1, 0, 1), (True, True)),
    "padding above alone": ((3, 2, 5, 4), (3, 1, ((2, 0), (0, 1)), 1), (True, True)),
}


def layers(shape, how, relus, **options):
    size, stride, padding, dilation = how
    channels = shape[1]
    conv = fc.Conv2d(channels, channels, size, stride, padding, dilation, groups=channels, bias=False)
    made = []
    for layer, relu in ((fc.BatchNorm2d(channels, **options), relus[0]), (conv, False)):
        made += [layer, fc.ReLU()] if relu else [layer]
    return [*made, fc.BatchNorm2d(channels, **options), *[fc.ReLU()] * relus[1]]


def model(case, dtype, rng, **options):
    net = fc.Sequential(*layers(*case, **options)).to(dtype)
    for parameter in net.parameters():
        parameter.value = rng.standard_normal(parameter.shape)
    return net


def kinds(net, shape):
    work = Workspace(net.dtype)
    net.plan(shape, work)
    return [type(layer).__name__ for layer, _ in work.steps]


@each_float
@parametrize(CASES)
def test_against_the_oracle(case, dtype, rng):
    (shape, (_, stride, padding, dilation), relus), net = case, model(case, dtype, rng)
    assert kinds(net, shape) == ["Channelwise"]
    first, conv, second = (layer for layer in net if not isinstance(layer, fc.ReLU))
    x = rng.standard_normal(shape).astype(dtype)
    y = net.forward(x, training=True)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = net.backward(dy)

    def normalised(x, norm, relu):
        line = norm.weight.value.astype(float), norm.bias.value.astype(float), norm.eps
        z = reference.batch_norm(x, *reference.batch_statistics(x), *line)
        return z, np.maximum(z, 0) if relu else z

    wide, k = x.astype(float), conv.weight.value.astype(float)
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": shape[1]}
    z1, a1 = normalised(wide, first, relus[0])
    d = reference.conv2d(a1, k, **how)
    z2, a2 = normalised(d, second, relus[1])
    close = {"rtol": 2e-3, "atol": 2e-3} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(y, a2, **close)

    dz = np.where(z2 > 0, dy, 0) if relus[1] else dy.astype(float)
    dd, dgamma_2, dbeta_2 = reference.batch_norm_backward(dz, d, second.weight.value.astype(float), second.eps)
    da = reference.conv2d_backward_input(dd, k, shape, **how)
    dz = np.where(z1 > 0, da, 0) if relus[0] else da
    expected, dgamma, dbeta = reference.batch_norm_backward(dz, wide, first.weight.value.astype(float), first.eps)
    found = dx, conv.weight.grad, first.weight.grad, first.bias.grad, second.weight.grad, second.bias.grad
    dk = reference.conv2d_backward_filter(dd, a1, k.shape, **how)
    for one, other in zip(found, (expected, dk, dgamma, dbeta, dgamma_2, dbeta_2), strict=True):
        scale = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(one / scale, other / scale, **close)


@parametrize({name: CASES[name] for name in ("one image", "strided", "dilated", "padding above alone")})
def test_gradcheck(case, rng):
    shape, how, relus = case
    fewer = min(shape[0], 3), *shape[1:]
    assert fc.gradcheck(model((fewer, how, relus), np.float64, rng), rng.standard_normal(fewer)).checked > 0


@each_float
@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}], ids=str
)
@parametrize(CASES)
def test_the_layers_by_themselves_have_the_same_bits(case, options, dtype, rng):
    net = model(case, dtype, rng, **options)
    alone = model(case, dtype, rng, **options)
    alone.load_state_dict(net.state_dict())
    for _ in range(2):
        x = rng.standard_normal(case[0]).astype(dtype)
        y = net.forward(x, training=True)
        dy = rng.standard_normal(y.shape).astype(dtype)
        apart = x
        for layer in alone:
            apart = layer.forward(apart, training=True)
        np.testing.assert_array_equal(y, apart)
        dx, apart = net.backward(dy), dy
        for layer in reversed(list(alone)):
            apart = layer.backward(apart)
        np.testing.assert_array_equal(dx, apart)
        for one, other in zip(net.parameters(), alone.parameters(), strict=True):
            np.testing.assert_array_equal(one.grad, other.grad)
        for name, value in alone.state_dict().items():
            np.testing.assert_array_equal(net.state_dict()[name], value)
    x = rng.standard_normal(case[0]).astype(dtype)
    np.testing.assert_array_equal(net(x), alone(x))  # evaluation is not joined


def test_any_number_of_threads_gives_the_same_bits(threads, rng):
    case, found = CASES["strided"], []
    x = rng.standard_normal(case[0]).astype(np.float32)
    for count in (1, 2, 3, 4):
        threads(count)
        net = model(case, np.float32, np.random.default_rng(1))
        y = net.forward(x, training=True)
        found.append([y, net.backward(np.ones_like(y)), *(parameter.grad.copy() for parameter in net.parameters())])
    for other in found[1:]:
        for one, same in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(one, same)


def test_what_is_joined_and_what_is_not():
    def norm():
        return fc.BatchNorm2d(4)

    def depthwise(**options):
        return fc.Conv2d(4, 4, 3, padding=1, groups=4, **({"bias": False} | options))

    def steps(*between):
        return kinds(fc.Sequential(*between), (3, 4, 6, 6))

    assert steps(fc.Conv2d(4, 4, 1), norm(), fc.ReLU(), depthwise(), norm()) == ["Conv2d", "Channelwise"]
    assert steps(norm(), depthwise(), norm(), depthwise(), norm()) == ["Channelwise", "Conv2d", "BatchNorm2d"]
    apart = ["BatchNorm2d", "Conv2d", "BatchNorm2d"]
    assert steps(norm(), depthwise(bias=True), norm()) == apart
    assert steps(norm(), depthwise(padding_mode="reflect"), norm()) == apart
    assert steps(norm(), fc.Conv2d(4, 4, 3, groups=2, bias=False), norm()) == apart
    assert steps(norm(), fc.Conv2d(4, 8, 3, groups=4, bias=False), fc.BatchNorm2d(8)) == apart
    assert steps(norm(), depthwise(), fc.ReLU(), norm()) == apart  # that ReLU is a part of the convolution
    assert steps(norm(), depthwise(), fc.GroupNorm(2, 4)) == ["BatchNorm2d", "Conv2d", "GroupNorm"]


def test_the_last_of_a_branch_that_adds_the_other_is_not_joined(rng):
    body = fc.Sequential(fc.BatchNorm2d(3), fc.Conv2d(3, 3, 3, padding=1, groups=3, bias=False), fc.BatchNorm2d(3))
    net = fc.Sequential(fc.Residual(body), fc.ReLU()).to(np.float64)
    assert fc.gradcheck(net, rng.standard_normal((3, 3, 4, 3))).checked > 0


def test_padding_lanes_change_nothing(rng):
    """Seventeen images fill two blocks; what finite numbers stand in the empty lanes must not matter."""
    shape, results = (17, 2, 4, 9), []
    net, work = model(CASES["seventeen"], np.float64, rng), Workspace(np.float64)
    net.plan(shape, work)
    assert isinstance(work.steps[0][0], Channelwise)
    x, dy = work.empty(shape), work.empty(shape)
    x.array[...], dy.array[...] = rng.standard_normal(x.array.shape), rng.standard_normal(dy.array.shape)
    dy.array[1, ..., 1:] = 0
    for fill in (0.0, 7.0, -1e6):
        x.array[1, ..., 1:] = fill
        y = net.forward_blocks(x, work, True).array.copy()
        dx = net.backward_blocks(dy, work, True)
        assert not dx.array[1, ..., 1:].any()
        results.append([y[0], y[1, ..., 0], dx.array.copy(), *(each.grad.copy() for each in net.parameters())])
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_empty_batch_is_an_empty_batch():
    net = fc.Sequential(*layers((0, 3, 4, 4), (3, 2, 1, 1), (True, True)))
    assert net.forward(np.zeros((0, 3, 4, 4)), training=True).shape == (0, 3, 2, 2)
