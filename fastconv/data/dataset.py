"""Labelled images in memory."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastconv.data.errors import DataError


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images as they came, and their labels if they have any.

    Pixels stay uint8 until the first kernel, which is a quarter of the memory and of the traffic of float32.

    Attributes
    ----------
    images : uint8[N, C, H, W]
        C-contiguous, at least one image.
    labels : int64[N] or None
        From 0 upwards.
    source : str
        Where they came from, for people.
    classes : tuple of str or None
        The classes' names, if they have any, by label.

    Raises
    ------
    DataError
        If an array has another dtype, shape or memory order, or a label is negative.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    source: str
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the arrays."""
        for name, given in list(vars(self).items()):
            if name == "images" or (name == "labels" and given is not None):
                if not isinstance(given, np.ndarray) or isinstance(given, np.ma.MaskedArray):
                    got = type(given).__name__
                    raise DataError(f"Dataset: {self.source}: expected {name} as a plain NumPy array, got {got}")
                # A subclass's own arithmetic decides nothing here.
                object.__setattr__(self, name, np.asarray(given))
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0 or not images.flags.c_contiguous:
            raise DataError(
                f"Dataset: {self.source}: expected C-contiguous images of dtype uint8 and shape (N, C, H, W) without a "
                f"zero, got dtype {images.dtype}, shape {images.shape} and strides {images.strides}"
            )
        if labels is None:
            return
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise DataError(
                f"Dataset: {self.source}: expected labels of dtype int64 and shape ({len(images)},), one an image, got "
                f"dtype {labels.dtype} and shape {labels.shape}"
            )
        if labels.min() < 0:
            where = int(labels.argmin())
            raise DataError(
                f"Dataset: {self.source}: expected labels from 0 upwards, got {labels[where]} for image {where + 1} of "
                f"{len(labels)}; number the classes from 0"
            )

    def __len__(self) -> int:
        """Return N, the number of images."""
        return len(self.images)

    def __repr__(self) -> str:
        """Return one line without pixels."""
        size = "x".join(map(str, self.images.shape[1:]))
        classes = "no labels" if self.labels is None else f"{self.num_classes} classes"
        return f"<Dataset: {len(self):,} images of {size}, {classes}, from {self.source}>"

    @property
    def num_classes(self) -> int:
        """The greatest label plus one; raises DataError if there are no labels."""
        if self.labels is None:
            raise DataError(f"Dataset: {self.source}: expected labels, got none; give a file with labels")
        return int(self.labels.max()) + 1

    def sha256(self) -> str:
        """Return the SHA-256 of shape, images and labels, 64 hexadecimal digits; the source does not enter."""
        digest = hashlib.sha256(f"{self.images.shape} {self.labels is not None}\n".encode())
        digest.update(self.images.data)
        if self.labels is not None:
            digest.update(self.labels.astype("<i8", order="C", copy=False).data)
        return digest.hexdigest()
