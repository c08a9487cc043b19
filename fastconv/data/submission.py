"""The file that Kaggle's Digit Recognizer takes."""

import os
import secrets
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from fastconv.data.errors import DataError, reason
from fastconv.data.files import StrPath


def write_submission(path: StrPath, labels: ArrayLike) -> None:
    """Write ``ImageId,Label`` with ImageId from 1 and LF line ends, wholly or not at all.

    Parameters
    ----------
    path : str or path
        An existing file is replaced, once the new one is safely on the disk.
    labels : integer[N]
        One an image, in the order of the test file; from 0 upwards.

    Raises
    ------
    DataError
        If the labels are no such array, or the file cannot be written, which leaves what was there before.
    """
    values = np.asarray(labels)
    if values.dtype.kind not in "iu" or values.ndim != 1 or values.size == 0:
        raise DataError(
            f"write_submission: {path}: expected labels as integers of shape (N,), N at least 1, got dtype "
            f"{values.dtype} and shape {values.shape}"
        )
    if values.min() < 0:
        raise DataError(f"write_submission: {path}: expected labels from 0 upwards, got {values.min()}")
    rows = [f"{image},{label}\n" for image, label in enumerate(values.tolist(), 1)]
    _replace(Path(path), "".join(["ImageId,Label\n", *rows]).encode("ascii"))


def _replace(path: Path, content: bytes) -> None:
    """Make ``content`` the file ``path`` in one step that no crash can divide."""
    try:
        # Through a link, to what it points at. A device must not be replaced by a file.
        target = path.resolve()
        if target.exists() and not target.is_file():
            raise DataError(f"write_submission: {path}: expected the name of a file, got a folder or a device")
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
    except OSError as error:
        raise DataError(
            f"write_submission: {path}: the file cannot be written ({reason(error)}); check that the folder exists, "
            "may be written to and has room"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk, too; only POSIX systems can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
