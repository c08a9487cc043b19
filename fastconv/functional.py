"""Stateless operations on ordinary NumPy arrays, with the names and meanings of ``torch.nn.functional``.

Each one checks its arguments, lays them out as lane blocks, calls the kernel, and returns a new array.  Arrays are
float32 or float64 (others are converted to float32); where two come together, the wider wins.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from fastconv import blocks, shapes
from fastconv.blocks import Blocks
from fastconv.layers import (
    ELU,
    GELU,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    GroupNorm,
    Hardswish,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    PReLU,
    Sigmoid,
    SiLU,
    Tanh,
    Upsample,
)
from fastconv.layers.conv import Padded
from fastconv.layers.softmax import write_softmax
from fastconv.losses import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss
from fastconv.shapes import ShapeError
from fastconv_kernels import activation, padding

IntPair = int | tuple[int, int]
Convolution = Conv1d | Conv2d | ConvTranspose2d
OutputSize = int | None | tuple[int | None, int | None]


def _together(operation: str, **arrays: object) -> list[np.ndarray]:
    """Convert arrays to one float dtype."""
    converted = [blocks.as_float(operation, name, array) for name, array in arrays.items()]
    return [array.astype(np.result_type(*converted), copy=False) for array in converted]


def _apply(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Run a throw-away layer on x, in x's dtype."""
    return layer.to(x.dtype).forward(x)


def _with_weights(layer: Convolution | Linear, weight: np.ndarray, bias: np.ndarray | None) -> Layer:
    layer.to(weight.dtype)
    layer.weight.value = weight
    if layer.bias is not None and bias is not None:
        layer.bias.value = bias
    return layer


def _convolve(
    operation: str,
    make: Callable[[np.ndarray, bool], Convolution],
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
) -> np.ndarray:
    """Apply the layer that ``make`` makes for a weight, with or without a bias."""
    if bias is None:
        x, weight = _together(operation, x=x, weight=weight)
    else:
        x, weight, bias = _together(operation, x=x, weight=weight, bias=bias)
    layer = make(weight, bias is not None)
    if bias is not None:
        shapes.bias(operation, bias.shape, layer.out_channels)
    if x.ndim != weight.ndim:
        layer.output_shape(x.shape)  # says what is wrong
    return _apply(_with_weights(layer, weight, bias), x)


def _check_filters(operation: str, weight: np.ndarray, expected: str) -> None:
    if weight.ndim != expected.count(",") + 1 or min(weight.shape) < 1:
        raise ShapeError(f"{operation}: expected weight of shape {expected}, got {weight.shape}")


def _conv2d_layer(
    weight: np.ndarray,
    bias: bool,
    stride: IntPair,
    padding: Padded,
    dilation: IntPair,
    groups: int,
    padding_mode: str,
) -> Conv2d:
    _check_filters("conv2d", weight, "(F, C/groups, KH, KW)")
    filters, channels, *taps = weight.shape
    how = stride, padding, dilation, groups, bias, padding_mode
    return Conv2d(channels * groups, filters, (taps[0], taps[1]), *how)


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: IntPair = 1,
    padding: Padded = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    """Slide filters over images (cross-correlation).  Equation (1) of docs/backprop.md.

    Parameters
    ----------
    x : float[N, C, H, W]
    weight : float[F, C/groups, KH, KW]
    bias : float[F] or None
    stride, dilation : int or (vertical, horizontal)
    padding : int, (vertical, horizontal), ((above, below), (left, right)), 'same' or 'valid'
    groups : int
    padding_mode : 'zeros', 'reflect', 'replicate' or 'circular'
        As in ``Conv2d``.

    Returns
    -------
    float[N, F, OH, OW]
        OH = floor((H + above + below - dh (KH - 1) - 1) / sh) + 1, and OW alike: equation (62).

    Raises
    ------
    ShapeError
        If the shapes do not belong together.
    TypeError, ValueError
        If an array does not hold real numbers, or there is no such padding_mode.
    """
    how = stride, padding, dilation, groups, padding_mode
    return _convolve("conv2d", lambda weight, bias: _conv2d_layer(weight, bias, *how), x, weight, bias)


