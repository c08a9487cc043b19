"""Numeric against analytic gradients for every layer; and what ``gradcheck`` itself must find, and must not."""

import re

import numpy as np
import pytest
from own_layers import own_layers

import fastconv as fc

# ------------------------------------------------------------------------------------------------------ every layer

LAYERS = {
    "conv": (lambda: fc.Conv2d(2, 3, 3), (2, 2, 5, 4)),
    "conv, all options": (lambda: fc.Conv2d(4, 6, (3, 2), (2, 3), (1, 2), (2, 1), groups=2), (2, 4, 7, 6)),
    "conv, depthwise": (lambda: fc.Conv2d(3, 3, 3, 2, 1, groups=3, bias=False), (1, 3, 5, 6)),
    "conv, ragged": (lambda: fc.Conv2d(1, 2, 2), (17, 1, 3, 3)),
    "conv, winograd": (lambda: fc.Conv2d(10, 10, 3, padding=1), (1, 10, 4, 4)),
    "conv, winograd, ragged": (lambda: fc.Conv2d(7, 8, 3, padding=1, bias=False), (17, 7, 4, 4)),
    "conv, pointwise": (lambda: fc.Conv2d(3, 5, 1), (17, 3, 2, 3)),
    "conv, pointwise, many pixels": (lambda: fc.Conv2d(4, 3, 1), (1, 4, 5, 8)),
    "conv, depthwise, dilated": (lambda: fc.Conv2d(2, 2, (2, 5), (1, 2), (1, 3), (2, 2), groups=2), (2, 2, 4, 9)),
    "conv, one-sided": (lambda: fc.Conv2d(2, 3, (2, 3), (1, 2), ((0, 2), (1, 0))), (17, 2, 3, 4)),
    "conv, same": (lambda: fc.Conv2d(2, 3, (2, 4), padding="same", dilation=(3, 1)), (1, 2, 5, 4)),
    "conv, reflect": (lambda: fc.Conv2d(2, 2, 3, 2, ((2, 1), (0, 3)), padding_mode="reflect"), (15, 2, 3, 4)),
    "conv, replicate": (lambda: fc.Conv2d(1, 2, 2, padding=3, padding_mode="replicate"), (2, 1, 1, 1)),
    "conv, circular": (lambda: fc.Conv2d(3, 3, 3, 1, 2, groups=3, padding_mode="circular"), (17, 3, 2, 4)),
    "transposed": (lambda: fc.ConvTranspose2d(2, 3, 3), (2, 2, 2, 3)),
    "transposed, all options": (
        lambda: fc.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, False, (1, 4)),
        (2, 4, 3, 2),
    ),
    "transposed, ragged": (lambda: fc.ConvTranspose2d(1, 2, 4, 2, 1), (17, 1, 2, 2)),
    "transposed, three blocks": (lambda: fc.ConvTranspose2d(1, 1, 2, 2), (33, 1, 1, 2)),
    "transposed, winograd": (lambda: fc.ConvTranspose2d(10, 10, 3, padding=1), (1, 10, 4, 4)),
    "transposed, depthwise": (lambda: fc.ConvTranspose2d(3, 3, 3, 2, 1, 1, groups=3), (2, 3, 2, 3)),
    "sequence": (lambda: fc.Conv1d(2, 4, 3, 2, 1, 2), (17, 2, 7)),
    "sequence, reflect": (lambda: fc.Conv1d(2, 2, 4, padding="same", groups=2, padding_mode="reflect"), (2, 2, 5)),
    "max pool": (lambda: fc.MaxPool2d(2), (2, 2, 4, 6)),
    "max pool, overlapping": (lambda: fc.MaxPool2d((3, 2), (2, 1), (1, 0), ceil_mode=True), (2, 2, 6, 5)),
    "avg pool": (lambda: fc.AvgPool2d(2), (2, 2, 4, 6)),
    "avg pool, overlapping": (lambda: fc.AvgPool2d((3, 2), (2, 1), (1, 1), True, False), (2, 2, 6, 5)),
    "linear": (lambda: fc.Linear(7, 3), (4, 7)),
    "linear, ragged": (lambda: fc.Linear(18, 2, bias=False), (17, 18)),
    "relu": (lambda: fc.ReLU(), (3, 8)),
    "softmax": (lambda: fc.Softmax(), (3, 5)),
    "softmax over channels": (lambda: fc.Softmax(), (2, 3, 2, 2)),
    "leaky relu": (lambda: fc.LeakyReLU(0.2), (17, 3)),
    "prelu": (lambda: fc.PReLU(), (17, 3, 2, 1)),
    "prelu, a channel": (lambda: fc.PReLU(3, 0.1), (17, 3, 2, 1)),
    "elu": (lambda: fc.ELU(0.7), (17, 3)),
    "gelu": (lambda: fc.GELU(), (17, 3)),
    "gelu by tanh": (lambda: fc.GELU("tanh"), (17, 3)),
    "silu": (lambda: fc.SiLU(), (17, 3)),
    "sigmoid": (lambda: fc.Sigmoid(), (17, 3)),
    "tanh": (lambda: fc.Tanh(), (3, 2, 1, 4)),
    "hardswish": (lambda: fc.Hardswish(), (17, 3)),
    "log softmax": (lambda: fc.LogSoftmax(), (17, 3, 1, 2)),
    "adaptive avg pool": (lambda: fc.AdaptiveAvgPool2d((3, 2)), (2, 2, 5, 3)),
    "adaptive avg pool, larger": (lambda: fc.AdaptiveAvgPool2d((3, None)), (17, 1, 2, 3)),
    "adaptive max pool": (lambda: fc.AdaptiveMaxPool2d((3, 2)), (2, 2, 5, 3)),
    "global avg pool": (lambda: fc.GlobalAvgPool2d(), (17, 2, 3, 1)),
    "global max pool": (lambda: fc.GlobalMaxPool2d(), (17, 2, 3, 1)),
    "upsample": (lambda: fc.Upsample(scale_factor=(2, 1.5)), (2, 2, 3, 4)),
    "upsample, bilinear": (lambda: fc.Upsample((5, 3), mode="bilinear"), (2, 2, 3, 4)),
    "upsample, corners": (lambda: fc.Upsample((5, 1), mode="bilinear", align_corners=True), (17, 1, 3, 2)),
    "zero pad": (lambda: fc.ZeroPad2d((1, 0, 2, 3)), (2, 2, 3, 1)),
    "reshape": (lambda: fc.Reshape(3, -1, 2), (2, 12)),
    "dropout of channels": (lambda: fc.Dropout2d(0.4, seed=1), (3, 4, 1, 2)),
    "dropout": (lambda: fc.Dropout(0.4, seed=1), (3, 2, 4, 4)),
    "flatten": (lambda: fc.Flatten(), (2, 3, 2, 2)),
    "fused relu": (
        lambda: fc.Sequential(fc.Conv2d(1, 2, 3), fc.ReLU(), fc.Flatten(), fc.Linear(8, 3), fc.ReLU()),
        (3, 1, 4, 4),
    ),
    "each kind of convolution": (
        lambda: fc.Sequential(
            fc.Conv2d(1, 10, 3, padding=1),
            fc.Conv2d(10, 10, 3, padding=1),
            fc.ReLU(),
            fc.Conv2d(10, 4, 1),
            fc.Conv2d(4, 4, 3, padding=1, groups=4),
        ),
        (1, 1, 2, 2),
    ),
    "fused relu, transposed": (
        lambda: fc.Sequential(fc.ConvTranspose2d(2, 2, 2, 2), fc.ReLU(), fc.Flatten(), fc.Linear(48, 2)),
        (3, 2, 2, 3),
    ),
    "nested": (
        lambda: fc.Sequential(
            fc.Sequential(fc.Conv2d(1, 2, 3, padding=1), fc.ReLU(), fc.MaxPool2d(2)),
            fc.Dropout(0.3),
            fc.Sequential(fc.Flatten(), fc.Linear(8, 4)),
            fc.Softmax(),
        ),
        (2, 1, 4, 4),
    ),
}


