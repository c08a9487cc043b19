"""What a training run leaves on disk: a folder with its options, its figures and its best model.

``runs/train-001`` in the working directory, or a folder that the user names. A folder that holds a run is never used
by another. Every file but ``results.csv`` and ``timing.csv``, which grow by whole lines, is either its old self or
wholly new, whatever happens meanwhile.

What a clock says is in ``timing.csv`` alone, so that model, results and metrics are equal to the byte in two runs with
the same options, and in one that was interrupted.
"""

import csv
import json
import os
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from fastconv import atomic, io
from fastconv.regular import read_small
from fastconv.sequential import Sequential
from fastconv.training.callbacks import Callback, KeepBest, Run
from fastconv.training.history import History, Record

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CONFIG, RESULTS, METRICS = "config.json", "results.csv", "metrics.json"
MODEL, SUBMISSION, REPORT = "model.safetensors", "submission.csv", "report.html"
TIMING, CHECKPOINT = "timing.csv", "checkpoint.safetensors"
EPOCHS = {
    "epoch": "{:d}",
    "train_loss": "{:.6g}",
    "train_acc": "{:.6g}",
    "val_loss": "{:.6g}",
    "val_acc": "{:.6g}",
    "lr": "{:.6g}",
}
"""The columns of ``results.csv`` and how they are written."""
TIMES = {"epoch": "{:d}", "time": "{:.3f}", "images_per_s": "{:.0f}"}
"""Those of ``timing.csv``."""


class RunFolderError(ValueError):
    """A run cannot be kept where it should be; the message says how to mend it."""


