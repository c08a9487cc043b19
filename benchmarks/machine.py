"""What all programs here share: a line about the machine, Markdown tables, and the page that they are written to."""

import argparse
import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
END = "<!-- end -->"
ABSENT = "-"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(*others: str) -> str:
    """Return one line that says where and with what the figures were made.

    Parameters
    ----------
    *others : str
        What else took part, such as 'torch 2.6.0'.
    """
    name, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = named[0] if named else name
    from fastconv import __version__  # here, because peers that import this file import no fastconv

    packages = [f"fastconv {__version__}", *(f"{package} {version(package)}" for package in ("numba", "numpy"))]
    python = f"Python {platform.python_version()}"
    return ", ".join([name, f"{cores()} cores", python, *packages, *others, date.today().isoformat()])


def table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Return a Markdown table, aligned for the terminal too.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequences of str
    texts : int
        How many of the first columns hold text; the others hold numbers and are aligned to the right.
    """
    widths = [max(3, *(len(row[column]) for row in (header, *rows))) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column < texts else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(header), line(rule), *map(line, rows)]) + "\n"


def markers(program: str) -> tuple[str, str]:
    """Return the lines between which a page holds what ``python -m benchmarks.PROGRAM`` printed."""
    return f"<!-- generated: python -m benchmarks.{program} -->\n", END


def replace_block(page: str, program: str, block: str) -> str:
    """Return ``page`` with ``block`` between the markers of ``program``.

    Raises
    ------
    ValueError
        If the page does not have both of them.
    """
    begin, end = markers(program)
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"expected the lines {begin.strip()!r} and {end!r} in the page, and found no such pair")
    return f"{before}{begin}\n{block.strip()}\n\n{end}{after}"


def parser(program: str, description: str | None, page: Path = PAGE) -> argparse.ArgumentParser:
    """Return a parser with what every program takes."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{program}", description=(description or "").partition("\n")[0]
    )
    made.add_argument("--write", action="store_true", help=f"replace the table in docs/{page.name}")
    return made


def publish(program: str, block: str, write: bool, page: Path = PAGE) -> None:
    """Print a block of Markdown and, if ``write``, put it into the page."""
    print(f"\n{block.strip()}\n")
    if write:
        page.write_text(replace_block(page.read_text(encoding="utf-8"), program, block), encoding="utf-8")
