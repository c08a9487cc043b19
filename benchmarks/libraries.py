"""Who takes part besides fastconv: the libraries in ``benchmarks/peers/``, and what each needs."""

import json
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import processes

# glibc gives large arrays back to the system, whose pages then have to be cleared and mapped again in the next step, in
# some processes and not in others.  Told to keep them (2.35 or newer), PyTorch trains LeNet-5 1.1 to 1.5 times as fast
# and steadily, and some of its convolutions take a quarter of the time.  To the others it makes no difference.
KEEP_MEMORY = (("MALLOC_TRIM_THRESHOLD_", str(2**32)), ("MALLOC_MMAP_THRESHOLD_", str(2**30)))

_PROBE = """
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if not importlib.util.find_spec(name)]))
"""


class Library(NamedTuple):
    """A module in ``benchmarks.peers``, what tables call it, what it needs, and the environment it gets."""

    module: str
    name: str
    packages: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


class Disagreement(ValueError):
    """Two libraries did not compute the same thing; their times mean nothing."""


def add_argument(parser: ArgumentParser) -> None:
    """Let the user name the interpreter that has the others."""
    parser.add_argument(
        "--peers-python",
        metavar="PATH",
        default=sys.executable,
        help="an interpreter that has torch, jax, onnx and onnxruntime (this one)",
    )


def present(libraries: Sequence[Library], python: str) -> tuple[list[Library], str]:
    """Return those that can run, and a sentence about each of the others, which is printed too."""
    wanted = sorted({package for library in libraries for package in library.packages})
    missing = set(json.loads(processes.run(["-c", _PROBE, *wanted], python)))
    missing |= {command for library in libraries for command in library.commands if not shutil.which(command)}
    found: list[Library] = []
    sentences = ""
    for library in libraries:
        absent = [name for name in (*library.packages, *library.commands) if name in missing]
        if absent:
            print(f"{library.name} is left out: no {' and no '.join(absent)} in {python}", file=sys.stderr)
            sentences += f"{library.name} is left out: no {' and no '.join(absent)} was found.\n"
        else:
            found.append(library)
    return found, sentences
