"""NumPy archives of images and labels.

The members are read here and not by ``np.load``, which takes the memory that a header asks for before it looks whether
the file has as much, and stops reading just before the checksum would be compared. Nothing is ever unpickled.
"""

import io
import zipfile
import zlib
from math import prod
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.data.dataset import Dataset
from fastconv.data.errors import DataError, reason
from fastconv.data.files import InputFile, StrPath, is_bomb, read_all

_NAMES = (("images", "labels"), ("x", "y"), ("x_train", "y_train"))
_CHANNELS = (1, 3, 4)
_LONGEST_HEADER = 10_000
_ENTRY = b"PK\x01\x02"  # begins each entry of a zip file's directory

# All that zipfile raises for a damaged archive: also a version of the format that it does not know
# (NotImplementedError), a flag that says encrypted (RuntimeError), and offsets that lead nowhere.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


def read_npz(path: StrPath) -> Dataset:
    """Read images and, where there are any, labels from a NumPy archive.

    Parameters
    ----------
    path : str or path
        The arrays are called ``images`` and ``labels``, or ``x`` and ``y``, or ``x_train`` and ``y_train``.
        Images are uint8, (N, H, W) or (N, C, H, W); labels are integers, (N,).

    Returns
    -------
    Dataset
        images uint8[N, C, H, W], labels int64[N] or None.

    Raises
    ------
    DataError
        If the archive is damaged, or an array is missing or has another dtype or shape.
    """
    with InputFile("read_npz", path) as file:
        if file.size is None:
            raise file.error("expected a file, got a pipe or a device; copy the archive into a file")
        try:
            with zipfile.ZipFile(file.path) as archive:
                # One damaged bit can make the labels vanish without a word: in a name, which zipfile compares with its
                # second copy only when the member is opened, or in a length, so that one entry swallows the next.
                for member in archive.infolist():
                    if _ENTRY in member.extra + member.comment:
                        raise zipfile.BadZipFile("an entry inside another")
                    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise file.error(
                            f"{member.filename}: expected a stored or deflated member (0 or 8), got compression "
                            f"{member.compress_type}; save it again with np.savez_compressed"
                        )
                    archive.open(member).close()
                return _read_arrays(file, archive)
        except DataError:
            raise
        except _DAMAGE as error:
            raise file.error(f"the archive is damaged ({reason(error)}); copy, download or save it again") from error


def _read_arrays(file: InputFile, archive: zipfile.ZipFile) -> Dataset:
    there = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    names = next((pair for pair in _NAMES if pair[0] in there), None)
    if names is None:
        members = archive.namelist()
        listed = ", ".join(members[:6]) + (", ..." if len(members) > 6 else "")
        mend = "rename the arrays" if there else "unpack it and give one of its files"
        raise file.error(f"expected an array called images, x or x_train, got {listed or 'an empty archive'}; {mend}")
    images = _images(file, names[0], _read_array(file, archive, names[0]))
    labels = None
    if names[1] in there:
        labels = _labels(file, names[1], _read_array(file, archive, names[1]), len(images))
    return Dataset(images, labels, str(file.path))


def _read_array(file: InputFile, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Return one member as an array that owns no more memory than the file has data for."""
    member = archive.getinfo(f"{name}.npy")
    if is_bomb(member.compress_size, member.file_size):
        raise file.error(
            f"array {name}: expected images, got {member.compress_size:,} bytes that unpack to {member.file_size:,}"
        )
    with archive.open(member) as stream:
        content = read_all(stream, member.file_size, file)
        if len(content) < member.file_size or stream.read(1):  # reading past the end compares the checksum
            raise file.error(f"array {name}: expected {member.file_size:,} bytes, got {len(content):,}; save it again")
    start = io.BytesIO(content[: _LONGEST_HEADER + 12])
    try:
        version = np.lib.format.read_magic(start)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(start, max_header_size=_LONGEST_HEADER)
    except (ValueError, SyntaxError, TokenError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise file.error(f"array {name}: its header is damaged ({reason(error)}); save it again") from error
    if dtype.hasobject or dtype.itemsize == 0:
        raise file.error(f"array {name}: expected numbers, got dtype {dtype}; Python objects are never loaded")
    length = len(content) - start.tell()
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != length:
        raise file.error(
            f"array {name}: expected {prod(shape) * dtype.itemsize:,} bytes for shape {shape} and dtype {dtype}, got "
            f"{length:,}; save it again"
        )
    values = np.frombuffer(content, dtype, count=prod(shape), offset=start.tell() if length else 0)
    return values.reshape(shape, order="F" if fortran_order else "C")


def _images(file: InputFile, name: str, values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype != np.uint8:
        mend = "np.round(255 * x).astype(np.uint8) if it runs from 0 to 1"
        raise file.error(f"array {name}: expected dtype uint8, got {values.dtype}; convert it, with {mend}")
    if values.ndim not in (3, 4) or values.size == 0:
        raise file.error(
            f"array {name}: expected shape (N, H, W) or (N, C, H, W) without a zero, got {values.shape}; reshape it"
        )
    if values.ndim == 4 and values.shape[3] in _CHANNELS and values.shape[1] not in _CHANNELS:
        raise file.error(
            f"array {name}: expected shape (N, C, H, W), got {values.shape}, which looks like (N, H, W, C); "
            "apply .transpose(0, 3, 1, 2)"
        )
    return np.ascontiguousarray(values if values.ndim == 4 else values[:, np.newaxis])


def _labels(file: InputFile, name: str, values: NDArray[Any], count: int) -> NDArray[np.int64]:
    if values.dtype.kind not in "iu":
        raise file.error(f"array {name}: expected an integer dtype, got {values.dtype}; apply .astype(np.int64)")
    if values.shape != (count,):
        raise file.error(
            f"array {name}: expected shape ({count},), one label an image, got {values.shape}; reshape or complete it"
        )
    if values.min() < 0 or values.max() > np.iinfo(np.int64).max:
        raise file.error(
            f"array {name}: expected labels from 0 upwards, got {values.min()} to {values.max()}; number classes from 0"
        )
    return values.astype(np.int64)
