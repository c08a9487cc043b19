"""The one error for wrong shapes, and the only formulas for output sizes.

Source of the formulas: Dumoulin & Visin 2016, arXiv:1603.07285; equation (5) of docs/backprop.md.
"""

from collections.abc import Sequence
from operator import index
from typing import Any

Pair = tuple[int, int]
Sides = tuple[Pair, Pair]
Shape = tuple[int, ...]


class ShapeError(ValueError):
    """An array or a layer has a shape that does not fit; the message gives what was expected and what came."""


def whole(number: object, least: int = 0) -> int | None:
    """Return a whole number of at least ``least``, NumPy's as Python's; None if it is none."""
    try:
        value = index(number)  # type: ignore[arg-type]
    except TypeError:
        return None
    return None if isinstance(number, bool) or value < least else value


def count(operation: str, name: str, number: object) -> int:
    """Return a number of things, at least 1; raises ShapeError if it is none."""
    value = whole(number, 1)
    if value is None:
        raise ShapeError(f"{operation}: expected {name} as a whole number of at least 1, got {number!r}")
    return value


def seed(operation: str, number: object) -> int:
    """Return a seed; raises ValueError unless it is a whole number of at least 0."""
    value = whole(number)
    if value is None:
        raise ValueError(f"{operation}: expected seed as a whole number of at least 0, got {number!r}")
    return value


def pair(value: int | Sequence[int], name: str, operation: str, least: int = 0) -> Pair:
    """Return ``value`` as (vertical, horizontal).

    Parameters
    ----------
    value : int or two ints
    name, operation : str
        For the message.
    least : int
        The smallest value allowed.

    Raises
    ------
    ShapeError
        If it is neither one whole number nor two, or one is below ``least``.
    """
    try:
        numbers = tuple(index(v) for v in value) if isinstance(value, Sequence) else (index(value),) * 2
    except TypeError:
        numbers = ()
    if isinstance(value, bool) or len(numbers) != 2 or min(numbers) < least:
        raise ShapeError(f"{operation}: expected {name} as one or two whole numbers of at least {least}, got {value!r}")
    return numbers[0], numbers[1]


