"""The optimisers: one step at a time against the oracle."""

import json
import re
from copy import deepcopy

import numpy as np
import pytest
from cases import assert_sum_close, each_float

import fastconv as fc
from fastconv import init, optim, reference
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
    options = 0.05, momentum, nesterov
    refs = reference.sgd(value, grad, velocity, *options, decay)
    moved = momentum * abs(velocity) + abs(grad) + decay * abs(value)
    step = moved + momentum * moved if nesterov else moved
    magnitudes = abs(value) + 0.05 * step, moved
    kernels.sgd(*Many([(velocity, grad, value)]).table, *options, np.array([decay]), 1.0)
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
    kernels.adam(
        *Many([(mean, square, grad, value)]).table,
        lr,
        beta1,
        beta2,
        eps,
        np.array([decay]),
        decoupled,
        *corrections,
        1.0,
    )
    for comp, ref, magnitude in zip((value, mean, square), refs, magnitudes, strict=True):
        assert_sum_close(comp, ref, magnitude, 10)


def test_a_kernel_step_in_float32_keeps_what_is_nearly_one(rng):
    """1 - beta2 is 0.001, of which float32's own 1 - 0.999 misses a hundred-thousandth."""
    value, grad, mean, square = (np.full(4, v, np.float32) for v in (0, 2, 0, 0))
    kernels.adam(
        *Many([(mean, square, grad, value)]).table, 1.0, 0.9, 0.999, 0.0, np.zeros(1), False, 0.1, 0.001**0.5, 1.0
    )
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
        def update(self, parameters, lr, scale):
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


@pytest.mark.parametrize("make", [fc.Adam, fc.AdamW, fc.Lion])
@pytest.mark.parametrize("betas", [0.9, None, (0.9,), (0.9, 0.99, 0.999), "ab"], ids=repr)
def test_betas_are_two_numbers(make, betas):
    message = rf"{make.__name__}: expected betas as two numbers, got {re.escape(repr(betas))}"
    with pytest.raises(TypeError, match=message):
        make(betas=betas)


# ------------------------------------------------------------------------------------------------ RMSprop and Lion


