"""The file that Kaggle's Digit Recognizer takes."""

import numpy as np
from numpy.typing import ArrayLike

from fastconv import atomic
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
    if isinstance(labels, np.ma.MaskedArray):
        raise DataError(
            f"write_submission: {path}: expected labels as a plain array, got a masked array: fill it first"
        )
    try:
        values = np.array(labels)
    except (ValueError, MemoryError) as error:  # lists of different lengths, or a view that seems to hold terabytes
        raise DataError(f"write_submission: {path}: expected labels as integers of shape (N,) ({error})") from error
    if values.dtype.kind not in "iu" or values.ndim != 1 or values.size == 0:
        raise DataError(
            f"write_submission: {path}: expected labels as integers of shape (N,), N at least 1, got dtype "
            f"{values.dtype} and shape {values.shape}"
        )
    if values.min() < 0:
        raise DataError(f"write_submission: {path}: expected labels from 0 upwards, got {values.min()}")
    rows = [f"{image},{label}\n" for image, label in enumerate(values.tolist(), 1)]
    try:
        atomic.write(path, "".join(["ImageId,Label\n", *rows]).encode("ascii"))
    except OSError as error:
        raise DataError(
            f"write_submission: {path}: the file cannot be written ({reason(error)}); check that the folder exists, "
            "may be written to and has room"
        ) from error
