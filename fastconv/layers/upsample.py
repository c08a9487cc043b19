"""Images of another size.  Its loops are in kernels/fastconv_kernels/resample.py."""

from math import floor, isfinite
from typing import Any, NamedTuple

import numpy as np

from fastconv import shapes
from fastconv.blocks import Blocks
from fastconv.layers.base import Layer, Workspace
from fastconv.shapes import Shape, ShapeError
from fastconv_kernels.resample import resample


class Taps(NamedTuple):
    """A matrix that is almost empty, by rows: those of row i are first[i] to first[i + 1] - 1 of the other two."""

    first: np.ndarray
    taps: np.ndarray
    weights: np.ndarray

    def transposed(self, columns: int) -> "Taps":
        """Return the transpose of a matrix with so many columns."""
        rows = np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))
        order = np.argsort(self.taps, kind="stable")
        first = np.searchsorted(self.taps[order], np.arange(columns + 1))
        return Taps(first, rows[order], self.weights[order])


def nearest(size: int, out: int, scale: float | None) -> Taps:
    """Return which of ``size`` pixels each of ``out`` pixels is, with PyTorch's roundings: equation (55)."""
    # Where the size stays or doubles, PyTorch goes by the sizes, whatever the scale.
    step = np.float32(size / out if scale is None or out in (size, 2 * size) else 1 / scale)
    places = np.floor(np.arange(out, dtype=np.float32) * step).astype(np.int64)
    return Taps(np.arange(out + 1), np.minimum(places, size - 1), np.ones(out))


def linear(size: int, out: int, scale: float | None, align_corners: bool, dtype: np.dtype) -> Taps:
    """Return the two of ``size`` pixels that each of ``out`` pixels lies between, and their weights: equation (55)."""
    i, half = np.arange(out, dtype=dtype), dtype.type(0.5)
    if align_corners:
        places = i * dtype.type((size - 1) / max(out - 1, 1))
    elif out == size:  # PyTorch copies, whatever the scale
        places = i
    else:
        step = dtype.type(size / out if scale is None else 1 / scale)
        places = np.maximum((i + half) * step - half, 0)
    left = np.minimum(np.floor(places).astype(np.int64), size - 1)
    right_weight = np.minimum(places - left.astype(dtype), 1)
    taps = np.stack([left, np.minimum(left + 1, size - 1)], axis=1)
    weights = np.stack([1 - right_weight, right_weight], axis=1)
    return Taps(2 * np.arange(out + 1), taps.reshape(-1), weights.reshape(-1))


class Upsample(Layer):
    """Give images another size: (N, C, H, W) to (N, C, OH, OW).  Equations (55) and (56) of docs/backprop.md.

    Parameters
    ----------
    size : int, (OH, OW) or None
    scale_factor : float, (vertical, horizontal) or None
        OH = floor(H * vertical).  One of ``size`` and ``scale_factor`` is given.
    mode : {"nearest", "bilinear"}
    align_corners : bool
        For bilinear: whether the middles of the corner pixels stay in the corners, rather than their outer edges.

    Raises
    ------
    ShapeError
        If ``size`` is not one or two whole numbers, or the output would be empty.
    ValueError
        If another argument is none of these, or ``align_corners`` is asked of "nearest".
    """

    def __init__(
        self,
        size: int | tuple[int, int] | None = None,
        scale_factor: float | tuple[float, float] | None = None,
        mode: str = "nearest",
        align_corners: bool = False,
    ) -> None:
        if (size is None) == (scale_factor is None):
            raise ValueError(f"Upsample: expected either size or scale_factor, got {size!r} and {scale_factor!r}")
        if mode not in ("nearest", "bilinear"):
            raise ValueError(f"Upsample: expected mode as 'nearest' or 'bilinear', got {mode!r}")
        if align_corners and mode == "nearest":
            raise ValueError("Upsample: expected align_corners=False with mode 'nearest', got True")
        self.size = None if size is None else shapes.pair(size, "size", "Upsample", least=1)
        self.scale_factor = None if scale_factor is None else _factors(scale_factor)
        self.mode, self.align_corners = mode, bool(align_corners)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "size": self.size,
            "scale_factor": self.scale_factor,
            "mode": self.mode,
            "align_corners": self.align_corners,
        }

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape and choose the taps; see ``Layer.plan``."""
        n, c, *given = shapes.images("Upsample", shape)
        scales = self.scale_factor or (None, None)
        sizes = self.size or tuple(floor(axis * (scale or 1)) for axis, scale in zip(given, scales, strict=True))
        if min(sizes) < 1:
            raise ShapeError(f"Upsample: nothing is left of x of shape {shape} with scale_factor {self.scale_factor}")
        out = n, c, *sizes
        work.y, work.dx, work.matrices, work.transposes = work.empty(out), work.empty(shape), [], []
        for axis, wanted, scale in zip(given, sizes, scales, strict=True):
            if self.mode == "nearest":
                matrix = nearest(axis, wanted, scale)
            else:
                matrix = linear(axis, wanted, scale, self.align_corners, work.dtype)
            matrix = matrix._replace(weights=matrix.weights.astype(work.dtype))
            work.matrices += matrix
            work.transposes += matrix.transposed(axis)
        return out

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (55)."""
        resample(x.array, *work.matrices, work.y.array)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (56)."""
        if not need_dx:
            return None
        resample(dy.array, *work.transposes, work.dx.array)
        return work.dx


def _factors(value: float | tuple[float, float]) -> tuple[float, float]:
    """Return a scale factor as (vertical, horizontal)."""
    factors = value if isinstance(value, tuple | list) else (value, value)
    numbers = [float(f) for f in factors if isinstance(f, int | float) and not isinstance(f, bool)]
    if len(numbers) != 2 or len(factors) != 2 or not all(isfinite(f) and f > 0 for f in numbers):
        raise ValueError(f"Upsample: expected scale_factor as one or two numbers above 0, got {value!r}")
    return numbers[0], numbers[1]