@pytest.mark.usefixtures("few_tiles")
@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_every_element_of_every_gradient(make, shape, rng):
    layer = make()
    x = rng.standard_normal(shape)
    report = fc.gradcheck(layer, x)
    assert report.kinks == 0
    assert report.checked == x.size + sum(parameter.size for parameter in layer.parameters())
    assert report.worst < 0.5


@pytest.mark.usefixtures("few_tiles")
def test_some_elements_of_a_wide_convolutions_gradients(rng):
    """Wide enough for Winograd's gradient to the filters, and too wide for every element."""
    report = fc.gradcheck(fc.Conv2d(29, 31, 3, padding=1), rng.standard_normal((17, 29, 8, 8)))
    assert report.kinks == 0
    assert report.worst < 0.5


@pytest.mark.parametrize(
    ("name", "shape", "elements", "least"),
    [("tiny", (1, 28, 28), 20, 400), ("resnet20", (3, 32, 32), 2, 100), ("mobilenet_small", (3, 32, 32), 2, 60)],
)
def test_the_deeper_models(name, shape, elements, least, rng):
    """Now and then one of so many rectifiers switches, by which a slope changes too little to be seen at once."""
    model = fc.models.create(name, in_channels=shape[0], seed=1)
    report = fc.gradcheck(model, rng.standard_normal((2, *shape)), max_elements=elements)
    assert report.checked > least


