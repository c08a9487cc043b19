"""Naive twins of every operation: the oracle that the fast kernels are judged by, and the first rung of the ladder.

Nothing here is fast and nothing is clever.  An operation that slides a window is a loop over its output elements, one
at a time, and its gradients walk through the same windows again.  NumPy is the only import, so that this file shares
no code, and therefore no mistake, with what it judges.

Conventions
-----------
* Images are ``[N, C, H, W]``, filters ``[F, C / groups, KH, KW]``, Linear weights ``[out, in]``; meaning and order of
  every argument are PyTorch's, and so are the results.
* Sizes, strides, paddings and dilations are one integer, or a pair (down, across).
* Everything is computed in float64, whatever float comes in.  Where all arguments hold integers and the operation
  needs no division, it is computed in int64 instead, and the result is exact: compare it with ``==``.
* ``dy`` is the gradient of the loss with respect to the output ``y``.  Arguments are never written to.

Numbers in parentheses, as in "equation (1)", refer to ``docs/backprop.md``, which derives them.
"""

from collections.abc import Callable, Iterator, Sequence
from math import erfc

import numpy as np

Pair = int | tuple[int, int]
Padding = Pair | tuple[tuple[int, int], tuple[int, int]] | str


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _widen(*arrays: np.ndarray) -> list[np.ndarray]:
    """Return the arrays as int64 if every one of them holds integers, as float64 if not."""
    integers = all(np.issubdtype(np.asarray(a).dtype, np.integer) for a in arrays)
    return [np.asarray(a, np.int64 if integers else np.float64) for a in arrays]


# ---------------------------------------------------------------------------------------------------- convolution


def _taps(start: int, count: int, step: int) -> slice:
    """Return the places that one window touches along one axis: ``count`` of them, ``step`` apart."""
    return slice(start, start + (count - 1) * step + 1, step)


