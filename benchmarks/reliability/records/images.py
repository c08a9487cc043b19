"""Records of what slides windows over images: convolutions, poolings, padding, resizing."""

from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv as fc
from benchmarks.reliability.records.record import Arrays, Expected, Options, Record, Sample, absolute, batch, numbers
from fastconv import functional as F
from fastconv import reference
from fastconv.layers import Layer
from fastconv.shapes import ShapeError


def with_parameters(layer: Layer, arrays: Arrays) -> Layer:
    """Return the layer in the arrays' dtype, with those that are called as its parameters."""
    layer.to(next(iter(arrays.values())).dtype)
    for name, parameter in layer.named_parameters():
        parameter.value = arrays[name]
    return layer


# ---------------------------------------------------------------------------------------------------------- convolution


def draw_conv2d(rng: np.random.Generator) -> Sample:
    """Draw a convolution whose filter fits, of each kind that has kernels of its own."""
    kind = str(rng.choice(["any", "any", "any", "winograd", "wide", "pointwise", "depthwise"]))
    n, groups, per_group, filters = batch(rng), *numbers(rng, 1, 3, 3)
    taps, stride, dilation = numbers(rng, 1, 4), numbers(rng, 1, 3), numbers(rng, 1, 3)
    above, below, left, right = numbers(rng, 0, 2, 4)
    mode = str(rng.choice(["zeros", "zeros", "reflect", "replicate", "circular"]))
    if kind == "winograd":
        n, groups, per_group, filters = min(n, 3), 1, 15 + per_group, 15 + filters
        taps, stride, dilation, mode = (3, 3), (1, 1), (1, 1), "zeros"
        below, right = above, left
    elif kind == "wide":  # where the gradient to the filters is Winograd's too
        n, groups, per_group, filters = 9 + n % 9, 1, 27 + per_group, 27 + filters
        taps, stride, dilation, mode, above, below, left, right = (3, 3), (1, 1), (1, 1), "zeros", 1, 1, 1, 1
    elif kind == "pointwise":
        groups, taps, stride, dilation, mode = 1, (1, 1), (1, 1), (1, 1), "zeros"
        above = below = left = right = 0
    elif kind == "depthwise":
        groups, per_group, filters = groups + 1, 1, 1
    size = []
    for k, d, around in zip(taps, dilation, ((above, below), (left, right)), strict=True):
        span = d * (k - 1) + 1 - (0 if mode in ("reflect", "circular") else sum(around))
        least = max(1, span, *((a + 1 for a in around) if mode in ("reflect", "circular") else ()))
        if kind == "wide":
            size.append(int(rng.choice([7, 8, 12])))
        elif kind == "winograd":  # the image, or the output, is of a size that patches cover with little waste
            size.append(int(rng.choice([4, 7, 8, 12])) + int(rng.integers(2)) * (2 - sum(around)))
        else:
            size.append(least + int(rng.integers(0, 5)))
    weight = filters * groups, per_group, *taps
    options = {
        "stride": stride,
        "padding": ((above, below), (left, right)),
        "dilation": dilation,
        "groups": groups,
        "padding_mode": mode,
    }
    return _convolution((n, groups * per_group, *size), weight, options, bool(rng.integers(2)))


def _convolution(x: tuple[int, ...], weight: tuple[int, ...], options: Options, bias: bool = True) -> Sample:
    shapes = {"x": x, "weight": weight} | ({"bias": (weight[0],)} if bias else {})
    return Sample(shapes, options)


