"""Pixels around an image: zeros, or the image's own."""

import numpy as np

from fastconv.reference.common import widen


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
    (x,) = widen(x)
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
    (dy,) = widen(dy)
    left, _, above, _ = pad
    dx, (H, W) = np.zeros(input_shape, dy.dtype), input_shape[2:]
    for i, j in np.ndindex(*dy.shape[2:]):
        p, q = _source(i - above, H, mode), _source(j - left, W, mode)
        if p is not None and q is not None:
            dx[:, :, p, q] += dy[:, :, i, j]
    return dx