def padding_sides(value: Any, window: Pair, stride: Pair, dilation: Pair, operation: str) -> Sides:
    """Return a convolution's padding as ((above, below), (left, right)).

    Parameters
    ----------
    value : 'same', 'valid', int, (vertical, horizontal) or ((above, below), (left, right))
        'same' keeps the image's size; where that takes an odd number of rows or columns, the last is below or right.
    window, stride, dilation : (vertical, horizontal)
    operation : str
        For the message.

    Raises
    ------
    ShapeError
        If it is none of these, or 'same' with a stride other than 1.
    """
    if value == "valid":
        return (0, 0), (0, 0)
    if value == "same":
        if stride != (1, 1):
            raise ShapeError(f"{operation}: expected stride 1 with padding 'same', got {stride}")
        down, across = (step * (taps - 1) for taps, step in zip(window, dilation, strict=True))
        return (down // 2, down - down // 2), (across // 2, across - across // 2)
    if isinstance(value, str):
        raise ShapeError(f"{operation}: expected padding 'same', 'valid' or whole numbers, got {value!r}")
    if isinstance(value, Sequence) and len(value) == 2 and all(isinstance(side, Sequence) for side in value):
        return pair(value[0], "padding", operation), pair(value[1], "padding", operation)
    down, across = pair(value, "padding", operation)
    return (down, down), (across, across)


def choice(value: object, names: Sequence[str], name: str, operation: str) -> str:
    """Return ``value`` if it is one of ``names``; raises ValueError otherwise."""
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{operation}: expected {name} as one of {', '.join(map(repr, names))}, got {value!r}")
    return value


def conv_size(size: int, taps: int, stride: int, padding: int, dilation: int) -> int:
    """Return floor((size + padding - dilation*(taps-1) - 1) / stride) + 1, which may be below 1.

    ``padding`` is that of both sides together.
    """
    return (size + padding - dilation * (taps - 1) - 1) // stride + 1


def pool_size(size: int, taps: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Return the number of windows along an axis; with ``ceil_mode`` the last may run past the padded end.

    As in PyTorch, a window that would start in the padding behind the image is left out.
    """
    span = size + 2 * padding - taps
    if not ceil_mode:
        return span // stride + 1
    windows = -(-span // stride) + 1
    return windows - 1 if (windows - 1) * stride >= size + padding else windows


def images(operation: str, shape: Shape) -> tuple[int, int, int, int]:
    """Return ``shape`` if it is that of a batch of images (N, C, H, W).

    Raises
    ------
    ShapeError
        If it does not have four axes, or an image is empty.
    """
    if len(shape) != 4 or min(shape[1:]) < 1:
        raise ShapeError(f"{operation}: expected x of shape (N, C, H, W), got {shape}")
    return shape[0], shape[1], shape[2], shape[3]


def conv2d(
    x: Shape, weight: Shape, stride: Pair, padding: Pair | Sides, dilation: Pair, groups: int, operation: str = "conv2d"
) -> Shape:
    """Return the output's shape (N, F, OH, OW).

    Parameters
    ----------
    x : (N, C, H, W)
    weight : (F, C/groups, KH, KW)
    stride, dilation : (vertical, horizontal)
    padding : (vertical, horizontal) or ((above, below), (left, right))
    groups : int
    operation : str
        For the message.

    Raises
    ------
    ShapeError
        If the two do not belong together, or a filter is larger than the padded image.
    """
    if len(weight) != 4 or min(weight) < 1 or groups < 1 or weight[0] % groups:
        raise ShapeError(
            f"{operation}: expected weight of shape (F, C/groups, KH, KW) with F divisible by groups={groups}, "
            f"got {weight}"
        )
    channels = weight[1] * groups
    if len(x) != 4 or x[1] != channels:
        raise ShapeError(f"{operation}: expected x of shape (N, {channels}, H, W) for weight {weight}, got {x}")
    sizes = []
    for axis, name in ((0, "height"), (1, "width")):
        around = padding[axis]
        first, last = around if isinstance(around, tuple) else (around, around)
        size = conv_size(x[2 + axis], weight[2 + axis], stride[axis], first + last, dilation[axis])
        if size < 1:
            raise ShapeError(
                f"{operation}: a filter of {name} {weight[2 + axis]} with dilation {dilation[axis]} does not fit "
                f"an input of {name} {x[2 + axis]} with padding {first if first == last else (first, last)}"
            )
        sizes.append(size)
    return (x[0], weight[0], *sizes)


def conv_transpose2d(
    x: Shape, weight: Shape, stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair, groups: int
) -> Shape:
    """Return the output's shape (N, F, OH, OW): equation (67) of docs/backprop.md.

    Parameters
    ----------
    x : (N, C, H, W)
    weight : (C, F/groups, KH, KW)
    stride, padding, output_padding, dilation : (vertical, horizontal)
    groups : int

    Raises
    ------
    ShapeError
        If the two do not belong together, or nothing is left of the output.
    """
    if len(x) != 4 or x[1] != weight[0] or min(x[2:]) < 1:
        raise ShapeError(f"conv_transpose2d: expected x of shape (N, {weight[0]}, H, W) for weight {weight}, got {x}")
    sizes = []
    for axis, name in ((0, "height"), (1, "width")):
        span = (x[2 + axis] - 1) * stride[axis] + dilation[axis] * (weight[2 + axis] - 1) + 1
        size = span + output_padding[axis] - 2 * padding[axis]
        if size < 1:
            raise ShapeError(
                f"conv_transpose2d: an input of {name} {x[2 + axis]} gives an output of {name} {span}, of which "
                f"padding {padding[axis]} and output_padding {output_padding[axis]} leave {size}"
            )
        sizes.append(size)
    return (x[0], weight[1] * groups, *sizes)


def padded(operation: str, x: Shape, sides: Sides, mode: str) -> Shape:
    """Return the shape of a padded batch.

    Parameters
    ----------
    operation : str
        For the message.
    x : (N, C, H, W)
    sides : ((above, below), (left, right))
        Negative numbers cut off.
    mode : 'constant', 'reflect', 'replicate' or 'circular'

    Raises
    ------
    ShapeError
        If x is no batch of images, nothing is left, or the image has too few pixels to reflect, or too few are left of
        it to go round.
    """
    n, c, *size = images(operation, x)
    sizes = []
    for old, side, name in zip(size, sides, ("height", "width"), strict=True):
        kept = old + sum(min(0, more) for more in side)
        most = {"reflect": old - 1, "circular": kept}.get(mode, max(side))
        if max(side) > most:
            raise ShapeError(
                f"{operation}: expected {mode} padding of at most {most} for an input of {name} {old}, got {side}"
            )
        if old + sum(side) < 1:
            raise ShapeError(f"{operation}: padding {side} leaves nothing of an input of {name} {old}")
        sizes.append(old + sum(side))
    return (n, c, *sizes)


def pool2d(operation: str, x: Shape, window: Pair, stride: Pair, padding: Pair, ceil_mode: bool) -> Shape:
    """Return the output's shape (N, C, OH, OW).

    Raises
    ------
    ShapeError
        If x is no batch of images, the padding is more than half the window (PyTorch's rule: a window of padding
        alone has no maximum), or no window fits; with ``ceil_mode`` one may be larger than the image.
    """
    n, c, *size = images(operation, x)
    sizes = []
    for axis, name in ((0, "height"), (1, "width")):
        if 2 * padding[axis] > window[axis]:
            raise ShapeError(
                f"{operation}: expected padding of at most half the window's {name} {window[axis]}, got {padding[axis]}"
            )
        windows = pool_size(size[axis], window[axis], stride[axis], padding[axis], ceil_mode)
        if windows < 1:
            raise ShapeError(
                f"{operation}: a window of {name} {window[axis]} does not fit an input of {name} {size[axis]} "
                f"with padding {padding[axis]}"
            )
        sizes.append(windows)
    return (n, c, *sizes)


def linear(x: Shape, weight: Shape) -> Shape:
    """Return the output's shape (N, J) for x (N, I) and weight (J, I).

    Raises
    ------
    ShapeError
        If the numbers of features differ.
    """
    if len(weight) != 2 or min(weight) < 1 or len(x) != 2 or x[1] != weight[1]:
        features = weight[1] if len(weight) == 2 else "in_features"
        raise ShapeError(f"linear: expected x of shape (N, {features}) for weight {weight}, got {x}")
    return (x[0], weight[0])


def bias(operation: str, shape: Shape, features: int) -> None:
    """Check that a bias has one value a feature; raises ShapeError."""
    if shape != (features,):
        raise ShapeError(f"{operation}: expected bias of shape ({features},), got {shape}")
