"""What training shows: the table, the bar's restraint, the narrow terminal."""

import io
import os
import pty
import subprocess
import sys

import pytest
from subprocesses import ROOT

import fastconv as fc
from fastconv import terminal
from fastconv.training import progress as module
from fastconv.training.callbacks import Run
from fastconv.training.progress import Progress, duration


def record(epoch, val_acc=0.9, seconds=0.2):
    return {
        "epoch": epoch,
        "time": epoch * seconds,
        "train_loss": 0.8123,
        "train_acc": 0.7,
        "val_loss": None if val_acc is None else 0.2911,
        "val_acc": val_acc,
        "lr": 0.04 / epoch**4,
        "images_per_s": 58100.4,
    }


def play(progress, clock, records, batches=10, seconds=0.2):
    """Let a run of so many seconds an epoch pass by."""
    run = Run(fc.Sequential(fc.Linear(1, 1)), fc.SGD(), len(records), batches, 100)
    with progress:
        progress.on_train_begin(run)
        for run.epoch, epoch in enumerate(records, 1):
            for run.batch in range(1, batches + 1):
                clock.now += seconds / batches
                progress.on_batch_end(run)
            progress.on_epoch_end(run, epoch)
        progress.on_train_end(run)


def test_one_plain_line_an_epoch_with_a_star_for_the_best_so_far(clock, capsys):
    play(Progress(2), clock, [record(1, 0.5), record(2, 0.7), record(3, 0.7), record(12, 0.8)])
    assert capsys.readouterr().out.splitlines() == [
        "epoch  train_loss  val_loss  val_acc       lr    img/s    time",
        "    1      0.8123    0.2911   0.5000   0.0400   58,100    0.2s  *",
        "    2      0.8123    0.2911   0.7000   0.0025   58,100    0.2s  *",
        "    3      0.8123    0.2911   0.7000   0.0005   58,100    0.2s",
        "   12      0.8123    0.2911   0.8000    2e-06   58,100    1.8s  *",
    ]


def test_without_validation(clock, capsys):
    play(Progress(2), clock, [record(1, None)])
    assert capsys.readouterr().out.splitlines() == [
        "epoch  train_loss  train_acc       lr    img/s    time",
        "    1      0.8123     0.7000   0.0400   58,100    0.2s",
    ]


def test_a_narrow_terminal_gets_fewer_columns(clock, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "width", lambda: 40)
    play(Progress(2), clock, [record(1)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "epoch  train_loss  val_acc    time"
    assert max(map(len, lines)) <= 40


@pytest.mark.parametrize(
    ("epochs", "seconds", "expected"),
    [(4, 0.2, None), (20, 4.0, "20 epochs, about 1m20s on 2 threads"), (50, 0.5, "50 epochs, about 25s on 2 threads")],
)
def test_a_long_training_is_announced_once_before_the_table(clock, capsys, epochs, seconds, expected):
    play(Progress(2), clock, [record(n) for n in range(1, epochs + 1)], seconds=seconds)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "about" in line] == ([expected] if expected else [])
    assert lines[1 if expected else 0].startswith("epoch")


def test_the_estimate_heeds_a_time_budget_and_the_end_says_why(clock, capsys):
    """After 1 s, a batch of 1000 in each of 50 epochs is over, but a tenth of the time."""

    class Budget(Progress):
        def on_batch_end(self, run):
            run.progress = (clock.now - 100) / 10
            super().on_batch_end(run)

        def on_train_end(self, run):
            run.history.stopped = "the time is over"
            super().on_train_end(run)

    play(Budget(2), clock, [record(n) for n in range(1, 51)], batches=1000, seconds=1000)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "50 epochs, about 10s on 2 threads"
    assert lines[-1] == "the time is over"


class Bar:
    def __init__(self):
        self.refreshed, self.stopped, self.task_ids, self.console, self.lines, self.state = 0, 0, [0], self, [], {}

    def start(self):
        pass

    def stop(self):
        self.stopped += 1

    def update(self, task, **state):
        self.state = state

    def refresh(self):
        self.refreshed += 1

    def print(self, line, **options):
        self.lines.append(line)


def test_the_bar_is_drawn_at_most_five_times_a_second(clock, monkeypatch, capsys):
    bar = Bar()
    monkeypatch.setattr(terminal, "is_live", lambda: True)
    monkeypatch.setattr(module, "_bar", lambda run: bar)
    play(Progress(2), clock, [record(n) for n in range(1, 6)], batches=1000, seconds=2.0)
    assert 40 <= bar.refreshed <= 51  # ten seconds
    assert bar.stopped == 1
    assert len(bar.lines) == 6
    assert bar.state["left"] in ("0.0s", "0.1s", "0.2s")
    assert bar.state["in_all"] == "10s"
    assert capsys.readouterr().out == ""


def test_the_bar_goes_away_when_training_fails(monkeypatch):
    bar = Bar()
    monkeypatch.setattr(terminal, "is_live", lambda: True)
    monkeypatch.setattr(module, "_bar", lambda run: bar)

    def interrupted():
        with Progress(1) as progress:
            progress.on_train_begin(Run(fc.Sequential(fc.Linear(1, 1)), fc.SGD(), 1, 1, 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert bar.stopped == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (59.7, "1m00s"), (200, "3m20s"), (7500, "2h05m")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("tty", "term", "no_color", "live"),
    [
        (True, "xterm", None, True),
        (False, "xterm", None, False),
        (True, "dumb", None, False),
        (True, "xterm", "1", False),
    ],
)
def test_where_lines_may_be_drawn_over(monkeypatch, tty, term, no_color, live):
    stream = io.StringIO()
    stream.isatty = lambda: tty
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", str(no_color))
    assert terminal.is_live() is live


TRAINING = """
import time
import numpy as np
import fastconv as fc
from fastconv.training.progress import Progress
class Slow(fc.Callback):
    def on_batch_end(self, run): time.sleep(0.1)
x = np.zeros((64, 1, 2, 2), np.uint8)
model = fc.Sequential(fc.Flatten(), fc.Linear(4, 2))
with Progress(1) as progress:
    callbacks = [Slow(), progress]
    model.fit(x, np.arange(64) % 2, epochs=2, batch_size=8, validation_split=0.2, callbacks=callbacks, verbose=False)
"""


def test_on_a_real_terminal_of_forty_columns():
    parent, child = pty.openpty()
    environment = dict(
        os.environ, COLUMNS="40", LINES="20", TERM="xterm", PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"
    )
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen([sys.executable, "-c", TRAINING], stdout=child, stderr=subprocess.PIPE, env=environment)
    os.close(child)
    shown = b""
    try:
        while piece := os.read(parent, 4096):
            shown += piece
    except OSError:  # how Linux says that the other end has been closed
        pass
    _, errors = process.communicate(timeout=60)
    os.close(parent)
    assert process.returncode == 0, errors.decode()
    assert errors == b""
    text = shown.decode()
    assert "epoch  train_loss  val_acc    time\r\n" in text
    assert "left" in text
    assert text.count("\x1b[?25h") >= 1  # the cursor is shown again