def _channels_seen(channels: int, weight_shape: tuple[int, ...], groups: int) -> list[slice]:
    """Return, for every filter, which input channels it sees: those of its own group."""
    F, per_group = weight_shape[:2]
    if channels != groups * per_group or F % groups:
        raise ValueError(f"conv2d: {channels} channels, weight {weight_shape} and groups {groups} do not go together")
    group_of = [f // (F // groups) for f in range(F)]
    return [slice(g * per_group, (g + 1) * per_group) for g in group_of]


def _around(padding: Padding, taps: tuple[int, ...], dilation: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return how many columns lie left and right of the image, and rows above and below: equation (63) for 'same'."""
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        down, across = dilation[0] * (taps[0] - 1), dilation[1] * (taps[1] - 1)
        return across // 2, across - across // 2, down // 2, down - down // 2
    assert not isinstance(padding, str)
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    (above, below), (left, right) = _pair(rows), _pair(columns)
    return left, right, above, below


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    """Convolve: equation (1), one window times one filter at a time.

    Parameters
    ----------
    x : float[N, C, H, W]
        Images.
    weight : float[F, C / groups, KH, KW]
        Filters; they are not flipped.
    bias : float[F], optional
        Added to every pixel of a filter's response.
    stride, dilation : int or (int, int)
        Steps between windows, steps between the taps of a window.
    padding : int, (int, int), ((int, int), (int, int)), 'same' or 'valid'
        Rows and columns around the image: ((above, below), (left, right)), if they differ.
    groups : int
        Channels and filters fall into this many groups, and a filter sees the channels of its own group.
    padding_mode : 'zeros', 'reflect', 'replicate' or 'circular'
        What the rows and columns around the image hold; see `pad`.

    Returns
    -------
    float[N, F, OH, OW]
        The responses; equation (62) gives the size, rounded down.
    """
    bias = np.zeros(weight.shape[0], weight.dtype) if bias is None else bias
    x, weight, bias = _widen(x, weight, bias)
    (sh, sw), (dh, dw) = _pair(stride), _pair(dilation)
    F, _, KH, KW = weight.shape
    padded = pad(x, _around(padding, (KH, KW), (dh, dw)), padding_mode)
    N, C, H, W = padded.shape
    OH = (H - dh * (KH - 1) - 1) // sh + 1
    OW = (W - dw * (KW - 1) - 1) // sw + 1
    seen = _channels_seen(C, weight.shape, groups)

    y = np.zeros((N, F, OH, OW), x.dtype)
    for n, f, i, j in np.ndindex(y.shape):
        window = padded[n, seen[f], _taps(i * sh, KH, dh), _taps(j * sw, KW, dw)]
        y[n, f, i, j] = np.sum(window * weight[f]) + bias[f]
    return y


def conv2d_backward_input(
    dy: np.ndarray,
    weight: np.ndarray,
    input_shape: tuple[int, ...],
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    """Take the gradient of a convolution back to its input: equation (3), in the order of the output's pixels.

    Each output pixel adds its upstream gradient, times the filter, to the window that it saw.

    Parameters
    ----------
    dy : float[N, F, OH, OW]
    weight : float[F, C / groups, KH, KW]
    input_shape : (int, int, int, int)
        ``(N, C, H, W)``; where the stride does not tile the image, ``dy`` alone cannot tell.
    stride, padding, dilation, groups, padding_mode
        As in `conv2d`.

    Returns
    -------
    float[N, C, H, W]
    """
    dy, weight = _widen(dy, weight)
    (sh, sw), (dh, dw) = _pair(stride), _pair(dilation)
    N, C, H, W = input_shape
    KH, KW = weight.shape[2:]
    seen = _channels_seen(C, weight.shape, groups)
    around = left, right, above, below = _around(padding, (KH, KW), (dh, dw))

    padded = np.zeros((N, C, above + H + below, left + W + right), dy.dtype)
    for n, f, i, j in np.ndindex(dy.shape):
        window = padded[n, seen[f], _taps(i * sh, KH, dh), _taps(j * sw, KW, dw)]
        window += dy[n, f, i, j] * weight[f]
    return pad_backward(padded, input_shape, around, padding_mode)


def conv2d_backward_filter(
    dy: np.ndarray,
    x: np.ndarray,
    weight_shape: tuple[int, ...],
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    """Take the gradient of a convolution back to its filters: equation (2), in the order of the output's pixels.

    Each output pixel adds its upstream gradient, times the window that it saw, to its filter.

    Parameters
    ----------
    dy : float[N, F, OH, OW]
    x : float[N, C, H, W]
    weight_shape : (int, int, int, int)
        ``(F, C / groups, KH, KW)``.
    stride, padding, dilation, groups, padding_mode
        As in `conv2d`.

    Returns
    -------
    float[F, C / groups, KH, KW]
    """
    dy, x = _widen(dy, x)
    (sh, sw), (dh, dw) = _pair(stride), _pair(dilation)
    KH, KW = weight_shape[2:]
    seen = _channels_seen(x.shape[1], weight_shape, groups)
    padded = pad(x, _around(padding, (KH, KW), (dh, dw)), padding_mode)

    dweight = np.zeros(weight_shape, dy.dtype)
    for n, f, i, j in np.ndindex(dy.shape):
        window = padded[n, seen[f], _taps(i * sh, KH, dh), _taps(j * sw, KW, dw)]
        dweight[f] += dy[n, f, i, j] * window
    return dweight


def conv2d_backward_bias(dy: np.ndarray) -> np.ndarray:
    """Take the gradient of a convolution, float[N, F, OH, OW], back to its bias, float[F]: equation (4)."""
    (dy,) = _widen(dy)
    dbias = np.zeros(dy.shape[1], dy.dtype)
    for n, f, i, j in np.ndindex(dy.shape):
        dbias[f] += dy[n, f, i, j]
    return dbias


def _source(place: int, size: int, mode: str) -> int | None:
    """Return which of ``size`` pixels is seen at ``place``, by walking there from the image; None outside."""
    if 0 <= place < size:
        return place
    if mode in ("zeros", "constant"):
        return None
    if mode == "replicate":
        return 0 if place < 0 else size - 1
    if mode == "circular":
        return _source(place + size if place < 0 else place - size, size, mode)
    return _source(-place if place < 0 else 2 * (size - 1) - place, size, mode)


def pad(
    x: np.ndarray, pad: tuple[int, int, int, int], mode: str = "constant", value: float | np.ndarray = 0
) -> np.ndarray:
    """Put rows and columns around images: equation (60), one place at a time.

    Parameters
    ----------
    x : float[N, C, H, W]
        Images.
    pad : (int, int, int, int)
        Columns left and right, rows above and below.  Negative numbers cut off, in mode 'constant'.
    mode : 'constant' or 'zeros', 'reflect', 'replicate', 'circular'
        What the new pixels hold: a constant, the image mirrored at its outermost pixels, these pixels, or the image
        repeated.
    value : float
        The constant.

    Returns
    -------
    float[N, C, above + H + below, left + W + right]
    """
    (x,) = _widen(x)
    left, right, above, below = pad
    N, C, H, W = x.shape
    y = np.zeros((N, C, above + H + below, left + W + right), x.dtype)
    for i, j in np.ndindex(*y.shape[2:]):
        p, q = _source(i - above, H, mode), _source(j - left, W, mode)
        y[:, :, i, j] = value if p is None or q is None else x[:, :, p, q]
    return y


def pad_backward(
    dy: np.ndarray, input_shape: tuple[int, ...], pad: tuple[int, int, int, int], mode: str = "constant"
) -> np.ndarray:
    """Take the gradient of `pad` back to the pixels that it copied: equation (61).

    Parameters
    ----------
    dy : float[N, C, above + H + below, left + W + right]
    input_shape : (int, int, int, int)
        ``(N, C, H, W)``.
    pad, mode
        As in `pad`.

    Returns
    -------
    float[N, C, H, W]
    """
    (dy,) = _widen(dy)
    left, _, above, _ = pad
    dx, (H, W) = np.zeros(input_shape, dy.dtype), input_shape[2:]
    for i, j in np.ndindex(*dy.shape[2:]):
        p, q = _source(i - above, H, mode), _source(j - left, W, mode)
        if p is not None and q is not None:
            dx[:, :, p, q] += dy[:, :, i, j]
    return dx


def conv_transpose2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> np.ndarray:
    """Let each pixel add its multiple of a filter to the output: equation (64), one pixel at a time.

    Parameters
    ----------
    x : float[N, C, H, W]
    weight : float[C, F / groups, KH, KW]
    bias : float[F], optional
        Added to every pixel of the output.
    stride, dilation : int or (int, int)
        Steps between two pixels' shares in the output, steps between the taps of a share.
    padding, output_padding : int or (int, int)
        What is cut off all around, and what is added below and to the right.
    groups : int
        Pixels of a channel go to the filters of its own group.

    Returns
    -------
    float[N, F, OH, OW]
        Equation (67) gives the size.
    """
    bias = np.zeros(weight.shape[1] * groups, weight.dtype) if bias is None else bias
    x, weight, bias = _widen(x, weight, bias)
    whole, cut = _transposed(x.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation)
    seen = _channels_seen(weight.shape[1] * groups, weight.shape, groups)

    y = np.zeros((len(x), weight.shape[1] * groups, *whole), x.dtype)
    for n, c, p, q in np.ndindex(x.shape):
        y[n, seen[c], *_share(p, q, weight.shape[2:], stride, dilation)] += x[n, c, p, q] * weight[c]
    return y[:, :, *cut] + bias[:, None, None]


def _transposed(
    size: tuple[int, ...], taps: tuple[int, ...], stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair
) -> tuple[list[int], list[slice]]:
    """Return the size of a transposed convolution's output before it is cut, and what is left of it then."""
    whole, cut = [], []
    for axis in range(2):
        s, p, more, d = (_pair(each)[axis] for each in (stride, padding, output_padding, dilation))
        end = (size[axis] - 1) * s + d * (taps[axis] - 1) + 1 + more
        whole.append(end)
        cut.append(slice(p, end - p))
    return whole, cut


def _share(p: int, q: int, taps: tuple[int, ...], stride: Pair, dilation: Pair) -> tuple[slice, slice]:
    """Return the rows and columns of the whole output to which pixel (p, q) adds."""
    (sh, sw), (dh, dw) = _pair(stride), _pair(dilation)
    return _taps(p * sh, taps[0], dh), _taps(q * sw, taps[1], dw)


def conv_transpose2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take the gradient of `conv_transpose2d` back to input, weight and bias: equations (65), (66) and (4).

    Each pixel looks at the part of the output to which it added.

    Parameters
    ----------
    dy : float[N, F, OH, OW]
    x, weight, stride, padding, output_padding, groups, dilation
        As in `conv_transpose2d`.

    Returns
    -------
    dx : float[N, C, H, W]
    dweight : float[C, F / groups, KH, KW]
    dbias : float[F]
    """
    dy, x, weight = _widen(dy, x, weight)
    whole, cut = _transposed(x.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation)
    seen = _channels_seen(weight.shape[1] * groups, weight.shape, groups)
    upstream = np.zeros((*dy.shape[:2], *whole), dy.dtype)
    upstream[:, :, *cut] = dy

    dx, dweight = np.zeros_like(x), np.zeros_like(weight)
    for n, c, p, q in np.ndindex(x.shape):
        part = upstream[n, seen[c], *_share(p, q, weight.shape[2:], stride, dilation)]
        dx[n, c, p, q] = np.sum(part * weight[c])
        dweight[c] += x[n, c, p, q] * part
    return dx, dweight, conv2d_backward_bias(dy)


def conv1d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> np.ndarray:
    """Convolve along one axis: equation (1) with one row, one window times one filter at a time.

    Parameters
    ----------
    x : float[N, C, L]
    weight : float[F, C / groups, K]
    bias : float[F], optional
    stride, padding, dilation, groups : int

    Returns
    -------
    float[N, F, OL]
    """
    bias = np.zeros(weight.shape[0], weight.dtype) if bias is None else bias
    x, weight, bias = _widen(x, weight, bias)
    N, C, L = x.shape
    F, _, K = weight.shape
    seen = _channels_seen(C, weight.shape, groups)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding)))

    y = np.zeros((N, F, (L + 2 * padding - dilation * (K - 1) - 1) // stride + 1), x.dtype)
    for n, f, j in np.ndindex(y.shape):
        y[n, f, j] = np.sum(padded[n, seen[f], _taps(j * stride, K, dilation)] * weight[f]) + bias[f]
    return y


def conv1d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take the gradient of `conv1d` back to input, weight and bias: equations (3), (2) and (4) with one row.

    Parameters
    ----------
    dy : float[N, F, OL]
    x, weight, stride, padding, dilation, groups
        As in `conv1d`.

    Returns
    -------
    dx : float[N, C, L]
    dweight : float[F, C / groups, K]
    dbias : float[F]
    """
    dy, x, weight = _widen(dy, x, weight)
    L, K = x.shape[2], weight.shape[2]
    seen = _channels_seen(x.shape[1], weight.shape, groups)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding)))

    dpadded, dweight, dbias = np.zeros_like(padded), np.zeros_like(weight), np.zeros(len(weight), dy.dtype)
    for n, f, j in np.ndindex(dy.shape):
        window = n, seen[f], _taps(j * stride, K, dilation)
        dpadded[window] += dy[n, f, j] * weight[f]
        dweight[f] += dy[n, f, j] * padded[window]
        dbias[f] += dy[n, f, j]
    return dpadded[:, :, padding : padding + L].copy(), dweight, dbias


