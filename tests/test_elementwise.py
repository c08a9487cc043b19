"""Activations that are a curve of one number, and PReLU, against the oracle; and the functions beneath them."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from cases import assert_sum_close, each_float

import fastconv as fc
from benchmarks import polynomials
from fastconv import functional as F
from fastconv import reference
from fastconv.layers import Workspace
from fastconv_kernels import exponential, exponential32, precision
from fastconv_kernels.exponential import exp, expm1, normal, tanh

SHAPES = [(1, 1), (15, 3), (16, 2), (33, 2), (17, 2, 3, 1), (2, 1, 1, 1), (0, 3), (0, 2, 4, 4)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)

# layer, function, name in the oracle, its number
CURVES = {
    "leaky relu": (lambda: fc.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2), "leaky_relu", 0.2),
    "leaky relu, negative": (lambda: fc.LeakyReLU(-0.2), lambda x: F.leaky_relu(x, -0.2), "leaky_relu", -0.2),
    "elu": (lambda: fc.ELU(0.7), lambda x: F.elu(x, 0.7), "elu", 0.7),
    "sigmoid": (fc.Sigmoid, F.sigmoid, "sigmoid", 0.0),
    "silu": (fc.SiLU, F.silu, "silu", 0.0),
    "gelu": (fc.GELU, F.gelu, "gelu", 0.0),
    "gelu by tanh": (lambda: fc.GELU("tanh"), lambda x: F.gelu(x, "tanh"), "gelu_tanh", 0.0),
    "tanh": (fc.Tanh, F.tanh, "tanh", 0.0),
    "hardswish": (fc.Hardswish, F.hardswish, "hardswish", 0.0),
}
each_curve = pytest.mark.parametrize(("make", "function", "name", "number"), CURVES.values(), ids=CURVES.keys())


def close(comp, ref, dtype, units):
    """Compare with ``units`` roundings of the result, or of 1, which is what sums within a curve round."""
    np.testing.assert_allclose(comp, ref, rtol=units * np.finfo(dtype).eps, atol=units * np.finfo(dtype).eps)


@each_float
@each_shape
@each_curve
def test_curve(make, function, name, number, shape, dtype, rng):
    x, dy = (3 * rng.standard_normal(shape)).astype(dtype), rng.standard_normal(shape).astype(dtype)
    layer = make().to(dtype)
    y = layer.forward(x, training=True)
    assert y.dtype == dtype
    close(y, reference.activation(name, x, number), dtype, 8)
    np.testing.assert_array_equal(function(x), y)
    if shape[0]:
        close(layer.backward(dy), reference.activation_backward(dy, name, x, number), dtype, 8)


@each_float
@each_curve
def test_curve_of_special_values(make, function, name, number, dtype):
    """Where the oracle is finite; infinities and NaN are compared with PyTorch."""
    tiny = np.finfo(dtype).smallest_subnormal
    values = [0, -0.0, tiny, -tiny, 3, -3, np.nextafter(3, 4), 20, -20, 37.7, -37.7, 100, -100, 800, -800, 1e30, -1e30]
    x = np.tile(np.array(values, dtype), (17, 1))
    layer = make().to(dtype)
    y = layer.forward(x, training=True)
    ref = reference.activation(name, x, number)
    np.testing.assert_allclose(y, ref, rtol=8 * np.finfo(dtype).eps, atol=1e-15)
    dx = layer.backward(np.ones_like(x))
    slopes = reference.activation_backward(np.ones_like(x), name, x, number)
    close(dx[np.isfinite(slopes)], slopes[np.isfinite(slopes)], dtype, 8)
    assert not np.isnan(dx).any()


@pytest.mark.parametrize("name", ["leaky_relu", "elu", "sigmoid", "silu", "gelu", "tanh", "hardswish"])
def test_nan_stays_nan_and_alone(name):
    x = np.zeros((17, 3), np.float32)
    x[16, 1] = np.nan
    assert np.argwhere(np.isnan(getattr(F, name)(x))).tolist() == [[16, 1]]


@each_curve
def test_gradients_are_zero_in_lanes_without_an_image(make, function, name, number, rng):
    """Whatever these lanes hold: here, infinities and NaN."""
    layer, work = make(), Workspace(np.float32)
    layer.plan((17, 3), work)
    x, dy = work.empty((17, 3)), work.empty((17, 3))
    x.array[...], dy.array[...] = np.nan, 0
    x.array[0], x.array[1, :, 0], x.array[1, :, 1:5] = 1, 2, np.inf
    layer.forward_blocks(x, work, training=True)
    assert not layer.backward_blocks(dy, work, need_dx=True).array[1, :, 1:].any()


@pytest.mark.parametrize("shape", [(5,), (3, 4, 5), (2, 1, 2, 3, 2)], ids=str)
def test_functions_take_any_number_of_axes(shape, rng):
    x = rng.standard_normal(shape)
    close(F.silu(x), reference.activation("silu", x), np.float64, 4)
    weight = np.array([0.3])
    close(F.prelu(x, weight), reference.activation("leaky_relu", x, 0.3), np.float64, 1)


@pytest.mark.parametrize("make", [fc.LeakyReLU, fc.ELU, lambda value: fc.PReLU(1, value)])
@pytest.mark.parametrize("value", [np.nan, np.inf, True, "1", None])
def test_numbers_that_are_none_are_refused(make, value):
    with pytest.raises(ValueError, match=r"(negative_slope|alpha|init) as a finite number, got "):
        make(value)


def test_gelu_has_two_forms():
    with pytest.raises(ValueError, match="GELU: expected approximate as 'none' or 'tanh', got 'sigmoid'"):
        fc.GELU("sigmoid")
    x = np.linspace(-6, 6, 301)
    difference = abs(F.gelu(x) - F.gelu(x, "tanh")).max()
    assert 1e-4 < difference < 5e-4


# ---------------------------------------------------------------------------------------------------------- PReLU


@each_float
@pytest.mark.parametrize("shape", [(1, 1), (17, 3), (33, 2, 3, 1), (16, 1, 2, 2), (2, 4, 1, 5)], ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_prelu(shape, shared, dtype, rng):
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    weight = rng.standard_normal(1 if shared else shape[1]).astype(dtype)
    layer = fc.PReLU(weight.size).to(dtype)
    layer.weight.value = weight
    close(layer.forward(x, training=True), reference.prelu(x, weight), dtype, 1)
    np.testing.assert_array_equal(F.prelu(x, weight), layer(x))
    dx, dweight = reference.prelu_backward(dy, x, weight)
    layer.forward(x, training=True)
    close(layer.backward(dy), dx, dtype, 1)
    _, magnitude = reference.prelu_backward(abs(dy), -abs(np.minimum(x, 0)), weight)
    assert_sum_close(layer.weight.grad, dweight, abs(magnitude), x.size // weight.size + 2)


def test_prelu_counts_the_images_alone():
    """What lies in the lanes behind them reaches no gradient."""
    layer, work = fc.PReLU(), Workspace(np.float32)
    layer.plan((17, 3), work)
    x, dy = work.empty((17, 3)), work.empty((17, 3))
    x.array[...], dy.array[...] = -1, 0
    x.array[1, :, 1:], dy.array[0], dy.array[1, :, 0] = np.nan, 1, 1
    layer.forward_blocks(x, work, training=True)
    assert not layer.backward_blocks(dy, work, need_dx=True).array[1, :, 1:].any()
    assert layer.weight.grad == -17 * 3


def test_prelu_in_a_model_learns(rng):
    model = fc.Sequential(fc.Conv2d(1, 2, 3), fc.PReLU(2), fc.Flatten(), fc.Linear(8, 2))
    x, labels = rng.standard_normal((17, 1, 4, 4)).astype(np.float32), rng.integers(0, 2, 17)
    before = model.state_dict()["1.weight"]
    np.testing.assert_array_equal(before, np.float32([0.25, 0.25]))
    fc.train_step(model, fc.CrossEntropyLoss(), fc.SGD(0.1), x, labels)
    assert (model.state_dict()["1.weight"] != before).all()


def test_prelu_refuses_what_does_not_fit():
    with pytest.raises(fc.ShapeError, match="num_parameters as a whole number of at least 1, got 0"):
        fc.PReLU(0)
    with pytest.raises(fc.ShapeError, match=r"PReLU: expected x of shape \(N, 3, \.\.\.\), got \(2, 4\)"):
        fc.PReLU(3)(np.zeros((2, 4)))
    with pytest.raises(fc.ShapeError, match=r"prelu: expected weight of shape \(1,\) or \(4,\), got \(3,\)"):
        F.prelu(np.zeros((2, 4)), np.zeros(3))


# ------------------------------------------------------------------------------- functions of exponential.py


def exact(name, x):
    """Return e**x - 1, tanh(x), Phi(x) or its density to 40 digits, from Decimal's exponential."""
    with localcontext() as context:
        context.prec = 300  # Phi's series has terms as large as exp(x**2 / 2) for a result as small as its inverse
        v = Decimal(float(x))
        if name == "expm1":
            return v.exp() - 1
        if name == "tanh":
            return ((2 * v).exp() - 1) / ((2 * v).exp() + 1)
        pi = Decimal(
            "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798"
            "214808651328230664709384460955058223172535940812848111745028410270193852110555964462294895493038196442881"
            "097566593344612847564823378678316527120190914564856692346034861045432664821339360726024914127372458700660"
        )
        density = (-v * v / 2).exp() / (2 * pi).sqrt()
        if name == "density":
            return density
        term, total, n = v, v, 1
        while abs(term) > Decimal(10) ** -290:
            n += 2
            term *= v * v / n
            total += term
        return Decimal("0.5") + density * total


