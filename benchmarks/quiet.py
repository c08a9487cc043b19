"""Whether others use the processor while nothing is measured."""

import os
from pathlib import Path
from time import sleep

# In cores.  With one of two busy elsewhere PyTorch's OpenMP gets slower by up to a hundred times, fastconv by two.
MOST = 0.1

_STAT = Path("/proc/stat")


def _ticks() -> list[int]:
    """Return user, nice, system, idle, waiting, interrupts (two kinds) and stolen: ticks of all cores together."""
    return [int(ticks) for ticks in _STAT.read_text().partition("\n")[0].split()[1:9]]


def busy_cores(seconds: float = 0.5) -> float:
    """Return how many of the machine's cores others keep busy while this process sleeps; 0 where nobody can tell."""
    if not _STAT.exists():
        return 0.0
    before = _ticks()
    sleep(seconds)
    spent = [after - ticks for after, ticks in zip(_ticks(), before, strict=True)]
    return (os.cpu_count() or 1) * (1 - (spent[3] + spent[4]) / max(sum(spent), 1))


def remark(busy: float) -> str:
    """Return a sentence for a table made while that many cores were busy, or nothing if they were few."""
    if busy <= MOST:
        return ""
    return f"**Others kept up to {busy:.1f} cores busy between the rounds: the machine was not quiet.**\n"
