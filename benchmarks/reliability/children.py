"""Cases that may end their process: run in children with limits, each case told apart."""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import processes


class Answer(NamedTuple):
    """What became of a case."""

    case: int
    wrong: str | None
    """What was wrong, or None."""
    left_out: str | None = None
    """Why it was not tried, or None."""


class CannotTry(Exception):
    """There is no way to bring this about here; the text says why."""


def limits(megabytes: int) -> None:
    """Let this process have no more memory than it has and so many megabytes, and no core files."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def answer(cases: Iterable[int], tried: Any, seconds: int) -> None:
    """In the child: try cases one by one, each for so many seconds at most, and say what became of each.

    ``tried(case)`` returns what was wrong, or None, or raises CannotTry.
    """
    said = sys.stdout
    sys.stdout = sys.stderr  # whatever a case prints
    for case in cases:
        signal.alarm(seconds)
        try:
            found = Answer(case, tried(case))
        except CannotTry as reason:
            found = Answer(case, None, str(reason))
        signal.alarm(0)
        said.write(json.dumps(found) + "\n")
        said.flush()
    said.write("done\n")


def run(module: str, words: list[str], cases: int) -> Iterator[Answer]:
    """In the parent: run ``python -m MODULE WORDS FIRST CASES`` until all cases have an answer.

    A child that ends before its last case is wrong about the case that it was at; another one goes on behind it.
    """
    first = 0
    while first < cases:
        command = [sys.executable, "-m", module, *words, str(first), str(cases)]
        child = subprocess.Popen(
            command, env=processes.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        said, errors = child.communicate()
        lines = said.splitlines()
        for line in lines:
            if line.startswith("["):
                found = Answer(*json.loads(line))
                first = found.case + 1
                yield found
        if lines[-1:] == ["done"]:
            return
        last = (errors.strip().splitlines() or ["no word"])[-1]
        yield Answer(first, f"the process ended with {_ending(child.returncode)} ({last[:300]})")
        first += 1


def _ending(code: int) -> str:
    if code == -signal.SIGALRM:
        return "a hang"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
