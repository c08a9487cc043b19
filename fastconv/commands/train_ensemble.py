"""``fastconv train --ensemble K``: models that differ in their seed, each in a folder of its own, that answer together.

The ensemble's folder holds its own ``config.json``, ``metrics.json`` and submission, a ``results.csv`` of one row a
model, and ``member-1``, ``member-2``, ..., which are folders as a single run leaves them.  Its ``metrics.json`` names
the models that belong to it, and is written anew after each: what has ended when the program does is an ensemble.
``--resume`` takes in the models that have ended, goes on with the one that has not, and trains those that are missing.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import atomic, data, io, terminal
from fastconv.commands.errors import UsageError
from fastconv.commands.interrupts import Interrupted, Interrupts
from fastconv.commands.job import (
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
    say_how_to_go_on,
    say_job,
    say_measured,
    training_of,
    with_options,
)
from fastconv.commands.model_file import member, new_model
from fastconv.commands.report import after_training
from fastconv.commands.resume import check_same, is_trained
from fastconv.commands.run_config import read_json
from fastconv.ensemble import Ensemble, mean_of
from fastconv.sequential import Sequential
from fastconv.training.run_folder import (
    CHECKPOINT,
    CONFIG,
    METRICS,
    MODEL,
    RESULTS,
    SUBMISSION,
    TIMING,
    RunFolder,
    check_free,
)

COLUMNS = {
    "member": "{:d}",
    "seed": "{:d}",
    "epochs": "{:d}",
    "val_loss": "{:.6g}",
    "val_acc": "{:.6g}",
    "together_val_acc": "{:.6g}",
}
"""Of ``results.csv``; the last is the accuracy of all models so far."""


_TRAINING = ("epochs", "best_epoch", "stopped", "interrupted")
"""What a model's own ``metrics.json`` says of its training, and the ensemble's repeats."""


def train_ensemble(job: Job, interrupts: Interrupts, begun: RunFolder | None) -> int:
    """Train, keep and report one model after the other, then all of them; go on in ``begun`` if there is one."""
    count = job.arguments.ensemble
    if begun is None and job.arguments.out is not None:
        for number in range(1, count + 1):
            check_free(Path(job.arguments.out) / member(number))
    folder = begun
    try:
        if folder is None:
            with interrupts.held():
                folder = RunFolder(job.arguments.out, COLUMNS)
                folder.write_json(CONFIG, config_of(job, folder))
        else:
            check_same(folder, job.dataset, job.test)
            folder.hold(COLUMNS)
        together = _Together(job, folder)
        say_job(job, folder)
        compile_job(job)
        first = 1 if begun is None else together.restore() + 1
        for number in range(first, count + 1):
            if interrupts.exit_code is None:
                _train(_member_of(job, number), number, together, interrupts)
    except Interrupted:
        if begun is None and folder is not None and not folder.file(member(1)).exists():
            with interrupts.held():
                folder.discard()
        elif folder is not None:
            say_how_to_go_on(folder)
        raise
    if job.test is not None and interrupts.exit_code is None:
        ensemble = Ensemble(together.models)
        answers = ensemble.predict(job.test.images, tta=job.arguments.tta, augment=job.arguments.augment)
        data.write_submission(folder.file(SUBMISSION), answers)
    _report(job, folder, together, interrupts)
    return interrupts.exit_code or 0


def _member_of(job: Job, number: int) -> Job:
    """Return the job of one model: the first has the seed that the user named, and what that alone would have made."""
    seed, budget = job.arguments.seed + number - 1, job.arguments.time_budget
    each = None if budget is None else budget / job.arguments.ensemble
    arguments = with_options(job.arguments, seed=seed, ensemble=1, test=None, time_budget=each)
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
        self._members: list[dict[str, Any]] = []
        self._rows: list[dict[str, Any]] = []

    def add(
        self, job: Job, number: int, training: dict[str, Any], measured: Measured | None, p: NDArray[np.floating] | None
    ) -> None:
        """Take in a job's model, with its figures and what it makes of the images held out, and write that down."""
        self._take(job, number, training, measured, p)
        self.folder.append(self._rows[-1])
        self.write(interrupted=False)

    def restore(self) -> int:
        """Take in the models that other processes have finished, write them down, and return how many they are."""
        for number in range(1, self.job.arguments.ensemble + 1):
            path = self.folder.file(member(number))
            if not is_trained(path):
                break
            job = _member_of(self.job, number)._replace(model=io.load(path / MODEL))
            try:
                metrics = read_json(path / METRICS)
                training = {name: metrics[name] for name in _TRAINING}
            except (KeyError, TypeError) as error:
                raise UsageError(f"{path / METRICS}: the file is damaged, or no run's {METRICS} ({error})") from error
            self._take(job, number, training, *_measured(job))
        self.folder.rewrite(self._rows)
        if self._rows:
            self.write(interrupted=False)
        return len(self._rows)

    def _take(
        self, job: Job, number: int, training: dict[str, Any], measured: Measured | None, p: NDArray[np.floating] | None
    ) -> None:
        self.models.append(job.model)
        if p is not None:
            self._p.append(p)
            self.measured = by_probabilities(self.job, mean_of(self._p))
        row = {"member": number, "seed": job.arguments.seed, **training}
        row |= {"val_loss": measured and measured.loss, "val_acc": measured and _accuracy(measured)}
        self._members.append({"folder": member(number), **row})
        self._rows.append(row | {"together_val_acc": self.measured and _accuracy(self.measured)})

    def write(self, interrupted: bool) -> None:
        """Write metrics.json."""
        training = {"members": self._members, "interrupted": interrupted}
        self.folder.write_json(METRICS, metrics_of(self.measured, training))


