"""Stateless operations on ordinary NumPy arrays, with the names and meanings of ``torch.nn.functional``.

Each one checks its arguments, lays them out as lane blocks, calls the kernel, and returns a new array.  Arrays are
float32 or float64 (others are converted to float32); where two come together, the wider wins.
"""

from collections.abc import Callable

import numpy as np

from fastconv import blocks, shapes
from fastconv.blocks import Blocks, planes
from fastconv.layers import (
    ELU,
    GELU,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    Conv2d,
    Hardswish,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    PReLU,
    Sigmoid,
    SiLU,
    Tanh,
    Upsample,
    ZeroPad2d,
)
from fastconv.losses import CrossEntropyLoss, MSELoss
from fastconv.shapes import ShapeError
from fastconv_kernels import activation, loss
from fastconv_kernels.tile import LANES

IntPair = int | tuple[int, int]
OutputSize = int | None | tuple[int | None, int | None]


def _together(operation: str, **arrays: object) -> list[np.ndarray]:
    """Convert arrays to one float dtype."""
    converted = [blocks.as_float(operation, name, array) for name, array in arrays.items()]
    return [array.astype(np.result_type(*converted), copy=False) for array in converted]


def _apply(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Run a throw-away layer on x, in x's dtype."""
    return layer.to(x.dtype).forward(x)


def _with_weights(layer: Conv2d | Linear, weight: np.ndarray, bias: np.ndarray | None) -> Layer:
    layer.to(weight.dtype)
    layer.weight.value = weight
    if layer.bias is not None and bias is not None:
        layer.bias.value = bias
    return layer


def _conv_layer(
    weight: np.ndarray, bias: bool, stride: IntPair, padding: IntPair, dilation: IntPair, groups: int
) -> Conv2d:
    if weight.ndim != 4 or min(weight.shape) < 1:
        raise ShapeError(f"conv2d: expected weight of shape (F, C/groups, KH, KW), got {weight.shape}")
    filters, channels, *taps = weight.shape
    return Conv2d(channels * groups, filters, (taps[0], taps[1]), stride, padding, dilation, groups, bias)


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> np.ndarray:
    """Slide filters over images (cross-correlation).  Equation (1) of docs/backprop.md.

    Parameters
    ----------
    x : float[N, C, H, W]
    weight : float[F, C/groups, KH, KW]
    bias : float[F] or None
    stride, padding, dilation : int or (vertical, horizontal)
    groups : int

    Returns
    -------
    float[N, F, OH, OW]
        OH = floor((H + 2 ph - dh (KH - 1) - 1) / sh) + 1, and OW alike: equation (5).

    Raises
    ------
    ShapeError
        If the shapes do not belong together.
    TypeError
        If an array does not hold real numbers.
    """
    if bias is None:
        x, weight = _together("conv2d", x=x, weight=weight)
    else:
        x, weight, bias = _together("conv2d", x=x, weight=weight, bias=bias)
        shapes.bias("conv2d", bias.shape, weight.shape[0] if weight.ndim else 0)
    layer = _conv_layer(weight, bias is not None, stride, padding, dilation, groups)
    if x.ndim != 4:
        layer.output_shape(x.shape)  # says what is wrong
    return _apply(_with_weights(layer, weight, bias), x)


def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of ``conv2d`` to x, weight and bias.  Equations (3), (2) and (4) of docs/backprop.md.

    Parameters
    ----------
    dy : float[N, F, OH, OW]
        The upstream gradient.
    x, weight, stride, padding, dilation, groups
        As in ``conv2d``.

    Raises
    ------
    ShapeError, TypeError
        As in ``conv2d``, or if dy does not have the output's shape.
    """
    dy, x, weight = _together("conv2d_backward", dy=dy, x=x, weight=weight)
    layer = _conv_layer(weight, True, stride, padding, dilation, groups)
    expected = layer.output_shape(x.shape)
    if dy.shape != expected:
        raise ShapeError(f"conv2d_backward: expected dy of shape {expected}, got {dy.shape}")
    if x.shape[0] == 0:
        return np.zeros_like(x), np.zeros_like(weight), np.zeros(weight.shape[0], weight.dtype)
    _with_weights(layer, weight, None)
    layer.forward(x, training=True)
    assert layer.bias is not None
    return layer.backward(dy), layer.weight.grad, layer.bias.grad


def max_pool2d(
    x: np.ndarray, kernel_size: IntPair, stride: IntPair | None = None, padding: IntPair = 0, ceil_mode: bool = False
) -> np.ndarray:
    """Take the maximum of each window of x, float[N, C, H, W]; arguments and errors as in ``MaxPool2d``."""
    (x,) = _together("max_pool2d", x=x)
    return _apply(MaxPool2d(kernel_size, stride, padding, ceil_mode), x)


def avg_pool2d(
    x: np.ndarray,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Take the average of each window of x, float[N, C, H, W]; arguments and errors as in ``AvgPool2d``."""
    (x,) = _together("avg_pool2d", x=x)
    return _apply(AvgPool2d(kernel_size, stride, padding, ceil_mode, count_include_pad), x)


def adaptive_avg_pool2d(x: np.ndarray, output_size: OutputSize) -> np.ndarray:
    """Take averages that share out x, float[N, C, H, W]; arguments and errors as in ``AdaptiveAvgPool2d``."""
    (x,) = _together("adaptive_avg_pool2d", x=x)
    return _apply(AdaptiveAvgPool2d(output_size), x)


def adaptive_max_pool2d(x: np.ndarray, output_size: OutputSize) -> np.ndarray:
    """Take maxima that share out x, float[N, C, H, W]; arguments and errors as in ``AdaptiveMaxPool2d``."""
    (x,) = _together("adaptive_max_pool2d", x=x)
    return _apply(AdaptiveMaxPool2d(output_size), x)


def interpolate(
    x: np.ndarray,
    size: IntPair | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> np.ndarray:
    """Give x, float[N, C, H, W], another height and width; arguments and errors as in ``Upsample``."""
    (x,) = _together("interpolate", x=x)
    return _apply(Upsample(size, scale_factor, mode, align_corners), x)


def pad(x: np.ndarray, padding: int | tuple[int, int, int, int]) -> np.ndarray:
    """Put zeros around x, float[N, C, H, W]; arguments and errors as in ``ZeroPad2d``."""
    (x,) = _together("pad", x=x)
    return _apply(ZeroPad2d(padding), x)


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Return x W^T + b.  Equation (11) of docs/backprop.md.

    Parameters
    ----------
    x : float[N, I]
    weight : float[J, I]
    bias : float[J] or None

    Raises
    ------
    ShapeError, TypeError
        If the arrays do not belong together or do not hold real numbers.
    """
    if bias is None:
        x, weight = _together("linear", x=x, weight=weight)
    else:
        x, weight, bias = _together("linear", x=x, weight=weight, bias=bias)
        shapes.bias("linear", bias.shape, weight.shape[0] if weight.ndim else 0)
    shapes.linear(x.shape, weight.shape)
    return _apply(_with_weights(Linear(weight.shape[1], weight.shape[0], bias is not None), weight, bias), x)


def _elementwise(operation: str, x: np.ndarray, compute: Callable[[Blocks, Blocks], None]) -> np.ndarray:
    """Apply a kernel to an array of any shape of at least one axis, the first being the batch."""
    (x,) = _together(operation, x=x)
    if x.ndim == 0 or x.size == 0:
        if x.ndim == 0:
            raise ShapeError(f"{operation}: expected x with a batch axis, got a single number")
        return x.copy()
    rows = x.reshape(x.shape[0], x.shape[1] if x.ndim > 1 else 1, -1, 1)
    packed = blocks.pack(rows, blocks.empty(rows.shape, x.dtype))
    y = blocks.empty(rows.shape, x.dtype)
    compute(packed, y)
    return blocks.unpack(y).reshape(x.shape)


def relu(x: np.ndarray) -> np.ndarray:
    """Return max(0, x), NaN where x is NaN.  Equation (15) of docs/backprop.md."""
    return _elementwise(
        "relu",
        x,
        lambda a, b: activation.relu_forward(
            a.array.reshape(len(a.array), -1, LANES), b.array.reshape(len(b.array), -1, LANES)
        ),
    )


def leaky_relu(x: np.ndarray, negative_slope: float = 0.01) -> np.ndarray:
    """Return x where it is positive, else negative_slope x.  Equation (41) of docs/backprop.md."""
    return _elementwise("leaky_relu", x, LeakyReLU(negative_slope).apply)


def prelu(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return x where it is positive, else w x.  Equation (41) of docs/backprop.md.

    Parameters
    ----------
    x : float[N, C, ...]
    weight : float[1] or float[C]

    Raises
    ------
    ShapeError, TypeError
        If the arrays do not belong together or do not hold real numbers.
    """
    x, weight = _together("prelu", x=x, weight=weight)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.shape not in ((1,), (channels,)):
        raise ShapeError(f"prelu: expected weight of shape (1,) or ({channels},), got {weight.shape}")
    layer = PReLU(weight.size).to(weight.dtype)
    layer.weight.value = weight
    return _elementwise("prelu", x, layer.apply)


def elu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    """Return x where it is positive, else alpha (exp(x) - 1).  Equation (42) of docs/backprop.md."""
    return _elementwise("elu", x, ELU(alpha).apply)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)).  Equation (43) of docs/backprop.md."""
    return _elementwise("sigmoid", x, Sigmoid().apply)


def silu(x: np.ndarray) -> np.ndarray:
    """Return x / (1 + exp(-x)).  Equation (44) of docs/backprop.md."""
    return _elementwise("silu", x, SiLU().apply)


def gelu(x: np.ndarray, approximate: str = "none") -> np.ndarray:
    """Return x Phi(x), or its older formula for "tanh".  Equations (45) and (46) of docs/backprop.md."""
    return _elementwise("gelu", x, GELU(approximate).apply)


def tanh(x: np.ndarray) -> np.ndarray:
    """Return the hyperbolic tangent.  Equation (47) of docs/backprop.md."""
    return _elementwise("tanh", x, Tanh().apply)


def hardswish(x: np.ndarray) -> np.ndarray:
    """Return x min(max(x + 3, 0), 6) / 6.  Equation (48) of docs/backprop.md."""
    return _elementwise("hardswish", x, Hardswish().apply)


def softmax(x: np.ndarray) -> np.ndarray:
    """Return probabilities along axis 1 of x, float[N, K, ...].  Equation (17) of docs/backprop.md."""
    return _elementwise("softmax", x, lambda a, b: loss.softmax_forward(planes(a.array), planes(b.array), False))


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Return the logarithms of ``softmax(x)`` without its rounding to 0.  Equation (19) of docs/backprop.md."""
    return _elementwise("log_softmax", x, lambda a, b: loss.softmax_forward(planes(a.array), planes(b.array), True))


def cross_entropy(logits: np.ndarray, labels: np.ndarray, label_smoothing: float = 0.0) -> float:
    """Return the mean cross-entropy of logits, float[N, K], and integer labels, int[N].  Equation (20)."""
    return CrossEntropyLoss(label_smoothing).forward(logits, labels)


def mse_loss(y: np.ndarray, target: np.ndarray) -> float:
    """Return the mean of (y - target)**2 over all elements.  Equation (22) of docs/backprop.md."""
    return MSELoss().forward(y, target)


__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "conv2d",
    "conv2d_backward",
    "cross_entropy",
    "elu",
    "gelu",
    "hardswish",
    "interpolate",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "pad",
    "prelu",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]
