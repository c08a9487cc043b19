"""``fastconv train`` in a process of its own, for promises about what ends it.

Run as a program, it is ``fastconv`` with one network more, which has all that a checkpoint must remember; on a file
that the environment variable WATCH names, it counts batches, and notes the count when a signal comes.
"""

import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import processes

NET = "reliable"
COMPARED = ("model.safetensors", "results.csv", "metrics.json", "submission.csv")
_WATCHED = struct.Struct("<qq")
LENET = ("--epochs", "3", "--seed", "1", "--no-report")
WHOLE = (
    *("--model", NET, "--epochs", "3", "--optimizer", "adam", "--ema", "0.99", "--augment", "digits"),
    *("--schedule", "plateau", "--early-stop", "50", "--clip", "5", "--no-report"),
)
"""Batch normalisation, dropout, augmentation, averages, Adam, clipping, early stopping, a schedule with memory."""


def data(folder: Path, images: int = 1200) -> tuple[Path, Path]:
    """Write some of the built-in digits as files to train on and to predict; returns their paths."""
    from fastconv.data import digits10k

    digits = digits10k()
    train, test = folder / "train.npz", folder / "test.npz"
    np.savez(train, images=digits.images[:images, 0], labels=digits.labels[:images])
    np.savez(test, images=digits.images[-100:, 0])
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
    return counts(watch)[0]


def wait_for(process: "subprocess.Popen[str]", watch: Path, batches: int) -> None:
    """Return when a process has trained so many batches, or has ended."""
    while process.poll() is None and counts(watch)[0] < batches:
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


def counts(watch: Path) -> tuple[int, int]:
    """Return the batches that were trained, and those that had been when the first signal came, or -1."""
    content = watch.read_bytes() if watch.exists() else b""
    return _WATCHED.unpack(content) if len(content) == _WATCHED.size else (-1, -1)


def _watch(path: str) -> None:
    """Count batches, from now on, in a file."""
    from fastconv.commands.interrupts import Interrupts

    module: Any = import_module("fastconv.training.epoch")
    with open(path, "w+b") as file:
        file.write(_WATCHED.pack(0, -1))
        file.flush()
        shared = mmap.mmap(file.fileno(), _WATCHED.size)
    step: Callable[..., Any] = module.checked_step
    handle: Callable[..., Any] = Interrupts._handle

    def counted(*arguments: Any) -> Any:
        result = step(*arguments)
        trained, at_signal = _WATCHED.unpack(shared[:])
        shared[:] = _WATCHED.pack(trained + 1, at_signal)
        return result

    def noted(self: Interrupts, *arguments: Any) -> None:
        trained, at_signal = _WATCHED.unpack(shared[:])
        if at_signal < 0:
            shared[:] = _WATCHED.pack(trained, trained)
        handle(self, *arguments)

    module.checked_step, Interrupts._handle = counted, noted


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
