"""What may become of an image: the options, and those that suit well-known kinds of images."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastconv import blocks, shapes
from fastconv.augment.packing import Augmentation
from fastconv.shapes import ShapeError


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Options of augmentation; by default, images stay as they are.

    An image is rotated, sheared and scaled about its centre and shifted, then flipped, then cropped, then bent, all of
    which is one map by which its pixels are read once, bilinearly.  Equations (90) to (95) of docs/backprop.md.

    Parameters
    ----------
    rotate : float
        Up to so many degrees, from 0 to 180, either way.
    scale : (float, float)
        Between which factors it is scaled, from 0.1 to 10.
    shear : float
        Up to so many degrees, from 0 to 60, either way.
    shift : float
        Up to so many pixels, from 0 to 1000, along each axis.
    elastic : (alpha, sigma), optional
        Displacements as of Simard et al. 2003: random ones from -alpha to alpha pixels, up to 10000, averaged by a bell
        of standard deviation sigma, from 1 to 100 pixels.
    crop : int
        Continue the image by so many pixels, from 0 to 1000, on all sides and cut a random window of its size out.
    padding_mode : 'constant' or 'reflect'
        How it is continued: by ``fill``, or by its reflection without the edge pixel.
    flip : bool
        Exchange left and right of half of the images.
    cutout : int or (int, int)
        Side, up to 1000, of a square around a random pixel that becomes ``fill``, and how many, up to 100 (DeVries &
        Taylor 2017).
    brightness : float
        Add up to so much, from 0 to 1, either way, where 1 is white.
    contrast : float
        Multiply the distance from mid-grey by 1 plus up to so much, from 0 to 1, either way.
    mixup : float
        Mix each image, and its target, with another training image; the weight is drawn from the Beta distribution with
        both parameters this number, up to 4 (Zhang et al. 2018).  0 for no mixture.
    fill : int
        The pixel that is read outside an image, from 0 to 255.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong kind or out of range.
    """

    rotate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    shift: float = 0.0
    elastic: tuple[float, float] | None = None
    crop: int = 0
    padding_mode: Literal["constant", "reflect"] = "constant"
    flip: bool = False
    cutout: int | tuple[int, int] = 0
    brightness: float = 0.0
    contrast: float = 0.0
    mixup: float = 0.0
    fill: int = 0

    def __post_init__(self) -> None:
        """Check every option."""
        for name, most in _GREATEST.items():
            _number(name, getattr(self, name), 0, most)
        least, most = _pair("scale", self.scale, "two numbers, the least factor and the greatest")
        if _number("scale", least, 0.1, 10) > _number("scale", most, 0.1, 10):
            raise ValueError(f"Augment: expected scale as the least factor and the greatest, got {self.scale!r}")
        if self.elastic is not None:
            alpha, sigma = _pair("elastic", self.elastic, "alpha and sigma")
            _number("elastic's alpha", alpha, 0, 10_000)
            _number("elastic's sigma", sigma, 1, 100)
        _whole("crop", self.crop, 1000)
        _whole("fill", self.fill, 255)
        side, count = self.squares
        _whole("cutout's side", side, 1000)
        _whole("cutout's count", count, 100)
        if self.padding_mode not in ("constant", "reflect"):
            raise ValueError(f"Augment: expected padding_mode 'constant' or 'reflect', got {self.padding_mode!r}")
        if not isinstance(self.flip, bool):
            raise TypeError(f"Augment: expected flip as True or False, got {self.flip!r}")

    @property
    def squares(self) -> tuple[int, int]:
        """Side and number of the squares to cut out."""
        if isinstance(self.cutout, int):
            return self.cutout, 1 if self.cutout else 0
        side, count = _pair("cutout", self.cutout, "a side, or a side and a count")
        return side, count

    @property
    def border(self) -> int:
        """How far an image is continued by reflection."""
        return self.crop if self.padding_mode == "reflect" else 0

    def apply(self, images: np.ndarray, index: object, epoch: int, seed: int = 0) -> NDArray[np.uint8]:
        """Return what becomes of the images ``images[index]`` in an epoch, to look at.

        Parameters
        ----------
        images : uint8[N, C, H, W]
            All training images: partners of mixtures are found among them.
        index : int or integers[n]
        epoch, seed : int
            Epochs count from 1.

        Returns
        -------
        uint8[n, C, H, W], or uint8[C, H, W] for a single image
            Rounded; in training, values between two pixels stay as they are.

        Raises
        ------
        TypeError, ShapeError
            If ``images`` is no such array, or ``index`` no whole numbers.
        ValueError
            If ``seed`` is below 0, or ``epoch`` below 1.
        IndexError
            If there is no such image.
        """
        images = check_pixels("Augment.apply", images)
        shapes.seed("Augment.apply", seed)
        shapes.count("Augment.apply", "epoch", epoch)
        places = blocks.as_array("Augment.apply", "index", index)
        if places.dtype.kind not in "iu":
            raise TypeError(f"Augment.apply: expected index as whole numbers, got {places.dtype}")
        if places.ndim > 1:
            raise ShapeError(f"Augment.apply: expected index as one number or one axis of them, got {places.shape}")
        places = blocks.contiguous("Augment.apply", "index", places)
        try:
            where = np.arange(len(images))[places]
        except IndexError as error:
            raise IndexError(f"Augment.apply: expected index among {len(images)} images: {error}") from None
        numbers = np.atleast_1d(where)
        packing = Augmentation(self, images.shape[1:], np.arange(len(images)), seed).of_epoch(epoch)
        table = np.broadcast_to(np.arange(256, dtype=np.float32), (images.shape[1], 256)).copy()
        out = blocks.empty((len(numbers), *images.shape[1:]), np.float32)
        seen = np.rint(blocks.unpack(packing(images, table, out, numbers))).astype(np.uint8)
        return seen[0] if where.ndim == 0 else seen


