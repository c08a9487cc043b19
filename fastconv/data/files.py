"""Input files as bytes: gzip is unpacked on the way, and every failure is a DataError."""

import gzip
import io
import os
import select
import stat
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol, Self, cast

from fastconv import room
from fastconv.data.errors import DataError, reason

StrPath = str | os.PathLike[str]

_GZIP_MAGIC = b"\x1f\x8b"
_PIECE = 1 << 20
CHECKED = 1 << 26
"""Bytes between two looks at how much memory there is."""
PATIENCE = 30
"""Seconds to wait for a pipe's first byte."""

# Deflate packs at best 1032 bytes into one, and only where they are all alike. Real images stay below 50.
_HARMLESS_BYTES = 1 << 28
_GREATEST_RATIO = 200


def is_bomb(packed: int, unpacked: int) -> bool:
    """Tell whether ``unpacked`` bytes out of ``packed`` are too many to be images."""
    return unpacked > _HARMLESS_BYTES and unpacked > _GREATEST_RATIO * packed


class InputFile:
    """A file open for reading, plain or gzip, which the first two bytes decide and not the name.

    Parameters
    ----------
    operation : str
        Begins every message.
    path : str or path

    Attributes
    ----------
    size : int or None
        Bytes on disk; None for what is no regular file, such as a pipe.
    packed : bool
        Whether it is gzip.

    Raises
    ------
    DataError
        If the file is absent, a folder, or cannot be read.
    """

    def __init__(self, operation: str, path: StrPath) -> None:
        self.operation = operation
        self.path = Path(path)
        self._unpacked = 0
        try:
            raw = _opened(self.path)
        except FileNotFoundError as error:
            raise self.error("there is no such file; check the name and the working folder") from error
        except IsADirectoryError as error:
            raise self.error("expected a file, got a folder; name a file inside it") from error
        except PermissionError as error:
            raise self.error("no permission to read the file; change its permissions (chmod u+r)") from error
        except TimeoutError as error:
            raise self.error(
                f"nothing came from the pipe for {PATIENCE} seconds; does anything write to it?"
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise self.error(f"the file cannot be opened ({reason(error)}); check the name") from error
        self._stream: BinaryIO = raw
        try:
            status = os.fstat(raw.fileno())
            self.size = status.st_size if stat.S_ISREG(status.st_mode) else None
            self.packed = raw.peek(2)[:2] == _GZIP_MAGIC
        except OSError as error:
            raw.close()
            raise self.error(f"the file cannot be read ({reason(error)})") from error
        self._raw = raw
        if self.packed:
            self._stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw))

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        # GzipFile leaves a file that it was given open.
        self._stream.close()
        self._raw.close()

    def check_room(self, count: int) -> None:
        """Raise NoRoomError unless there is memory for ``count`` bytes more of the content."""
        room.check(f"{self.operation}: {self.path}", {"the content": count}, "read a part of it")

    def error(self, message: str) -> DataError:
        """Return a DataError that names the operation and the file."""
        return DataError(f"{self.operation}: {self.path}: {message}")

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes, unpacked; fewer only at the end of the file.

        Raises
        ------
        DataError
            If the disk fails, or the gzip data is truncated, damaged or a bomb.
        """
        try:
            piece = self._stream.read(count)
        except EOFError as error:
            raise self.error(
                f"expected the end of the gzip data, but the file ends early, after {self._unpacked:,} unpacked bytes "
                "or a little more; copy or download it again"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise self.error(
                f"the gzip data is damaged after {self._unpacked:,} unpacked bytes or a little more "
                f"({reason(error)}); copy or download it again"
            ) from error
        except OSError as error:
            raise self.error(f"the file cannot be read ({reason(error)})") from error
        self._unpacked += len(piece)
        if self.packed and self.size is not None and is_bomb(self.size, self._unpacked):
            raise self.error(
                f"expected images, got a gzip file of {self.size:,} bytes that unpacks to more than "
                f"{self._unpacked:,}; unpack it by hand if that is meant"
            )
        return piece


def _opened(path: Path) -> io.BufferedReader:
    """Open a file; a pipe once there is something to read, which a plain open would await for ever."""
    if not stat.S_ISFIFO(path.stat().st_mode):
        return path.open("rb")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    if not ready.poll(1000 * PATIENCE):
        os.close(descriptor)
        raise TimeoutError
    os.set_blocking(descriptor, True)
    return open(descriptor, "rb")


class _Readable(Protocol):
    def read(self, count: int, /) -> bytes: ...


def read_all(stream: _Readable, count: int, file: InputFile) -> bytearray:
    """Return the next ``count`` bytes of ``stream``, which is ``file`` or a part of it; fewer only at its end.

    Memory grows with what has come, so that a header may ask for terabytes without harm.

    Raises
    ------
    NoRoomError
        If there is no memory for as much of it as the file on disk shows that there is, or for what comes.
    """
    if not file.packed and file.size is not None:
        file.check_room(min(count, file.size))
    content = bytearray()
    checked = 0
    while len(content) < count and (piece := stream.read(min(_PIECE, count - len(content)))):
        if len(content) >= checked:
            file.check_room(min(CHECKED, count - len(content)))
            checked += CHECKED
        content += piece
    return content
