"""Resident memory of this process, as Linux counts it."""

from pathlib import Path

_PROCESS = Path("/proc/self")


def peak() -> int:
    """Return the most bytes that were, since the process began or ``forget_peak`` was called."""
    return _read("VmHWM")


def forget_peak() -> int:
    """Let the most so far be what there is now, and return that."""
    (_PROCESS / "clear_refs").write_text("5")
    return _read("VmRSS")


def _read(name: str) -> int:
    for line in (_PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise ValueError(f"/proc/self/status: expected {name}")