@each_float
@each_size
@pytest.mark.parametrize(("momentum", "centered"), [(0.0, False), (0.9, False), (0.5, True)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_rmsprop(size, momentum, centered, decay, dtype, rng):
    value, grad, mean, velocity, square = rng.standard_normal((5, size)).astype(dtype)
    square = square**2 + mean**2 + 1
    how = 0.01, 0.9, 1e-8, momentum, centered
    refs = reference.rmsprop(value, grad, square, mean, velocity, *how, decay)
    decays = np.array([decay])
    kernels.rmsprop(*Many([(mean, velocity, square, grad, value)]).table, *how, decays, 1.0)
    pull = abs(grad) + decay * abs(value)
    squares, means = 0.9 * square + 0.1 * pull**2, abs(mean) + pull
    # The root's argument is a difference of numbers of the size of the squares.
    spread = refs[1] - refs[2] ** 2 if centered else refs[1]
    velocities = momentum * abs(velocity) + pull / np.sqrt(spread) * (1 + (squares + means**2) / spread)
    magnitudes = abs(value) + 0.01 * velocities, squares, means, velocities
    for comp, ref, magnitude in zip((value, square, mean, velocity), refs, magnitudes, strict=True):
        assert_sum_close(comp, ref, magnitude, 10)


def test_a_constant_gradient_has_no_variance_but_no_nan_either(rng):
    p = parameter((50,), np.float32, rng)
    optimizer = fc.RMSprop(1e-3, alpha=0.5, centered=True)
    for _ in range(60):
        p.grad = np.linspace(0.1, 3, 50)
        optimizer.step([p])
    assert not np.isnan(p.value).any()


@each_float
@each_size
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lion(size, decay, dtype, rng):
    value, grad, mean = rng.standard_normal((3, size)).astype(dtype)
    grad[:1] = mean[:1] = 0  # which has no sign
    refs = reference.lion(value, grad, mean, 0.01, 0.9, 0.99, decay)
    magnitudes = abs(value) + 0.01, abs(mean) + abs(grad)
    kernels.lion(*Many([(mean, grad, value)]).table, 0.01, 0.9, 0.99, np.array([decay]), 1.0)
    for comp, ref, magnitude in zip((value, mean), refs, magnitudes, strict=True):
        assert_sum_close(comp, ref, magnitude, 8)


@each_float
@pytest.mark.parametrize(
    ("optimizer", "oracle", "memory"),
    [
        (fc.RMSprop(0.1), lambda w, g, *s: reference.rmsprop(w, g, *s, 0.1), 3),
        (
            fc.RMSprop(0.1, 0.8, 1e-3, 0.1, 0.5, True),
            lambda w, g, *s: reference.rmsprop(w, g, *s, 0.1, 0.8, 1e-3, 0.5, True, 0.1),
            3,
        ),
        (fc.Lion(0.1), lambda w, g, m: reference.lion(w, g, m, 0.1), 1),
        (fc.Lion(0.1, (0.5, 0.8), 0.2), lambda w, g, m: reference.lion(w, g, m, 0.1, 0.5, 0.8, 0.2), 1),
    ],
    ids=["rmsprop", "rmsprop with all options", "lion", "lion with all options"],
)
def test_ten_steps_of_rmsprop_and_lion(optimizer, oracle, memory, dtype, rng):
    optimizer = deepcopy(optimizer)
    parameters = [parameter((3, 4), dtype, rng), parameter((5,), dtype, rng)]
    states = [(p.value.copy(), *[np.zeros(p.shape)] * memory) for p in parameters]
    for _ in range(10):
        for number, p in enumerate(parameters):
            p.grad = rng.standard_normal(p.shape)
            states[number] = oracle(states[number][0], p.grad, *states[number][1:])
        optimizer.step(parameters)
    for p, state in zip(parameters, states, strict=True):
        np.testing.assert_allclose(p.value, state[0], rtol=0, atol=1000 * np.finfo(dtype).eps)


# -------------------------------------------------------------------------------------- who decays, and how far to go

MAKERS = {
    "sgd": lambda **how: fc.SGD(0.1, 0.9, True, **how),
    "adam": lambda **how: fc.Adam(0.1, **how),
    "adamw": lambda **how: fc.AdamW(0.1, **how),
    "rmsprop": lambda **how: fc.RMSprop(0.1, **how),
    "lion": lambda **how: fc.Lion(0.1, **how),
}
each_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def moved(parameters, optimizer, grads, factors=(1, 1)):
    """Return the values of copies of the parameters after a step with these gradients, and one with larger ones."""
    copies, optimizer = [deepcopy(p) for p in parameters], deepcopy(optimizer)
    for size, factor in zip((1, 3), factors, strict=True):
        for p, grad in zip(copies, grads, strict=True):
            p.grad = size * factor * grad
        optimizer.step(copies)
    return [p.value for p in copies]


@each_maker
def test_biases_and_norms_can_be_left_out_of_the_decay(make, rng):
    parameters = [parameter(shape, np.float32, rng) for shape in ((3, 4), (5,), (2, 1, 3, 3))]
    grads = [rng.standard_normal(p.shape) for p in parameters]
    by_decay = {
        (decay, strength): moved(parameters, make(decay=decay, weight_decay=strength), grads)
        for decay, strength in (("all", 0.0), ("all", 0.3), ("weights", 0.3))
    }
    none, everything, weights = by_decay.values()
    for number, p in enumerate(parameters):
        np.testing.assert_array_equal(weights[number], (everything if len(p.shape) > 1 else none)[number])
        assert (weights[number] != (none if len(p.shape) > 1 else everything)[number]).any()


@each_maker
@pytest.mark.parametrize("clip_norm", [0.5, 1e9])
def test_a_clipped_step_is_one_with_smaller_gradients(make, clip_norm, rng):
    parameters = [parameter(shape, np.float64, rng) for shape in ((30, 400), (5,))]
    grads = [rng.standard_normal(p.shape) for p in parameters]
    norm, factor = reference.clip_factor(grads, clip_norm)
    factors = factor, reference.clip_factor([3 * grad for grad in grads], clip_norm)[1]
    clipping = make(clip_norm=clip_norm, weight_decay=0.1)
    comp = moved(parameters, clipping, grads)
    ref = moved(parameters, make(weight_decay=0.1), grads, factors)
    for a, b in zip(comp, ref, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    for p, grad in zip(parameters, grads, strict=True):
        p.grad = grad
    clipping.step(parameters)
    np.testing.assert_allclose(clipping.norm, norm, rtol=1e-13)


@each_float
def test_norms_of_float32_do_not_overflow_and_both_dtypes_count(dtype, rng):
    parameters = [parameter((3,), np.float32, rng), parameter((4,), dtype, rng)]
    parameters[0].grad, parameters[1].grad = [3e30, 0, 0], np.full(4, 2e30)
    optimizer = fc.SGD(1e-30, clip_norm=1.0)
    optimizer.step(parameters)
    assert optimizer.norm == pytest.approx(5e30, rel=1e-6)


def test_the_norm_has_the_same_bits_at_any_thread_count(threads, rng):
    parameters = [parameter((400, 300), np.float32, rng), parameter((7,), np.float32, rng)]
    for p in parameters:
        p.grad = rng.standard_normal(p.shape)
    norms = set()
    for count in (1, 2, 3, 4) * 8:
        threads(count)
        optimizer = fc.SGD(0.0, clip_norm=1.0)
        optimizer.step(parameters)
        norms.add(optimizer.norm)
    assert len(norms) == 1


@pytest.mark.parametrize("planted", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_moves_nothing(planted, rng):
    parameters = [parameter((3,), np.float32, rng), parameter((4,), np.float32, rng)]
    before = [p.value.copy() for p in parameters]
    parameters[1].grad = [1, 2, planted, 4]
    optimizer = fc.Adam(0.1, clip_norm=1.0)
    optimizer.step(parameters)
    assert not np.isfinite(optimizer.norm)
    assert optimizer.steps == 0
    for p, value in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(p.value, value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fc.SGD(decay="biases"), "SGD: expected decay 'all' or 'weights', got 'biases'"),
        (lambda: fc.Lion(clip_norm=0), "Lion: expected clip_norm above 0, or None, got 0"),
        (lambda: fc.Adam(clip_norm=-1.0), "Adam: expected clip_norm of at least 0, got -1.0"),
        (lambda: fc.RMSprop(alpha=1), "RMSprop: expected alpha of at least 0 and below 1, got 1"),
        (lambda: fc.Lion(betas=(0.9, 1.0)), r"Lion: expected betas\[1\] of at least 0 and below 1, got 1.0"),
    ],
)
def test_options_outside_their_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", optim.NAMES)
def test_config_is_what_makes_the_same_again(name):
    made = optim.by_name(name, 0.125, 0.25, "weights", 2.0)
    config = json.loads(json.dumps(made.config()))
    assert (config["lr"], config["weight_decay"], config["decay"], config["clip_norm"]) == (0.125, 0.25, "weights", 2.0)
    assert type(made)(**config).config() == made.config()


@pytest.mark.parametrize(
    ("layer", "decaying"),
    [
        (lambda: fc.Linear(3, 4), {"weight"}),
        (lambda: fc.Conv2d(2, 2, 1), {"weight"}),
        (lambda: fc.BatchNorm2d(2), set()),
        (lambda: fc.GroupNorm(1, 2), set()),
        (lambda: fc.LayerNorm((2, 3, 3)), set()),
        (lambda: fc.PReLU(2), set()),
    ],
)
def test_neither_biases_nor_norms_decay_where_weights_alone_do(layer, decaying):
    layer = layer()
    before = {}
    for name, parameter in layer.own_parameters().items():
        parameter.value = np.full(parameter.shape, 2.0)
        before[name] = parameter.value.copy()
    fc.SGD(0.1, weight_decay=1.0, decay="weights").step(layer.parameters())
    after = layer.own_parameters()
    assert {name for name in before if not np.array_equal(before[name], after[name].value)} == decaying
