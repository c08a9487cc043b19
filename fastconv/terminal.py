"""Where lines for people go: standard output, written at once, whoever reads it and however wide it is."""

import os
import shutil
import sys
import textwrap

WIDE = 80
_INDENT = " " * 7


def say(text: str = "", end: str = "\n", wrap: bool = True) -> None:
    """Write a line at once; once the reader has gone (``| head -1``), write nothing more and let the work go on.

    Letters that standard output cannot show, such as those of a class's name, become '?'.

    Parameters
    ----------
    text, end : str
    wrap : bool
        Whether a terminal that is too narrow may break the line between words.
    """
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
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")


def width() -> int:
    """Columns of the terminal; ``WIDE`` where lines go into a file or a pipe."""
    return shutil.get_terminal_size((WIDE, 24)).columns if sys.stdout.isatty() else WIDE


def count(number: int, one: str, many: str | None = None) -> str:
    """Return '1 image', '1,000 images'."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