@pytest.mark.parametrize("make", [fc.models.lenet_seed, fc.models.lenet5])
def test_the_models(make, rng):
    """Through the very tiles and fused steps that train, in float64."""
    report = fc.gradcheck(make(seed=1), rng.standard_normal((2, 1, 28, 28)), max_elements=60)
    assert report.checked > 200
    assert report.worst < 0.5


# ---------------------------------------------------------------------------------------------- a layer of one's own


@pytest.mark.parametrize("name", ["ChannelScale", "SharedChannelScale"])
def test_a_layer_of_ones_own_is_checked_like_any_other(name, rng):
    make = getattr(own_layers(), name)
    layer = make(3)
    layer.factor.value = [0.5, -2, 3]
    x = rng.standard_normal((17, 3, 2, 2))
    np.testing.assert_allclose(layer(x), x * np.reshape([0.5, -2, 3], (3, 1, 1)), rtol=1e-6)
    assert fc.gradcheck(layer, x).checked == x.size + 3
    assert fc.gradcheck(fc.Sequential(fc.Conv2d(1, 3, 2), make(3), fc.Flatten()), rng.standard_normal((2, 1, 3, 3)))
    with pytest.raises(fc.ShapeError, match=r"expected x of shape \(N, 3, \.\.\.\), got \(1, 2, 2, 2\)"):
        fc.gradcheck(layer, np.zeros((1, 2, 2, 2)))


# ----------------------------------------------------------------------------------------------------- planted errors


def wrong(change):
    """Return a Linear layer whose backward pass is changed afterwards: change(layer, dx)."""

    class Wrong(fc.Linear):
        def backward_blocks(self, dy, work, need_dx):
            dx = super().backward_blocks(dy, work, need_dx)
            change(self, dx.array)
            return dx

    layer = Wrong(4, 3)
    layer.bias.value = [0.1, 0.2, 0.3]
    return layer


def add(array, place, value):
    array[place] += value


