"""A job: all that a run of ``fastconv train`` is made of, and what is done with it for one model or several."""

import argparse
import warnings
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv import optim, schedules, terminal
from fastconv.augment import Augment
from fastconv.averaging import EMA
from fastconv.commands.common import CompilingNotice, images_of, quoted, say_accuracy
from fastconv.commands.interrupts import Interrupts
from fastconv.commands.machine import describe_machine
from fastconv.commands.warmup import compile_kernels
from fastconv.data import Dataset
from fastconv.losses import Loss
from fastconv.optim import Optimizer
from fastconv.plots.names import class_names
from fastconv.schedules import Schedule
from fastconv.sequential import Sequential
from fastconv.training import Callback, Checkpoint, EarlyStopping, History, KeepBest, TimeBudget, TrainingError, fit
from fastconv.training.callbacks import Run
from fastconv.training.evaluation import BATCH, of_probabilities
from fastconv.training.metrics import balanced_accuracy, confusion_matrix, macro_f1, per_class, wilson_interval
from fastconv.training.progress import Progress
from fastconv.training.run_folder import CHECKPOINT, MODEL, SUBMISSION, Recorder, RunFolder
from fastconv_kernels.runtime import get_num_threads


class Job(NamedTuple):
    """All that a run is made of, checked."""

    arguments: argparse.Namespace
    model: Sequential
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    ema: EMA | None
    dataset: Dataset
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    test: Dataset | None
    augment: Augment | None
    split_seed: int
    """What the images held out follow from: the same ones for all models of an ensemble."""


class Measured(NamedTuple):
    """What a model, or several, made of the images held out."""

    matrix: NDArray[np.int64]
    """The confusion matrix."""
    loss: float


def with_options(arguments: argparse.Namespace, **changes: Any) -> argparse.Namespace:
    """Return options of which some are others."""
    return argparse.Namespace(**vars(arguments) | changes)


def recipe_of(arguments: argparse.Namespace) -> tuple[Optimizer, Schedule, EMA | None]:
    """Return what remembers its steps, and is thus made anew for each model."""
    how = arguments.lr, arguments.weight_decay, arguments.decay, arguments.clip
    ema = EMA(arguments.ema) if arguments.ema else None
    return optim.by_name(arguments.optimizer, *how), schedules.by_name(arguments.schedule, arguments.warmup), ema


def config_of(job: Job, folder: RunFolder) -> dict[str, Any]:
    """Return what another person needs to repeat the run."""
    options = vars(job.arguments) | {"lr": job.optimizer.lr, "threads": get_num_threads(), "out": str(folder.path)}
    options["weight_decay"] = job.optimizer.weight_decay
    return {
        **describe_machine(),
        "options": options,
        "optimizer": job.optimizer.config(),
        "parameters": sum(parameter.size for parameter in job.model.parameters()),
        "normalization": job.model.normalization.checked()._asdict(),
        "augment": job.augment and asdict(job.augment),
        "data": {
            "source": job.dataset.source,
            "sha256": job.dataset.sha256(),
            "image_shape": list(job.dataset.images.shape[1:]),
            "classes": job.dataset.num_classes,
            "class_names": job.dataset.classes,
            "train": len(job.train),
            "validation": len(job.held_out),
            "split_seed": job.split_seed,
        },
        "test": job.test and {"source": job.test.source, "sha256": job.test.sha256(), "images": len(job.test)},
    }


def say_job(job: Job, folder: RunFolder) -> None:
    """Say what is trained on what, and where it is kept."""
    parts = f"{len(job.train):,} train / {len(job.held_out):,} validation, {job.dataset.num_classes} classes"
    augmented = f", augmented as {job.arguments.augment}" if job.augment else ""
    terminal.say(f"data   {job.dataset.source}: {parts}{augmented}")
    if job.test is not None:
        terminal.say(f"test   {images_of(job.test)}")
    parameters = job.model.parameters()
    size = sum(parameter.value.nbytes for parameter in parameters) / 1024
    terminal.say(f"model  {job.arguments.model}, {sum(p.size for p in parameters):,} parameters ({size:,.0f} KB)")
    terminal.say(f"run    {folder.path}{', which goes on' if folder.resumed else ''}")


def say_how_to_go_on(folder: RunFolder) -> None:
    """Say what resumes a run that was interrupted."""
    terminal.say(f"go on  {quoted('fastconv', 'train', '--resume', folder.path)}", wrap=False)


def compile_job(job: Job) -> None:
    """Compile what the run needs before its clock starts."""
    shape, step, n = job.dataset.images.shape[1:], job.arguments.batch_size, len(job.train)
    predicted = [size for part in (job.held_out, job.test or ()) for size in (min(BATCH, len(part)), len(part) % BATCH)]
    with CompilingNotice():
        trained = min(step, n), n % step
        compile_kernels(job.model, shape, job.optimizer, trained, predicted, job.loss, job.ema, job.augment)
        is_drawn = job.arguments.report and len(job.held_out) and find_spec("matplotlib") is not None
        if job.arguments.tta > 1 or job.arguments.ensemble > 1 or is_drawn:
            probabilities(job, job.dataset.images[:BATCH])


