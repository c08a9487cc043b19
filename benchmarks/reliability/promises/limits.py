"""No more threads than are allowed, and no run is begun that cannot fit into memory."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from math import floor
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from benchmarks import processes
from benchmarks.reliability import control_groups
from benchmarks.reliability.promise import Outcome, Promise
from fastconv_kernels import limits

_MB = 2**20
_TREES = 50
"""File trees in a case: they cost a millisecond each."""
_LEAST, _MOST = 0.9, 1.6
"""Of what was taken, an estimate is at least, and at most, so many times as much."""
_REFUSED = 450 * _MB
"""A process that refuses takes less than this: Python, Numba and the data."""
_RUNS = [
    *(("lenet5", what, batch) for batch in (4096, 512, 16384) for what in ("fit", "predict")),
    *((name, what, 128) for name in ("digitnet", "resnet20", "mobilenet_small", "vgg_small", "wide")
      for what in ("fit", "predict")),
]  # fmt: skip


class _Told(NamedTuple):
    """What a process said."""

    code: int
    said: str
    taken: int
    """Bytes at the most."""


class _Figures:
    """What was counted."""

    def __init__(self) -> None:
        self.trees = self.threads = self.refused = self.fitted = 0
        self.ratios: list[float] = []
        self.notes: dict[str, None] = {}


def measure(seed: int, cases: int) -> Outcome:
    """Try kinds of limits in turn."""
    rng, figures, failures = np.random.default_rng(seed), _Figures(), []
    kinds: list[Callable[[np.random.Generator, Path, _Figures, int], str]] = [
        _trees,
        _process,
        _refused,
        _footprint,
    ]
    for case in range(cases):
        with tempfile.TemporaryDirectory() as name:
            kind = kinds[case % len(kinds)]
            wrong = kind(rng, Path(name), figures, case // len(kinds))
            if wrong:
                failures.append(f"case {case}, {kind.__name__[1:]}: {wrong}")
    ratios = figures.ratios or [float("nan")]
    figure = (
        f"{figures.trees} trees of control groups read as they were written; {figures.threads} processes used as many "
        f"threads as the least limit allows; {figures.refused} runs that cannot fit were refused before they began, "
        f"{figures.fitted} that just fit ended well; {len(figures.ratios)} estimates of memory are {min(ratios):.2f} "
        f"to {max(ratios):.2f} times what was taken"
    )
    return Outcome(figure, failures, list(figures.notes))


def _run(limited: dict[str, Any], words: Sequence[str], cwd: Path, changes: dict[str, str] | None = None) -> _Told:
    said = cwd / "said.txt"
    with said.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.reliability.limited", json.dumps(limited), *words],
            cwd=cwd,
            # Memory that is given back at once, so that what was taken before is not taken again unseen.
            env=processes.environment(
                {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"} | (changes or {})
            ),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        process.wait()
    told, *peak = re.split(r"^peak: (\d+)$", said.read_text(), maxsplit=1, flags=re.MULTILINE)
    return _Told(process.returncode, told, int(peak[0]) if peak else 0)


# --------------------------------------------------------------------------------------------------------------- cores


def _rounded(cores: float) -> int:
    return max(1, floor(cores + 0.5))


def _trees(rng: np.random.Generator, folder: Path, figures: _Figures, turn: int) -> str:
    """Read file trees of both versions of control groups."""
    for number in range(_TREES):
        tree = control_groups.tree(rng, folder / str(number))
        cap = int(rng.integers(1, 9)) if rng.random() < 0.3 else None
        bound = int(rng.integers(1, 65))
        variables = {} if cap is None else {str(rng.choice(limits.VARIABLES)): str(cap)}
        with (
            mock.patch.object(limits.os, "cpu_count", return_value=64),
            mock.patch.object(limits.os, "sched_getaffinity", lambda pid, bound=bound: range(bound)),
            mock.patch.dict(os.environ, {**dict.fromkeys(limits.VARIABLES, ""), **variables}),
        ):
            cores, free = limits.usable_cores(tree.root), limits.free_memory(tree.root)
        allowed = [bound, *([cap] if cap else []), *([] if tree.cores is None else [_rounded(tree.cores)])]
        if cores != min(allowed):
            return f"tree {number}: {cores} threads where {min(allowed)} are allowed"
        if (free and free.most) != tree.free:
            return f"tree {number}: {free and free.most} bytes free where it was {tree.free}"
        figures.trees += 1
    return ""


def _process(rng: np.random.Generator, folder: Path, figures: _Figures, turn: int) -> str:
    """Start processes with limits of several kinds at once, and count the threads that they use."""
    there = sorted(os.sched_getaffinity(0))
    limited: dict[str, Any] = {}
    allowed: list[float] = [len(there)]
    kinds = [("quota",), ("affinity",), ("variable",), ("tree",), ("quota", "variable"), ("affinity", "tree")]
    chosen = kinds[turn % len(kinds)]
    changes = dict.fromkeys(limits.VARIABLES, "")
    if "affinity" in chosen:
        limited["cores"] = there[: int(rng.integers(1, len(there) + 1))]
        allowed.append(len(limited["cores"]))
    if "variable" in chosen:
        cap = int(rng.integers(1, 2 * len(there)))
        changes[str(rng.choice(limits.VARIABLES))] = str(cap)
        allowed.append(cap)
    if "tree" in chosen:
        tree = control_groups.tree(rng, folder / "tree")
        limited["root"] = str(tree.root)
        allowed += [] if tree.cores is None else [_rounded(tree.cores)]
    if "quota" in chosen:
        cores = float(rng.choice([0.5, 0.75, 1.0, 1.25, 1.75]))
        try:
            with control_groups.quota(cores) as group:
                told = _run(limited | {"group": str(group)}, ["fastconv", "doctor"], folder, changes)
            allowed.append(_rounded(cores))
        except OSError as error:
            figures.notes[f"a real CPU quota: {error}"] = None
            return ""
    else:
        told = _run(limited, ["fastconv", "doctor"], folder, changes)
    used = re.findall(r"^(?:threads|at work): (\d+)$", told.said, re.MULTILINE)
    if used != [str(min(allowed))] * 2:  # by its own word, and of those that took processors' time
        return f"{' and '.join(chosen)}: expected {min(allowed)} threads, got {told.said[-300:]!r}"
    because = "limited to" in " ".join(told.said.split())
    if because != (min(allowed) < (os.cpu_count() or 1)):
        return f"{' and '.join(chosen)}: the doctor does not say what limits it: {told.said[:300]!r}"
    figures.threads += 1
    return ""


# -------------------------------------------------------------------------------------------------------------- memory


def _refused(rng: np.random.Generator, folder: Path, figures: _Figures, turn: int) -> str:
    """Ask for what cannot fit, and for what just does, of commands and of Python."""
    what, by = (("train", "fit", "predict", "fastconv predict")[turn % 4], ("space", "group")[(turn // 4 + turn) % 2])
    figures.notes["a real limit to a group's memory: it is read from files"] = None
    if what in ("train", "fastconv predict"):
        images = rng.integers(0, 256, (1200, 28, 28)).astype(np.uint8)
        np.savez(folder / "train.npz", images=images, labels=np.arange(1200) % 10)
        np.savez(folder / "test.npz", images=images)
        words = ["fastconv", "train", "train.npz", "--model", "digitnet", "--epochs", "1", "--batch-size", "540"]
        words += ["--no-report", "--val", "0.1", "--out", "run"]
        if what == "fastconv predict":
            from fastconv import io, models

            io.save(models.create("resnet20", in_channels=1), folder / "model.safetensors")
            words = ["fastconv", "predict", "model.safetensors", "test.npz", "-o", "out.csv"]
        # With less of an address space, Numba could not even be imported.
        small, large = 300 if by == "space" else 150, 3000
    else:
        words, small, large = [what, "8192"], (120 if what == "predict" else 250), 2500
    for megabytes, code in ((small, 2), (large, 0)):
        if code == 0 and turn % 2:
            continue  # it takes its time
        if by == "space":
            told = _run({"space": megabytes * _MB}, words, folder)
        else:
            tree = control_groups.tree(rng, folder / f"tree{code}", float(megabytes * _MB))
            told = _run({"root": str(tree.root)}, words, folder)
        if told.code != code:
            return f"{what}, {megabytes} MB by {by}: exit code {told.code} and not {code}: {told.said[-400:]!r}"
        if code == 0:
            figures.fitted += 1
            continue
        (line,) = [line for line in told.said.splitlines() if "not enough memory" in line] or [""]
        numbers = re.search(r"about ([\d,]+) MB are needed .* and ([\d,]+) MB are free by", line)
        if numbers is None or "Traceback" in told.said:
            return f"{what}, {megabytes} MB by {by}: no clear word: {told.said[-400:]!r}"
        if told.taken > _REFUSED or (folder / "run").exists() or (folder / "out.csv").exists():
            return f"{what}, {megabytes} MB by {by}: refused after {told.taken / _MB:,.0f} MB were taken, or files left"
        figures.refused += 1
    return ""


def _footprint(rng: np.random.Generator, folder: Path, figures: _Figures, turn: int) -> str:
    """Compare what was estimated with what was taken."""
    name, what, batch = _RUNS[turn % len(_RUNS)]
    told = _run({}, ["footprint", what, name, str(batch)], folder)
    if told.code:
        return f"{what} of {name}: exit code {told.code}: {told.said[-400:]}"
    estimated, taken = json.loads(told.said.splitlines()[-1])
    figures.ratios.append(estimated / taken)
    if not _LEAST <= estimated / taken <= _MOST:
        return f"{what} of {name}, {batch}: estimated {estimated / _MB:,.0f} MB, taken {taken / _MB:,.0f} MB"
    return ""


PROMISE = Promise(
    "No more threads than are allowed; a run that cannot fit into memory is not begun",
    "quotas of control groups of both versions, at any level, in containers and outside, real ones and as files; "
    "affinity, variables of the environment: the least of them is what `fastconv` uses, and `fastconv doctor` says it. "
    "`fastconv train` and `predict`, `fit` and `predict` with a limit to the address space, or to a group's memory, "
    "that is too small: exit code 2, `NoRoomError`, one line with the figures, nothing taken and nothing written; and "
    f"with one that is not. Estimates beside the highest resident memory of processes, from {_LEAST} to {_MOST} times",
    measure,
    short=4,
    long=64,
)