@pytest.mark.parametrize(
    ("change", "named", "difference"),
    [
        (lambda layer, dx: add(layer.weight.grad, (1, 2), 1e-3), "weight[1, 2]", 1e-3),
        (lambda layer, dx: add(layer.weight.grad, (2, 0), -2e-5), "weight[2, 0]", 2e-5),
        (lambda layer, dx: add(layer.bias.grad, 2, 5), "bias[2]", 5),
        # Image 16 is lane 0 of the second block.
        (lambda layer, dx: add(dx, (1, 3, 0), -0.25), "x[16, 3]", 0.25),
    ],
)
def test_one_wrong_element_is_named_with_both_values_and_the_tolerance(change, named, difference, rng):
    layer, x = wrong(change), rng.standard_normal((17, 4))
    with pytest.raises(fc.GradientError) as caught:
        fc.gradcheck(layer, x)
    number = r"(-?[\d.]+(?:e[+-]\d+)?)"
    text = rf"gradcheck: Wrong: gradient of {re.escape(named)} is {number} by backward and {number} by central "
    found = re.fullmatch(text + rf"differences; they differ by {number}, tolerance {number}", str(caught.value))
    assert found, caught.value
    ours, numeric, differ, tolerance = map(float, found.groups())
    np.testing.assert_allclose([abs(ours - numeric), differ], difference, rtol=2e-2)
    assert tolerance < differ

    (own,) = np.random.default_rng(0).spawn(1)
    upstream = own.standard_normal((17, 3))
    right = {"weight": upstream.T @ x, "bias": upstream.sum(axis=0), "x": upstream @ layer.weight.value.astype(float)}
    array, place = named.rstrip("]").split("[")
    np.testing.assert_allclose(numeric, right[array][tuple(map(int, place.split(", ")))], rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer, dx: add(layer.weight.grad, ..., 1e-5 * layer.weight.grad),
        lambda layer, dx: add(layer.weight.grad, ..., -layer.weight.grad),
        lambda layer, dx: layer.weight.grad.__setitem__(..., np.roll(layer.weight.grad, 1, axis=0)),
        lambda layer, dx: add(layer.weight.grad, (0, 0), np.nan),
        lambda layer, dx: add(dx, ..., np.inf),
        lambda layer, dx: dx.__setitem__(..., np.roll(dx, 1, axis=-1)),
    ],
    ids=["a factor 1.00001", "forgotten", "rows exchanged", "NaN", "infinite", "another image's"],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_other_errors_are_found(change, rng):
    with pytest.raises(fc.GradientError, match=r"gradcheck: Wrong: gradient of "):
        fc.gradcheck(wrong(change), rng.standard_normal((17, 4)))


def test_the_right_layer_passes(rng):
    assert fc.gradcheck(wrong(lambda layer, dx: None), rng.standard_normal((17, 4))).worst < 0.5


# -------------------------------------------------------------------------------------------------------------- kinks


def test_relu_at_zero_is_a_kink_and_no_error():
    report = fc.gradcheck(fc.ReLU(), np.array([[0.0, 1.0, -1.0, -0.0, 3e-6, -3e-6]]))
    assert (report.checked, report.kinks) == (2, 4)
    assert str(report).startswith("2 elements agree, 4 at kinks left out; largest difference ")


def test_ties_of_a_max_pool_are_kinks_and_no_error():
    x = np.array([[[[1.0, 1.0, 5.0, 2.0], [0.0, 0.5, 3.0, 4.0]]]])
    report = fc.gradcheck(fc.MaxPool2d(2), x)
    assert (report.checked, report.kinks) == (6, 2)


def test_an_error_beside_a_kink_is_still_found():
    class Wrong(fc.ReLU):
        def backward_blocks(self, dy, work, need_dx):
            dx = super().backward_blocks(dy, work, need_dx)
            dx.array[0, 1, 0] += 1e-3
            return dx

    with pytest.raises(fc.GradientError, match=r"Wrong: gradient of x\[0, 1\]"):
        fc.gradcheck(Wrong(), np.array([[0.0, 1.0]]))