def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: IntPair = 1,
    padding: Padded = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of ``conv2d`` to x, weight and bias.  Equations (3), (2) and (4) of docs/backprop.md.

    Parameters
    ----------
    dy : float[N, F, OH, OW]
        The upstream gradient.
    x, weight, stride, padding, dilation, groups, padding_mode
        As in ``conv2d``.

    Raises
    ------
    ShapeError, TypeError, ValueError
        As in ``conv2d``, or if dy does not have the output's shape.
    """
    dy, x, weight = _together("conv2d_backward", dy=dy, x=x, weight=weight)
    layer = _conv2d_layer(weight, True, stride, padding, dilation, groups, padding_mode)
    expected = layer.output_shape(x.shape)
    if dy.shape != expected:
        raise ShapeError(f"conv2d_backward: expected dy of shape {expected}, got {dy.shape}")
    if x.shape[0] == 0:
        return np.zeros_like(x), np.zeros_like(weight), np.zeros(weight.shape[0], weight.dtype)
    _with_weights(layer, weight, None)
    layer.forward(x, training=True)
    assert layer.bias is not None
    return layer.backward(dy), layer.weight.grad, layer.bias.grad


def conv1d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    """Slide filters along sequences: ``conv2d`` for images of one row.

    Parameters
    ----------
    x : float[N, C, L]
    weight : float[F, C/groups, K]
    bias : float[F] or None
    stride, padding, dilation, groups, padding_mode
        As in ``Conv1d``.

    Returns
    -------
    float[N, F, OL]

    Raises
    ------
    ShapeError, TypeError, ValueError
        As in ``conv2d``.
    """

    def make(weight: np.ndarray, with_bias: bool) -> Conv1d:
        _check_filters("conv1d", weight, "(F, C/groups, K)")
        how = stride, padding, dilation, groups, with_bias, padding_mode
        return Conv1d(weight.shape[1] * groups, weight.shape[0], weight.shape[2], *how)

    return _convolve("conv1d", make, x, weight, bias)


def conv_transpose2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    output_padding: IntPair = 0,
    groups: int = 1,
    dilation: IntPair = 1,
) -> np.ndarray:
    """Let every pixel add its multiple of a filter to the output.  Equation (64) of docs/backprop.md.

    Parameters
    ----------
    x : float[N, C, H, W]
    weight : float[C, F/groups, KH, KW]
    bias : float[F] or None
    stride, padding, output_padding, groups, dilation
        As in ``ConvTranspose2d``.

    Returns
    -------
    float[N, F, OH, OW]
        OH = (H - 1) sh - 2 ph + dh (KH - 1) + output_padding + 1, and OW alike: equation (67).

    Raises
    ------
    ShapeError, TypeError
        If the arrays and arguments do not belong together or do not hold real numbers.
    """

    def make(weight: np.ndarray, with_bias: bool) -> ConvTranspose2d:
        _check_filters("conv_transpose2d", weight, "(C, F/groups, KH, KW)")
        channels, filters, *taps = weight.shape
        how = stride, padding, output_padding, groups, with_bias, dilation
        return ConvTranspose2d(channels, filters * groups, (taps[0], taps[1]), *how)

    return _convolve("conv_transpose2d", make, x, weight, bias)


PADDING_MODES = ("constant", "reflect", "replicate", "circular")


def pad(x: np.ndarray, pad: tuple[int, int, int, int], mode: str = "constant", value: float = 0.0) -> np.ndarray:
    """Put rows and columns around images, or cut some off.  Equation (60) of docs/backprop.md.

    Parameters
    ----------
    x : float[N, C, H, W]
    pad : (left, right, above, below)
        PyTorch's order; negative numbers cut off.
    mode : 'constant', 'reflect', 'replicate' or 'circular'
        What the new pixels hold: ``value``, the image mirrored at its outermost pixels, these pixels themselves, or
        the image's other side.
    value : float
        For 'constant'.

    Returns
    -------
    float[N, C, above + H + below, left + W + right]

    Raises
    ------
    ShapeError
        If there are not four numbers, nothing is left, or there are too few pixels: reflecting needs more than the
        padding, going round as many.
    TypeError, ValueError
        If x does not hold real numbers, or there is no such mode.
    """
    (x,) = _together("pad", x=x)
    shapes.choice(mode, PADDING_MODES, "mode", "pad")
    if len(pad) != 4 or not all(isinstance(number, int | np.integer) for number in pad):
        raise ShapeError(f"pad: expected four whole numbers (left, right, above, below), got {pad!r}")
    left, right, above, below = (int(number) for number in pad)
    sides = (above, below), (left, right)
    y = blocks.empty(shapes.padded("pad", x.shape, sides, mode), x.dtype)
    if x.shape[0]:
        packed = blocks.pack(x, blocks.empty(x.shape, x.dtype))
        padding.Padding(x.shape[2:], sides, mode, value, x.dtype).forward(packed.array, y.array)
    return blocks.unpack(y)


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


def _affine(operation: str, layer: Layer, weight: np.ndarray | None, bias: np.ndarray | None) -> Layer:
    """Give a normalisation its scale and shift; 1 and 0 where there are none."""
    for name, given in (("weight", weight), ("bias", bias)):
        parameter = getattr(layer, name)
        if given is None or parameter is None:
            continue
        array = blocks.as_float(operation, name, given)
        if array.shape != parameter.shape:
            raise ShapeError(f"{operation}: expected {name} of shape {parameter.shape}, got {array.shape}")
        parameter.value = array
    return layer


def batch_norm(
    x: np.ndarray,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
) -> np.ndarray:
    """Normalise each channel by given statistics, or by the batch's own.  Equation (35) of docs/backprop.md.

    Parameters
    ----------
    x : float[N, C, H, W], float[N, C, L] or float[N, C]
    running_mean, running_var : float[C] or None
        Both, or neither for the batch's own.
    weight, bias : float[C] or None
        By default 1 and 0.
    eps : float

    Returns
    -------
    float of the shape of x

    Raises
    ------
    ShapeError, TypeError, ValueError
        If the arrays do not belong together or do not hold real numbers.
    """
    (x,) = _together("batch_norm", x=x)
    if x.ndim not in (2, 3, 4):
        raise ShapeError(f"batch_norm: expected x of shape (N, C, H, W), (N, C, L) or (N, C), got {x.shape}")
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: expected running_mean and running_var, or neither, got one of them")
    make = BatchNorm2d if x.ndim == 4 else BatchNorm1d
    layer = make(x.shape[1], eps, track_running_stats=running_mean is not None)
    _affine("batch_norm", layer.to(x.dtype), weight, bias)
    for name, given, mine in (
        ("running_mean", running_mean, layer.running_mean),
        ("running_var", running_var, layer.running_var),
    ):
        if given is not None:
            array = blocks.as_float("batch_norm", name, given)
            if array.shape != mine.shape:
                raise ShapeError(f"batch_norm: expected {name} of shape {mine.shape}, got {array.shape}")
            mine[...] = array
    return layer.forward(x)


def group_norm(
    x: np.ndarray,
    num_groups: int,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
) -> np.ndarray:
    """Normalise groups of channels, image by image; arguments and errors as in ``GroupNorm``.

    ``weight`` and ``bias`` are float[C] or None, by default 1 and 0.
    """
    (x,) = _together("group_norm", x=x)
    channels = blocks.check_batch("group_norm", x).shape[1]
    return _affine("group_norm", GroupNorm(num_groups, channels, eps).to(x.dtype), weight, bias).forward(x)


def layer_norm(
    x: np.ndarray,
    normalized_shape: int | tuple[int, ...],
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
) -> np.ndarray:
    """Normalise all values of an image, image by image; arguments and errors as in ``LayerNorm``.

    ``weight`` and ``bias`` are float[normalized_shape] or None, by default 1 and 0.
    """
    (x,) = _together("layer_norm", x=x)
    return _affine("layer_norm", LayerNorm(normalized_shape, eps).to(x.dtype), weight, bias).forward(x)


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
    return _elementwise("relu", x, lambda a, b: activation.relu_forward(blocks.pixels(a), blocks.pixels(b)))


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
    """Return probabilities along axis 1 of x, float[N, K, ...].  Equation (17) of docs/backprop.md.

    Raises
    ------
    ShapeError, TypeError
        If x has no axis 1, or does not hold real numbers.
    """
    return _along_classes("softmax", x, write_softmax)


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Return the logarithms of ``softmax(x)`` without its rounding to 0; errors as there.

    Equation (19) of docs/backprop.md.
    """
    return _along_classes("log_softmax", x, partial(write_softmax, take_log=True))