def check_free(folder: str | os.PathLike[str]) -> None:
    """Raise RunFolderError if ``folder`` already holds a run, or is no folder."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder}: expected a folder for the run, got a file; name another with --out")
    for name in (CONFIG, RESULTS, METRICS, MODEL, SUBMISSION, REPORT, CHECKPOINT, TIMING):
        if (folder / name).exists():
            raise RunFolderError(
                f"{folder}: already holds a run ({name}), which is never overwritten; name another with --out"
            )


def read_results(path: str | os.PathLike[str]) -> History:
    """Return the epochs of a ``results.csv`` and of the ``timing.csv`` beside it.

    Raises
    ------
    RunFolderError
        If it is no such file, or one of them is damaged.
    OSError
        If one cannot be read.
    """
    path = Path(path)
    figures, times = _rows(path, EPOCHS), _rows(path.with_name(TIMING), TIMES)
    history = History()
    for figure, time in zip(figures, times, strict=False):
        history.append(Record(**time | figure))  # pyright: ignore[reportArgumentType]
    return history


def _rows(path: Path, columns: Mapping[str, str]) -> list[dict[str, float | None]]:
    """Return the rows of a table; errors as in ``read_results``."""
    content = read_small(path).decode("ascii", "replace")
    try:
        rows = list(csv.reader(content.splitlines(keepends=True)))
        if rows[:1] != [list(columns)]:
            raise ValueError(f"the header {','.join(columns)}, got {','.join(*rows[:1])!r}")
        found: list[dict[str, float | None]] = []
        for row in rows[1:]:
            cells = dict(zip(columns, row, strict=True))
            values = {name: None if cell == "" else float(cell) for name, cell in cells.items()}
            found.append(values | {"epoch": int(cells["epoch"])})
    except (ValueError, TypeError, csv.Error) as error:
        raise RunFolderError(f"{path}: the file is damaged, or no run's {path.name}: {error}") from error
    return found


class RunFolder:
    """The folder of one run.

    Parameters
    ----------
    out : path, optional
        Created with its parents if need be.  By default the next free one of ``runs/train-001``, ``-002`` ...
    columns : dict of str
        Of ``results.csv``, and how each is written, where it is not those of epochs.

    Attributes
    ----------
    path : Path
    resumed : bool
        Whether the run was begun by another process.

    Raises
    ------
    RunFolderError
        If the folder holds a run, or cannot be written to.
    """

    resumed = False

    def __init__(self, out: str | os.PathLike[str] | None = None, columns: Mapping[str, str] | None = None) -> None:
        # The times first: a process that is killed between two rows leaves one too many there, which nobody reads.
        self._tables = {TIMING: TIMES, RESULTS: EPOCHS} if columns is None else {RESULTS: columns}
        wanted = Path("runs") if out is None else Path(out)
        try:
            self.path, self._is_new = _next_free(wanted) if out is None else _make(wanted)
            # Whoever creates this file owns the folder, should two runs be started into it at once.
            for name, formats in self._tables.items():
                with (self.path / name).open("xb") as file:
                    file.write(_line(formats))
            self._lock()
        except FileExistsError:
            check_free(wanted)
            raise
        except OSError as error:
            raise RunFolderError(
                f"{error.filename or wanted}: the run's folder cannot be written ({error.strerror}); "
                "name one that can be with --out"
            ) from error

    @classmethod
    def reopen(cls, path: str | os.PathLike[str]) -> Self:
        """Return the folder of a run that was begun by another process, without what that one left half written.

        Raises
        ------
        RunFolderError
            If there is no run, or another process is at work on it.
        """
        folder = cls.__new__(cls)
        folder.path, folder._is_new, folder.resumed = Path(path), False, True
        folder._tables = {TIMING: TIMES, RESULTS: EPOCHS}
        if not folder.path.is_dir():
            raise RunFolderError(f"{path}: there is no such run; name a run's folder, such as runs/train-001")
        if not folder.file(CONFIG).exists():
            raise RunFolderError(f"{path}: expected the folder of a run, got one without {CONFIG}; start a new run")
        folder._lock()
        atomic.sweep(folder.path)
        return folder

    def hold(self, columns: Mapping[str, str]) -> None:
        """Let ``results.csv`` of a folder that was reopened have these columns, without a ``timing.csv``."""
        self._tables = {RESULTS: columns}

    def _lock(self) -> None:
        """Let no other process go on with this run while this one lives; not possible everywhere."""
        if fcntl is None:
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(f"{self.path}: another process is at work on this run; let it end first") from None
        except OSError:  # some network file systems have no locks
            return

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
        """Add a row to ``results.csv``, one epoch's, and to ``timing.csv``."""
        for name, formats in self._tables.items():
            atomic.append(self.path / name, _line(formats, record))

    def rewrite(self, records: Iterable[Record | Mapping[str, Any]]) -> None:
        """Let ``results.csv`` and ``timing.csv`` hold these rows and no others."""
        for name, formats in self._tables.items():
            lines = [_line(formats), *(_line(formats, record) for record in records)]
            atomic.write(self.path / name, b"".join(lines))

    def has_trained(self) -> bool:
        """Whether there is a model, or a checkpoint to go on from."""
        return any(self.file(name).exists() for name in (MODEL, CHECKPOINT))

    def discard(self) -> None:
        """Remove a run that has trained nothing yet."""
        for name in (CONFIG, *self._tables):
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

    def on_train_begin(self, run: Run) -> None:
        """Forget the epochs that another process wrote and this one will repeat."""
        if self._folder.resumed:
            self._folder.rewrite(run.history)

    def on_epoch_end(self, run: Run, record: Record) -> None:
        """Append the figures, after saving the model that they speak of."""
        if record["val_acc"] is None or self._best.record is record:
            self._folder.save(run.model)
        self._folder.append(record)


def _line(formats: Mapping[str, str], record: Record | Mapping[str, Any] | None = None) -> bytes:
    """Return a row of a table; without a record its header."""
    cells = list(formats)
    if record is not None:
        cells = ["" if record[name] is None else form.format(record[name]) for name, form in formats.items()]
    return (",".join(cells) + "\n").encode("ascii")


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
