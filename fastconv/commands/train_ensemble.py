"""``fastconv train --ensemble K``: models that differ in their seed, each in a folder of its own, that answer together.

The ensemble's folder holds its own ``config.json``, ``metrics.json`` and submission, a ``results.csv`` of one row a
model, and ``member-1``, ``member-2``, ..., which are folders as a single run leaves them.  Its ``metrics.json`` names
the models that belong to it, and is written anew after each: what has ended when the program does is an ensemble.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import data, terminal
from fastconv.commands.common import say_accuracy
from fastconv.commands.interrupts import Interrupted, Interrupts
from fastconv.commands.model_file import member, new_model
from fastconv.commands.report import after_training
from fastconv.commands.train import (
    Job,
    Measured,
    by_probabilities,
    compile_job,
    config_of,
    fit_job,
    metrics_of,
    probabilities,
    recipe_of,
    say_files,
    say_job,
    training_of,
    views_preset,
)
from fastconv.ensemble import Ensemble, mean_of
from fastconv.sequential import Sequential
from fastconv.training.run_folder import CONFIG, METRICS, MODEL, SUBMISSION, RunFolder, check_free

COLUMNS = {
    "member": "{:d}",
    "seed": "{:d}",
    "epochs": "{:d}",
    "train_seconds": "{:.3f}",
    "val_loss": "{:.6g}",
    "val_acc": "{:.6g}",
    "together_val_acc": "{:.6g}",
}
"""Of ``results.csv``; the last is the accuracy of all models so far."""


def train_ensemble(job: Job, interrupts: Interrupts) -> int:
    """Train, keep and report one model after the other, then all of them."""
    count = job.arguments.ensemble
    if job.arguments.out is not None:
        for number in range(1, count + 1):
            check_free(Path(job.arguments.out) / member(number))
    folder = RunFolder(job.arguments.out, COLUMNS)
    together = _Together(job, folder)
    try:
        folder.write_json(CONFIG, config_of(job, folder))
        say_job(job, folder)
        compile_job(job)
        for number in range(1, count + 1):
            if interrupts.exit_code is None:
                _train(_member_of(job, number), number, together, interrupts)
    except Interrupted:
        if not folder.file(member(1)).exists():
            folder.discard()
        raise
    if job.test is not None and interrupts.exit_code is None:
        ensemble = Ensemble(together.models)
        answers = ensemble.predict(job.test.images, tta=job.arguments.tta, augment=views_preset(job))
        data.write_submission(folder.file(SUBMISSION), answers)
    _report(job, folder, together, interrupts)
    return interrupts.exit_code or 0


def _member_of(job: Job, number: int) -> Job:
    """Return the job of one model: the first has the seed that the user named, and what that alone would have made."""
    seed, budget = job.arguments.seed + number - 1, job.arguments.time_budget
    changes = {
        "seed": seed,
        "ensemble": 1,
        "test": None,
        "time_budget": None if budget is None else budget / job.arguments.ensemble,
    }
    arguments = argparse.Namespace(**vars(job.arguments) | changes)
    model = new_model(arguments.model, job.dataset, seed)
    model.normalization = job.model.normalization
    optimizer, schedule, ema = recipe_of(arguments)
    return job._replace(arguments=arguments, model=model, optimizer=optimizer, schedule=schedule, ema=ema, test=None)


class _Together:
    """The models that belong to the ensemble so far, and what they make of the images held out."""

    def __init__(self, job: Job, folder: RunFolder) -> None:
        self.job, self.folder = job, folder
        self.models: list[Sequential] = []
        self.measured: Measured | None = None
        self._p: list[NDArray[np.floating]] = []
        self._rows: list[dict[str, Any]] = []

    def add(self, model: Sequential, row: dict[str, Any], p: NDArray[np.floating] | None) -> None:
        """Take in a model, with its figures and what it makes of the images held out, and write that down."""
        self.models.append(model)
        if p is not None:
            self._p.append(p)
            self.measured = by_probabilities(self.job, mean_of(self._p))
        self._rows.append(row)
        self.write(interrupted=False)
        self.folder.append(row | {"together_val_acc": None if self.measured is None else _accuracy(self.measured)})

    def write(self, interrupted: bool) -> None:
        """Write metrics.json."""
        members = [{"folder": member(row["member"]), **row} for row in self._rows]
        seconds = round(sum(row["train_seconds"] for row in self._rows), 3)
        training = {"members": members, "train_seconds": seconds, "interrupted": interrupted}
        self.folder.write_json(METRICS, metrics_of(self.measured, training))


def _accuracy(measured: Measured) -> float:
    return int(measured.matrix.trace()) / int(measured.matrix.sum())


def _train(job: Job, number: int, together: _Together, interrupts: Interrupts) -> None:
    """Train one model and keep it; it belongs to the ensemble if it is finished, or has no finished one before it."""
    terminal.say(f"member {number} of {together.job.arguments.ensemble}, seed {job.arguments.seed}")
    folder = RunFolder(together.folder.file(member(number)))
    try:
        folder.write_json(CONFIG, config_of(job, folder))
        history = fit_job(job, folder, interrupts)
    except Interrupted:
        if not folder.file(MODEL).exists():
            folder.discard()
        raise
    finished = len(history) == job.arguments.epochs or history.stopped is not None
    folder.save(job.model)
    p = probabilities(job, job.dataset.images[job.held_out]) if len(job.held_out) else None
    measured, training = None if p is None else by_probabilities(job, p), training_of(history, interrupts)
    training["interrupted"] = not finished
    folder.write_json(METRICS, metrics_of(measured, training))
    if job.arguments.report and interrupts.exit_code is None:
        after_training(folder.path, job.model, job.dataset, job.train, job.held_out, interrupts)
    if finished or not together.models:
        row = {"member": number, "seed": job.arguments.seed, "train_seconds": round(history.seconds, 3), **training}
        row |= {"val_loss": measured and measured.loss, "val_acc": measured and _accuracy(measured)}
        together.add(job.model, row, p)
        if measured is not None and together.measured is not None:
            so_far = f", {_accuracy(together.measured):.4f} together" if number > 1 else ""
            terminal.say(f"member {number}: val accuracy {_accuracy(measured):.4f}{so_far}")


def _report(job: Job, folder: RunFolder, together: _Together, interrupts: Interrupts) -> None:
    models = terminal.count(len(together.models), "model")
    if interrupts.exit_code is not None:
        together.write(interrupted=True)
        terminal.say(f"interrupted: {models} of {job.arguments.ensemble} kept in {folder.path}")
    if together.measured is None:
        terminal.say("no validation (--val 0): the last weights are kept")
    else:
        views = f" with {job.arguments.tta} views" if job.arguments.tta > 1 else ""
        say_accuracy(f"val accuracy of {models}{views}", together.measured.matrix)
    say_files(job, folder)