class SlightKink(fc.Layer):
    """y = x + height * max(0, x - 1), whose slope changes by a ten-thousandth at 1."""

    height, error = 1e-4, 0.0

    def plan(self, shape, work):
        work.y, work.dx = work.empty(shape), work.empty(shape)
        return shape

    def forward_blocks(self, x, work, training):
        work.x = x
        work.y.array[:] = x.array + self.height * np.maximum(0, x.array - 1)
        return work.y

    def backward_blocks(self, dy, work, need_dx):
        work.dx.array[:] = dy.array * (1 + self.error + self.height * (work.x.array > 1))
        return work.dx


@pytest.mark.parametrize("away", [-9e-6, -3e-6, 1e-6, 6e-6])
def test_a_slight_kink_within_the_step_is_no_error(away):
    report = fc.gradcheck(SlightKink(), np.array([[0.5, 1 + away, 2.0]]))
    assert (report.checked, report.kinks) == (2, 1)


def test_an_error_as_slight_as_a_kink_is_found():
    layer = SlightKink()
    layer.error = 2e-6
    for x in ([[0.5]], [[1 + 3e-6]], [[2.0]]):
        with pytest.raises(fc.GradientError, match=r"SlightKink: gradient of x\[0, 0\]"):
            fc.gradcheck(layer, np.array(x))


def test_all_kinks_is_no_agreement_of_anything():
    with pytest.raises(ValueError, match=r"gradcheck: ReLU: expected an x .* all 4 elements tried are at kinks"):
        fc.gradcheck(fc.ReLU(), np.zeros((2, 2)))


def test_an_array_of_which_nothing_is_compared_is_named():
    """Though another has gradients: at x = 0 those of the weight are 0."""
    model = fc.Sequential(fc.Linear(3, 2), fc.ReLU())
    report = fc.gradcheck(model, np.zeros((2, 3)))
    assert (report.checked, report.kinks, report.unseen) == (6, 8, ("x", "0.bias"))
    assert str(report).startswith("6 elements agree, 8 at kinks left out, among them all of x, 0.bias; largest")
    model.layers[0].bias.value = [1, 2]
    assert fc.gradcheck(model, np.zeros((2, 3))).unseen == ()


def test_an_input_of_the_same_seed_is_not_the_upstream_gradient():
    """At which a normalisation has no slope, only curvature."""
    x = np.random.default_rng(0).standard_normal((3, 2, 2, 2))
    report = fc.gradcheck(fc.BatchNorm2d(2, affine=False), x)
    assert (report.checked, report.kinks) == (x.size, 0)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_what_is_not_finite_is_no_agreement_of_anything():
    with pytest.raises(ValueError, match=r"all 2 elements tried are at kinks or give no finite number"):
        fc.gradcheck(fc.Tanh(), np.full((1, 2), np.nan))


# ---------------------------------------------------------------------------------------------------- as a good guest


def test_the_layer_is_left_as_it_was(rng):
    layer = fc.Sequential(fc.Linear(4, 3), fc.Dropout(0.5))
    before, x = layer.state_dict(), rng.standard_normal((2, 4))
    given = x.copy()
    fc.gradcheck(layer, x)
    assert layer.dtype == layer.layers[0].dtype == np.float32
    assert layer.layers[1].passes == 0
    np.testing.assert_array_equal(x, given)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name], strict=True)


def test_large_arrays_are_sampled(rng):
    report = fc.gradcheck(fc.Linear(50, 10), rng.standard_normal((2, 50)), max_elements=30)
    assert report.checked == 30 + 30 + 10


def test_another_seed_is_another_upstream_gradient(rng):
    reports = {fc.gradcheck(fc.Softmax(), rng.standard_normal((2, 3)), seed=seed).worst for seed in range(3)}
    assert len(reports) == 3


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match=r"a batch with at least one image, got x of shape \(0, 4\)"):
        fc.gradcheck(fc.Linear(4, 3), np.zeros((0, 4)))
