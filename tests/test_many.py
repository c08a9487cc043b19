"""Many arrays in one launch: every element once, and never memory that belongs to somebody else."""

import copy
import pickle

import numpy as np
import pytest
from cases import each_float

import fastconv as fc
from fastconv_kernels import bias, optim
from fastconv_kernels.many import CHUNK, Many

SIZES = (1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5)


@each_float
def test_all_groups_move_as_each_would_alone(dtype, rng):
    groups = [tuple(rng.standard_normal((3, size)).astype(dtype)) for size in SIZES]
    alone = [tuple(array.copy() for array in group) for group in groups]
    decays = np.full(len(SIZES), 0.01)
    optim.sgd(*Many(groups).table, 0.1, 0.9, True, decays, 1.0)
    for group, arrays in zip(groups, alone, strict=True):
        optim.sgd(*Many([arrays]).table, 0.1, 0.9, True, decays, 1.0)
        for array, expected in zip(group, arrays, strict=True):
            np.testing.assert_array_equal(array, expected, strict=True)


@each_float
def test_shares_of_all_groups_are_summed(dtype, rng):
    groups = [(rng.standard_normal((4, size)).astype(dtype), np.full(size, np.nan, dtype)) for size in SIZES]
    bias.sum_shares(*Many(groups).table, 4)
    for shares, total in groups:
        np.testing.assert_array_equal(total, ((shares[0] + shares[1]) + shares[2]) + shares[3], strict=True)


def model_and_optimizer():
    model = fc.Sequential(fc.Conv2d(1, 2, 3), fc.ReLU(), fc.MaxPool2d(2), fc.Flatten(), fc.Linear(8, 3))
    return model, fc.SGD(0.1, momentum=0.9)


def step(model, optimizer):
    x = np.arange(5 * 36, dtype=np.uint8).reshape(5, 1, 6, 6)
    return fc.train_step(model, fc.CrossEntropyLoss(), optimizer, x, np.array([0, 1, 2, 0, 1]))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_trains_on_its_own_memory(duplicate):
    model, optimizer = model_and_optimizer()
    step(model, optimizer)
    before = model.state_dict()
    twin, twins = duplicate((model, optimizer))
    losses = [step(twin, twins) for _ in range(3)]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert [step(model, optimizer) for _ in range(3)] == losses
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, twin.state_dict()[name])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (fc.Conv2d(1, 2, 3), (2, 1, 5, 5)),
        (fc.Conv2d(32, 32, 3, padding=1), (2, 32, 16, 16)),  # in pieces
        (fc.Conv1d(2, 3, 3), (2, 2, 9)),
        (fc.ConvTranspose2d(2, 3, 3), (2, 2, 4, 4)),
        (fc.BatchNorm2d(2), (2, 2, 3, 3)),
        (fc.GroupNorm(1, 2), (2, 2, 3, 3)),
        (fc.LayerNorm((2, 3, 3)), (2, 2, 3, 3)),
        (fc.PReLU(), (2, 2, 3, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_copied_layer_differentiates_into_its_own_memory(layer, shape, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    y = layer.forward(x, training=True)
    layer.backward(np.ones_like(y))
    before = layer.weight.grad.copy()
    twin = copy.deepcopy(layer)
    twin.backward(2 * np.ones_like(y))
    np.testing.assert_array_equal(layer.weight.grad, before)
    np.testing.assert_array_equal(twin.weight.grad, 2 * before)


def test_an_optimizer_follows_a_model_to_another_dtype():
    model, optimizer = model_and_optimizer()
    step(model, optimizer)
    model.to(np.float64)
    before = model.state_dict()
    step(model, optimizer)
    for name, value in model.state_dict().items():
        assert value.dtype == np.float64
        assert (value != before[name]).any(), name


def test_an_optimizer_takes_parameters_of_two_dtypes(rng):
    def drawn(dtype):
        parameter = fc.Parameter((3, 4), lambda _, shape: np.ones(shape), dtype)
        parameter.grad = np.ones((3, 4))
        return parameter

    narrow, wide = drawn(np.float32), drawn(np.float64)
    fc.SGD(0.25).step([narrow, wide])
    for parameter in (narrow, wide):
        np.testing.assert_array_equal(parameter.value, np.full((3, 4), 0.75, parameter.dtype), strict=True)
