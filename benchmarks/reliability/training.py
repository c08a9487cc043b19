"""``fastconv train`` in a process of its own, for promises about what ends it.

Run as a program, it is ``fastconv`` with one network more, which has all that a checkpoint must remember; on a file
that the environment variable WATCH names, it counts batches, and notes the count when a signal comes, and from when
to when fastconv handles signals.
"""

import math
import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import processes

NET = "reliable"
COMPARED = ("model.safetensors", "results.csv", "metrics.json", "submission.csv")
_WATCHED = struct.Struct("<qqdd")
LENET = ("--epochs", "3", "--seed", "1", "--no-report")
WHOLE = (
    *("--model", NET, "--epochs", "3", "--optimizer", "adam", "--ema", "0.99", "--augment", "digits"),
    *("--schedule", "plateau", "--early-stop", "50", "--clip", "5", "--no-report"),
)
"""Batch normalisation, dropout, augmentation, averages, Adam, clipping, early stopping, a schedule with memory."""


class Watched(NamedTuple):
    """What a process notes of itself."""

    trained: int = -1
    """Batches; -1 before it has begun."""
    at_signal: int = -1
    """Batches that had been trained when fastconv's handler got the first signal; -1 if it got none."""
    since: float = math.inf
    """When fastconv had its handlers in place, by ``time.monotonic``."""
    until: float = math.inf
    """When it began to take them away."""


def data(folder: Path, images: int = 1200) -> tuple[Path, Path]:
    """Write some of the built-in digits, of all classes, as files to train on and to predict; returns their paths."""
    from fastconv.data import digits10k

    digits = digits10k()
    train, test, step = folder / "train.npz", folder / "test.npz", len(digits) // images  # they are sorted by class
    np.savez(train, images=digits.images[::step, 0][:images], labels=digits.labels[::step][:images])
    np.savez(test, images=digits.images[1::100, 0])
    return train, test


def start(
    words: Sequence[str], cwd: Path, watch: Path | None = None, changes: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Start ``fastconv train`` with these words in a folder, with some variables of the environment changed."""
    changes = dict(changes or {}) | ({} if watch is None else {"WATCH": str(watch)})
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.reliability.training", "train", *words],
        cwd=cwd,
        env=processes.environment(changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", seconds: float = 300) -> tuple[int, str]:
    """Return the exit code, and all that was said; a process that hangs ends with code -9."""
    try:
        said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()
    return process.returncode, "".join(said)


def completed(words: Sequence[str], cwd: Path) -> int:
    """Run to the end and return how many batches were trained; raises RuntimeError if it fails."""
    watch = cwd / "watch"
    code, said = finish(start(words, cwd, watch))
    if code:
        raise RuntimeError(f"fastconv train {' '.join(words)}: exit code {code}\n{said}")
    return watched(watch).trained


def wait_for(process: "subprocess.Popen[str]", watch: Path, batches: int) -> None:
    """Return when a process has trained so many batches, or has ended."""
    while process.poll() is None and watched(watch).trained < batches:
        time.sleep(0.001)


def differences(run: Path, unbroken: Path) -> list[str]:
    """Return the names of the files of a run that are not, to the byte, those of another; and what does not belong.

    Those of an ensemble's models too.
    """
    names = [name for name in COMPARED if _content(run / name) != _content(unbroken / name)]
    allowed = {path.name for path in unbroken.iterdir()}
    names += sorted(f"{path.name} is left" for path in run.iterdir() if path.name not in allowed)
    for member in sorted(path.name for path in unbroken.iterdir() if path.is_dir()):
        names += [f"{member}/{name}" for name in differences(run / member, unbroken / member)]
    return names


def is_writing(run: Path) -> bool:
    """Whether a file of a run is being written, or was when its process was killed."""
    try:
        return any(name.endswith(".tmp") for _, _, names in os.walk(run) for name in names)
    except OSError:
        return False


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


# ------------------------------------------------------------------------------------------------------ in the process


def watched(watch: Path) -> Watched:
    """Return what a process has noted so far."""
    content = watch.read_bytes() if watch.exists() else b""
    return Watched(*_WATCHED.unpack(content)) if len(content) == _WATCHED.size else Watched()


def _watch(path: str) -> None:
    """Note, from now on, in a file."""
    from fastconv.commands.interrupts import Interrupts

    module: Any = import_module("fastconv.training.epoch")
    with open(path, "w+b") as file:
        file.write(_WATCHED.pack(*Watched(trained=0)))
        file.flush()
        shared = mmap.mmap(file.fileno(), _WATCHED.size)
    step: Callable[..., Any] = module.checked_step
    handle: Callable[..., Any] = Interrupts._handle
    enter: Callable[..., Any] = Interrupts.__enter__
    leave: Callable[..., Any] = Interrupts.__exit__

    def note(name: str, value: float) -> None:
        # Each number by itself: a signal may come while another one is noted.
        number = Watched._fields.index(name)
        struct.pack_into(_WATCHED.format[1 + number], shared, 8 * number, value)

    def counted(*arguments: Any) -> Any:
        result = step(*arguments)
        note("trained", Watched(*_WATCHED.unpack(shared[:])).trained + 1)
        return result

    def noted(self: Interrupts, *arguments: Any) -> None:
        seen = Watched(*_WATCHED.unpack(shared[:]))
        if seen.at_signal < 0:
            note("at_signal", seen.trained)
        handle(self, *arguments)

    def entered(self: Interrupts) -> Interrupts:
        found = enter(self)
        note("since", time.monotonic())
        return found

    def left(self: Interrupts, *exception: Any) -> None:
        note("until", time.monotonic())
        leave(self, *exception)

    module.checked_step, Interrupts._handle = counted, noted
    Interrupts.__enter__, Interrupts.__exit__ = entered, left


def _main() -> int:
    from fastconv import cli, models
    from fastconv.layers import BatchNorm2d, Conv2d, Dropout, Dropout2d, Flatten, Linear, MaxPool2d, ReLU
    from fastconv.sequential import Sequential

    def reliable(in_channels: int = 1, num_classes: int = 10, seed: int = 0) -> Sequential:
        first = [Conv2d(in_channels, 8, 3), BatchNorm2d(8), ReLU(), MaxPool2d(2), Dropout2d(0.1)]
        return Sequential(*first, Flatten(), Dropout(0.3), Linear(8 * 13 * 13, num_classes), seed=seed)

    known = models.__getattr__
    models.__getattr__ = lambda name: reliable if name == NET else known(name)
    models.NAMES = (*models.NAMES, NET)
    if "WATCH" in os.environ:
        _watch(os.environ["WATCH"])
    return cli.main()


if __name__ == "__main__":
    sys.exit(_main())
