"""Images changed at random, pixel by pixel."""

from collections.abc import Sequence

import numpy as np


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