def _along_classes(operation: str, x: np.ndarray, compute: Callable[[Blocks, Blocks], None]) -> np.ndarray:
    (x,) = _together(operation, x=x)
    if x.ndim == 1:
        raise ShapeError(f"{operation}: expected x of shape (N, K, ...), K classes, got {x.shape}")
    return _elementwise(operation, x, compute)


def cross_entropy(
    logits: np.ndarray,
    labels: np.ndarray,
    label_smoothing: float = 0.0,
    weight: Sequence[float] | np.ndarray | None = None,
) -> float:
    """Return the mean cross-entropy of logits, float[N, K], and labels, int[N], or probabilities, float[N, K].

    Equation (70) of docs/backprop.md; arguments and errors as in ``CrossEntropyLoss``.
    """
    return CrossEntropyLoss(label_smoothing, weight).forward(logits, labels)


def mse_loss(y: np.ndarray, target: np.ndarray) -> float:
    """Return the mean of (y - target)**2 over all elements.  Equation (22) of docs/backprop.md."""
    return MSELoss().forward(y, target)


def l1_loss(y: np.ndarray, target: np.ndarray) -> float:
    """Return the mean of abs(y - target) over all elements.  Equation (72) of docs/backprop.md."""
    return L1Loss().forward(y, target)


def huber_loss(y: np.ndarray, target: np.ndarray, delta: float = 1.0) -> float:
    """Return Huber's loss, squares up to ``delta`` and straight lines beyond.  Equation (74) of docs/backprop.md."""
    return HuberLoss(delta).forward(y, target)


def binary_cross_entropy_with_logits(
    logits: np.ndarray, target: np.ndarray, pos_weight: float | Sequence[float] | np.ndarray | None = None
) -> float:
    """Return the mean cross-entropy of yes and no.  Equation (76); arguments and errors as in ``BCEWithLogitsLoss``."""
    return BCEWithLogitsLoss(pos_weight).forward(logits, target)


__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "cross_entropy",
    "elu",
    "gelu",
    "group_norm",
    "hardswish",
    "huber_loss",
    "interpolate",
    "l1_loss",
    "layer_norm",
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
