"""What becomes of a model whose layers, parameters or dtype change between batches: it is planned anew, or refused."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import blocks, losses


def net(seed=0):
    return fc.Sequential(fc.Conv2d(1, 4, 3), fc.Tanh(), fc.Flatten(), fc.Linear(144, 3), seed=seed)


@pytest.fixture
def data(rng):
    return rng.standard_normal((32, 1, 8, 8)).astype(np.float32), np.arange(32) % 3


def step(model, data):
    return fc.train_step(model, fc.CrossEntropyLoss(), fc.SGD(0.1), *data)


@pytest.mark.parametrize("part", [lambda model: model[:1], lambda model: model[0]], ids=["a slice", "a layer"])
def test_a_part_that_was_converted_and_back_is_trained_on(part, data):
    model, expected = net(), net()
    step(model, data)
    step(expected, data)
    part(model).to(np.float64)
    with pytest.raises(TypeError, match=r"expected parameters of one dtype, got .* of float64 and .* of float32"):
        model(data[0])
    part(model).to(np.float32)
    assert [step(model, data) for _ in range(3)] == [step(expected, data) for _ in range(3)]


def test_a_parameter_that_was_replaced_is_trained(data):
    model = net()
    step(model, data)
    model[0].weight = fc.Parameter((4, 1, 3, 3), fc.init.ones)
    step(model, data)
    assert (model[0].weight.value != 1).all()


def test_a_head_that_was_replaced_has_its_own_outputs(data):
    model = net()
    model(data[0])
    model[3].weight, model[3].bias = fc.Parameter((500, 144), fc.init.ones), fc.Parameter((500,), fc.init.zeros)
    assert model(data[0]).shape == (32, 500)
    model.layers = (*model.layers[:3], fc.Linear(144, 5))
    assert model(data[0]).shape == model(data[0][:7]).repeat(5, axis=0)[:32].shape == (32, 5)


def test_a_gradient_of_what_was_there_before_is_none(data):
    model = net()
    y = model.forward(data[0], training=True)
    model[0].weight = fc.Parameter((4, 1, 3, 3), fc.init.ones)
    with pytest.raises(RuntimeError, match="no saved input"):
        model.backward(y)


def test_parameters_are_not_shared():
    first, second = fc.Conv2d(4, 4, 3), fc.Conv2d(4, 4, 3)
    second.weight = first.weight
    with pytest.raises(ValueError, match=r"parameters 0.weight and 1.0.weight are the same"):
        fc.Sequential(first, fc.Sequential(second))


def test_layers_inside_are_named():
    class Holder(fc.Layer):
        def __init__(self):
            self.inside = fc.Conv2d(1, 2, 3)

    with pytest.raises(
        TypeError, match=r"expected Holder.children\(\) to return all layers inside, got none of its inside"
    ):
        fc.Sequential(Holder())


class Tensor:
    """An array of another library's."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


@pytest.mark.parametrize("wrapped", [Tensor, list, lambda x: np.asfortranarray(x)], ids=["tensor", "list", "Fortran"])
def test_pixels_are_pixels_whatever_holds_them(wrapped, rng):
    x = rng.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    model = net()
    model.normalization = fc.Normalization((0.5,), (0.25,))
    np.testing.assert_array_equal(model(wrapped(x)), model(x))
    np.testing.assert_array_equal(model.predict_proba(wrapped(x)), model.predict_proba(x))
    with pytest.raises(
        TypeError, match=r"predict: expected x of uint8, .* or of floats, got int64: take x.astype\(np.uint8\)"
    ):
        model.predict(wrapped(x.astype(np.int64)))


@pytest.mark.parametrize("operation", ["predict", "predict_proba"])
def test_one_output_is_no_class(operation):
    model = fc.Sequential(fc.Linear(4, 1))
    with pytest.raises(ValueError, match=f"{operation}: expected at least two outputs, one a class, got 1"):
        getattr(model, operation)(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="fit: expected at least two outputs, one a class, for CrossEntropyLoss"):
        model.fit(np.zeros((3, 4)), np.zeros(3, int))
    model.fit(np.zeros((3, 4)), np.zeros((3, 1)), loss=fc.BCEWithLogitsLoss(), epochs=1, verbose=False)


class OwnMSE(losses.Loss):
    """A loss of somebody else's, which writes into all lanes."""

    def check_target(self, target, shape):
        return np.asarray(target, np.float32)

    def of_blocks(self, y, target):
        d = (2 * (y.array - 1) / np.prod(y.shape)).astype(y.array.dtype)
        return losses.LossResult(0.0, blocks.Blocks(d, y.n), None)


@pytest.mark.parametrize("n", [5, 16, 37])
def test_a_loss_of_ones_own_reaches_no_lane_without_an_image(n, rng):
    x, target = rng.standard_normal((n, 3)).astype(np.float32), np.ones((n, 4), np.float32)
    gradients = []
    for loss in (OwnMSE(), fc.MSELoss()):
        model = fc.Sequential(fc.Linear(3, 4))
        fc.train_step(model, loss, fc.SGD(0.1), x, target)
        gradients.append(model[0].bias.grad)
    np.testing.assert_allclose(*gradients, rtol=1e-5)


@pytest.mark.parametrize("make", [fc.Adam, fc.AdamW])
def test_an_optimiser_counts_the_steps_of_each_parameter(make, data):
    """A new model's first steps are as long as with a new optimiser; weights that rested go on where they were."""
    used, loss = make(1e-2), fc.CrossEntropyLoss()
    for _ in range(30):
        fc.train_step(net(), loss, used, *data)
    models = net(), net()
    for model, optimizer in zip(models, (used, make(1e-2)), strict=True):
        for _ in range(3):
            fc.train_step(model, loss, optimizer, *data)
    np.testing.assert_array_equal(models[0][0].weight.value, models[1][0].weight.value)

    one, other = fc.Parameter((2,), fc.init.zeros), fc.Parameter((2,), fc.init.zeros)
    together = make(1e-2)
    for number in range(8):
        for parameter in (one, other):
            parameter.grad = np.ones(2)
        together.step([one] if number in (2, 3, 5) else [one, other])
    alone, reference = make(1e-2), fc.Parameter((2,), fc.init.zeros)
    for _ in range(5):
        reference.grad = np.ones(2)
        alone.step([reference])
    np.testing.assert_array_equal(other.value, reference.value)


def test_counted_steps_are_kept(data):
    """Where they differ, a checkpoint has them."""
    model, again = net(), net()
    optimizer, resumed = fc.Adam(1e-2), fc.Adam(1e-2)
    fc.train_step(net(5), fc.CrossEntropyLoss(), optimizer, *data)
    fc.train_step(model, fc.CrossEntropyLoss(), optimizer, *data)
    state = optimizer.state_dict(model)
    assert {int(state[name]) for name in state if name.endswith(".steps")} == {1}
    assert int(state["steps"]) == 2
    again.load_state_dict(model.state_dict())
    resumed.load_state_dict(again, state)
    for each, by in ((model, optimizer), (again, resumed)):
        fc.train_step(each, fc.CrossEntropyLoss(), by, *data)
    np.testing.assert_array_equal(model[0].weight.value, again[0].weight.value)
