"""Records of what has no windows: curves, softmax, Linear, dropout, layers that change the shape or have branches."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

import fastconv as fc
from benchmarks.reliability.records.images import with_parameters
from benchmarks.reliability.records.record import Arrays, Expected, Options, Record, Sample, Shapes, batch, numbers
from fastconv import functional as F
from fastconv import reference
from fastconv.shapes import ShapeError

ROUNDINGS = 8
"""Of a curve: those of exp or of a polynomial, and of what is made of it; of the result, or of 1, where it cancels."""


def draw_any(rng: np.random.Generator) -> Sample:
    """Draw features, or images."""
    rest = numbers(rng, 1, 20, 1) if rng.integers(2) else numbers(rng, 1, 5, 3)
    return Sample({"x": (batch(rng), *rest)})


SHAPES = [(1, 1), (33, 1), (15, 3), (17, 2, 3, 1), (1, 1, 1, 1), (0, 3), (0, 2, 4, 4)]
BY_HAND = [Sample({"x": shape}) for shape in SHAPES]


def wide(rng: np.random.Generator, shape: tuple[int, ...], shapes: Shapes) -> np.ndarray:
    """Draw numbers over the whole range in which a curve bends, a few of them large, small or zero."""
    x = 3 * rng.standard_normal(shape)
    planted = rng.random(shape) < 0.1
    return np.where(planted, rng.choice([0.0, -0.0, 3.0, -3.0, 20.0, -20.0, 90.0, -90.0, 1e-30, -1e-30], shape), x)


def _curve(name: str, layer: str, torch: Callable[..., Any], option: str = "", values: Any = (), **more: Any) -> Record:
    """Return the record of a curve with at most one argument."""

    def draw(rng: np.random.Generator) -> Sample:
        drawn = draw_any(rng)
        return Sample(drawn.shapes, {option: values[int(rng.integers(len(values)))]} if option else {})

    def oracle(options: Options) -> tuple[str, float]:
        value = options.get(option, 0.0)
        return (f"{name}_tanh" if value == "tanh" else name), (0.0 if isinstance(value, str) else value)

    def forward(arrays: Arrays, options: Options) -> Expected:
        curve, number = oracle(options)
        value = reference.activation(curve, arrays["x"], number)
        return Expected(value, 1 + np.abs(value), ROUNDINGS)

    def backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
        curve, number = oracle(options)
        value = reference.activation_backward(dy, curve, arrays["x"], number)
        return {"x": Expected(value, np.abs(dy) + np.abs(value), ROUNDINGS)}

    first = {option: values[0]} if option else {}
    return Record(
        name,
        draw,
        [Sample({"x": shape}, first) for shape in SHAPES],
        forward,
        backward,
        [layer],
        lambda arrays, options: getattr(F, name)(**arrays, **options),
        lambda arrays, options: with_parameters(getattr(fc, layer)(**options), arrays),
        torch=lambda torch_, tensors, options: torch(torch_, tensors["x"], **options),
        torch_cancels=more.get("torch_cancels", 1.0),
        fill={"x": wide},
        refusals=[
            (lambda: getattr(F, name)(np.float64(1)), ShapeError, f"{name}: expected x with a batch axis"),
            (lambda: getattr(F, name)(np.array(["a"])), TypeError, f"{name}: expected x of float32 or float64"),
            *more.get("refusals", ()),
        ],
    )


CURVES = [
    _curve(
        "leaky_relu",
        "LeakyReLU",
        lambda torch, x, **options: torch.nn.functional.leaky_relu(x, **options),
        "negative_slope",
        (0.01, 0.2, -0.5, 2.0),
        refusals=[(lambda: F.leaky_relu(np.ones(3), np.nan), ValueError, "negative_slope as a finite number, got nan")],
    ),
    _curve(
        "elu",
        "ELU",
        lambda torch, x, **options: torch.nn.functional.elu(x, **options),
        "alpha",
        (1.0, 0.3, 2.0),
        refusals=[(lambda: F.elu(np.ones(3), np.inf), ValueError, "ELU: expected alpha as a finite number, got inf")],
    ),
    _curve("sigmoid", "Sigmoid", lambda torch, x: torch.sigmoid(x)),
    _curve("silu", "SiLU", lambda torch, x: torch.nn.functional.silu(x)),
    _curve(
        "gelu",
        "GELU",
        lambda torch, x, **options: torch.nn.functional.gelu(x, **options),
        "approximate",
        ("none", "tanh"),
        torch_cancels=4,  # 1 - tanh^2, times up to 11, where tanh is almost 1
        refusals=[(lambda: F.gelu(np.ones(3), "erf"), ValueError, "approximate as 'none' or 'tanh', got 'erf'")],
    ),
    _curve("tanh", "Tanh", lambda torch, x: torch.tanh(x)),
    _curve("hardswish", "Hardswish", lambda torch, x: torch.nn.functional.hardswish(x)),
]


def _relu_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    value = reference.relu_backward(dy, reference.relu(arrays["x"]))
    return {"x": Expected(value, np.abs(value), 0)}


def _relu_forward(arrays: Arrays, options: Options) -> Expected:
    value = reference.relu(arrays["x"])
    return Expected(value, np.abs(value), 0)


RELU = Record(
    "relu",
    draw_any,
    BY_HAND,
    _relu_forward,
    _relu_backward,
    ["ReLU"],
    lambda arrays, options: F.relu(**arrays),
    lambda arrays, options: with_parameters(fc.ReLU(), arrays),
    torch=lambda torch, tensors, options: torch.relu(tensors["x"]),
    fill={"x": wide},
    adjoint=("x",),
    exact=True,
    refusals=[(lambda: F.relu(np.float32(1)), ShapeError, "relu: expected x with a batch axis, got a single number")],
)


def _draw_prelu(rng: np.random.Generator) -> Sample:
    x = draw_any(rng).shapes["x"]
    return Sample({"x": x, "weight": (1,) if rng.integers(2) else (x[1],)})


def _prelu_forward(arrays: Arrays, options: Options) -> Expected:
    value = reference.prelu(arrays["x"], arrays["weight"])
    return Expected(value, np.abs(value), 1)


def _prelu_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    x, weight = arrays["x"], arrays["weight"]
    dx, dweight = reference.prelu_backward(dy, x, weight)
    _, magnitude = reference.prelu_backward(np.abs(dy), np.minimum(x, 0), weight)
    return {"x": Expected(dx, np.abs(dx), 1), "weight": Expected(dweight, np.abs(magnitude), x.size + 2)}


PRELU = Record(
    "prelu",
    _draw_prelu,
    [Sample({"x": shape, "weight": (shape[1],)}) for shape in SHAPES],
    _prelu_forward,
    _prelu_backward,
    ["PReLU"],
    lambda arrays, options: F.prelu(**arrays),
    lambda arrays, options: with_parameters(fc.PReLU(arrays["weight"].size), arrays),
    torch=lambda torch, tensors, options: torch.nn.functional.prelu(tensors["x"], tensors["weight"]),
    adjoint=("x",),
    exact=True,
    refusals=[
        (lambda: F.prelu(np.ones((2, 3)), np.ones(2)), ShapeError, "prelu: expected weight of shape (1,) or (3,)"),
        (lambda: fc.PReLU(2).forward(np.ones((2, 3))), ShapeError, "PReLU: expected x of shape (N, 2, ...)"),
    ],
)


# -------------------------------------------------------------------------------------------------------------- softmax


def _spread(x: np.ndarray) -> np.ndarray:
    """Return how far the logits of a row lie apart: exp moves a rounding of its argument into a relative error."""
    return x.max(1, keepdims=True, initial=-1e300) - x.min(1, keepdims=True, initial=1e300) + x.shape[1] + 8.0


def _softmax_forward(arrays: Arrays, options: Options) -> Expected:
    value = reference.softmax(arrays["x"])
    return Expected(value, value * _spread(arrays["x"]), 1)


def _softmax_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    x = arrays["x"]
    y = reference.softmax(x)
    value = reference.softmax_backward(dy, y)
    magnitude = y * (np.abs(dy) + (y * np.abs(dy)).sum(1, keepdims=True)) * _spread(x)
    return {"x": Expected(value, magnitude, 3)}


def _log_softmax_forward(arrays: Arrays, options: Options) -> Expected:
    value = reference.log_softmax(arrays["x"])
    return Expected(value, np.abs(value) + _spread(arrays["x"]), 1)


def _log_softmax_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    y = reference.log_softmax(arrays["x"])
    value = reference.log_softmax_backward(dy, y)
    # exp of a logarithm that was rounded to the dtype.
    magnitude = np.abs(dy) + np.exp(y) * np.abs(dy).sum(1, keepdims=True) * (1 + np.abs(y) + _spread(arrays["x"]))
    return {"x": Expected(value, magnitude, 3)}


def _softmax(name: str, layer: str, forward: Any, backward: Any) -> Record:
    return Record(
        name,
        draw_any,
        BY_HAND,
        forward,
        backward,
        [layer],
        lambda arrays, options: getattr(F, name)(**arrays),
        lambda arrays, options: with_parameters(getattr(fc, layer)(), arrays),
        torch=lambda torch, tensors, options: getattr(torch, name)(tensors["x"], 1),
        fill={"x": lambda rng, shape, shapes: rng.choice([1.0, 3.0, 30.0]) * rng.standard_normal(shape)},
        refusals=[(lambda: getattr(F, name)(np.float64(1)), ShapeError, f"{name}: expected x with a batch axis")],
    )


# --------------------------------------------------------------------------------------------------------------- Linear


def _draw_linear(rng: np.random.Generator) -> Sample:
    inputs, outputs = numbers(rng, 1, 40)
    shapes = {"x": (batch(rng), inputs), "weight": (outputs, inputs)}
    return Sample(shapes | ({"bias": (outputs,)} if rng.integers(2) else {}))


def _linear_forward(arrays: Arrays, options: Options) -> Expected:
    value, magnitude = (reference.linear(**{k: f(v) for k, v in arrays.items()}) for f in (np.asarray, np.abs))
    return Expected(value, magnitude, arrays["x"].shape[1] + 1)


def _linear_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    x, weight = arrays["x"], arrays["weight"]
    found = reference.linear_backward(dy, x, weight), reference.linear_backward(*map(np.abs, (dy, x, weight)))
    parts = zip(("x", "weight", "bias"), *found, (len(weight), len(x), len(x)), strict=True)
    return {name: Expected(*rest) for name, *rest in parts if name in arrays}


def _linear_layer(arrays: Arrays, options: Options) -> fc.Layer:
    outputs, inputs = arrays["weight"].shape
    return with_parameters(fc.Linear(inputs, outputs, "bias" in arrays), arrays)


LINEAR = Record(
    "linear",
    _draw_linear,
    [
        Sample({"x": (n, i), "weight": (j, i), "bias": (j,)})
        for n, i, j in ((1, 1, 1), (17, 33, 5), (33, 1, 3), (15, 2, 1), (0, 3, 2), (64, 40, 12))
    ],
    _linear_forward,
    _linear_backward,
    ["Linear"],
    lambda arrays, options: F.linear(**arrays),
    _linear_layer,
    torch=lambda torch, tensors, options: torch.nn.functional.linear(*tensors.values()),
    linear=("x", "weight"),
    adjoint=("x", "weight"),
    exact=True,
    refusals=[
        (lambda: F.linear(np.ones((2, 3)), np.ones((4, 2))), ShapeError, "linear: expected x of shape (N, 2)"),
        (lambda: F.linear(np.ones((2, 3)), np.ones((4, 3)), np.ones(3)), ShapeError, "expected bias of shape (4,)"),
        (lambda: F.linear(np.ones((2, 3)), np.ones(3)), ShapeError, "linear: expected x of shape (N, in_features)"),
    ],
)


# ----------------------------------------------------------------------------- layers whose output is made of the input


def _moved_only(name: str, layer: Any, numpy: Any, draw: Any, by_hand: Any, torch: Any, refusals: Any) -> Record:
    """Return the record of a layer that only gives the numbers another place."""

    def forward(arrays: Arrays, options: Options) -> Expected:
        value = numpy(arrays["x"], options)
        return Expected(value, np.abs(value), 0)

    def backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
        value = dy.reshape(arrays["x"].shape)
        return {"x": Expected(value, np.abs(value), 0)}

    return Record(
        name,
        draw,
        by_hand,
        forward,
        backward,
        layer=lambda arrays, options: with_parameters(layer(options), arrays),
        torch=torch,
        linear=("x",),
        adjoint=("x",),
        exact=True,
        refusals=refusals,
    )


def _draw_reshape(rng: np.random.Generator) -> Sample:
    shape = numbers(rng, 1, 4, 3)
    to = [*rng.permutation(shape).tolist()] if rng.integers(2) else [prod(shape)]
    if rng.integers(2):
        to[int(rng.integers(len(to)))] = -1
    return Sample({"x": (batch(rng), *shape)}, {"shape": tuple(to)})


FLATTEN = _moved_only(
    "Flatten",
    lambda options: fc.Flatten(),
    lambda x, options: x.reshape(len(x), prod(x.shape[1:])),
    draw_any,
    BY_HAND,
    lambda torch, tensors, options: torch.flatten(tensors["x"], 1),
    [(lambda: fc.Flatten().forward(np.ones(3)), ShapeError, "Flatten: expected x of shape")],
)
RESHAPE = _moved_only(
    "Reshape",
    lambda options: fc.Reshape(*options["shape"]),
    lambda x, options: x.reshape(len(x), *_whole(x.shape[1:], options["shape"])),
    _draw_reshape,
    [Sample({"x": (17, 2, 3, 4)}, {"shape": (4, -1, 2)}), Sample({"x": (0, 6)}, {"shape": (1, 2, 3)})],
    lambda torch, tensors, options: tensors["x"].reshape(-1, *_whole(tensors["x"].shape[1:], options["shape"])),
    [
        (lambda: fc.Reshape(2, 0), ShapeError, "Reshape: expected one to three whole numbers of at least 1"),
        (lambda: fc.Reshape(4).forward(np.ones((2, 3))), ShapeError, "Reshape: expected x with 4 values an image"),
    ],
)


def _whole(shape: Any, to: tuple[int, ...]) -> tuple[int, ...]:
    known = prod(size for size in to if size > 0)
    return tuple(prod(shape) // known if size < 0 else size for size in to)


def _branches(name: str, make: Any, join: Any, split: Any, torch: Any) -> Record:
    """Return the record of a layer whose branches are the input itself, or a ReLU."""

    def forward(arrays: Arrays, options: Options) -> Expected:
        x = arrays["x"]
        value = join(x, reference.relu(x))
        return Expected(value, np.abs(value), 1)

    def backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
        x = arrays["x"]
        first, second = split(dy, x.shape[1])
        value = first + reference.relu_backward(second, reference.relu(x))
        return {"x": Expected(value, np.abs(first) + np.abs(second), 1)}

    return Record(
        name,
        draw_any,
        BY_HAND,
        forward,
        backward,
        layer=lambda arrays, options: with_parameters(make(), arrays),
        torch=lambda torch_, tensors, options: torch(torch_, tensors["x"], torch_.relu(tensors["x"])),
        adjoint=("x",),
        exact=True,
        refusals=[(lambda: getattr(fc, name)(1, 2), TypeError, f"{name}: expected layers, got int as branch 0")],
    )


def _both(dy: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    return dy, dy


SLOPE_ONE = 1.0  # LeakyReLU with this slope passes its input on
BRANCHES = [
    _branches("Residual", lambda: fc.Residual(fc.ReLU()), np.add, _both, lambda torch, x, y: x + y),
    _branches(
        "Parallel", lambda: fc.Parallel(fc.LeakyReLU(SLOPE_ONE), fc.ReLU()), np.add, _both, lambda torch, x, y: x + y
    ),
    _branches(
        "Concat",
        lambda: fc.Concat(fc.LeakyReLU(SLOPE_ONE), fc.ReLU()),
        lambda x, y: np.concatenate([x, y], 1),
        lambda dy, channels: (dy[:, :channels], dy[:, channels:]),
        lambda torch, x, y: torch.cat([x, y], 1),
    ),
]

# -------------------------------------------------------------------------------------------------------------- dropout


def _dropout(name: str) -> Record:
    """Return the record of a dropout, whose oracle takes the random numbers from the layer's own mask of ones."""

    def draw(rng: np.random.Generator) -> Sample:
        x = draw_any(rng).shapes["x"] if name == "Dropout" else (batch(rng), *numbers(rng, 1, 5, 3))
        return Sample({"x": x}, {"p": float(rng.choice([0.0, 0.1, 0.5, 0.9])), "seed": int(rng.integers(2**31))})

    def mask(shape: tuple[int, ...], dtype: np.dtype, options: Options) -> np.ndarray:
        kept = getattr(fc, name)(**options).to(dtype).forward(np.ones(shape, dtype), training=True)
        scale = dtype.type(1 / (1 - options["p"]))
        if not np.isin(kept, [0, scale]).all():
            raise AssertionError(f"{name}: something else than 0 and {scale} in the mask {np.unique(kept)}")
        if name == "Dropout2d" and kept.size and (kept != kept[:, :, :1, :1]).any():
            raise AssertionError("Dropout2d: a channel was dropped in part")
        return kept.astype(np.float64)

    def forward(arrays: Arrays, options: Options) -> Expected:
        value = arrays["x"] * mask(arrays["x"].shape, np.dtype(np.float64), options)
        return Expected(value, np.abs(value), 2)

    def backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
        value = dy * mask(dy.shape, np.dtype(np.float64), options)
        return {"x": Expected(value, np.abs(value), 2)}

    shapes = SHAPES if name == "Dropout" else [shape for shape in SHAPES if len(shape) == 4]
    return Record(
        name,
        draw,
        [Sample({"x": shape}, {"p": 0.5, "seed": 1}) for shape in shapes],
        forward,
        backward,
        layer=lambda arrays, options: with_parameters(getattr(fc, name)(**options), arrays),
        adjoint=("x",),
        linear=("x",),
        apart=False,  # the mask belongs to the place
        refusals=[
            (lambda: getattr(fc, name)(1.0), ValueError, f"{name}: expected p of at least 0 and below 1, got 1.0")
        ],
    )


RECORDS = [
    RELU,
    *CURVES,
    PRELU,
    _softmax("softmax", "Softmax", _softmax_forward, _softmax_backward),
    _softmax("log_softmax", "LogSoftmax", _log_softmax_forward, _log_softmax_backward),
    LINEAR,
    FLATTEN,
    RESHAPE,
    *BRANCHES,
    _dropout("Dropout"),
    _dropout("Dropout2d"),
]
