"""Running a piece of this project in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Self

from benchmarks.machine import ROOT


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a child that finds this work tree, with some variables changed.

    Python keeps its bytecode, as it does for whatever is installed, even where PYTHONDONTWRITEBYTECODE forbids it:
    else this work tree alone would be translated in every process, and its peers would not.
    """
    path = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    ours = {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONDONTWRITEBYTECODE": ""}
    return {**os.environ, **ours, **(changes or {})}


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


class Conversation:
    """A process that speaks first and then answers each line with a line; it ends with the ``with`` block.

    Parameters
    ----------
    arguments : sequence of str
        What to call the interpreter with.
    python : str
    changes : dict of str
        Of the environment.
    """

    def __init__(
        self, arguments: Sequence[str], python: str = sys.executable, changes: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [python, *arguments], env=environment(changes), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def hear(self) -> str:
        """Wait for a line and return it.

        Raises
        ------
        SystemExit
            If the process has ended instead; what it wrote to stderr is on the screen.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args}: exit code {self._process.wait()} instead of an answer")
        return line

    def ask(self, question: str) -> str:
        """Send a line and return the answer; raises SystemExit as ``hear``."""
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self.hear()
