"""The largest or the mean pixel of each window."""

import numpy as np

from fastconv.reference.common import Pair, pair, widen


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
    (x,) = widen(x)
    (KH, KW), (sh, sw), (ph, pw) = pair(kernel_size), pair(kernel_size if stride is None else stride), pair(padding)
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
    (dy,) = widen(dy)
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
    (KH, KW), (sh, sw), (ph, pw) = pair(kernel_size), pair(kernel_size if stride is None else stride), pair(padding)
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
    (KH, KW), (sh, sw), (ph, pw) = pair(kernel_size), pair(kernel_size if stride is None else stride), pair(padding)
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
