"""One function that reads every kind of data there is a reader for."""

from pathlib import Path

from fastconv.data.dataset import Dataset
from fastconv.data.digits import digits10k
from fastconv.data.errors import DataError, reason, shown
from fastconv.data.files import InputFile, StrPath
from fastconv.data.idx import Part, has_part, is_idx, read_idx_folder, read_idx_images
from fastconv.data.image_folder import holds_images, read_images
from fastconv.data.kaggle import read_csv
from fastconv.data.npz import read_npz

_KINDS = (
    "a CSV file, an IDX file (each plain or gzip), a folder with train-images-idx3-ubyte or with a sub-folder of "
    "images for each class, or an .npz archive"
)
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def load(
    path: StrPath | None = None,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    part: Part = "train",
) -> Dataset:
    """Read images from whatever ``path`` is; its content decides, and the name only where the content does not.

    Parameters
    ----------
    path : str or path, optional
        A CSV file (square grey images alone), an IDX file of images, a folder of IDX files or of PNG and JPEG files, or
        an .npz archive; by default the built-in digits. An IDX file called as MNIST's are, such as
        ``t10k-images-idx3-ubyte.gz``, gets its labels from the file beside it, if there is one. What is no regular
        file, such as a pipe, is read as CSV.
    size : (height, width), optional
    channels : 1 or 3, optional
        What PNG and JPEG files become, as in ``read_images``; all else stays as it is.
    part : "train" or "test"
        What to read of a folder of IDX files: ``train-*``, or ``t10k-*`` if it is there, and else ``train-*``.

    Returns
    -------
    Dataset
        Its source is the file or the folder that was read.

    Raises
    ------
    DataError
        If it is nothing of these, or is damaged.
    """
    if path is None:
        return digits10k()
    path = Path(path)
    try:
        path.exists()
    except OSError as error:  # too long a name
        raise DataError(
            f"load: {shown(str(path))}: the file cannot be opened ({reason(error)}); check the name"
        ) from error
    if path.is_dir():
        if holds_images(path):
            return read_images(path, size=size, channels=channels)
        return read_idx_folder(path, part="train" if part == "test" and not has_part(path, part) else part)
    if path.exists() and not path.is_file():  # what a pipe gave is gone: it cannot be opened twice
        return read_csv(path)
    with InputFile("load", path) as file:
        start = file.read(16)
        if not start:
            raise file.error(f"expected {_KINDS}, got an empty file")
    if start.startswith(_ZIP_MAGIC):
        return read_npz(path)
    if is_idx(start):
        return read_idx_images(path)
    if _is_text(start):
        return read_csv(path)
    suffixes = path.suffixes[-2:]
    if ".npz" in suffixes:
        return read_npz(path)
    if ".csv" in suffixes:
        return read_csv(path)
    raise file.error(f"expected {_KINDS}, got a file that begins with {shown(start)}; convert it to one of these")


def _is_text(start: bytes) -> bool:
    return start.startswith(_BYTE_ORDER_MARKS) or all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start)
