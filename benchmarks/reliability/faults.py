"""File operations that fail: the layer between ``fastconv.atomic`` and the system."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

Fault = Literal["ENOSPC", "EIO", "short", "killed"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
OPERATIONS = ("open", "write", "fsync", "close", "replace", "unlink", "ftruncate")


class Killed(BaseException):
    """The process is gone: nothing that it would still do is done."""


class Disk:
    """Counts file operations, and lets one of them fail.

    Parameters
    ----------
    number : int
        Which operation fails, from 0; one beyond the last lets all succeed.
    fault : 'ENOSPC', 'EIO', 'short' or 'killed'
        An error; half of a write done, and an error at the next; or the end of the process.
    """

    def __init__(self, number: int, fault: Fault) -> None:
        self.number, self.fault = number, fault
        self.done: list[str] = []
        self._is_dead = self._is_full = False

    def perform(self, name: str, operation: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Do an operation, or fail."""
        if self._is_dead:
            raise Killed
        turn, error = len(self.done), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.done.append(name)
        if self._is_full and name == "write":
            raise error
        if turn != self.number:
            return operation(*arguments, **named)
        if self.fault == "killed":
            self._is_dead = True
            if name == "write":  # a part may have reached the disk
                operation(arguments[0], arguments[1][: len(arguments[1]) // 2])
            raise Killed
        if self.fault == "short":
            self._is_full = name == "write"
            if self._is_full:
                return operation(arguments[0], arguments[1][: len(arguments[1]) // 2])
            return operation(*arguments, **named)
        if name == "close":  # which closes even if it says that it failed
            operation(*arguments, **named)
        code = getattr(errno, self.fault)
        raise OSError(code, os.strerror(code))


@contextmanager
def on(disk: Disk) -> Iterator[None]:
    """Let every file operation of ``os`` go through ``disk``."""
    real = {name: getattr(os, name) for name in OPERATIONS}

    def through(name: str) -> Callable[..., Any]:
        return lambda *arguments, **named: disk.perform(name, real[name], *arguments, **named)

    for name in OPERATIONS:
        setattr(os, name, through(name))
    try:
        yield
    finally:
        for name, operation in real.items():
            setattr(os, name, operation)
