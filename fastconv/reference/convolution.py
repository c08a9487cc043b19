"""Convolution and its gradients, by loops over the output elements; one row of it, and Winograd's patch."""

import numpy as np

from fastconv.reference.common import Padding, Pair, channels_seen, pair, taps_from, widen
from fastconv.reference.padding import pad, pad_backward


def _around(padding: Padding, taps: tuple[int, ...], dilation: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return how many columns lie left and right of the image, and rows above and below: equation (63) for 'same'."""
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        down, across = dilation[0] * (taps[0] - 1), dilation[1] * (taps[1] - 1)
        return across // 2, across - across // 2, down // 2, down - down // 2
    assert not isinstance(padding, str)
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    (above, below), (left, right) = pair(rows), pair(columns)
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
    x, weight, bias = widen(x, weight, bias)
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    F, _, KH, KW = weight.shape
    padded = pad(x, _around(padding, (KH, KW), (dh, dw)), padding_mode)
    N, C, H, W = padded.shape
    OH = (H - dh * (KH - 1) - 1) // sh + 1
    OW = (W - dw * (KW - 1) - 1) // sw + 1
    seen = channels_seen(C, weight.shape, groups)

    y = np.zeros((N, F, OH, OW), x.dtype)
    for n, f, i, j in np.ndindex(y.shape):
        window = padded[n, seen[f], taps_from(i * sh, KH, dh), taps_from(j * sw, KW, dw)]
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
    dy, weight = widen(dy, weight)
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    N, C, H, W = input_shape
    KH, KW = weight.shape[2:]
    seen = channels_seen(C, weight.shape, groups)
    around = left, right, above, below = _around(padding, (KH, KW), (dh, dw))

    padded = np.zeros((N, C, above + H + below, left + W + right), dy.dtype)
    for n, f, i, j in np.ndindex(dy.shape):
        window = padded[n, seen[f], taps_from(i * sh, KH, dh), taps_from(j * sw, KW, dw)]
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
    dy, x = widen(dy, x)
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    KH, KW = weight_shape[2:]
    seen = channels_seen(x.shape[1], weight_shape, groups)
    padded = pad(x, _around(padding, (KH, KW), (dh, dw)), padding_mode)

    dweight = np.zeros(weight_shape, dy.dtype)
    for n, f, i, j in np.ndindex(dy.shape):
        window = padded[n, seen[f], taps_from(i * sh, KH, dh), taps_from(j * sw, KW, dw)]
        dweight[f] += dy[n, f, i, j] * window
    return dweight


def conv2d_backward_bias(dy: np.ndarray) -> np.ndarray:
    """Take the gradient of a convolution, float[N, F, OH, OW], back to its bias, float[F]: equation (4)."""
    (dy,) = widen(dy)
    dbias = np.zeros(dy.shape[1], dy.dtype)
    for n, f, i, j in np.ndindex(dy.shape):
        dbias[f] += dy[n, f, i, j]
    return dbias


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
    x, weight, bias = widen(x, weight, bias)
    N, C, L = x.shape
    F, _, K = weight.shape
    seen = channels_seen(C, weight.shape, groups)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding)))

    y = np.zeros((N, F, (L + 2 * padding - dilation * (K - 1) - 1) // stride + 1), x.dtype)
    for n, f, j in np.ndindex(y.shape):
        y[n, f, j] = np.sum(padded[n, seen[f], taps_from(j * stride, K, dilation)] * weight[f]) + bias[f]
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
    dy, x, weight = widen(dy, x, weight)
    L, K = x.shape[2], weight.shape[2]
    seen = channels_seen(x.shape[1], weight.shape, groups)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding)))

    dpadded, dweight, dbias = np.zeros_like(padded), np.zeros_like(weight), np.zeros(len(weight), dy.dtype)
    for n, f, j in np.ndindex(dy.shape):
        window = n, seen[f], taps_from(j * stride, K, dilation)
        dpadded[window] += dy[n, f, j] * weight[f]
        dweight[f] += dy[n, f, j] * padded[window]
        dbias[f] += dy[n, f, j]
    return dpadded[:, :, padding : padding + L].copy(), dweight, dbias


def winograd_patch(d: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return the 4x4 outputs of a 3x3 filter on a patch of 6x6 pixels, by 36 multiplications, not 144: equation (31).

    Parameters
    ----------
    d : float[6, 6]
        The patch.
    g : float[3, 3]
        The filter.

    Returns
    -------
    float64[4, 4]
        What `conv2d` returns for them.  The eighths in ``G`` are exact, and so is a ninth of a multiple of nine: small
        integers give exact results here too.
    """
    Bt, G, At = _winograd_matrices()
    return At @ ((G @ g @ G.T) * (Bt @ d @ Bt.T)) @ At.T / 9


def winograd_patch_backward_filter(d: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Return what a patch of 6x6 pixels gives to the gradient of a 3x3 filter, by 36 multiplications: equation (39).

    Parameters
    ----------
    d : float[6, 6]
        The patch.
    dy : float[4, 4]
        The gradient of its outputs.

    Returns
    -------
    float64[3, 3]
        What `conv2d_backward_filter` returns for them; exact for small integers.
    """
    Bt, G, At = _winograd_matrices()
    return G.T @ ((At.T @ dy @ At) * (Bt @ d @ Bt.T)) @ G / 9


def _winograd_matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``Bt``, ``G`` and ``At`` of equation (31), for the points 0, 1, -1, 2, -2 and infinity in this order."""
    Bt = np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    )
    G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 8
    At = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
    return Bt, G, At
