"""The one error for wrong shapes, and the only formulas for output sizes.

Source of the formulas: Dumoulin & Visin 2016, arXiv:1603.07285; equation (5) of docs/backprop.md.
"""

from collections.abc import Sequence
from operator import index

Pair = tuple[int, int]
Shape = tuple[int, ...]


class ShapeError(ValueError):
    """An array or a layer has a shape that does not fit; the message gives what was expected and what came."""


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


def conv_size(size: int, taps: int, stride: int, padding: int, dilation: int) -> int:
    """Return floor((size + 2*padding - dilation*(taps-1) - 1) / stride) + 1, which may be below 1."""
    return (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1


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


def conv2d(x: Shape, weight: Shape, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Shape:
    """Return the output's shape (N, F, OH, OW).

    Parameters
    ----------
    x : (N, C, H, W)
    weight : (F, C/groups, KH, KW)
    stride, padding, dilation : (vertical, horizontal)
    groups : int

    Raises
    ------
    ShapeError
        If the two do not belong together, or a filter is larger than the padded image.
    """
    if len(weight) != 4 or min(weight) < 1 or groups < 1 or weight[0] % groups:
        raise ShapeError(
            f"conv2d: expected weight of shape (F, C/groups, KH, KW) with F divisible by groups={groups}, got {weight}"
        )
    channels = weight[1] * groups
    if len(x) != 4 or x[1] != channels:
        raise ShapeError(f"conv2d: expected x of shape (N, {channels}, H, W) for weight {weight}, got {x}")
    sizes = []
    for axis, name in ((0, "height"), (1, "width")):
        size = conv_size(x[2 + axis], weight[2 + axis], stride[axis], padding[axis], dilation[axis])
        if size < 1:
            raise ShapeError(
                f"conv2d: a filter of {name} {weight[2 + axis]} with dilation {dilation[axis]} does not fit "
                f"an input of {name} {x[2 + axis]} with padding {padding[axis]}"
            )
        sizes.append(size)
    return (x[0], weight[0], *sizes)


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
