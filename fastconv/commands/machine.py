"""Where and with what a run was made: for config.json."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastconv import __version__
from fastconv_kernels import runtime
from fastconv_kernels.tilesize import instruction_set


def describe_machine() -> dict[str, Any]:
    """Return versions, processor, threads and the time."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": {
            "cpu": _processor(),
            "instruction_set": instruction_set(),
            "cores": os.cpu_count(),
            "threads": runtime.get_num_threads(),
            "thread_layer": runtime.thread_layer(),
            "system": platform.platform(),
        },
    }


def versions() -> dict[str, str]:
    """Return those of fastconv, of Python and of what computes."""
    packages = {name: version(name) for name in ("numpy", "numba")}
    return {"fastconv": __version__, "python": platform.python_version(), **packages}


def _processor() -> str:
    """Return the processor's name, which Python itself does not know on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
