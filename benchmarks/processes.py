"""Running a piece of this project in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from benchmarks.machine import ROOT


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a child that finds this work tree, with some variables changed."""
    path = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), **(changes or {})}


def run(arguments: Sequence[str], python: str = sys.executable, changes: Mapping[str, str] | None = None) -> str:
    """Run ``python ARGUMENTS`` and return what it printed.

    Raises
    ------
    SystemExit
        If the child fails; the message is what it wrote to stderr.
    """
    done = subprocess.run([python, *arguments], env=environment(changes), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python} {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout
