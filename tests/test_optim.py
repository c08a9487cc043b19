"""The optimisers: one step at a time against the oracle."""

from copy import deepcopy

import numpy as np
import pytest
from cases import assert_sum_close, each_float

import fastconv as fc
from fastconv import init, reference
from fastconv_kernels import optim as kernels
from fastconv_kernels.many import Many

# Around the kernels' chunks of 4096, which are what threads share out.
each_size = pytest.mark.parametrize("size", [1, 5, 4095, 4096, 4097, 10_000])


def parameter(shape, dtype, rng):
    made = fc.Parameter(shape, init.zeros, dtype)
    made.value = rng.standard_normal(shape)
    return made


@each_float
@each_size
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_sgd(size, momentum, nesterov, decay, dtype, rng):
    value, grad, velocity = rng.standard_normal((3, size)).astype(dtype)
    options = 0.05, momentum, nesterov, decay
    refs = reference.sgd(value, grad, velocity, *options)
    moved = momentum * abs(velocity) + abs(grad) + decay * abs(value)
    step = moved + momentum * moved if nesterov else moved
    magnitudes = abs(value) + 0.05 * step, moved
    kernels.sgd(*Many([(velocity, grad, value)]).table, *options)
    # Products, sums, and constants rounded to the dtype: at most eight roundings on any path.
    for comp, ref, magnitude in zip((value, velocity), refs, magnitudes, strict=True):
        assert comp.dtype == dtype
        assert_sum_close(comp, ref, magnitude, 8)


@each_float
@each_size
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("step", [1, 2, 1000])
def test_adam(size, decay, decoupled, step, dtype, rng):
    value, grad, mean, square = rng.standard_normal((4, size)).astype(dtype)
    square = square**2
    lr, beta1, beta2, eps = 0.01, 0.9, 0.999, 1e-8
    oracle = reference.adamw if decoupled else reference.adam
    refs = oracle(value, grad, mean, square, step, lr, beta1, beta2, eps, decay)
    pull = abs(grad) + (0 if decoupled else decay * abs(value))
    means, squares = beta1 * abs(mean) + (1 - beta1) * pull, beta2 * square + (1 - beta2) * pull**2
    root = np.sqrt(refs[2] / (1 - beta2**step)) + eps
    moved = lr * means / (1 - beta1**step) / root
    # Twenty roundings at most, of which those of the squares count half; squares may cancel nothing.
    magnitudes = abs(value) + moved * (1 + squares / refs[2]), means, squares
    corrections = 1 - beta1**step, (1 - beta2**step) ** 0.5
    kernels.adam(*Many([(mean, square, grad, value)]).table, lr, beta1, beta2, eps, decay, decoupled, *corrections)
    for comp, ref, magnitude in zip((value, mean, square), refs, magnitudes, strict=True):
        assert_sum_close(comp, ref, magnitude, 10)


def test_a_kernel_step_in_float32_keeps_what_is_nearly_one(rng):
    """1 - beta2 is 0.001, of which float32's own 1 - 0.999 misses a hundred-thousandth."""
    value, grad, mean, square = (np.full(4, v, np.float32) for v in (0, 2, 0, 0))
    kernels.adam(*Many([(mean, square, grad, value)]).table, 1.0, 0.9, 0.999, 0.0, 0.0, False, 0.1, 0.001**0.5)
    np.testing.assert_allclose(square, 0.004, rtol=2e-7)
    np.testing.assert_allclose(value, -1, rtol=4e-7)


@each_float
@pytest.mark.parametrize(
    ("optimizer", "oracle", "memory"),
    [
        (fc.SGD(0.1), lambda w, g, v, t: reference.sgd(w, g, v, 0.1), 1),
        (fc.SGD(0.1, 0.9, True, 0.01), lambda w, g, v, t: reference.sgd(w, g, v, 0.1, 0.9, True, 0.01), 1),
        (fc.Adam(0.1), lambda w, g, m, s, t: reference.adam(w, g, m, s, t, 0.1), 2),
        (
            fc.Adam(0.1, (0.8, 0.9), 1e-3, 0.1),
            lambda w, g, m, s, t: reference.adam(w, g, m, s, t, 0.1, 0.8, 0.9, 1e-3, 0.1),
            2,
        ),
        (fc.AdamW(0.1), lambda w, g, m, s, t: reference.adamw(w, g, m, s, t, 0.1), 2),
    ],
    ids=["sgd", "nesterov", "adam", "adam with all options", "adamw"],
)
def test_ten_steps_of_two_parameters(optimizer, oracle, memory, dtype, rng):
    """Each parameter has its memory, and corrections count steps, not parameters."""
    optimizer = deepcopy(optimizer)
    parameters = [parameter((3, 4), dtype, rng), parameter((5,), dtype, rng)]
    states = [(p.value.copy(), *[np.zeros(p.shape)] * memory) for p in parameters]
    for step in range(1, 11):
        for number, p in enumerate(parameters):
            p.grad = rng.standard_normal(p.shape)
            states[number] = oracle(states[number][0], p.grad, *states[number][1:], step)
        optimizer.step(parameters)
    assert optimizer.steps == 10
    for p, state in zip(parameters, states, strict=True):
        np.testing.assert_allclose(p.value, state[0], rtol=0, atol=300 * np.finfo(dtype).eps)


def test_a_schedules_factor_multiplies_the_rate_and_nothing_else(rng):
    twins = [parameter((4,), np.float64, rng) for _ in range(2)]
    twins[1].value = twins[0].value
    for p, optimizer, factor in zip(twins, (fc.AdamW(0.5), fc.AdamW(0.05)), (0.1, 1.0), strict=True):
        p.grad = [1, 2, 3, 4]
        optimizer.step([p], factor)
    np.testing.assert_allclose(twins[0].value, twins[1].value, rtol=1e-15)


def test_a_rate_of_zero_changes_no_weight_but_the_memory(rng):
    p = parameter((4,), np.float32, rng)
    before = p.value.copy()
    p.grad = [1, 2, 3, 4]
    optimizer = fc.SGD(0.0, momentum=0.5)
    optimizer.step([p])
    np.testing.assert_array_equal(p.value, before)
    p.grad = np.zeros(4)
    optimizer.lr = 1.0
    optimizer.step([p])
    np.testing.assert_array_equal(p.value, before - np.float32([0.5, 1, 1.5, 2]))


def test_gradients_are_not_written_to(rng):
    for optimizer in (fc.SGD(0.1, 0.9, weight_decay=0.1), fc.Adam(0.1, weight_decay=0.1), fc.AdamW(0.1)):
        p = parameter((4,), np.float32, rng)
        p.grad = [1, 2, 3, 4]
        optimizer.step([p])
        np.testing.assert_array_equal(p.grad, [1, 2, 3, 4])


def test_adam_takes_a_gradient_of_zero_and_stops_at_nan(rng):
    p = parameter((3,), np.float32, rng)
    before = p.value.copy()
    p.grad = [0, np.nan, 0]
    fc.Adam().step([p])
    np.testing.assert_array_equal(p.value, [before[0], np.nan, before[2]])


def test_a_user_defined_optimizer():
    class SignSGD(fc.SGD):
        def update(self, parameters, lr):
            for _, grad, value in parameters.groups:
                value -= lr * np.sign(grad)

    p = fc.Parameter((2, 2), init.zeros)
    p.grad = [[1, -5], [0, 2]]
    SignSGD(0.5).step([p])
    np.testing.assert_array_equal(p.value, [[-0.5, 0.5], [0, -0.5]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fc.SGD(-1), "SGD: expected lr of at least 0, got -1"),
        (lambda: fc.SGD(np.nan), "SGD: expected lr of at least 0, got nan"),
        (lambda: fc.SGD("0.1"), "SGD: expected lr of at least 0, got '0.1'"),
        (lambda: fc.SGD(0.1, 1.0), "SGD: expected momentum of at least 0 and below 1, got 1.0"),
        (lambda: fc.SGD(0.1, nesterov=True), "SGD: expected a momentum above 0 with nesterov=True, got 0"),
        (lambda: fc.SGD(0.1, weight_decay=-0.1), "SGD: expected weight_decay of at least 0, got -0.1"),
        (lambda: fc.Adam(betas=(1.0, 0.9)), r"Adam: expected betas\[0\] of at least 0 and below 1, got 1.0"),
        (lambda: fc.AdamW(betas=(0.9, -0.1)), r"AdamW: expected betas\[1\] of at least 0 and below 1, got -0.1"),
        (lambda: fc.Adam(eps=-1e-8), "Adam: expected eps of at least 0, got -1e-08"),
    ],
)
def test_numbers_outside_their_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
