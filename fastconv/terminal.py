"""Where lines for people go: standard output, written at once, whoever reads it and however wide it is."""

import os
import shutil
import sys
import textwrap
from typing import TextIO

WIDE = 80
_INDENT = " " * 7


def say(text: str = "", end: str = "\n", wrap: bool = True) -> None:
    """Write a line at once; once the reader has gone (``| head -1``), or was never there, let the work go on without.

    Letters that standard output cannot show, such as those of a class's name, become '?'.

    Parameters
    ----------
    text, end : str
    wrap : bool
        Whether a terminal that is too narrow may break the line between words.
    """
    if not _is_open(sys.stdout):
        return
    if wrap and len(text) > width() and sys.stdout.isatty():
        text = textwrap.fill(text, width(), subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)
    encoding = sys.stdout.encoding or "utf-8"
    text = text.encode(encoding, "replace").decode(encoding)
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its end, which must not fail either.
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, sys.stdout.fileno())
        os.close(silence)


def is_live() -> bool:
    """Whether a line may be drawn over: a terminal that can, and whose user has not asked for plain text."""
    return _is_terminal() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")


def width() -> int:
    """Columns of the terminal; ``WIDE`` where lines go into a file or a pipe."""
    return shutil.get_terminal_size((WIDE, 24)).columns if _is_terminal() else WIDE


def _is_terminal() -> bool:
    return _is_open(sys.stdout) and sys.stdout.isatty()


def _is_open(stream: TextIO | None) -> bool:
    """Whether a process was given this stream: Python has None for one that was closed before it began."""
    return stream is not None


def count(number: int, one: str, many: str | None = None) -> str:
    """Return '1 image', '1,000 images'."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
