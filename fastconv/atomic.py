"""Replacing a file in one step: whoever reads it, now or after a crash, finds the old content or the new, whole."""

import errno
import os
import re
import secrets
import time
from pathlib import Path

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")
_ABANDONED = 3600.0
"""Seconds after which a temporary file is taken for one that a killed process left behind: writing takes a few."""


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Make ``content`` the file ``path``: temporary file beside it, flushed to disk, renamed, folder flushed.

    Temporary files of the same name that have been left for an hour are removed first.

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
        raise IsADirectoryError(errno.EISDIR, "Is a folder or a device, not a file", str(path))
    sweep(target.parent, target.name, _ABANDONED)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, target)
    except OSError as error:  # a descriptor has no name to complain about
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(target.parent)


def append(path: str | os.PathLike[str], line: bytes) -> None:
    """Add a line to a file, wholly or not at all.

    Raises
    ------
    OSError
        If it cannot be written; the file ends as it did before.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
    try:
        before = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, line)
        except BaseException as error:
            os.ftruncate(descriptor, before)
            if isinstance(error, OSError):
                error.filename = str(path)
            raise
    finally:
        os.close(descriptor)


def sweep(folder: Path, name: str | None = None, older: float = 0.0) -> None:
    """Remove the temporary files that killed processes left in a folder.

    Parameters
    ----------
    folder : Path
    name : str, optional
        Of the file that they were to become; by default any.
    older : float
        Seconds since they were last written to; those of a process that is alive must not go.
    """
    try:
        names = os.listdir(folder)
    except OSError:  # a folder may be written to without the right to list it
        return
    for found in filter(_TEMPORARY.fullmatch, names):
        path = folder / found
        if name not in (None, found[1:-13]):
            continue
        try:
            if path.is_file() and time.time() - path.stat().st_mtime >= older:
                path.unlink()
        except OSError:  # another process was faster, or it is not ours to remove
            continue


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:  # the system may write a part
        written = os.write(descriptor, rest)
        if written < 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = rest[written:]


def _flush_folder(folder: Path) -> None:
    """Put the new name on the disk, too; only POSIX systems can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
