"""Ctrl-C and the wish to terminate: at once, or at the end of a batch."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_AGAIN = 0.02
"""Seconds after which a signal that came at a bad moment is sent once more."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to end now."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.exit_code = 128 + number


class Interrupts:
    """Handles SIGINT and SIGTERM inside its ``with``.

    A signal raises ``Interrupted``, unless training has said how it wants to be stopped: then the first one does that,
    and only a second one raises.

    Attributes
    ----------
    exit_code : int or None
        130 for SIGINT, 143 for SIGTERM, once one of them has stopped training in order.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._stop: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}
        self._again: threading.Timer | None = None
        self._held: list[int] | None = None

    def stop_with(self, stop: Callable[[], None] | None) -> None:
        """Call ``stop()`` at the first signal from now on; with None, every signal raises again."""
        self._stop = stop

    @contextmanager
    def held(self) -> Generator[None]:
        """Let a signal wait until the end of a ``with``, around what is soon done and must not be done by half."""
        self._held = []
        try:
            yield
        finally:
            waiting, self._held = self._held, None
            if waiting:
                self._handle(waiting[0], None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._held is not None:
            self._held.append(number)
        elif self._stop is not None and self.exit_code is None:
            self.exit_code = 128 + number
            self._stop()
        elif _is_called_by_llvm(frame):
            self._again = threading.Timer(_AGAIN, signal.raise_signal, (number,))
            self._again.start()
        else:
            raise Interrupted(number)

    def __enter__(self) -> Self:
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # Whoever started the program with a signal ignored (nohup, a shell's &) wants it ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._again is not None:
            self._again.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _is_called_by_llvm(frame: FrameType | None) -> bool:
    """Whether LLVM, compiling, waits for Python: it would swallow an exception, and Numba then miss its object code."""
    while frame is not None:
        if frame.f_code.co_name.startswith("_raw_object_cache_"):
            return True
        frame = frame.f_back
    return False