# ------------------------------------------------------------------------------------------------------------- training


class _StopInOrder(Callback):
    """Lets the first Ctrl-C end training after the current batch."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def on_train_begin(self, run: Run) -> None:
        """From here on there is something to keep."""

        def stop() -> None:
            run.stop = True

        self._interrupts.stop_with(stop)
        if self._interrupts.exit_code is not None:  # it came when another model of an ensemble had been trained
            stop()


class _Checkpoint(Checkpoint):
    """A run's checkpoint, for want of which no training ends: its first failure is told."""

    told = False

    def failed(self, error: OSError) -> None:
        """Warn, once."""
        if not self.told:
            reason = error.strerror or error
            warnings.warn(
                f"{self.path}: {reason}: training goes on, and cannot be resumed from here on",
                stacklevel=2,
            )
        self.told = True


def fit_job(job: Job, folder: RunFolder, interrupts: Interrupts) -> History:
    """Train the job's model and record it in the folder; the first Ctrl-C ends it in order."""
    patience, budget = job.arguments.early_stop, job.arguments.time_budget
    best = KeepBest() if patience is None else EarlyStopping(patience, "val_acc")
    callbacks: list[Callback] = [_StopInOrder(interrupts), best, Recorder(folder, best)]
    if budget is not None:
        callbacks.append(TimeBudget(budget))
    try:
        with Progress(get_num_threads()) as progress:
            return fit(
                job.model,
                job.dataset.images,
                job.labels,
                epochs=job.arguments.epochs,
                batch_size=job.arguments.batch_size,
                loss=job.loss,
                optimizer=job.optimizer,
                schedule=job.schedule,
                validation_split=job.arguments.val,
                seed=job.arguments.seed,
                ema=job.ema,
                callbacks=[*callbacks, progress],
                verbose=False,
                augment=job.augment,
                stratify=job.arguments.stratify,
                split_seed=job.split_seed,
                checkpoint=_Checkpoint(folder.file(CHECKPOINT), job.arguments.checkpoint_every),
                resume=folder.resumed,
            )
    except TrainingError as error:
        kept = f"no epoch had ended, so that there is no model in {folder.path}"
        if best.record is not None:
            kept = f"the best model before it, of epoch {best.record['epoch']}, is in {folder.path}"
        elif folder.file(MODEL).exists():
            kept = f"the model of the epoch before is in {folder.path}"
        error.args = (f"{error}; {kept}",)
        raise


def probabilities(job: Job, images: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Return those of the job's model."""
    return job.model.predict_proba(images, tta=job.arguments.tta, augment=job.arguments.augment)


def by_probabilities(job: Job, p: NDArray[np.floating]) -> Measured:
    """Return what was made of the images held out, from their probabilities."""
    labels = job.labels[job.held_out]
    matrix = confusion_matrix(labels, p.argmax(axis=1), job.dataset.num_classes)
    return Measured(matrix, of_probabilities(p, labels, job.loss)["loss"])


def training_of(history: History, interrupts: Interrupts) -> dict[str, Any]:
    """Return the figures of one model's training for metrics.json."""
    best = history.best
    return {
        "epochs": len(history),
        "best_epoch": best and best["epoch"],
        "stopped": history.stopped,
        "interrupted": interrupts.exit_code is not None,
    }


def metrics_of(measured: Measured | None, training: dict[str, Any]) -> dict[str, Any]:
    """Return what metrics.json holds: figures of the images held out, around those of training."""
    matrix = None if measured is None else measured.matrix
    return {
        "val_accuracy": None if matrix is None else int(matrix.trace()) / int(matrix.sum()),
        "interval95": None if matrix is None else wilson_interval(int(matrix.trace()), int(matrix.sum())),
        "balanced_accuracy": None if matrix is None else balanced_accuracy(matrix),
        "macro_f1": None if matrix is None else macro_f1(matrix),
        "val_loss": None if measured is None else measured.loss,
        **training,
        "per_class": None if matrix is None else per_class(matrix),
        "confusion_matrix": None if matrix is None else matrix.tolist(),
    }


def say_measured(job: Job, what: str, measured: Measured | None) -> None:
    """Say what became of the images held out, if there are any."""
    if measured is None:
        terminal.say("no validation (--val 0): the last weights are kept")
    else:
        views = f" with {job.arguments.tta} views" if job.arguments.tta > 1 else ""
        names = class_names("train", job.dataset.classes, job.dataset.num_classes)
        say_accuracy(f"{what}{views}", measured.matrix, names)


def say_files(job: Job, folder: RunFolder) -> None:
    """Say where the submission is, or how to get one."""
    submission = folder.file(SUBMISSION)
    if submission.exists() and job.test is not None:
        terminal.say(f"wrote  {submission}: {terminal.count(len(job.test), 'row')}")
    else:
        terminal.say(f"run    {folder.path}")
        test = job.arguments.test or "test.csv"
        views = ("--tta", str(job.arguments.tta)) if job.arguments.tta > 1 else ()
        terminal.say(f"next   {quoted('fastconv', 'predict', folder.path, test, '-o', SUBMISSION, *views)}", wrap=False)