def units(comp, ref):
    """Return the difference in units of the last place."""
    return float(abs(Decimal(float(comp)) - ref) / Decimal(float(np.spacing(abs(float(ref))))))


FUNCTIONS = {
    "expm1": (expm1, 3, (-40, 700)),
    "tanh": (tanh, 3, (-20, 20)),
    "phi": (lambda x: normal(x)[0], 6, (-22, 8)),
    "density": (lambda x: normal(x)[1], 3, (-37, 37)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_right_to_a_few_units_in_the_last_place(name, rng):
    function, most, ends = FUNCTIONS[name]
    near_zero = np.exp(rng.uniform(-40, 0, 20))
    for x in [*rng.uniform(*ends, 40), *rng.uniform(-2, 2, 40), *near_zero, *-near_zero]:
        assert units(function(x), exact(name, x)) <= most, x


def test_functions_are_those_of_the_mathematics_library(rng):
    for x in rng.uniform(-5, 5, 200):
        assert math.isclose(tanh(x), math.tanh(x), rel_tol=1e-15)
        assert math.isclose(expm1(x), math.expm1(x), rel_tol=1e-15)
        assert math.isclose(2 * normal(x * math.sqrt(2))[0] - 1, math.erf(x), rel_tol=1e-14, abs_tol=4e-16)
        assert math.isclose(normal(x)[0], math.erfc(-x / math.sqrt(2)) / 2, rel_tol=1e-14)


def test_functions_at_the_ends():
    inf, nan = np.inf, np.nan
    ends = [0.0, -0.0, -inf, -1e300, 1e300, inf, nan]
    np.testing.assert_array_equal([exp(x) for x in ends], [1, 1, 0, 0, inf, inf, nan])
    np.testing.assert_array_equal([expm1(x) for x in ends], [0, 0, -1, -1, inf, inf, nan])
    np.testing.assert_array_equal([tanh(x) for x in ends], [0, 0, -1, -1, 1, 1, nan])
    np.testing.assert_array_equal([normal(x)[0] for x in ends], [0.5, 0.5, 0, 0, 1, 1, nan])
    assert [normal(x)[1] for x in (-inf, -38.0, 1e300)] == [0, 0, 0]


# ----------------------------------------------------------------------------- functions of exponential32.py

UNITS = {"decay": 1.1, "expm1": 2, "tanh": 3, "phi": 6, "density": 3}  # what the docstrings promise
SINGLE = {
    "decay": (exponential32.decay, exponential.exp, (-104, 0)),
    "expm1": (exponential32.expm1, exponential.expm1, (-20, 88)),
    "tanh": (exponential32.tanh, exponential.tanh, (-12, 12)),
    "phi": (lambda x: exponential32.normal(x)[0], lambda x: exponential.normal(x)[0], (-15, 8)),
    "density": (lambda x: exponential32.normal(x)[1], lambda x: exponential.normal(x)[1], (-15, 15)),
}


@pytest.mark.parametrize("name", SINGLE)
def test_functions_of_float32_are_right_to_a_few_units(name, rng):
    """Against those of float64; uniformly over the range, and over all exponents, so denormal results are there too."""
    single, double, (low, high) = SINGLE[name]
    n = 2000
    sizes = np.exp(rng.uniform(-90, math.log(max(-low, high)), n))
    x = np.concatenate([rng.uniform(low, high, n), rng.uniform(-1, 1, n), sizes, -sizes]).astype(np.float32)
    x = x[(x >= low) & (x <= high)]
    comp = np.array([single(v) for v in x])
    assert (comp.astype(np.float32) == comp).all()
    ref = np.array([double(float(v)) for v in x])
    error = abs(comp - ref) / np.spacing(abs(ref).astype(np.float32)).astype(float)
    assert error.max() <= UNITS[name], x[error.argmax()]


def test_functions_of_float32_at_the_ends():
    def of(function, *values):
        return [function(np.float32(value)) for value in values]

    inf, nan, tiny = np.inf, np.nan, np.float32(1e-45)
    np.testing.assert_array_equal(
        of(exponential32.decay, 0, -0.0, -tiny, -104, -1e30, -inf, nan), [1, 1, 1, 0, 0, 0, nan]
    )
    assert of(exponential32.decay, -103.9) == [tiny]
    np.testing.assert_array_equal(
        of(exponential32.expm1, 0, tiny, -tiny, -1e30, -inf, nan), [0, tiny, -tiny, -1, -1, nan]
    )
    np.testing.assert_array_equal(of(exponential32.tanh, 0, -tiny, -1e30, -inf, inf, nan), [0, -tiny, -1, -1, 1, nan])
    phi, density = zip(*of(exponential32.normal, 0, -inf, inf, -1e30, 1e30, nan), strict=True)
    np.testing.assert_array_equal(phi, [0.5, 0, 1, 0, 1, nan])
    np.testing.assert_allclose(density, [1 / math.sqrt(2 * math.pi), 0, 0, 0, 0, nan], rtol=1e-7)


def test_functions_of_float32_do_not_fall_where_the_mathematics_rises(rng):
    """Between neighbours a few thousandths apart, further than the errors reach."""
    x = np.arange(-100, 0, 0.003).astype(np.float32)
    for name, part in (("decay", x), ("expm1", x[x > -10]), ("tanh", x[x > -4]), ("phi", x[x > -12])):
        values = np.array([SINGLE[name][0](v) for v in part])
        assert (values[1:] >= values[:-1]).all(), name


def test_float32_curves_are_computed_in_float32_and_float64_ones_in_float64():
    """Not a mixture: a plain 1.0 in a kernel would make it float64."""
    x = np.linspace(-8, 8, 997)
    for function, name in ((F.silu, "silu"), (F.gelu, "gelu"), (F.tanh, "tanh"), (F.elu, "elu")):
        ref = reference.activation(name, x, 1.0)
        assert 1e-9 < abs(function(x.astype(np.float32)) - reference.activation(name, x.astype(np.float32), 1.0)).max()
        assert abs(function(x) - ref).max() < 1e-14


def test_the_exponential_of_a_rounded_difference_is_that_of_the_exact_one(rng):
    a, b = -(10.0 ** rng.uniform(-3, 1.9, 500)).astype(np.float32), rng.uniform(0, 20, 500).astype(np.float32)
    comp = np.array([precision.decay_to(*pair) for pair in zip(a, b, strict=True)])
    np.testing.assert_allclose(comp, np.exp(a.astype(float) - b), rtol=2 * np.finfo(np.float32).eps, atol=1e-38)


def test_the_polynomials_are_those_of_the_command():
    for name, fitted in polynomials.fitted().items():
        np.testing.assert_allclose(fitted, getattr(exponential32, name), rtol=1e-4, atol=1e-9)
