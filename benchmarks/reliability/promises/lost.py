"""No file is torn or lost, whichever file operation fails."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastconv as fc
from benchmarks import processes
from benchmarks.reliability import faults
from benchmarks.reliability.promise import Outcome, Promise
from fastconv import atomic, data
from fastconv.training.callbacks import Run
from fastconv.training.checkpoint import Checkpoint, Keeper, Totals
from fastconv.training.run_folder import RunFolder


class _Saved(NamedTuple):
    """A kind of file: how it is written and read, with a number in it."""

    name: str
    save: Callable[[Path, int], None]
    load: Callable[[Path], int]


def _model(number: int) -> fc.Sequential:
    model = fc.Sequential(fc.Linear(60, 40), seed=0)
    model.load_state_dict({name: np.full_like(array, number) for name, array in model.state_dict().items()})
    return model


def _keeper(path: Path, number: int) -> tuple[Keeper, Run]:
    run = Run(_model(number), fc.SGD(), 1, 1, 1)
    return Keeper(Checkpoint(path), {}, run, fc.schedules.followed("constant"), []), run


def _save_checkpoint(path: Path, number: int) -> None:
    _keeper(path, number)[0].write(Totals(seen=number))


def _load_checkpoint(path: Path) -> int:
    keeper, run = _keeper(path, 0)
    totals = keeper.begin(resume=True)
    assert totals is not None
    values = set(run.model.state_dict()["0.weight"].ravel().tolist())
    assert values == {totals.seen}, "weights of one moment, sums of another"
    return totals.seen


def _write_json(path: Path, number: int) -> None:
    folder = RunFolder.__new__(RunFolder)
    folder.path = path.parent
    folder.write_json(path.name, {"number": number, "list": [number] * 500})


def _read_json(path: Path) -> int:
    found = json.loads(path.read_bytes())
    assert found["list"] == [found["number"]] * 500
    return found["number"]


def _load_model(path: Path) -> int:
    (value,) = set(fc.load(path).state_dict()["0.weight"].ravel().tolist())
    return int(value)


def _load_submission(path: Path) -> int:
    rows = path.read_text().splitlines()[1:]
    assert len(rows) == 3000
    (value,) = {int(row.partition(",")[2]) for row in rows}
    return value


_FILES = (
    _Saved("model.safetensors", lambda path, number: fc.save(_model(number), path), _load_model),
    _Saved("checkpoint.safetensors", _save_checkpoint, _load_checkpoint),
    _Saved("submission.csv", lambda path, n: data.write_submission(path, np.full(3000, n)), _load_submission),
    _Saved("config.json", _write_json, _read_json),
    _Saved("metrics.json", _write_json, _read_json),
)


def measure(seed: int, cases: int) -> Outcome:
    """Save each kind of file over an old one and where there is none, each operation failing in each way.

    All of them, whatever the seed; ``cases`` is how many saves follow one another on a disk that fills up.
    """
    failures: list[str] = []
    tried = acknowledged = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in _FILES:
            for fault in faults.FAULTS:
                for before in (None, 1):
                    for number in count():
                        done, wrong, operations = _try(folder, file, fault, before, number)
                        tried, acknowledged, failures = tried + 1, acknowledged + done, failures + wrong
                        if number >= operations:
                            break
        tried_rows, wrong = _rows(folder)
        tried, failures = tried + tried_rows, failures + wrong
    full, wrong, notes = _small_disk(cases)
    figure = (
        f"{tried:,} failures tried: {len(failures)} files torn or lost, {acknowledged} saves acknowledged and all of "
        f"them there; {full}"
    )
    return Outcome(figure, failures + wrong, notes)


def _try(
    folder: Path, file: _Saved, fault: faults.Fault, before: int | None, number: int
) -> tuple[bool, list[str], int]:
    """Return whether a save was acknowledged, what was wrong afterwards, and how many operations there were."""
    path = folder / file.name
    path.unlink(missing_ok=True)
    if before is not None:
        file.save(path, before)
    disk, done = faults.Disk(number, fault), False
    with contextlib.suppress(OSError, data.DataError, faults.Killed), faults.on(disk):
        file.save(path, 2)
        done = True
    where = f"{file.name}, {'new' if before is None else 'replaced'}, {fault} at operation {number}"
    wrong = []
    try:
        found = file.load(path) if path.exists() else None
    except Exception as error:
        found, wrong = -1, [f"{where}: torn ({error})"]
    if not wrong and found not in ((2,) if done else (before, 2)):
        wrong.append(f"{where}: {'acknowledged, ' if done else ''}expected {before} or 2, got {found}")
    left = [name for name in os.listdir(folder) if name.endswith(".tmp")]
    at_unlink = number < len(disk.done) and disk.done[number] == "unlink"
    if left and fault != "killed" and not at_unlink:
        wrong.append(f"{where}: {left} left")
    atomic.sweep(folder)
    if any(name.endswith(".tmp") for name in os.listdir(folder)):
        wrong.append(f"{where}: a temporary file was not swept")
    if done and number >= len(disk.done):
        order = [name for name in disk.done if name in ("write", "fsync", "replace")]
        if order != ["write", "fsync", "replace", "fsync"]:
            wrong.append(f"{where}: expected write, fsync, replace, fsync of the folder, got {order}")
    return done, wrong, len(disk.done)


def _rows(folder: Path) -> tuple[int, list[str]]:
    """Add rows to results.csv while operations fail: a row is there wholly or not at all."""
    path, wrong, tried = folder / "results.csv", [], 0
    for fault in ("ENOSPC", "EIO", "short"):
        for number in range(4):
            path.write_bytes(b"epoch\n1\n")
            disk = faults.Disk(number, fault)
            with contextlib.suppress(OSError), faults.on(disk):
                atomic.append(path, b"2\n")
            tried += 1
            if path.read_bytes() not in (b"epoch\n1\n", b"epoch\n1\n2\n"):
                wrong.append(f"results.csv, {fault} at operation {number}: {path.read_bytes()!r}")
    return tried, wrong


_FILL = """
import sys
from pathlib import Path
from benchmarks.reliability.promises import lost
lost.fill(Path(sys.argv[1]), int(sys.argv[2]))
"""


def _small_disk(cases: int) -> tuple[str, list[str], list[str]]:
    """Save on a disk of one megabyte that is full, or nearly."""
    with tempfile.TemporaryDirectory() as folder:
        mount = f"mount -t tmpfs -o size=1m tmpfs {folder} && exec {sys.executable} -c '{_FILL}' {folder} {cases}"
        # A mount of its own, which goes with the process; users other than root are root there.
        command = ["unshare", "-rm", "sh", "-c", mount]
        done = subprocess.run(command, env=processes.environment(), capture_output=True, text=True, check=False)
    said = done.stdout.strip().splitlines()
    if done.returncode or not said:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return "no full disk tried", [], [f"a full disk: a small tmpfs cannot be mounted here ({reason})"]
    return said[-1], [line for line in said[:-1] if line], []


def fill(folder: Path, cases: int) -> None:
    """Save files while others take up more or less of the disk; print what is wrong, and at last a figure."""
    refused = 0
    for case in range(cases):
        file = _FILES[case % len(_FILES)]
        path = folder / file.name
        before = file.load(path) if path.exists() else None
        with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
            ballast.write(bytes(850_000 + 79_190 * case % 200_000))
        done = False
        with contextlib.suppress(OSError, data.DataError):
            file.save(path, case + 2)
            done = True
        refused += not done
        found = file.load(path) if path.exists() else None
        if found != (case + 2 if done else before):
            print(f"full disk, save {case} of {file.name}: expected {case + 2 if done else before}, got {found}")
        if any(name.endswith(".tmp") for name in os.listdir(folder)):
            print(f"full disk, save {case} of {file.name}: a temporary file is left")
    print(f"{cases} saves on a disk of 1 MB, {refused} of them when it was full: each file old or new, whole")


PROMISE = Promise(
    "No file is torn, and nothing that was acknowledged is lost",
    "model, checkpoint, submission, config and metrics are saved while the first, second ... last file operation fails "
    "(ENOSPC, EIO, a short write, the process killed), over an old file and where there is none; then loaded: the old "
    "or the new one, whole. Rows of results.csv likewise. Stale temporary files are swept. A full disk of 1 MB",
    measure,
    short=30,
    long=500,
)