def _accuracy(measured: Measured) -> float:
    return int(measured.matrix.trace()) / int(measured.matrix.sum())


def _measured(job: Job) -> tuple[Measured | None, NDArray[np.floating] | None]:
    """Return what a job's model makes of the images held out, and its probabilities."""
    p = probabilities(job, job.dataset.images[job.held_out]) if len(job.held_out) else None
    return (None if p is None else by_probabilities(job, p)), p


def _folder(path: Path, resumed: bool) -> RunFolder:
    """Return the folder of one model; that of a process that was killed at work on it, where ``resumed``."""
    if resumed and (path / CONFIG).exists():
        return RunFolder.reopen(path)
    if resumed:
        for name in (RESULTS, TIMING):  # killed before there was anything to go on with
            (path / name).unlink(missing_ok=True)
        if path.exists():
            atomic.sweep(path)
    return RunFolder(path)


def _train(job: Job, number: int, together: _Together, interrupts: Interrupts) -> None:
    """Train one model and keep it; it belongs to the ensemble if it is finished, or has no finished one before it."""
    terminal.say(f"member {number} of {together.job.arguments.ensemble}, seed {job.arguments.seed}")
    folder = None
    try:
        with interrupts.held():
            folder = _folder(together.folder.file(member(number)), together.folder.resumed)
            if not folder.resumed:
                folder.write_json(CONFIG, config_of(job, folder))
        history = fit_job(job, folder, interrupts)
    except Interrupted:
        if folder is not None and not folder.resumed and not folder.has_trained():
            with interrupts.held():
                folder.discard()
        raise
    finished = len(history) == job.arguments.epochs or history.stopped is not None
    folder.save(job.model)
    measured, p = _measured(job)
    training = training_of(history, interrupts) | {"interrupted": not finished}
    folder.write_json(METRICS, metrics_of(measured, training))
    if finished:
        folder.file(CHECKPOINT).unlink(missing_ok=True)
    if job.arguments.report and interrupts.exit_code is None:
        after_training(folder.path, job.model, job.dataset, job.train, job.held_out, interrupts)
    if finished or not together.models:
        together.add(job, number, training, measured, p)
        if measured is not None and together.measured is not None:
            so_far = f", {_accuracy(together.measured):.4f} together" if number > 1 else ""
            terminal.say(f"member {number}: val accuracy {_accuracy(measured):.4f}{so_far}")


def _report(job: Job, folder: RunFolder, together: _Together, interrupts: Interrupts) -> None:
    models = terminal.count(len(together.models), "model")
    if interrupts.exit_code is not None:
        together.write(interrupted=True)
        terminal.say(f"interrupted: {models} of {job.arguments.ensemble} kept in {folder.path}")
        say_how_to_go_on(folder)
    say_measured(job, f"val accuracy of {models}", together.measured)
    say_files(job, folder)
