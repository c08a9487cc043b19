"""IDX files, the format in which MNIST and its relatives are published.

A file is two zero bytes, one byte for the type (8: unsigned byte), one for the number of axes, the length of each axis
as a big-endian 32-bit number, then the values in C order (LeCun, Cortes & Burges, "The MNIST database").
"""

import struct
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastconv.data.dataset import Dataset
from fastconv.data.errors import DataError
from fastconv.data.files import InputFile, StrPath, read_all

Part = Literal["train", "test"]

_UNSIGNED_BYTE = 8
_OTHER_TYPES = {9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
_PREFIX: dict[str, str] = {"train": "train", "test": "t10k"}
_AXES = {"images": 3, "labels": 1}
# No deflate stream unpacks to more than 1032 times its size.
_DEFLATE_LIMIT = 1032


def is_idx(start: bytes) -> bool:
    """Tell whether a file that begins with these four bytes (or more) is IDX."""
    return len(start) >= 4 and start[:2] == b"\0\0" and (start[2] == _UNSIGNED_BYTE or start[2] in _OTHER_TYPES)


def read_idx(path: StrPath) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, plain or gzip.

    Returns
    -------
    uint8[N] or uint8[N, H, W]
        Labels or images, C-contiguous.

    Raises
    ------
    DataError
        If the file cannot be read, is not IDX, holds another type or number of axes, or is not exactly as long as its
        header says, which is checked before memory is taken.
    """
    with InputFile("read_idx", path) as file:
        magic = file.read(4)
        if not is_idx(magic):
            raise file.error(
                f"expected an IDX file, which begins with the bytes 00 00 08 01 (labels) or 00 00 08 03 (images), got "
                f"{magic.hex(' ') or 'an empty file'}; is this the right file?"
            )
        if magic[2] != _UNSIGNED_BYTE:
            raise file.error(f"expected values of type uint8 (08), got {_OTHER_TYPES[magic[2]]} ({magic[2]:02x})")
        axes = magic[3]
        if axes not in (1, 3):
            raise file.error(f"expected 1 axis (labels) or 3 (images), got {axes}")
        lengths = file.read(4 * axes)
        if len(lengths) < 4 * axes:
            raise file.error(f"expected a header of {4 + 4 * axes} bytes, got {4 + len(lengths)}; copy the file again")
        shape: tuple[int, ...] = struct.unpack(f">{axes}I", lengths)
        count = prod(shape)
        if count == 0:
            raise file.error(f"expected at least one value, got the shape {shape}")
        if file.size is not None:
            there = file.size * _DEFLATE_LIMIT if file.packed else file.size - 4 - 4 * axes
            if there < count or (there > count and not file.packed):
                raise _wrong_length(file, shape, ("at most " if file.packed else "") + f"{there:,}")
        values = read_all(file, count, file)
        # Reading past the end also makes gzip compare its checksum.
        if len(values) < count or file.read(1):
            raise _wrong_length(file, shape, "more" if len(values) == count else f"{len(values):,}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _wrong_length(file: InputFile, shape: tuple[int, ...], got: str) -> DataError:
    return file.error(
        f"expected {prod(shape):,} bytes behind the header for the shape {shape}, got {got}; copy or download it again"
    )


def read_idx_folder(folder: StrPath, *, part: Part = "train") -> Dataset:
    """Read the images and labels of one part of a data set from a folder of IDX files.

    Parameters
    ----------
    folder : str or path
        Holds ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, or the same with ``t10k`` for the test part,
        each plain or with ``.gz``; ``train-images.idx3-ubyte`` is understood too.
    part : "train" or "test"

    Returns
    -------
    Dataset
        images uint8[N, 1, H, W], labels int64[N]; its source is the file of the images.

    Raises
    ------
    DataError
        If a file is missing or bad, or there are not as many labels as images.
    """
    if part not in _PREFIX:
        raise DataError(f"read_idx_folder: expected part 'train' or 'test', got {part!r}")
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"read_idx_folder: {folder}: expected a folder; check the name and the working folder")
    return _labelled(_member(folder, part, "images"), _member(folder, part, "labels"))


def has_part(folder: StrPath, part: Part) -> bool:
    """Tell whether a folder holds the images of one part of a data set."""
    return _found(Path(folder), _PREFIX[part], "images") is not None


def read_idx_images(path: StrPath) -> Dataset:
    """Read a file of images, and their labels from the file beside it, if there is one.

    Parameters
    ----------
    path : str or path
        A file called ``t10k-images-idx3-ubyte.gz`` has its labels in ``t10k-labels-idx1-ubyte``, with or without
        ``.gz``, and so for other beginnings; one with a name of another kind has no labels.

    Raises
    ------
    DataError
        If a file is bad, or there are not as many labels as images.
    """
    path = Path(path)
    prefix = path.name.rpartition("-images")[0]
    labels = _found(path.parent, prefix, "labels") if path.name in _names(prefix, "images") else None
    if labels is not None:
        return _labelled(path, labels)
    return Dataset(_values(path, "images")[:, np.newaxis], None, str(path))


def _names(prefix: str, kind: str) -> list[str]:
    """Return the names that a file of images or labels may have."""
    return [f"{prefix}-{kind}{mark}idx{_AXES[kind]}-ubyte{suffix}" for mark in "-." for suffix in ("", ".gz")]


def _found(folder: Path, prefix: str, kind: str) -> Path | None:
    return next((folder / name for name in _names(prefix, kind) if (folder / name).is_file()), None)


def _member(folder: Path, part: Part, kind: str) -> Path:
    path = _found(folder, _PREFIX[part], kind)
    if path is None:
        plain, packed, *_ = _names(_PREFIX[part], kind)
        raise DataError(
            f"read_idx_folder: {folder}: expected the file {plain} or {packed}, found neither; add it, or name a file "
            "of images instead of the folder"
        )
    return path


def _labelled(images_path: Path, labels_path: Path) -> Dataset:
    images, labels = _values(images_path, "images"), _values(labels_path, "labels")
    if len(images) != len(labels):
        raise DataError(
            f"read_idx: {images_path.parent}: expected a label for each image, got {len(images):,} images in "
            f"{images_path.name} and {len(labels):,} labels in {labels_path.name}; do the two belong together?"
        )
    return Dataset(images[:, np.newaxis], labels.astype(np.int64), str(images_path))


def _values(path: Path, kind: str) -> NDArray[np.uint8]:
    values = read_idx(path)
    if values.ndim != _AXES[kind]:
        got = "labels" if kind == "images" else "images"
        raise DataError(
            f"read_idx: {path}: expected {kind}, got {len(values):,} {got}; name the folder, or the file of the images "
            "(were files renamed?)"
        )
    return values
