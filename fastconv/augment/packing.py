"""From options to the kernel's arguments: a packing for each epoch, in the place of ``blocks.pack_pixels``."""

from math import pi, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastconv import blocks
from fastconv.blocks import Blocks
from fastconv.shapes import Shape, ShapeError
from fastconv_kernels import augment as kernels
from fastconv_kernels import memory
from fastconv_kernels.tile import LANES

if TYPE_CHECKING:
    from fastconv.augment.options import Augment

_STREAM = 0xA06E47  # so that what becomes of images never resembles their order, which follows from the same seed
# Mean square, over all places between two knots, of the cubic B-splines at one place: how much variance is left.
_SPLINE = 151 / 315


class _Bend(NamedTuple):
    """What the kernel needs of an elastic displacement; see ``fastconv_kernels.augment.pack_augmented``."""

    amplitude: float
    rows: int
    across: np.ndarray
    down: np.ndarray


class Augmentation:
    """What becomes of the images of one training run.

    Parameters
    ----------
    options : Augment
    shape : (C, H, W)
        Of an image.
    pool : int64[m]
        The numbers of the training images, among which partners of mixtures are found.
    seed : int

    Raises
    ------
    ShapeError
        If images are too small for their reflection.
    """

    def __init__(self, options: "Augment", shape: Shape, pool: np.ndarray, seed: int) -> None:
        if options.border >= min(shape[1:]):
            raise ShapeError(
                f"Augment: expected images of more than {options.border} pixels for crop={options.crop} by reflection, "
                f"got {shape[1]}x{shape[2]}"
            )
        self.options, self.pool, self.seed = options, pool, seed
        self.size = shape[1], shape[2]
        side, self.squares = options.squares
        self.ranges = np.array(
            [
                options.rotate,
                options.shear,
                *options.scale,
                options.shift,
                0.5 if options.flip else 0.0,
                options.crop,
                options.contrast,
                options.brightness,
                side // 2,
            ],
            np.float64,
        )
        self._bends: dict[np.dtype, _Bend] = {}

    def of_epoch(self, epoch: int) -> "Packing":
        """Return the packing of an epoch, which count from 1."""
        return Packing(self, epoch)

    def bend(self, dtype: np.dtype) -> _Bend:
        """Return the elastic displacement's splines."""
        if dtype not in self._bends:
            alpha, sigma = self.options.elastic or (0.0, 100.0)
            # A cubic B-spline is nearly a bell, whose variance is a third of the squared distance between knots.
            rows, columns = (
                _splines(self.size[0], sqrt(3) * sigma),
                _splines(_whole_vectors(self.size[1]), sqrt(3) * sigma),
            )
            knots = int(columns[-1, 4]) + 4
            across = np.zeros((knots + 1, len(columns)), dtype)
            for k in range(4):
                across[columns[:, 4].astype(np.int64) + k, np.arange(len(columns))] = columns[:, k]
            across[knots] = np.arange(len(columns))
            amplitude = alpha / (2 * sqrt(pi) * sigma * _SPLINE)  # the variance of Simard's averages
            self._bends[dtype] = _Bend(amplitude, int(rows[-1, 4]) + 4, across, rows.astype(dtype))
        return self._bends[dtype]


def _whole_vectors(size: int) -> int:
    return -(-size // LANES) * LANES


def _splines(size: int, spacing: float) -> np.ndarray:
    """Return, for each pixel of a line, four values of the cubic B-splines and which knot the first is for."""
    place = np.arange(size) / spacing
    first = np.floor(place)
    f = place - first
    g = 1 - f
    values = g * g * g, 4 - 6 * f * f + 3 * f * f * f, 4 - 6 * g * g + 3 * g * g * g, f * f * f
    return np.stack([*(value / 6 for value in values), first], axis=1)


class Packing:
    """Packs a batch as ``blocks.pack_pixels`` does, with what an epoch makes of each image; a pure function.

    Attributes
    ----------
    mixes : bool
        Whether targets are mixed too.
    """

    def __init__(self, run: Augmentation, epoch: int) -> None:
        sequence = np.random.SeedSequence(run.seed, spawn_key=(_STREAM, epoch))
        self._run, self._key = run, sequence.generate_state(1, np.uint64)[0]
        self.mixes = run.options.mixup > 0

    def draw(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the kernel's table, and with which image each of ``index`` is mixed."""
        n, run = index.shape[0], self._run
        table = np.empty((2 * n if self.mixes else n, kernels.SQUARES + 2 * run.squares))
        partner = np.empty(n, np.int64)
        kernels.draw(self._key, index, run.pool, run.size, run.ranges, float(run.options.mixup), table, partner)
        return table, partner

    def __call__(self, x: np.ndarray, table: np.ndarray, out: Blocks, index: np.ndarray | None = None) -> Blocks:
        """Pack uint8 images ``x[index]`` (all if None) into ``out``; channel c's value v becomes ``table[c, v]``."""
        if out.n:
            index = np.arange(x.shape[0]) if index is None else index
            run, options = self._run, self._run.options
            drawn, partner = self.draw(index)
            bend = run.bend(out.array.dtype)
            (height, width), border = run.size, options.border
            cells = 2 * bend.rows * sum(bend.across.shape) + 17 * (height * width + LANES)
            cells += (height + 2 * border + 3) * (width + 2 * border + 3)
            kernels.pack_augmented(
                blocks.read_only_planes(x),
                index,
                partner,
                table,
                drawn,
                self._key,
                run.size,
                border,
                options.fill,
                options.squares[0],
                *bend,
                blocks.planes(out.array),
                memory.scratch((cells,), out.array.dtype),
            )
        return out

    def targets(self, target: np.ndarray, index: np.ndarray, classes: int, dtype: np.typing.DTypeLike) -> np.ndarray:
        """Return the mixed targets of ``index``, float[n, ...]: a share of each image's own, the rest its partner's.

        Parameters
        ----------
        target : int64[N] or float[N, ...]
            Of all images.  Of labels, a mixture is float[n, classes], of which each row adds up to 1.

        Raises
        ------
        TypeError
            If there are several whole numbers an image, whose mixture means nothing.
        """
        drawn, partner = self.draw(index)
        share = drawn[: index.shape[0], kernels.SHARE].astype(dtype)
        if target.dtype.kind == "f":
            share = share.reshape(-1, *(1,) * (target.ndim - 1))
            return share * target[index] + (1 - share) * target[partner]
        if target.ndim != 1:
            raise TypeError(
                f"Augment: expected labels, one an image, or floats to mix, got {target.dtype} of shape {target.shape}"
            )
        rows = np.arange(index.shape[0])
        mixed = np.zeros((index.shape[0], classes), dtype)
        mixed[rows, target[index]] = share
        mixed[rows, target[partner]] += 1 - share
        return mixed
