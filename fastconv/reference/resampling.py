"""Images of another size."""

from collections.abc import Iterator

import numpy as np


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
