"""Convolution the other way round: each input pixel adds a filter to the output."""

import numpy as np

from fastconv.reference.common import Pair, channels_seen, pair, taps_from, widen
from fastconv.reference.convolution import conv2d_backward_bias


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
    x, weight, bias = widen(x, weight, bias)
    whole, cut = _transposed(x.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation)
    seen = channels_seen(weight.shape[1] * groups, weight.shape, groups)

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
        s, p, more, d = (pair(each)[axis] for each in (stride, padding, output_padding, dilation))
        end = (size[axis] - 1) * s + d * (taps[axis] - 1) + 1 + more
        whole.append(end)
        cut.append(slice(p, end - p))
    return whole, cut


def _share(p: int, q: int, taps: tuple[int, ...], stride: Pair, dilation: Pair) -> tuple[slice, slice]:
    """Return the rows and columns of the whole output to which pixel (p, q) adds."""
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    return taps_from(p * sh, taps[0], dh), taps_from(q * sw, taps[1], dw)


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
    dy, x, weight = widen(dy, x, weight)
    whole, cut = _transposed(x.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation)
    seen = channels_seen(weight.shape[1] * groups, weight.shape, groups)
    upstream = np.zeros((*dy.shape[:2], *whole), dy.dtype)
    upstream[:, :, *cut] = dy

    dx, dweight = np.zeros_like(x), np.zeros_like(weight)
    for n, c, p, q in np.ndindex(x.shape):
        part = upstream[n, seen[c], *_share(p, q, weight.shape[2:], stride, dilation)]
        dx[n, c, p, q] = np.sum(part * weight[c])
        dweight[c] += x[n, c, p, q] * part
    return dx, dweight, conv2d_backward_bias(dy)
