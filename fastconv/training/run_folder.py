"""What a training run leaves on disk: a folder with its options, its figures and its best model.

``runs/train-001`` in the working directory, or a folder that the user names. A folder that holds a run is never used
again. Every file but ``results.csv``, which grows, is either its old self or wholly new, whatever happens meanwhile.
"""

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastconv import atomic, io
from fastconv.sequential import Sequential
from fastconv.training.callbacks import Callback, KeepBest, Run
from fastconv.training.history import History, Record

CONFIG, RESULTS, METRICS = "config.json", "results.csv", "metrics.json"
MODEL, SUBMISSION, REPORT = "model.safetensors", "submission.csv", "report.html"
EPOCHS = {
    "epoch": "{:d}",
    "time": "{:.3f}",
    "train_loss": "{:.6g}",
    "train_acc": "{:.6g}",
    "val_loss": "{:.6g}",
    "val_acc": "{:.6g}",
    "lr": "{:.6g}",
    "images_per_s": "{:.0f}",
}
"""The columns of ``results.csv`` and how they are written."""


class RunFolderError(ValueError):
    """A run cannot be kept where it should be; the message says how to mend it."""


def check_free(folder: str | os.PathLike[str]) -> None:
    """Raise RunFolderError if ``folder`` already holds a run, or is no folder."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder}: expected a folder for the run, got a file; name another with --out")
    for name in (CONFIG, RESULTS, METRICS, MODEL, SUBMISSION, REPORT):
        if (folder / name).exists():
            raise RunFolderError(
                f"{folder}: already holds a run ({name}), which is never overwritten; name another with --out"
            )


def read_results(path: str | os.PathLike[str]) -> History:
    """Return the epochs of a ``results.csv``.

    Raises
    ------
    RunFolderError
        If it is no such file, or damaged.
    OSError
        If it cannot be read.
    """
    with Path(path).open(encoding="ascii", errors="replace", newline="") as file:
        rows = list(csv.reader(file))
    history = History()
    try:
        if rows[:1] != [list(EPOCHS)]:
            raise ValueError(f"the header {','.join(EPOCHS)}, got {','.join(*rows[:1])!r}")
        for row in rows[1:]:
            cells = dict(zip(EPOCHS, row, strict=True))
            values = {name: None if cell == "" else float(cell) for name, cell in cells.items()}
            history.append(Record(**values | {"epoch": int(cells["epoch"])}))  # pyright: ignore[reportArgumentType]
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{path}: the file is damaged, or no run's {RESULTS}: {error}") from error
    return history


class RunFolder:
    """The folder of one run.

    Parameters
    ----------
    out : path, optional
        Created with its parents if need be.  By default the next free one of ``runs/train-001``, ``-002`` ...
    columns : dict of str
        Of ``results.csv``, and how each is written.

    Attributes
    ----------
    path : Path

    Raises
    ------
    RunFolderError
        If the folder holds a run, or cannot be written to.
    """

    def __init__(self, out: str | os.PathLike[str] | None = None, columns: Mapping[str, str] = EPOCHS) -> None:
        self._columns = columns
        wanted = Path("runs") if out is None else Path(out)
        try:
            self.path, self._is_new = _next_free(wanted) if out is None else _make(wanted)
            # Whoever creates this file owns the folder, should two runs be started into it at once.
            with (self.path / RESULTS).open("x", encoding="ascii", newline="") as file:
                file.write(",".join(columns) + "\n")
        except FileExistsError:
            check_free(wanted)
            raise
        except OSError as error:
            raise RunFolderError(
                f"{error.filename or wanted}: the run's folder cannot be written ({error.strerror}); "
                "name one that can be with --out"
            ) from error

    def file(self, name: str) -> Path:
        """Return the path of a file of the run."""
        return self.path / name

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write ``config.json`` or ``metrics.json``."""
        atomic.write(self.path / name, (json.dumps(content, indent=2) + "\n").encode())

    def save(self, model: Sequential) -> None:
        """Write ``model.safetensors``."""
        io.save(model, self.path / MODEL)

    def append(self, record: Record | Mapping[str, Any]) -> None:
        """Add a row to ``results.csv``: one epoch's."""
        cells = ["" if record[name] is None else form.format(record[name]) for name, form in self._columns.items()]
        with (self.path / RESULTS).open("a", encoding="ascii", newline="") as file:
            file.write(",".join(cells) + "\n")

    def discard(self) -> None:
        """Remove a run that has trained nothing yet."""
        for name in (CONFIG, RESULTS):
            (self.path / name).unlink(missing_ok=True)
        if self._is_new:
            self.path.rmdir()


class Recorder(Callback):
    """Writes every epoch into a run's folder, and the model whenever it is the best so far.

    Without validation there is no best model, and the last is kept.

    Parameters
    ----------
    folder : RunFolder
    best : KeepBest
        Stands before this one in ``fit``'s callbacks.
    """

    def __init__(self, folder: RunFolder, best: KeepBest) -> None:
        self._folder = folder
        self._best = best

    def on_epoch_end(self, run: Run, record: Record) -> None:
        """Append the figures, after saving the model that they speak of."""
        if record["val_acc"] is None or self._best.record is record:
            self._folder.save(run.model)
        self._folder.append(record)


def _next_free(runs: Path) -> tuple[Path, bool]:
    """Create and return the folder behind the last one."""
    runs.mkdir(parents=True, exist_ok=True)
    numbers = [path.name.removeprefix("train-") for path in runs.glob("train-*")]
    number = max((int(text) for text in numbers if text.isdecimal()), default=0)
    while True:
        number += 1
        path = runs / f"train-{number:03}"
        try:
            path.mkdir()
        except FileExistsError:  # another run was faster
            continue
        return path, True


def _make(folder: Path) -> tuple[Path, bool]:
    check_free(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    return folder, is_new