_GREATEST = {"rotate": 180, "shear": 60, "shift": 1000, "brightness": 1, "contrast": 1, "mixup": 4}


def chosen(operation: str, augment: object) -> Augment | None:
    """Return the options that an argument names, or is; None if it is None.

    Raises
    ------
    ValueError, TypeError
        If there is no preset of that name, or it is neither.
    """
    if isinstance(augment, str):
        if augment not in PRESETS:
            raise ValueError(f"{operation}: expected augment as one of {', '.join(PRESETS)}, got {augment!r}")
        return PRESETS[augment]
    if augment is None or isinstance(augment, Augment):
        return augment
    raise TypeError(f"{operation}: expected augment as an Augment, a preset's name or None, got {augment!r}")


def check_pixels(operation: str, images: object) -> NDArray[np.uint8]:
    """Return images that can be augmented, contiguous.

    Raises
    ------
    TypeError
        If they are not uint8.
    ShapeError
        If they are not (N, C, H, W).
    """
    if isinstance(images, np.ma.MaskedArray):
        raise TypeError(f"{operation}: expected images as a plain array, got a masked array: fill it first")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        got = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"{operation}: augmentation reads uint8 images, got {got}")
    if images.ndim != 4 or min(images.shape) < 1:
        raise ShapeError(f"{operation}: augmentation reads images of shape (N, C, H, W), got {images.shape}")
    return blocks.contiguous(operation, "images", images)


def _number(name: str, value: Any, least: float, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"Augment: expected {name} as a number, got {value!r}")
    if not (isfinite(value) and least <= value <= most):
        raise ValueError(f"Augment: expected {name} from {least} to {most}, got {value!r}")
    return float(value)


def _whole(name: str, value: object, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"Augment: expected {name} as a whole number, got {value!r}")
    if not 0 <= value <= most:
        raise ValueError(f"Augment: expected {name} from 0 to {most}, got {value!r}")


def _pair(name: str, value: Any, meaning: str) -> tuple[Any, Any]:
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"Augment: expected {name} as {meaning}, got {value!r}")
    return value


PRESETS = {
    "digits": Augment(rotate=8, scale=(0.92, 1.08), shear=5, shift=1.5),
    "fashion": Augment(crop=1, flip=True, cutout=8),
    "cifar": Augment(crop=4, padding_mode="reflect", flip=True, cutout=8),
}
"""What suits handwritten digits, Fashion-MNIST's clothes and small colour photographs."""
