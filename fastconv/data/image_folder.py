"""Folders of PNG and JPEG files: a sub-folder for each class, or files alone, which have no labels."""

import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastconv import room
from fastconv.data.dataset import Dataset
from fastconv.data.errors import DataError, reason
from fastconv.data.files import StrPath

if TYPE_CHECKING:
    from PIL import Image

_SUFFIXES = (".png", ".jpg", ".jpeg")
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "F")
_MOST_PIXELS = 1 << 26  # of one file: more are no training image, and would take the memory before that is noticed


def holds_images(folder: StrPath) -> bool:
    """Tell whether a folder or one of its sub-folders holds a PNG or JPEG file."""
    found = [Path(folder), *_folders(Path(folder))]
    return any(_files(each) for each in found)


def read_images(folder: StrPath, *, size: tuple[int, int] | None = None, channels: int | None = None) -> Dataset:
    """Read a folder of PNG and JPEG files, with Pillow.

    Parameters
    ----------
    folder : str or path
        Its sub-folders are the classes, numbered from 0 in the order of their names; or it holds the files itself,
        which then have no labels and the order of their names.
    size : (height, width), optional
        Resize all images to it, bilinearly; by default they must have one size.
    channels : 1 or 3, optional
        Grey or RGB; by default 1 if all files are grey, else 3.  Transparency is left out.

    Returns
    -------
    Dataset
        images uint8[N, channels, H, W]; labels int64[N] and classes, or neither.

    Raises
    ------
    DataError
        If Pillow is absent, there are no images, a class has none, one is damaged, or their sizes differ.
    """
    folder = Path(folder)
    groups = _groups(folder)
    files = [file for _, group in groups for file in group]
    if channels not in (None, 1, 3):
        raise DataError(f"read_images: {folder}: expected channels 1 or 3, got {channels!r}")
    with warnings.catch_warnings(action="ignore"):  # Pillow's, of odd files that it reads all the same
        first = _open(files[0])
        width, height = first.size if size is None else (size[1], size[0])
        # The files' pixels where they are of one size, one array each, and all of them together.
        pixels = (2 + (size is None)) * len(files) * len(first.getbands()) * height * width
        what = f"{len(files):,} images of {width}x{height}"
        room.check(f"read_images: {folder}", {what: pixels}, "name a smaller size (--size), or take fewer images")
        opened = [first, *map(_open, files[1:])]
        grey = channels == 1 or (channels is None and all(image.mode in _GREY for image in opened))
        arrays = [_pixels(image, size, 1 if grey else 3) for image in opened]
    for file, array in zip(files, arrays, strict=True):
        if array.shape != arrays[0].shape:
            first, other = (f"{each.shape[2]}x{each.shape[1]}" for each in (arrays[0], array))
            raise DataError(
                f"read_images: {file}: expected {first} pixels as in {files[0].name}, got {other}; give all images one "
                "size, or name one to resize them to (--size)"
            )
    classes = tuple(name for name, _ in groups if name is not None)
    labels = np.repeat(np.arange(len(groups)), [len(group) for _, group in groups]) if classes else None
    return Dataset(np.stack(arrays), labels, str(folder), classes or None)


def _groups(folder: Path) -> list[tuple[str | None, list[Path]]]:
    """Return (class, its files) in order; the class is None for files that lie in the folder itself."""
    if not folder.is_dir():
        raise DataError(f"read_images: {folder}: expected a folder; check the name and the working folder")
    own, folders = _files(folder), _folders(folder)
    inside = [(each.name, _files(each)) for each in folders]
    if own and any(files for _, files in inside):
        raise DataError(
            f"read_images: {folder}: expected images in sub-folders, one a class, or in the folder itself, got both, "
            f"such as {own[0].name}; move these into a sub-folder"
        )
    if own:
        return [(None, own)]
    if not any(files for _, files in inside):
        raise DataError(
            f"read_images: {folder}: expected PNG or JPEG files in sub-folders, one a class, found none; name the "
            "folder that holds the classes"
        )
    for name, files in inside:
        if not files:
            raise DataError(
                f"read_images: {folder / name}: expected at least one PNG or JPEG file, found none; remove the folder"
            )
    return [*inside]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"read_images: {folder}: the folder cannot be read ({reason(error)})") from error


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in _entries(folder) if each.is_dir() and not each.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    files = (each for each in _entries(folder) if each.suffix.lower() in _SUFFIXES and not each.name.startswith("."))
    return sorted(each for each in files if each.is_file())


def _open(file: Path) -> "Image.Image":
    """Return a file's image, all of it in memory and turned as its camera says."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DataError(f"read_images: {file}: images need Pillow; pip install 'fastconv[images]'") from error
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise DataError(
                    f"read_images: {file}: expected at most {_MOST_PIXELS:,} pixels, got {image.width}x{image.height}; "
                    "make it smaller"
                )
            image.load()
            if image.format == "PNG":
                _check_sums(file)
            return ImageOps.exif_transpose(image)
    except DataError:
        raise
    except (
        Exception
    ) as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more for damaged files
        raise DataError(
            f"read_images: {file}: the image is damaged, or neither PNG nor JPEG ({reason(error)}); copy it again"
        ) from error


def _check_sums(file: Path) -> None:
    """Compare the checksums of a PNG file's pieces, which Pillow does not where there are pixels; raises ValueError."""
    with file.open("rb") as stream:
        stream.seek(8)
        kind = b""
        while kind != b"IEND":
            size, kind = int.from_bytes(stream.read(4), "big"), stream.read(4)
            found = zlib.crc32(kind)
            while size and (piece := stream.read(min(size, 1 << 20))):
                found, size = zlib.crc32(piece, found), size - len(piece)
            if stream.read(4) != found.to_bytes(4, "big"):
                raise ValueError("a checksum does not match")


def _pixels(image: "Image.Image", size: Sequence[int] | None, channels: int) -> NDArray[np.uint8]:
    """Return uint8[channels, H, W]."""
    if image.mode.startswith("I"):  # 16 bits, which convert("L") would cut off at 255
        image = _eight_bits(image)
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), _bilinear())
    array = np.asarray(image, np.uint8)
    return np.ascontiguousarray(array.reshape(*array.shape[:2], channels).transpose(2, 0, 1))


def _eight_bits(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))


def _bilinear() -> Any:
    from PIL import Image

    return Image.Resampling.BILINEAR
