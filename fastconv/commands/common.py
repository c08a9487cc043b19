"""What several commands show and do."""

import shlex
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fastconv import __version__, terminal
from fastconv.commands.errors import UsageError
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


def say_accuracy(what: str, matrix: NDArray[np.int64]) -> None:
    """Say how many were right, within which interval, and what was taken for what."""
    n, hits = int(matrix.sum()), int(matrix.trace())
    low, high = wilson_interval(hits, n)
    terminal.say(f"{what} {hits / n:.4f} (95% CI {low:.3f}-{high:.3f}), {n - hits:,} of {n:,} wrong")
    mistakes = [f"{label} as {predicted} ({times})" for label, predicted, times in most_confused(matrix)]
    if mistakes:
        terminal.say(f"most confused: {', '.join(mistakes)}")


def quoted(*words: str | Path) -> str:
    """Return words as a shell takes them."""
    return shlex.join(map(str, words))