def winograd_patch(d: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return the 2x2 outputs of a 3x3 filter on a patch of 4x4 pixels, by 16 multiplications, not 36: equation (31).

    Parameters
    ----------
    d : float[4, 4]
        The patch.
    g : float[3, 3]
        The filter.

    Returns
    -------
    float64[2, 2]
        What `conv2d` returns for them.  The halves in ``G`` are exact, so small integers give exact results here too.
    """
    Bt = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    G = np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]])
    At = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
    return At @ ((G @ g @ G.T) * (Bt @ d @ Bt.T)) @ At.T


def winograd_patch_backward_filter(d: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Return what a patch of 4x4 pixels gives to the gradient of a 3x3 filter, by 16 multiplications: equation (39).

    Parameters
    ----------
    d : float[4, 4]
        The patch.
    dy : float[2, 2]
        The gradient of its outputs.

    Returns
    -------
    float64[3, 3]
        What `conv2d_backward_filter` returns for them; exact for small integers.
    """
    Bt = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    G = np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]])
    At = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
    return G.T @ ((At.T @ dy @ At) * (Bt @ d @ Bt.T)) @ G


# -------------------------------------------------------------------------------------------------------- pooling


def _pool_size(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Return how many windows fit along one axis."""
    beyond = size + 2 * padding - kernel
    if not ceil_mode:
        return beyond // stride + 1
    windows = -(-beyond // stride) + 1
    # A last window that would start in the padding behind the image has nothing to look at.
    return windows - 1 if (windows - 1) * stride >= size + padding else windows


def _pool_taps(o: int, size: int, kernel: int, stride: int, padding: int) -> tuple[range, int]:
    """Return, along one axis, the pixels of window ``o`` and its extent inside image and padding."""
    start = o * stride - padding
    end = min(start + kernel, size + padding)
    return range(max(start, 0), min(end, size)), end - start


def max_pool2d(
    x: np.ndarray, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the maximum of every window: equation (7).

    The first of equal maxima wins.  A NaN beats every number, and a later NaN beats an earlier one.

    Parameters
    ----------
    x : float[N, C, H, W]
        Images.
    kernel_size, stride, padding : int or (int, int)
        The window, the steps between windows (the window's size if None), and the padding, which is at most half
        of the window and never wins.
    ceil_mode : bool
        Round the output size up, so that the last windows may reach over the edge.

    Returns
    -------
    y : float[N, C, OH, OW]
        The maxima.
    index : int64[N, C, OH, OW]
        Where each was found: ``h * W + w`` in its unpadded plane.
    """
    (x,) = _widen(x)
    (KH, KW), (sh, sw), (ph, pw) = _pair(kernel_size), _pair(kernel_size if stride is None else stride), _pair(padding)
    N, C, H, W = x.shape
    shape = N, C, _pool_size(H, KH, sh, ph, ceil_mode), _pool_size(W, KW, sw, pw, ceil_mode)

    y, index = np.zeros(shape, x.dtype), np.zeros(shape, np.int64)
    for n, c, i, j in np.ndindex(shape):
        rows, _ = _pool_taps(i, H, KH, sh, ph)
        columns, _ = _pool_taps(j, W, KW, sw, pw)
        best, best_index = x[n, c, rows[0], columns[0]], rows[0] * W + columns[0]
        for p in rows:
            for q in columns:
                if x[n, c, p, q] > best or np.isnan(x[n, c, p, q]):
                    best, best_index = x[n, c, p, q], p * W + q
        y[n, c, i, j], index[n, c, i, j] = best, best_index
    return y, index


def max_pool2d_backward(dy: np.ndarray, index: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray:
    """Give each upstream gradient to the pixel that won, which may win several windows: equation (8).

    Parameters
    ----------
    dy : float[N, C, OH, OW]
    index : int64[N, C, OH, OW]
        The winners, as `max_pool2d` returned them.
    input_shape : (int, int, int, int)
        ``(N, C, H, W)``.

    Returns
    -------
    float[N, C, H, W]
    """
    (dy,) = _widen(dy)
    dx, W = np.zeros(input_shape, dy.dtype), input_shape[3]
    for n, c, i, j in np.ndindex(dy.shape):
        p, q = divmod(index[n, c, i, j], W)
        dx[n, c, p, q] += dy[n, c, i, j]
    return dx


def avg_pool2d(
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Average every window: equation (9).

    Parameters
    ----------
    x : float[N, C, H, W]
        Images.
    kernel_size, stride, padding, ceil_mode
        As in `max_pool2d`.
    count_include_pad : bool
        Divide by the pixels and padding zeros of the window, or by its pixels alone.  What ceil_mode adds beyond the
        padding never counts.

    Returns
    -------
    float64[N, C, OH, OW]
    """
    (KH, KW), (sh, sw), (ph, pw) = _pair(kernel_size), _pair(kernel_size if stride is None else stride), _pair(padding)
    N, C, H, W = x.shape

    y = np.zeros((N, C, _pool_size(H, KH, sh, ph, ceil_mode), _pool_size(W, KW, sw, pw, ceil_mode)))
    for n, c, i, j in np.ndindex(y.shape):
        rows, height = _pool_taps(i, H, KH, sh, ph)
        columns, width = _pool_taps(j, W, KW, sw, pw)
        count = height * width if count_include_pad else len(rows) * len(columns)
        for p in rows:
            for q in columns:
                y[n, c, i, j] += x[n, c, p, q]
        y[n, c, i, j] /= count
    return y


def avg_pool2d_backward(
    dy: np.ndarray,
    input_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Share each upstream gradient among the pixels of its window: equation (10).

    Parameters
    ----------
    dy : float[N, C, OH, OW]
    input_shape : (int, int, int, int)
        ``(N, C, H, W)``.
    kernel_size, stride, padding, ceil_mode, count_include_pad
        As in `avg_pool2d`.

    Returns
    -------
    float64[N, C, H, W]
    """
    (KH, KW), (sh, sw), (ph, pw) = _pair(kernel_size), _pair(kernel_size if stride is None else stride), _pair(padding)
    dy, (H, W) = np.asarray(dy, np.float64), input_shape[2:]

    dx = np.zeros(input_shape)
    for n, c, i, j in np.ndindex(dy.shape):
        rows, height = _pool_taps(i, H, KH, sh, ph)
        columns, width = _pool_taps(j, W, KW, sw, pw)
        count = height * width if count_include_pad else len(rows) * len(columns)
        for p in rows:
            for q in columns:
                dx[n, c, p, q] += dy[n, c, i, j] / count
    return dx


def _shared_out(i: int, windows: int, size: int) -> range:
    """Return the pixels of window ``i`` along one axis: equation (50)."""
    return range(int(np.floor(i * size / windows)), int(np.ceil((i + 1) * size / windows)))


def adaptive_avg_pool2d(x: np.ndarray, output_size: tuple[int, int]) -> np.ndarray:
    """Average each of OH x OW windows that share out the image: equation (51), float[N, C, H, W]."""
    y = np.zeros((*x.shape[:2], *output_size))
    for n, c, i, j in np.ndindex(y.shape):
        rows, columns = _shared_out(i, output_size[0], x.shape[2]), _shared_out(j, output_size[1], x.shape[3])
        values = [float(x[n, c, p, q]) for p in rows for q in columns]
        y[n, c, i, j] = sum(values) / len(values)
    return y


def adaptive_avg_pool2d_backward(dy: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray:
    """Spread each upstream gradient evenly over its window: equation (52)."""
    dx = np.zeros(input_shape)
    for n, c, i, j in np.ndindex(dy.shape):
        rows = _shared_out(i, dy.shape[2], input_shape[2])
        columns = _shared_out(j, dy.shape[3], input_shape[3])
        for p in rows:
            for q in columns:
                dx[n, c, p, q] += dy[n, c, i, j] / (len(rows) * len(columns))
    return dx


def adaptive_max_pool2d(x: np.ndarray, output_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Keep the maximum of each of OH x OW windows that share out the image: equation (53).

    Returns the maxima and where each was found, as `max_pool2d` does; its backward pass, equation (54), is
    `max_pool2d_backward`.
    """
    y, index = np.zeros((*x.shape[:2], *output_size), x.dtype), np.zeros((*x.shape[:2], *output_size), np.int64)
    for n, c, i, j in np.ndindex(y.shape):
        rows, columns = _shared_out(i, output_size[0], x.shape[2]), _shared_out(j, output_size[1], x.shape[3])
        best, best_index = x[n, c, rows[0], columns[0]], rows[0] * x.shape[3] + columns[0]
        for p in rows:
            for q in columns:
                if x[n, c, p, q] > best or np.isnan(x[n, c, p, q]):
                    best, best_index = x[n, c, p, q], p * x.shape[3] + q
        y[n, c, i, j], index[n, c, i, j] = best, best_index
    return y, index


# --------------------------------------------------------------------------------------- images of another size


def _sources(
    i: int, size: int, out: int, scale: float | None, mode: str, align_corners: bool
) -> list[tuple[int, float]]:
    """Return, along one axis, the pixels that output pixel ``i`` is made of, and their weights: equation (55)."""
    step = size / out if scale is None else 1 / scale
    if out == size:  # PyTorch's exceptions: whatever the scale
        return [(i, 1.0)]
    if mode == "nearest":
        if out == 2 * size:
            return [(i // 2, 1.0)]
        return [(min(int(np.float32(i) * np.float32(step)), size - 1), 1.0)]
    place = i * (size - 1) / max(out - 1, 1) if align_corners else max((i + 0.5) * step - 0.5, 0)
    left = min(int(place), size - 1)
    return [(left, 1 - min(place - left, 1)), (min(left + 1, size - 1), min(place - left, 1))]


def _resampled(
    x_shape: tuple[int, ...],
    size: tuple[int, int],
    scales: tuple[float | None, float | None],
    mode: str,
    align_corners: bool,
) -> Iterator[tuple[int, int, int, int, float]]:
    """Yield (i, j, p, q, weight) for each output pixel and each input pixel that it is made of."""
    for i, j in np.ndindex(*size):
        for p, a in _sources(i, x_shape[2], size[0], scales[0], mode, align_corners):
            for q, d in _sources(j, x_shape[3], size[1], scales[1], mode, align_corners):
                yield i, j, p, q, a * d


def interpolate(
    x: np.ndarray,
    size: tuple[int, int],
    scales: tuple[float | None, float | None] = (None, None),
    mode: str = "nearest",
    align_corners: bool = False,
) -> np.ndarray:
    """Give images another size: equation (55), float[N, C, H, W] to float64[N, C, *size].

    Parameters
    ----------
    x : float[N, C, H, W]
    size : (int, int)
    scales : (float or None, float or None)
        The scale factors, if the size came from these: they need not be the quotient of the sizes.
    mode : {"nearest", "bilinear"}
    align_corners : bool
    """
    y = np.zeros((*x.shape[:2], *size))
    for i, j, p, q, weight in _resampled(x.shape, size, scales, mode, align_corners):
        y[:, :, i, j] += weight * x[:, :, p, q]
    return y


def interpolate_backward(
    dy: np.ndarray,
    input_shape: tuple[int, ...],
    scales: tuple[float | None, float | None] = (None, None),
    mode: str = "nearest",
    align_corners: bool = False,
) -> np.ndarray:
    """Give each input pixel what the outputs owe it: equation (56); arguments as in `interpolate`."""
    dx = np.zeros(input_shape)
    for i, j, p, q, weight in _resampled(input_shape, (dy.shape[2], dy.shape[3]), scales, mode, align_corners):
        dx[:, :, p, q] += weight * dy[:, :, i, j]
    return dx


# ----------------------------------------------------------------------------------- linear, ReLU, softmax, losses


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Multiply by a matrix and add a bias: equation (11).

    Parameters
    ----------
    x : float[N, I]
    weight : float[O, I]
    bias : float[O], optional

    Returns
    -------
    float[N, O]
    """
    bias = np.zeros(weight.shape[0], weight.dtype) if bias is None else bias
    x, weight, bias = _widen(x, weight, bias)
    y = np.zeros((x.shape[0], weight.shape[0]), x.dtype)
    for n, o in np.ndindex(y.shape):
        y[n, o] = np.sum(x[n] * weight[o]) + bias[o]
    return y


def linear_backward(dy: np.ndarray, x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take the gradient of `linear` back to input, weight and bias: equations (12), (13) and (14).

    Parameters
    ----------
    dy : float[N, O]
    x : float[N, I]
    weight : float[O, I]

    Returns
    -------
    dx : float[N, I]
    dweight : float[O, I]
    dbias : float[O]
    """
    dy, x, weight = _widen(dy, x, weight)
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros(weight.shape[0], weight.dtype)
    for n, o in np.ndindex(dy.shape):
        dx[n] += dy[n, o] * weight[o]
        dweight[o] += dy[n, o] * x[n]
        dbias[o] += dy[n, o]
    return dx, dweight, dbias


def relu(x: np.ndarray) -> np.ndarray:
    """Replace negative numbers by zero, and let NaN through: equation (15), float[...] to float[...]."""
    (x,) = _widen(x)
    return np.where(x <= 0, np.zeros_like(x), x)


def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Let the gradient through where the output ``y`` was positive or NaN: equation (16), all arrays float[...]."""
    dy, y = _widen(dy, y)
    return np.where(y <= 0, np.zeros_like(dy), dy)


# ------------------------------------------------------------------------------------------ curves of one number


def _sigmoid(v: float) -> float:
    return float(1 / (1 + np.exp(-v)))


def _tanh_line(v: float) -> float:
    return float(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))


def _normal(v: float) -> float:
    return 0.5 * erfc(-v / np.sqrt(2))


def _bell(v: float) -> float:
    return float(np.exp(-v * v / 2) / np.sqrt(2 * np.pi))


def _gelu_tanh_slope(v: float) -> float:
    bend = np.tanh(_tanh_line(v))
    return float(
        0.5 * (1 + bend) + 0.5 * v / np.cosh(_tanh_line(v)) ** 2 * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * v * v)
    )


# Each curve and its derivative, functions of one number v and of the layer's own number a.
_CURVES: dict[str, tuple[Callable[[float, float], float], Callable[[float, float], float]]] = {
    "leaky_relu": (lambda v, a: v if v > 0 else a * v, lambda v, a: 1.0 if v > 0 else a),
    "elu": (lambda v, a: v if v > 0 else a * float(np.expm1(v)), lambda v, a: 1.0 if v > 0 else a * float(np.exp(v))),
    "sigmoid": (lambda v, a: _sigmoid(v), lambda v, a: _sigmoid(v) * _sigmoid(-v)),
    "silu": (lambda v, a: v * _sigmoid(v), lambda v, a: _sigmoid(v) * (1 + v * _sigmoid(-v))),
    "gelu": (lambda v, a: v * _normal(v), lambda v, a: _normal(v) + v * _bell(v)),
    "gelu_tanh": (lambda v, a: 0.5 * v * (1 + float(np.tanh(_tanh_line(v)))), lambda v, a: _gelu_tanh_slope(v)),
    "tanh": (lambda v, a: float(np.tanh(v)), lambda v, a: float(1 / np.cosh(v) ** 2)),
    "hardswish": (
        lambda v, a: v * min(max(v + 3, 0), 6) / 6,
        lambda v, a: 0.0 if v <= -3 else 1.0 if v >= 3 else (2 * v + 3) / 6,
    ),
}


def activation(name: str, x: np.ndarray, number: float = 0.0) -> np.ndarray:
    """Apply a curve to every element: equations (41) to (48), float[...] to float64[...].

    Parameters
    ----------
    name : str
        "leaky_relu", "elu", "sigmoid", "silu", "gelu", "gelu_tanh", "tanh" or "hardswish".
    x : float[...]
    number : float
        The slope of a leaky ReLU, or the alpha of an ELU.
    """
    y = np.zeros(x.shape)
    with np.errstate(all="ignore"):
        for place in np.ndindex(x.shape):
            y[place] = _CURVES[name][0](float(x[place]), number)
    return y


def activation_backward(dy: np.ndarray, name: str, x: np.ndarray, number: float = 0.0) -> np.ndarray:
    """Take ``dy`` back through the curve: equation (40), all arrays float[...]; arguments as in `activation`."""
    dx = np.zeros(x.shape)
    with np.errstate(all="ignore"):
        for place in np.ndindex(x.shape):
            dx[place] = dy[place] * _CURVES[name][1](float(x[place]), number)
    return dx


def prelu(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Apply equation (41) with one slope for all, or one a channel: float[N, C, ...] and float[1] or float[C]."""
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        y[place] = x[place] if x[place] > 0 else weight[place[1] % len(weight)] * x[place]
    return y


def prelu_backward(dy: np.ndarray, x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take ``dy`` back through `prelu`: dx by equation (40), dweight by (49)."""
    dx, dweight = np.zeros(x.shape), np.zeros(len(weight))
    for place in np.ndindex(x.shape):
        slope = place[1] % len(weight)
        dx[place] = dy[place] * (1 if x[place] > 0 else weight[slope])
        dweight[slope] += 0 if x[place] > 0 else dy[place] * x[place]
    return dx, dweight


# -------------------------------------------------------------------------------------------------------- softmax


def _rows(shape: tuple[int, ...]) -> Iterator[tuple[int | slice, ...]]:
    """Yield where each row of K numbers lies in an array of shape [N, K, ...]."""
    for n, *place in np.ndindex(shape[0], *shape[2:]):
        yield (n, slice(None), *place)


def softmax(x: np.ndarray) -> np.ndarray:
    """Turn rows of logits, along axis 1, into probabilities: equation (17), float[N, K, ...] to float64[N, K, ...]."""
    y = np.array(x, np.float64)
    for row in _rows(y.shape):
        powers = np.exp(y[row] - y[row].max())  # The shift cancels in the quotient and keeps exp from overflowing.
        y[row] = powers / powers.sum()
    return y


def softmax_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Take ``dy`` back through the softmax that gave ``y``: equation (18), float[N, K, ...] to float64[N, K, ...]."""
    dy, y = np.asarray(dy, np.float64), np.asarray(y, np.float64)
    dx = np.zeros_like(y)
    for row in _rows(y.shape):
        dx[row] = y[row] * (dy[row] - np.sum(dy[row] * y[row]))
    return dx


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Return the logarithm of `softmax` without forming it: equation (19), float[N, K, ...] to float64[N, K, ...]."""
    y = np.array(x, np.float64)
    for row in _rows(y.shape):
        shifted = y[row] - y[row].max()
        y[row] = shifted - np.log(np.sum(np.exp(shifted)))
    return y


def log_softmax_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Take ``dy`` back through the log-softmax that gave ``y``: equation (59), float64[N, K, ...]."""
    dx = np.zeros(y.shape)
    for row in _rows(y.shape):
        dx[row] = dy[row] - np.exp(np.asarray(y[row], np.float64)) * np.sum(dy[row], dtype=np.float64)
    return dx


def cross_entropy(
    logits: np.ndarray, labels: np.ndarray, label_smoothing: float = 0.0, weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return the mean cross-entropy of the softmax, and its gradient: equations (70) and (71), or (20) and (21).

    Parameters
    ----------
    logits : float[N, K]
        Scores before the softmax.
    labels : int[N] or float[N, K]
        The right class of each row, or the probability of each class.
    label_smoothing : float
        The share of the target that is spread evenly over all classes.
    weight : float[K] or None
        What each class counts.

    Returns
    -------
    loss : float
        NaN for an empty batch.
    dlogits : float64[N, K]
    """
    N, K = logits.shape
    log_p, loss, dlogits, divisor = log_softmax(logits), 0.0, np.zeros((N, K)), 0.0
    weight = np.ones(K) if weight is None else np.asarray(weight, np.float64)
    for n in range(N):
        target = np.zeros(K)
        if np.ndim(labels) == 1:
            target[labels[n]] = 1
            divisor += float(weight[labels[n]])
        else:
            target[...] = labels[n]
            divisor += 1
        target = weight * ((1 - label_smoothing) * target + label_smoothing / K)
        loss -= float(np.sum(target * log_p[n]))
        dlogits[n] = np.exp(log_p[n]) * np.sum(target) - target
    if divisor == 0:
        return np.nan, dlogits * np.nan
    return loss / divisor, dlogits / divisor


def mse(y: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the squared error, averaged over all elements (NaN if there are none), and its gradient.

    Equations (22) and (23); ``y``, ``target`` and the gradient are float[...] of one shape.
    """
    error = np.asarray(y, np.float64) - np.asarray(target, np.float64)
    if error.size == 0:
        return np.nan, error
    return float(np.sum(error * error)) / error.size, 2 * error / error.size


def l1(y: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the absolute error, averaged over all elements, and its gradient: equations (72) and (73).

    ``y``, ``target`` and the gradient are float[...] of one shape.
    """
    error = np.asarray(y, np.float64) - np.asarray(target, np.float64)
    return float(np.mean(np.abs(error))), np.sign(error) / error.size


def huber(y: np.ndarray, target: np.ndarray, delta: float = 1.0) -> tuple[float, np.ndarray]:
    """Return Huber's loss, averaged over all elements, and its gradient: equations (74) and (75).

    ``y``, ``target`` and the gradient are float[...] of one shape.
    """
    error = np.asarray(y, np.float64) - np.asarray(target, np.float64)
    loss, gradient = 0.0, np.zeros(error.shape)
    for at in np.ndindex(error.shape):
        e = float(error[at])
        loss += e * e / 2 if abs(e) < delta else delta * abs(e) - delta * delta / 2
        gradient[at] = min(max(e, -delta), delta)
    return loss / error.size, gradient / error.size


def binary_cross_entropy(
    logits: np.ndarray, target: np.ndarray, pos_weight: float | np.ndarray = 1.0
) -> tuple[float, np.ndarray]:
    """Return the cross-entropy of the sigmoid, averaged over all elements, and its gradient: equations (76) and (77).

    Parameters
    ----------
    logits, target : float[...]
        Of one shape.
    pos_weight : float or float[...]
        What the term of a yes is multiplied by; spreads over the logits.
    """
    z, t = np.asarray(logits, np.float64), np.asarray(target, np.float64)
    yes = pos_weight * t
    loss = yes * np.logaddexp(0, -z) + (1 - t) * np.logaddexp(0, z)
    p = np.exp(-np.logaddexp(0, -z))
    return float(np.mean(loss)), ((1 - t) * p - yes * np.exp(-np.logaddexp(0, z))) / z.size


# ----------------------------------------------------------------------------------------------------- optimisers


def sgd(
    value: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Take one step of stochastic gradient descent: equation (24).

    Parameters
    ----------
    value, grad, velocity : float[...]
        The parameter, its gradient, and the velocity that the last step returned; zeros before the first.
    lr, momentum, weight_decay : float
        Learning rate, what is kept of the velocity, and the pull towards zero that is added to the gradient.
    nesterov : bool
        Look one momentum step ahead.

    Returns
    -------
    value, velocity : float64[...]
        Both after the step.
    """
    value, grad, velocity = (np.asarray(a, np.float64) for a in (value, grad, velocity))
    grad = grad + weight_decay * value
    velocity = momentum * velocity + grad
    step = grad + momentum * velocity if nesterov else velocity
    return value - lr * step, velocity


def adam(
    value: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take one step of Adam: equation (25).

    Parameters
    ----------
    value, grad, m, v : float[...]
        The parameter, its gradient, and the two moments that the last step returned; zeros before the first.
    step : int
        The number of this step, from 1.
    lr, beta1, beta2, eps, weight_decay : float
        Learning rate, what is kept of each moment, the guard against division by zero, and the pull towards zero that
        is added to the gradient.

    Returns
    -------
    value, m, v : float64[...]
        All three after the step.
    """
    value, grad, m, v = (np.asarray(a, np.float64) for a in (value, grad, m, v))
    grad = grad + weight_decay * value
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad * grad
    mean, variance = m / (1 - beta1**step), v / (1 - beta2**step)
    return value - lr * mean / (np.sqrt(variance) + eps), m, v


def adamw(
    value: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take one step of AdamW, equation (26): `adam`, but the decay shrinks the value and never meets the moments."""
    decayed = (1 - lr * weight_decay) * np.asarray(value, np.float64)
    return adam(decayed, grad, m, v, step, lr, beta1, beta2, eps, weight_decay=0.0)


def rmsprop(
    value: np.ndarray,
    grad: np.ndarray,
    square: np.ndarray,
    mean: np.ndarray,
    velocity: np.ndarray,
    lr: float = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Take one step of RMSprop: equation (78).

    Parameters
    ----------
    value, grad, square, mean, velocity : float[...]
        The parameter, its gradient, and what the last step returned; zeros before the first.
    lr, alpha, eps, momentum, weight_decay : float
        Learning rate, what is kept of square and mean, the guard against division by zero, what is kept of the
        velocity, and the pull towards zero that is added to the gradient.
    centered : bool
        Divide by the root of the variance, not of the mean square.

    Returns
    -------
    value, square, mean, velocity : float64[...]
        All four after the step.
    """
    value, grad, square, mean, velocity = (np.asarray(a, np.float64) for a in (value, grad, square, mean, velocity))
    grad = grad + weight_decay * value
    square = alpha * square + (1 - alpha) * grad * grad
    if centered:
        mean = alpha * mean + (1 - alpha) * grad
    spread = np.maximum(square - mean * mean, 0) if centered else square
    velocity = momentum * velocity + grad / (np.sqrt(spread) + eps)
    return value - lr * velocity, square, mean, velocity


def lion(
    value: np.ndarray,
    grad: np.ndarray,
    mean: np.ndarray,
    lr: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Take one step of Lion: equation (79).

    Parameters
    ----------
    value, grad, mean : float[...]
        The parameter, its gradient, and the mean that the last step returned; zeros before the first.
    lr, beta1, beta2, weight_decay : float
        Learning rate, the mean's share in the direction and in the next mean, and the pull towards zero.

    Returns
    -------
    value, mean : float64[...]
        Both after the step.
    """
    value, grad, mean = (np.asarray(a, np.float64) for a in (value, grad, mean))
    direction = np.sign(beta1 * mean + (1 - beta1) * grad)
    return value - lr * (direction + weight_decay * value), beta2 * mean + (1 - beta2) * grad


def clip_factor(grads: list[np.ndarray], clip_norm: float) -> tuple[float, float]:
    """Return the norm of all gradients together, and what to multiply them by: equation (80)."""
    total = 0.0
    for grad in grads:
        for element in np.asarray(grad, np.float64).ravel():
            total += float(element) ** 2
    norm = float(np.sqrt(total))
    return norm, min(1.0, clip_norm / (norm + 1e-6))


def moving_average(average: np.ndarray, value: np.ndarray, kept: float) -> np.ndarray:
    """Return the average after one more value, of which ``kept`` stays as it was: equation (81)."""
    return kept * np.asarray(average, np.float64) + (1 - kept) * np.asarray(value, np.float64)


# --------------------------------------------------------------------------------------------------- augmentation


def random_bits(key: int, number: int) -> int:
    """Return 64 random bits that follow from two numbers of 64 bits: SplitMix64's finaliser, twice."""
    z = (key + number * 0x9E3779B97F4A7C15) % 2**64
    for _ in range(2):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        z ^= z >> 31
    return z


def augmentation_matrix(
    size: tuple[int, int],
    degrees: float = 0.0,
    shear: float = 0.0,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    flip: bool = False,
    crop: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Return m of equation (91), float64[2, 3]: where an output pixel (column, row, 1) reads the image.

    Parameters
    ----------
    size : (int, int)
        Height and width.
    degrees, shear : float
        Angles in degrees.
    scale : float
    shift : (float, float)
        How far the image moves (right, down).
    flip : bool
    crop : (int, int)
        Offset (right, down) of the window that is cut out.
    """
    middle = np.array([[1, 0, (size[1] - 1) / 2], [0, 1, (size[0] - 1) / 2], [0, 0, 1]])
    a, slope = np.radians(degrees), np.tan(np.radians(shear))
    rotated = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    sheared = np.array([[scale, slope * scale, 0], [0, scale, 0], [0, 0, 1]])
    moved = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
    mirrored = np.diag([-1.0 if flip else 1.0, 1, 1])
    offset = np.array([[1, 0, crop[0]], [0, 1, crop[1]], [0, 0, 1]])
    forward = moved @ rotated @ sheared
    return (offset @ middle @ mirrored @ np.linalg.inv(forward) @ np.linalg.inv(middle))[:2]


def elastic_displacement(knots: np.ndarray, spacing: float, size: tuple[int, int]) -> np.ndarray:
    """Return equation (93), float64[2, H, W]: how far further (right, down) each pixel reads.

    Parameters
    ----------
    knots : float[2, GH, GW]
    spacing : float
        Pixels between two knots.
    size : (int, int)
        Height and width.
    """

    def spline(t: float) -> float:
        t = abs(t)
        if t < 1:
            return (4 - 6 * t**2 + 3 * t**3) / 6
        return (2 - t) ** 3 / 6 if t < 2 else 0.0

    out = np.zeros((2, *size))
    for axis, k, g in np.ndindex(*knots.shape):
        for i, j in np.ndindex(*size):
            out[axis, i, j] += spline(i / spacing + 1 - k) * spline(j / spacing + 1 - g) * knots[axis, k, g]
    return out


def augment(
    image: np.ndarray,
    matrix: np.ndarray,
    displacement: np.ndarray | None = None,
    border: int = 0,
    fill: int = 0,
    gain: float = 1.0,
    brightness: float = 0.0,
    squares: Sequence[tuple[int, int, int]] = (),
) -> np.ndarray:
    """Return what becomes of one image by equations (90), (92) and (94), float64[C, H, W] of values from 0 to 255.

    Parameters
    ----------
    image : uint8[C, H, W]
    matrix : float[2, 3]
        From ``augmentation_matrix``.
    displacement : float[2, H, W], optional
        From ``elastic_displacement``.
    border : int
        How far the image is continued by reflection.
    fill : int
        The pixel further out.
    gain, brightness : float
        g and b.
    squares : sequence of (top, left, side)
        What is cut out; it becomes ``fill`` as it was before (94).
    """
    C, H, W = image.shape

    def pixel(c: int, r: int, s: int) -> float:
        if not (-border <= r < H + border and -border <= s < W + border):
            value = fill
        else:
            r, s = (r if r < H else 2 * H - 2 - r), (s if s < W else 2 * W - 2 - s)
            value = int(image[c, abs(r), abs(s)])
        return 255 * min(max(gain * (value / 255 - 0.5) + 0.5 + brightness, 0), 1)

    out = np.zeros((C, H, W))
    for c, i, j in np.ndindex(C, H, W):
        s, r = matrix @ [j, i, 1]
        if displacement is not None:
            s, r = s + displacement[0, i, j], r + displacement[1, i, j]
        left, top = int(np.floor(s)), int(np.floor(r))
        for down, right in np.ndindex(2, 2):
            weight = (r - top if down else 1 - r + top) * (s - left if right else 1 - s + left)
            out[c, i, j] += weight * pixel(c, top + down, left + right)
        if any(first <= i < first + side and start <= j < start + side for first, start, side in squares):
            out[c, i, j] = fill
    return out


# ---------------------------------------------------------------------------------------------- data and checking


def normalize_uint8(images: np.ndarray, mean: float | np.ndarray, std: float | np.ndarray) -> np.ndarray:
    """Return ``(images / 255 - mean) / std``: uint8[N, C, H, W] to float64[N, C, H, W].

    ``mean`` and ``std``, float or float[C], are those of the pixels scaled to 0 to 1.
    """
    mean, std = (np.asarray(a, np.float64).reshape(-1, 1, 1) for a in (mean, std))
    return (images / 255 - mean) / std


def numeric_gradient(f: Callable[[np.ndarray], float], x: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """Return the gradient of a scalar function by central differences, one element at a time.

    Parameters
    ----------
    f : callable
        Takes an array of the shape of ``x`` and returns a number.
    x : float[...]
        Where to differentiate.
    eps : float
        How far to step to either side.

    Returns
    -------
    float64[...]
    """
    x = np.array(x, np.float64)
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        here = x[place]
        x[place] = here + eps
        above = f(x)
        x[place] = here - eps
        below = f(x)
        x[place] = here
        gradient[place] = (above - below) / (2 * eps)
    return gradient


# ------------------------------------------------------------------------------------------- batch normalisation


def batch_norm(
    x: np.ndarray, mean: np.ndarray, var: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float
) -> np.ndarray:
    """Return equation (35) for x[N, C, ...] and one value a channel of everything else."""
    y = np.zeros_like(x)
    for c in range(x.shape[1]):
        y[:, c] = gamma[c] * (x[:, c] - mean[c]) / np.sqrt(var[c] + eps) + beta[c]
    return y


def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return equation (34): mean and variance, float64[C]."""
    C = x.shape[1]
    mean, var = np.zeros(C), np.zeros(C)
    for c in range(C):
        values = [float(v) for v in x[:, c].reshape(-1)]
        mean[c] = sum(values) / len(values)
        var[c] = sum((v - mean[c]) ** 2 for v in values) / len(values)
    return mean, var


def group_norm(x: np.ndarray, groups: int, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
    """Return equation (101) for x[N, C, ...], gamma and beta one a channel, or one for each value of an image."""
    y = np.zeros(x.shape)
    per = x.shape[1] // groups
    for n in range(x.shape[0]):
        for g in range(groups):
            part = x[n, g * per : (g + 1) * per]
            mean = part.sum() / part.size
            var = ((part - mean) ** 2).sum() / part.size
            for c in range(per):
                y[n, g * per + c] = (part[c] - mean) / np.sqrt(var + eps)
        for c in range(x.shape[1]):
            y[n, c] = gamma[c] * y[n, c] + beta[c]
    return y


def batch_norm_backward(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return equations (37) and (36) for the batch's own statistics: dx, dgamma, dbeta.

    The derivative of each xhat by each x of its channel is written out, m by m of them.
    """
    dx, dgamma, dbeta = np.zeros_like(x), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    mean, var = batch_statistics(x)
    for c in range(x.shape[1]):
        values, upstream = x[:, c].reshape(-1), dy[:, c].reshape(-1)
        m, r = values.size, 1 / np.sqrt(var[c] + eps)
        gradient = np.zeros(m)
        for j in range(m):
            for i in range(m):
                around = (values[i] - mean[c]) * (values[j] - mean[c])
                derivative = r * ((i == j) - 1 / m) - r**3 * around / m
                gradient[j] += upstream[i] * gamma[c] * derivative
            dgamma[c] += upstream[j] * (values[j] - mean[c]) * r
            dbeta[c] += upstream[j]
        dx[:, c] = gradient.reshape(x[:, c].shape)
    return dx, dgamma, dbeta
