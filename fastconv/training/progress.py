"""What training shows: a table with one line an epoch, and on a terminal a bar below it."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Self

from fastconv import terminal
from fastconv.training.callbacks import Callback, Run
from fastconv.training.history import Record

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_REFRESH = 0.2
"""Seconds between two drawings of the bar: drawing must not slow a step of a millisecond."""
_WORTH_TELLING = 10.0
"""Seconds of training from which an estimate is worth a line."""


@dataclass(frozen=True)
class _Column:
    name: str
    width: int
    text: Callable[[Record], str]
    in_narrow: bool
    """Whether it is shown on a terminal that is too narrow for all of them."""


_EPOCH = _Column("epoch", 5, lambda record: f"{record['epoch']}", True)
_TRAIN_LOSS = _Column("train_loss", 10, lambda record: f"{record['train_loss']:.4f}", True)
_TRAIN_ACC = _Column("train_acc", 9, lambda record: f"{record['train_acc'] or 0:.4f}", True)
_VAL_LOSS = _Column("val_loss", 8, lambda record: f"{record['val_loss'] or 0:.4f}", False)
_VAL_ACC = _Column("val_acc", 7, lambda record: f"{record['val_acc'] or 0:.4f}", True)
_LR = _Column("lr", 7, lambda record: _rate(record["lr"]), False)
_SPEED = _Column("img/s", 7, lambda record: f"{record['images_per_s']:,.0f}", False)


def _rate(lr: float) -> str:
    return f"{lr:.4f}" if lr >= 5e-5 else f"{lr:.0e}"


def duration(seconds: float) -> str:
    """Return '0.2s', '12s', '3m20s', '2h05m'."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


class Estimate:
    """How long training will take, to be said once: after its first second, or its first epoch if that is shorter.

    Made when training begins.

    Parameters
    ----------
    run : Run
    threads : int, optional
        To be named too.
    """

    def __init__(self, run: Run, threads: int | None = None) -> None:
        self.began = perf_counter()
        self._threads, self._told = threads, False
        # Training may go on.
        self._from = (len(run.history) * run.batches + run.batch % run.batches) / (run.epochs * run.batches)

    def share(self, run: Run) -> float:
        """Return how much of what is left to do here is over: a time budget may be further than the epochs."""
        done = (run.epoch - 1) * run.batches + run.batch
        return (max(done / (run.epochs * run.batches), run.progress) - self._from) / (1 - self._from)

    def line(self, run: Run, epoch_ended: bool = False) -> str | None:
        """Return what is to be said now, if anything."""
        seconds = perf_counter() - self.began
        if self._told or (seconds < 1 and not epoch_ended):
            return None
        self._told = True
        seconds /= self.share(run)
        if seconds < _WORTH_TELLING:
            return None
        threads = "" if self._threads is None else f" on {terminal.count(self._threads, 'thread')}"
        return f"{terminal.count(run.epochs, 'epoch')}, about {duration(seconds)}{threads}"


class Progress(Callback):
    """Shows training as it goes on; use it in a ``with``, which takes the bar away whatever happens.

    Parameters
    ----------
    threads : int
        For the estimate's line.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._bar: Bar | None = None
        self._columns: list[_Column] = []
        self._best = -1.0
        self._before = self._drawn = 0.0
        self._estimate: Estimate | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_train_begin(self, run: Run) -> None:
        """Start the clock, and the bar if there is a terminal for it."""
        self._estimate = Estimate(run, self._threads)
        if run.history:  # training goes on
            self._before = run.history[-1]["time"]
            self._best = max(record["val_acc"] or 0.0 for record in run.history)
        if terminal.is_live():
            self._bar = bar = _bar(run)
            bar.start()

    def on_batch_end(self, run: Run) -> None:
        """Draw the bar anew if it is time to, or say once how long training will take."""
        if self._bar is None:
            self._tell(run)
        elif perf_counter() - self._drawn >= _REFRESH and self._estimate is not None:
            self._drawn = now = perf_counter()
            done = (run.epoch - 1) * run.batches + run.batch
            spent = now - self._estimate.began
            total = spent / self._estimate.share(run)
            left, in_all = duration(total - spent), duration(total)
            self._bar.update(self._bar.task_ids[0], completed=done, epoch=run.epoch, left=left, in_all=in_all)
            self._bar.refresh()

    def _tell(self, run: Run, epoch_ended: bool = False) -> None:
        line = self._estimate and self._estimate.line(run, epoch_ended)
        if line:
            self._say(line)

    def on_epoch_end(self, run: Run, record: Record) -> None:
        """Add the epoch's line; a star marks what is the best so far."""
        if self._bar is None:
            self._tell(run, epoch_ended=True)
        if not self._columns:
            self._columns = _columns(record["val_acc"] is not None)
            self._say("  ".join([*(f"{column.name:>{column.width}}" for column in self._columns), "  time"]))
        spent, self._before = record["time"] - self._before, record["time"]
        cells = [f"{column.text(record):>{column.width}}" for column in self._columns]
        is_best = record["val_acc"] is not None and record["val_acc"] > self._best
        self._best = max(self._best, record["val_acc"] or 0.0)
        self._say("  ".join([*cells, f"{duration(spent):>6}"]) + ("  *" if is_best else ""))

    def on_train_end(self, run: Run) -> None:
        """Say why training ended early, if it did of itself."""
        if run.history.stopped is not None:
            self._say(run.history.stopped)

    def _say(self, line: str) -> None:
        if self._bar is None:
            terminal.say(line)
        else:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _columns(has_validation: bool) -> list[_Column]:
    measured = [_VAL_LOSS, _VAL_ACC] if has_validation else [_TRAIN_ACC]
    columns = [_EPOCH, _TRAIN_LOSS, *measured, _LR, _SPEED]
    wide = sum(column.width + 2 for column in columns) + 9
    return [column for column in columns if column.in_narrow or wide <= terminal.width()]


def _bar(run: Run) -> "Bar":
    from rich.progress import BarColumn, TextColumn  # only a terminal pays for its import
    from rich.progress import Progress as Bar

    # A few columns stay free, so that a terminal can show ^C there without beginning a new line.
    width = max(5, min(40, terminal.width() - 41))
    parts = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(width),
        TextColumn("{task.fields[left]} left of {task.fields[in_all]}"),
    )
    bar = Bar(*parts, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
    bar.add_task("", total=run.epochs * run.batches, epoch=1, epochs=run.epochs, left="?", in_all="?")
    return bar
