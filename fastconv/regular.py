"""Opening files that strangers may have made: a pipe, a device or a folder under the name of a file hangs nobody."""

import errno
import os
import stat
from pathlib import Path


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise OSError unless a path leads to a file that can be read, without opening anything else."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "expected a file, got a pipe or a device", os.fspath(path))
    with open(path, "rb"):
        return


def read_small(path: str | os.PathLike[str], most: int = 1 << 24) -> bytes:
    """Return the content of a file of at most so many bytes.

    Raises
    ------
    OSError
        If it cannot be read, is larger, or is no file.
    """
    check_regular(path)
    with Path(path).open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"expected a file of at most {most:,} bytes, got more", os.fspath(path))
    return content
