"""Replacing a file in one step: whoever reads it, now or after a crash, finds the old content or the new, whole."""

import os
import secrets
from pathlib import Path


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Make ``content`` the file ``path``: temporary file beside it, flushed to disk, renamed, folder flushed.

    Parameters
    ----------
    path : path
        Links are followed, so that what a link points at is replaced and not the link.
    content : bytes

    Raises
    ------
    OSError
        If the file cannot be written, or is a folder or a device; what was there before still is.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise IsADirectoryError(21, "Is a folder or a device, not a file", str(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(target.parent)


def _flush_folder(folder: Path) -> None:
    """Put the new name on the disk, too; only POSIX systems can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
