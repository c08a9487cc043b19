"""What several commands show and do."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fastconv import __version__, terminal
from fastconv.commands.errors import UsageError
from fastconv.data import Dataset
from fastconv.training.metrics import most_confused, wilson_interval
from fastconv_kernels import cache, runtime
from fastconv_kernels.tilesize import instruction_set

_INSTRUCTIONS = {"avx512": "AVX-512", "avx2": "AVX2", "neon": "NEON", "generic": "generic vectors"}


def use_threads(threads: int | None) -> None:
    """Use so many threads, if the user named a number."""
    if threads is None:
        return
    try:
        runtime.set_num_threads(threads)
    except ValueError as error:
        raise UsageError(f"--threads: {str(error).partition(': ')[2]}") from error


def say_machine() -> None:
    """Say what computes here."""
    layer = runtime.thread_layer()  # first: it starts the threads that are counted
    threads = terminal.count(runtime.get_num_threads(), "thread")
    terminal.say(f"fastconv {__version__} | {threads} ({layer}) | {_INSTRUCTIONS[instruction_set()]} | float32")


def say_data(dataset: Dataset) -> None:
    """Say which images were read, and from where: of a folder it may have been a part."""
    terminal.say(f"data   {images_of(dataset)}")


def images_of(dataset: Dataset) -> str:
    """Return where images came from and how many they are; of files that answers are written for, in which order."""
    is_of_files = dataset.labels is None and Path(dataset.source).is_dir()
    order = ", in the order of their names (10.png before 2.png)" if is_of_files else ""
    return f"{dataset.source}: {terminal.count(len(dataset), 'image')}{order}"


class CompilingNotice:
    """Says inside its ``with`` that kernels are being compiled, and for how long; nothing if all are in the cache."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._listening = runtime.tell_before_compiling(self._start)

    def _start(self) -> None:
        self._began = perf_counter()
        terminal.say("compiling kernels ...", end="")

    def __enter__(self) -> Self:
        self._listening.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.__exit__(kind, error, trace)
        if self._began is None:
            return
        if kind is not None:
            terminal.say()
            return
        cached = " (cached for next time)" if cache.folder() is not None else ""
        terminal.say(f" {perf_counter() - self._began:.1f} s{cached}")


def say_accuracy(what: str, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    """Say how many were right, within which interval, and what was taken for what; each class has a name."""
    n, hits = int(matrix.sum()), int(matrix.trace())
    low, high = wilson_interval(hits, n)
    terminal.say(f"{what} {hits / n:.4f} (95% CI {low:.3f}-{high:.3f}), {n - hits:,} of {n:,} wrong")
    mistakes = [f"{names[label]} as {names[other]} ({times})" for label, other, times in most_confused(matrix)]
    if mistakes:
        terminal.say(f"most confused: {', '.join(mistakes)}")


def check_output(path: Path, option: str) -> None:
    """Raise UsageError if a file that an option names cannot be written: before the work, not after it."""
    if path.is_dir():
        raise UsageError(f"{path}: expected the name of a file to write, got a folder; name one with {option}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; create it, or name another file with {option}")
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise UsageError(f"{path}: the folder {path.parent} may not be written to; name another file with {option}")


def quoted(*words: str | Path) -> str:
    """Return words as a shell takes them."""
    return shlex.join(map(str, words))