def _shared(magnitude: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the magnitude by which sums of 3x3 filters are rounded: perhaps in patches, whose outputs share it.

    So an output of few terms, as at the edge of padding, may be as wrong as one of many: docs/backprop.md.
    """
    if weight.shape[2:] != (3, 3) or not magnitude.size:
        return magnitude
    return np.broadcast_to(magnitude.max((2, 3), keepdims=True), magnitude.shape)


def _conv2d_forward(arrays: Arrays, options: Options) -> Expected:
    value, magnitude = (reference.conv2d(**each, **options) for each in (arrays, absolute(arrays)))
    return Expected(value, _shared(magnitude, arrays["weight"]), arrays["weight"][0].size + 1)


def _conv2d_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    def gradients(dy: np.ndarray, x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, ...]:
        return (
            reference.conv2d_backward_input(dy, weight, x.shape, **options),
            reference.conv2d_backward_filter(dy, x, weight.shape, **options),
            reference.conv2d_backward_bias(dy),
        )

    x, weight = arrays["x"], arrays["weight"]
    # Padding other than with zeros gives a pixel the gradients of its copies too.
    copies = 1 if options.get("padding_mode", "zeros") == "zeros" else 9
    terms = copies * weight[:, 0].size, dy[:, 0].size, dy[:, 0].size
    values = gradients(dy, x, weight)
    by_x, by_weight, by_bias = gradients(np.abs(dy), np.abs(x), np.abs(weight))
    magnitudes = _shared(by_x, weight), _shared(by_weight, weight), by_bias
    parts = zip(("x", "weight", "bias"), values, magnitudes, terms, strict=True)
    return {name: Expected(*rest) for name, *rest in parts if name in arrays}


def _conv2d_layer(arrays: Arrays, options: Options) -> Layer:
    filters, channels, *taps = arrays["weight"].shape
    made = fc.Conv2d(channels * options["groups"], filters, (taps[0], taps[1]), **options, bias="bias" in arrays)
    return with_parameters(made, arrays)


def _conv2d_torch(torch: Any, tensors: Any, options: Options) -> Any:
    rest = dict(options)
    (above, below), (left, right) = rest.pop("padding")
    mode = rest.pop("padding_mode")
    around = (left, right, above, below)
    x = torch.nn.functional.pad(tensors["x"], around, mode="constant" if mode == "zeros" else mode)
    return torch.nn.functional.conv2d(x, tensors["weight"], tensors.get("bias"), **rest)


def _conv2d_moved(sample: Sample) -> tuple[Sample, tuple[int, int]]:
    options = dict(sample.options) | {"padding": ((0, 0), (0, 0)), "padding_mode": "zeros"}
    n, channels, height, width = sample.shapes["x"]
    down, across = options["stride"]
    shapes = dict(sample.shapes) | {"x": (n, channels, height + 4 + down, width + 4 + across)}
    return Sample(shapes, options), (down, across)


def _how(stride: Any = (1, 1), padding: Any = ((0, 0), (0, 0)), dilation: Any = (1, 1), groups: int = 1) -> Options:
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": "zeros"}


X = np.zeros((2, 3, 5, 6))
CONV2D = Record(
    "conv2d",
    draw_conv2d,
    [
        _convolution((1, 1, 1, 1), (1, 1, 1, 1), _how()),
        _convolution((17, 2, 8, 9), (3, 2, 3, 2), _how(stride=(3, 4))),  # strides that do not tile
        _convolution((0, 2, 4, 5), (3, 2, 3, 2), _how()),
        _convolution((33, 1, 5, 3), (2, 1, 4, 2), _how(padding=((2, 1), (0, 3)))),
        _convolution((2, 2, 2, 3), (3, 2, 4, 5), _how(padding=((2, 2), (1, 1)))),  # larger than the image
    ],
    _conv2d_forward,
    _conv2d_backward,
    ["Conv2d"],
    lambda arrays, options: F.conv2d(**arrays, **options),
    _conv2d_layer,
    torch=_conv2d_torch,
    linear=("x", "weight"),
    adjoint=("x", "weight"),
    exact=True,
    moved=_conv2d_moved,
    refusals=[
        (lambda: F.conv2d(X, np.zeros((2, 4, 3, 3))), ShapeError, "conv2d: expected x of shape (N, 4, H, W)"),
        (lambda: F.conv2d(X, np.zeros((2, 3, 7, 3))), ShapeError, "does not fit an input of height 5"),
        (lambda: F.conv2d(X, np.zeros((2, 3, 3))), ShapeError, "conv2d: expected weight of shape (F, C/groups"),
        (lambda: F.conv2d(X, np.zeros((2, 3, 3, 3)), np.zeros(3)), ShapeError, "expected bias of shape (2,)"),
        (lambda: F.conv2d(X.astype(complex), np.zeros((2, 3, 3, 3))), TypeError, "expected x of float32 or float64"),
        (lambda: F.conv2d(X, np.zeros((2, 3, 3, 3)), padding_mode="x"), ValueError, "expected padding_mode as one of"),
        (lambda: F.conv2d(X, np.zeros((2, 3, 3, 3)), stride=0), ShapeError, "at least 1, got 0"),
    ],
)


def _conv2d_gradient(arrays: Arrays, options: Options) -> Expected:
    found = _conv2d_backward(arrays["dy"], {"x": arrays["x"], "weight": arrays["weight"]}, options)
    return found["x"]


def _conv2d_gradient_torch(torch: Any, tensors: Any, options: Options) -> Any:
    x = tensors["x"].requires_grad_()
    y = _conv2d_torch(torch, {"x": x, "weight": tensors["weight"]}, options)
    return torch.autograd.grad(y, x, tensors["dy"])[0]


def _draw_conv2d_backward(rng: np.random.Generator) -> Sample:
    return _with_dy(draw_conv2d(rng))


def _with_dy(sample: Sample) -> Sample:
    arrays = {name: np.zeros(shape) for name, shape in sample.shapes.items()}
    out = F.conv2d(**arrays, **sample.options).shape
    return Sample({"dy": out, "x": sample.shapes["x"], "weight": sample.shapes["weight"]}, sample.options)


CONV2D_BACKWARD = Record(
    "conv2d_backward",
    _draw_conv2d_backward,
    [_with_dy(sample) for sample in CONV2D.by_hand],
    _conv2d_gradient,
    lambda dy, arrays, options: {},
    function=lambda arrays, options: F.conv2d_backward(**arrays, **options)[0],
    torch=_conv2d_gradient_torch,
    linear=("dy", "weight"),
    exact=True,
    apart=False,
    refusals=[
        (
            lambda: F.conv2d_backward(np.zeros((2, 2, 3, 3)), X, np.zeros((2, 3, 3, 3))),
            ShapeError,
            "conv2d_backward: expected dy of shape (2, 2, 3, 4), got (2, 2, 3, 3)",
        )
    ],
)


def _draw_conv1d(rng: np.random.Generator) -> Sample:
    groups, per_group, filters, taps = *numbers(rng, 1, 3, 3), int(rng.integers(1, 6))
    stride, dilation, padding = (int(n) for n in (rng.integers(1, 4), rng.integers(1, 4), rng.integers(0, 3)))
    length = max(1, dilation * (taps - 1) + 1 - 2 * padding) + int(rng.integers(0, 7))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x = batch(rng), groups * per_group, length
    return _convolution(x, (filters * groups, per_group, taps), options, bool(rng.integers(2)))


def _plain1d(stride: int = 1, padding: int = 0) -> Options:
    return {"stride": stride, "padding": padding, "dilation": 1, "groups": 1}


def _conv1d_forward(arrays: Arrays, options: Options) -> Expected:
    value, magnitude = (reference.conv1d(**each, **options) for each in (arrays, absolute(arrays)))
    return Expected(value, magnitude, arrays["weight"][0].size + 1)


def _three(backward: Callable[..., Any], dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    """Return gradients by an oracle that gives them to x, weight and bias."""
    x, weight = arrays["x"], arrays["weight"]
    values = backward(dy, x, weight, **options)
    by_x, by_weight, by_bias = backward(np.abs(dy), np.abs(x), np.abs(weight), **options)
    magnitudes = _shared(by_x, weight), _shared(by_weight, weight), by_bias
    terms = weight.size, dy[:, 0].size + x[:, 0].size, dy[:, 0].size
    parts = zip(("x", "weight", "bias"), values, magnitudes, terms, strict=True)
    return {name: Expected(*rest) for name, *rest in parts if name in arrays}


def _conv1d_layer(arrays: Arrays, options: Options) -> Layer:
    filters, channels, taps = arrays["weight"].shape
    made = fc.Conv1d(channels * options["groups"], filters, taps, **options, bias="bias" in arrays)
    return with_parameters(made, arrays)


def _torch_as(name: str) -> Callable[[Any, Any, Options], Any]:
    """Return PyTorch's function of that name, whose first argument has no name in common with ours."""

    def call(torch: Any, tensors: Any, options: Options) -> Any:
        first, *rest = tensors
        return getattr(torch.nn.functional, name)(tensors[first], **{key: tensors[key] for key in rest}, **options)

    return call


CONV1D = Record(
    "conv1d",
    _draw_conv1d,
    [
        _convolution((1, 1, 1), (1, 1, 1), _plain1d()),
        _convolution((17, 2, 11), (3, 2, 3), _plain1d(stride=4)),
        _convolution((0, 2, 5), (3, 2, 3), _plain1d()),
        _convolution((33, 1, 2), (2, 1, 5), _plain1d(padding=2)),
    ],
    _conv1d_forward,
    lambda dy, arrays, options: _three(reference.conv1d_backward, dy, arrays, options),
    ["Conv1d"],
    lambda arrays, options: F.conv1d(**arrays, **options),
    _conv1d_layer,
    torch=_torch_as("conv1d"),
    linear=("x", "weight"),
    adjoint=("x", "weight"),
    exact=True,
    refusals=[
        (lambda: F.conv1d(X[0], np.zeros((2, 4, 3))), ShapeError, "Conv1d: expected x of shape (N, 4, L)"),
        (lambda: F.conv1d(X, np.zeros((2, 3, 3))), ShapeError, "Conv1d: expected x of shape (N, 3, L)"),
        (
            lambda: F.conv1d(X[0], np.zeros((2, 5, 3, 1))),
            ShapeError,
            "conv1d: expected weight of shape (F, C/groups, K)",
        ),
    ],
)


def _draw_transposed(rng: np.random.Generator) -> Sample:
    groups, channels, per_group = numbers(rng, 1, 3, 3)
    taps, stride, dilation = numbers(rng, 1, 4), numbers(rng, 1, 3), numbers(rng, 1, 3)
    size, more, padding = numbers(rng, 1, 5), [], []
    for k, s, d, length in zip(taps, stride, dilation, size, strict=True):
        more.append(int(rng.integers(0, max(s, d))))
        span = (length - 1) * s + d * (k - 1) + 1 + more[-1]
        padding.append(int(rng.integers(0, min(3, (span - 1) // 2 + 1))))
    options = {
        "stride": stride,
        "padding": tuple(padding),
        "output_padding": tuple(more),
        "groups": groups,
        "dilation": dilation,
    }
    return _transposed((batch(rng), channels * groups, *size), (channels * groups, per_group, *taps), options)


def _transposed(x: tuple[int, ...], weight: tuple[int, ...], options: Options) -> Sample:
    return Sample({"x": x, "weight": weight, "bias": (weight[1] * options.get("groups", 1),)}, options)


def _transposed_forward(arrays: Arrays, options: Options) -> Expected:
    value, magnitude = (reference.conv_transpose2d(**each, **options) for each in (arrays, absolute(arrays)))
    return Expected(value, _shared(magnitude, arrays["weight"]), arrays["weight"][:, 0].size + 1)


def _transposed_layer(arrays: Arrays, options: Options) -> Layer:
    channels, filters, *taps = arrays["weight"].shape
    made = fc.ConvTranspose2d(
        channels, filters * options.get("groups", 1), (taps[0], taps[1]), **options, bias="bias" in arrays
    )
    return with_parameters(made, arrays)


CONV_TRANSPOSE2D = Record(
    "conv_transpose2d",
    _draw_transposed,
    [
        _transposed((1, 1, 1, 1), (1, 1, 1, 1), {}),
        _transposed((17, 2, 3, 4), (2, 3, 2, 3), {"stride": (3, 2), "output_padding": (2, 1)}),
        _transposed((0, 2, 3, 4), (2, 3, 2, 3), {}),
        _transposed((33, 1, 2, 3), (1, 2, 3, 2), {"padding": (1, 0), "dilation": (1, 2)}),
    ],
    _transposed_forward,
    lambda dy, arrays, options: _three(reference.conv_transpose2d_backward, dy, arrays, options),
    ["ConvTranspose2d"],
    lambda arrays, options: F.conv_transpose2d(**arrays, **options),
    _transposed_layer,
    torch=_torch_as("conv_transpose2d"),
    linear=("x", "weight"),
    adjoint=("x", "weight"),
    exact=True,
    refusals=[
        (lambda: F.conv_transpose2d(X, np.zeros((4, 2, 3, 3))), ShapeError, "expected x of shape (N, 4, H, W)"),
        (lambda: F.conv_transpose2d(X, np.zeros((3, 2, 3, 3)), padding=9), ShapeError, "conv_transpose2d: an input"),
        (lambda: F.conv_transpose2d(X, np.zeros((3, 2, 3, 3)), output_padding=1), ShapeError, "output_padding below"),
    ],
)


# -------------------------------------------------------------------------------------------------------------- pooling


def _draw_pool(rng: np.random.Generator) -> Sample:
    window, stride, beyond = numbers(rng, 1, 4), numbers(rng, 1, 4), numbers(rng, 0, 4)
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in window)
    size = [max(1, k - 2 * p) + b for k, p, b in zip(window, padding, beyond, strict=True)]
    ceil = bool(rng.integers(2))
    return _pool((batch(rng), int(rng.integers(1, 4)), *size), window, stride, padding, ceil)


def _draw_avg_pool(rng: np.random.Generator) -> Sample:
    drawn = _draw_pool(rng)
    return Sample(drawn.shapes, dict(drawn.options) | {"count_include_pad": bool(rng.integers(2))})


def _pool(x: tuple[int, ...], window: Any, stride: Any = None, padding: Any = (0, 0), ceil: bool = False) -> Sample:
    stride = window if stride is None else stride
    options = {"kernel_size": window, "stride": stride, "padding": padding, "ceil_mode": ceil}
    return Sample({"x": x}, options)


POOLS = [
    _pool((1, 1, 1, 1), (1, 1)),
    _pool((1, 1, 1, 1), (2, 2), (2, 2), (1, 1)),
    _pool((17, 2, 7, 8), (2, 3)),
    _pool((33, 1, 5, 6), (3, 4), (2, 3), (1, 2), True),
    _pool((0, 2, 4, 4), (2, 2)),
]


def _max_pool_forward(arrays: Arrays, options: Options) -> Expected:
    value, _ = reference.max_pool2d(arrays["x"], **options)
    return Expected(value, np.abs(value), 0)


def _overlaps(options: Options) -> int:
    """Return how many windows a pixel may be in."""
    return int(np.prod([-(-k // s) for k, s in zip(options["kernel_size"], options["stride"], strict=True)]))


def _max_pool_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    x = arrays["x"]
    _, index = reference.max_pool2d(x, **options)
    value, magnitude = (reference.max_pool2d_backward(each, index, x.shape) for each in (dy, np.abs(dy)))
    return {"x": Expected(value, magnitude, _overlaps(options))}


def _pool_moved(sample: Sample) -> tuple[Sample, tuple[int, int]]:
    options = dict(sample.options) | {"padding": (0, 0), "ceil_mode": False}
    n, channels, height, width = sample.shapes["x"]
    (kh, kw), (down, across) = options["kernel_size"], options["stride"]
    return Sample({"x": (n, channels, height + kh + down, width + kw + across)}, options), (down, across)


MAX_POOL2D = Record(
    "max_pool2d",
    _draw_pool,
    POOLS,
    _max_pool_forward,
    _max_pool_backward,
    ["MaxPool2d"],
    lambda arrays, options: F.max_pool2d(**arrays, **options),
    lambda arrays, options: with_parameters(fc.MaxPool2d(**options), arrays),
    torch=_torch_as("max_pool2d"),
    adjoint=("x",),
    exact=True,
    moved=_pool_moved,
    refusals=[
        (lambda: F.max_pool2d(X, 7), ShapeError, "MaxPool2d: a window of height 7 does not fit an input of height 5"),
        (lambda: F.max_pool2d(X, 2, padding=2), ShapeError, "expected padding of at most half the window's height 2"),
        (lambda: F.max_pool2d(X[0], 2), ShapeError, "expected x of shape (N, C, H, W), got (3, 5, 6)"),
        (lambda: F.max_pool2d(X, 0), ShapeError, "expected kernel_size as one or two whole numbers of at least 1"),
        (lambda: F.max_pool2d(X, 2, 0), ShapeError, "expected stride as one or two whole numbers of at least 1"),
    ],
)


def _avg_pool_forward(arrays: Arrays, options: Options) -> Expected:
    value, magnitude = (reference.avg_pool2d(**each, **options) for each in (arrays, absolute(arrays)))
    return Expected(value, magnitude, np.prod(options["kernel_size"]) + 1)


def _avg_pool_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    shape = arrays["x"].shape
    value, magnitude = (reference.avg_pool2d_backward(each, shape, **options) for each in (dy, np.abs(dy)))
    return {"x": Expected(value, magnitude, _overlaps(options) + 2)}


AVG_POOL2D = Record(
    "avg_pool2d",
    _draw_avg_pool,
    [Sample(s.shapes, dict(s.options) | {"count_include_pad": c}) for s in POOLS for c in (False, True)],
    _avg_pool_forward,
    _avg_pool_backward,
    ["AvgPool2d"],
    lambda arrays, options: F.avg_pool2d(**arrays, **options),
    lambda arrays, options: with_parameters(fc.AvgPool2d(**options), arrays),
    torch=_torch_as("avg_pool2d"),
    moved=_pool_moved,
    refusals=[
        (
            lambda: F.avg_pool2d(X, (2, 7)),
            ShapeError,
            "AvgPool2d: a window of width 7 does not fit an input of width 6",
        ),
        (lambda: F.avg_pool2d(X, 3, padding=2), ShapeError, "padding of at most half the window's height 3, got 2"),
    ],
)


def _draw_adaptive(rng: np.random.Generator) -> Sample:
    return Sample({"x": (batch(rng), *numbers(rng, 1, 7, 3))}, {"output_size": numbers(rng, 1, 7)})


ADAPTIVE = [
    Sample({"x": (1, 1, 1, 1)}, {"output_size": (1, 1)}),
    Sample({"x": (17, 2, 5, 3)}, {"output_size": (3, 7)}),
    Sample({"x": (33, 1, 7, 4)}, {"output_size": (1, 1)}),
    Sample({"x": (0, 2, 3, 4)}, {"output_size": (2, 2)}),
]


def _adaptive_layer(kind: str) -> Callable[[Arrays, Options], Layer]:
    def make(arrays: Arrays, options: Options) -> Layer:
        if options["output_size"] == (1, 1):  # the layer for whole images, which has no argument
            return with_parameters(getattr(fc, f"Global{kind}Pool2d")(), arrays)
        return with_parameters(getattr(fc, f"Adaptive{kind}Pool2d")(**options), arrays)

    return make


def _adaptive_avg_forward(arrays: Arrays, options: Options) -> Expected:
    x, size = arrays["x"], options["output_size"]
    value, magnitude = (reference.adaptive_avg_pool2d(each, size) for each in (x, np.abs(x)))
    return Expected(value, magnitude, x.shape[2] * x.shape[3] + 1)


def _adaptive_avg_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    x = arrays["x"]
    value, magnitude = (reference.adaptive_avg_pool2d_backward(each, x.shape) for each in (dy, np.abs(dy)))
    return {"x": Expected(value, magnitude, dy.shape[2] * dy.shape[3] + 2)}


ADAPTIVE_AVG_POOL2D = Record(
    "adaptive_avg_pool2d",
    _draw_adaptive,
    ADAPTIVE,
    _adaptive_avg_forward,
    _adaptive_avg_backward,
    ["AdaptiveAvgPool2d", "GlobalAvgPool2d"],
    lambda arrays, options: F.adaptive_avg_pool2d(**arrays, **options),
    _adaptive_layer("Avg"),
    torch=_torch_as("adaptive_avg_pool2d"),
    refusals=[(lambda: F.adaptive_avg_pool2d(X, 0), ShapeError, "AdaptiveAvgPool2d: expected output_size as one or")],
)


def _adaptive_max_forward(arrays: Arrays, options: Options) -> Expected:
    value, _ = reference.adaptive_max_pool2d(arrays["x"], options["output_size"])
    return Expected(value, np.abs(value), 0)


def _adaptive_max_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    x = arrays["x"]
    _, index = reference.adaptive_max_pool2d(x, options["output_size"])
    value, magnitude = (reference.max_pool2d_backward(each, index, x.shape) for each in (dy, np.abs(dy)))
    return {"x": Expected(value, magnitude, dy.shape[2] * dy.shape[3])}


ADAPTIVE_MAX_POOL2D = Record(
    "adaptive_max_pool2d",
    _draw_adaptive,
    ADAPTIVE,
    _adaptive_max_forward,
    _adaptive_max_backward,
    ["AdaptiveMaxPool2d", "GlobalMaxPool2d"],
    lambda arrays, options: F.adaptive_max_pool2d(**arrays, **options),
    _adaptive_layer("Max"),
    torch=_torch_as("adaptive_max_pool2d"),
    adjoint=("x",),
    exact=True,
    refusals=[(lambda: F.adaptive_max_pool2d(X[0], 1), ShapeError, "expected x of shape (N, C, H, W)")],
)


# ------------------------------------------------------------------------------------------------- padding and resizing


def _draw_pad(rng: np.random.Generator) -> Sample:
    mode = str(rng.choice(F.PADDING_MODES))
    low = -2 if mode == "constant" else 0
    left, right, above, below = numbers(rng, low, 3, 4)
    size = [
        max(1 - min(0, a) - min(0, b), a + 1, b + 1) + int(rng.integers(0, 4))
        for a, b in ((above, below), (left, right))
    ]
    options = {"pad": (left, right, above, below), "mode": mode} | ({"value": 2.0} if mode == "constant" else {})
    return Sample({"x": (batch(rng), int(rng.integers(1, 4)), *size)}, options)


def _pad_forward(arrays: Arrays, options: Options) -> Expected:
    value = reference.pad(arrays["x"], **options)
    return Expected(value, np.abs(value), 0)


def _pad_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    shape, how = arrays["x"].shape, (options["pad"], options["mode"])
    value, magnitude = (reference.pad_backward(each, shape, *how) for each in (dy, np.abs(dy)))
    return {"x": Expected(value, magnitude, 16)}  # the most copies of a pixel


PAD = Record(
    "pad",
    _draw_pad,
    [
        Sample({"x": (1, 1, 1, 1)}, {"pad": (0, 0, 0, 0)}),
        Sample({"x": (17, 2, 3, 4)}, {"pad": (2, -1, 0, 3), "value": 7.0}),
        Sample({"x": (33, 1, 3, 2)}, {"pad": (1, 1, 2, 2), "mode": "reflect"}),
        Sample({"x": (15, 1, 3, 2)}, {"pad": (2, 2, 3, 1), "mode": "circular"}),
        Sample({"x": (0, 1, 3, 2)}, {"pad": (2, 2, 3, 1), "mode": "replicate"}),
    ],
    _pad_forward,
    lambda dy, arrays, options: {},  # padding is trained as a part of Conv2d
    function=lambda arrays, options: F.pad(**arrays, **options),
    torch=_torch_as("pad"),
    refusals=[
        (lambda: F.pad(X, (1, 1, 1)), ShapeError, "pad: expected four whole numbers (left, right, above, below)"),
        (lambda: F.pad(X, (6, 0, 0, 0), "reflect"), ShapeError, "pad: expected reflect padding of at most 5"),
        (lambda: F.pad(X, (-3, -3, 0, 0)), ShapeError, "leaves nothing of an input of width 6"),
        (lambda: F.pad(X, (1, 1, 1, 1), "edge"), ValueError, "pad: expected mode as one of"),
    ],
)
ZERO_PAD2D = Record(
    "ZeroPad2d",
    lambda rng: Sample({"x": (batch(rng), *numbers(rng, 1, 5, 3))}, {"pad": numbers(rng, 0, 3, 4), "mode": "constant"}),
    [
        Sample({"x": (17, 1, 1, 1)}, {"pad": (0, 0, 0, 0), "mode": "constant"}),
        Sample({"x": (0, 2, 3, 4)}, {"pad": (1, 0, 2, 0), "mode": "constant"}),
    ],
    _pad_forward,
    _pad_backward,
    layer=lambda arrays, options: with_parameters(fc.ZeroPad2d(options["pad"]), arrays),
    torch=_torch_as("pad"),
    linear=("x",),
    adjoint=("x",),
    exact=True,
    refusals=[
        (lambda: fc.ZeroPad2d(-1), ShapeError, "ZeroPad2d: expected padding as one whole number of at least 0"),
        (lambda: fc.ZeroPad2d(1).forward(X[0]), ShapeError, "ZeroPad2d: expected x of shape (N, C, H, W)"),
    ],
)


def _draw_resized(rng: np.random.Generator) -> Sample:
    mode = str(rng.choice(["nearest", "bilinear"]))
    options: dict[str, Any] = {"mode": mode, "align_corners": mode == "bilinear" and bool(rng.integers(2))}
    x = batch(rng), *numbers(rng, 1, 7, 3)
    if rng.integers(2):
        options["size"] = numbers(rng, 1, 12)
    else:
        options["scale_factor"] = tuple(float(rng.choice([0.5, 1.0, 1.3, 2.0, 2.7, 3.0])) for _ in range(2))
        x = x[0], x[1], *(max(2, length) for length in x[2:])
    return Sample({"x": x}, options)


def _resize(arrays: Arrays, options: Options) -> tuple[tuple[int, int], tuple[Any, ...]]:
    shape, scales = arrays["x"].shape[2:], options.get("scale_factor", (None, None))
    size = options.get("size") or tuple(int(length * scale) for length, scale in zip(shape, scales, strict=True))
    return size, (scales, options["mode"], options["align_corners"])


def _resized_forward(arrays: Arrays, options: Options) -> Expected:
    x, (size, how) = arrays["x"], _resize(arrays, options)
    value = reference.interpolate(x, size, *how)
    # A position is rounded like a number as large as the image, and moves a weight by as much.
    units = 0 if options["mode"] == "nearest" else 8 + 4 * max(*x.shape[2:], *size)
    return Expected(value, np.full(value.shape, np.abs(x).max(initial=0)), units)


def _resized_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    x, (_, how) = arrays["x"], _resize(arrays, options)
    value = reference.interpolate_backward(dy, x.shape, *how)
    magnitude = np.full(x.shape, np.abs(dy).sum((2, 3)).max(initial=0))
    return {"x": Expected(value, magnitude, 8 + 4 * max(*x.shape[2:], *dy.shape[2:]))}


def _resized_torch(torch: Any, tensors: Any, options: Options) -> Any:
    rest = dict(options)
    if not rest.pop("align_corners"):
        return torch.nn.functional.interpolate(tensors["x"], **rest)
    return torch.nn.functional.interpolate(tensors["x"], **rest, align_corners=True)


INTERPOLATE = Record(
    "interpolate",
    _draw_resized,
    [
        Sample({"x": (1, 1, 1, 1)}, {"size": (1, 1), "mode": "bilinear", "align_corners": True}),
        Sample({"x": (17, 1, 2, 3)}, {"scale_factor": (2.0, 2.0), "mode": "nearest", "align_corners": False}),
        Sample({"x": (33, 2, 5, 1)}, {"size": (3, 4), "mode": "bilinear", "align_corners": False}),
        Sample({"x": (0, 2, 3, 4)}, {"size": (2, 2), "mode": "nearest", "align_corners": False}),
    ],
    _resized_forward,
    _resized_backward,
    ["Upsample"],
    lambda arrays, options: F.interpolate(**arrays, **options),
    lambda arrays, options: with_parameters(fc.Upsample(**options), arrays),
    torch=_resized_torch,
    refusals=[
        (lambda: F.interpolate(X), ValueError, "Upsample: expected either size or scale_factor, got None and None"),
        (
            lambda: F.interpolate(X, 2, mode="cubic"),
            ValueError,
            "expected mode as 'nearest' or 'bilinear', got 'cubic'",
        ),
        (lambda: F.interpolate(X, scale_factor=0.1), ShapeError, "Upsample: nothing is left of x of shape"),
        (
            lambda: F.interpolate(X, scale_factor=-1.0),
            ValueError,
            "expected scale_factor as one or two numbers above 0",
        ),
    ],
)

RECORDS = [
    CONV2D,
    CONV2D_BACKWARD,
    CONV1D,
    CONV_TRANSPOSE2D,
    MAX_POOL2D,
    AVG_POOL2D,
    ADAPTIVE_AVG_POOL2D,
    ADAPTIVE_MAX_POOL2D,
    PAD,
    ZERO_PAD2D,
    INTERPOLATE,
]
