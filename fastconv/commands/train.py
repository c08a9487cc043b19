"""``fastconv train``: from labelled images to a folder with a trained model, its figures and a submission."""

import argparse
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv import augment, data, optim, schedules, terminal
from fastconv.augment import Augment
from fastconv.averaging import EMA
from fastconv.commands.common import CompilingNotice, quoted, say_accuracy, say_machine, use_threads
from fastconv.commands.errors import UsageError
from fastconv.commands.interrupts import Interrupted, Interrupts
from fastconv.commands.labels import labels_of, load_labelled
from fastconv.commands.machine import describe_machine
from fastconv.commands.model_file import check_name, new_model
from fastconv.commands.report import after_training
from fastconv.commands.resume import check_same, has_ended, options_of
from fastconv.commands.warmup import compile_kernels
from fastconv.data import Dataset
from fastconv.losses import CrossEntropyLoss, Loss
from fastconv.optim import Optimizer
from fastconv.schedules import Schedule
from fastconv.sequential import Sequential
from fastconv.training import (
    Callback,
    Checkpoint,
    EarlyStopping,
    History,
    KeepBest,
    TimeBudget,
    TrainingError,
    evaluate,
    fit,
)
from fastconv.training.callbacks import Run
from fastconv.training.evaluation import BATCH, of_probabilities
from fastconv.training.metrics import balanced_accuracy, confusion_matrix, macro_f1, per_class, wilson_interval
from fastconv.training.normalize import normalization_of
from fastconv.training.progress import Progress
from fastconv.training.recipes import recipe_for
from fastconv.training.room_for import check_room
from fastconv.training.run_folder import (
    CHECKPOINT,
    CONFIG,
    METRICS,
    MODEL,
    SUBMISSION,
    Recorder,
    RunFolder,
    check_free,
)
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


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Read, check, train, keep, report."""
    begun = None if arguments.resume is None else RunFolder.reopen(arguments.resume)
    if begun is not None:
        arguments = options_of(begun, arguments)
        if has_ended(begun, arguments):
            return 0
    use_threads(arguments.threads)
    if begun is None and arguments.out is not None:
        check_free(arguments.out)  # before the data are read, which may take a while
    job = _read(arguments)
    if arguments.ensemble > 1:
        from fastconv.commands.train_ensemble import train_ensemble  # which is made of what stands here

        return train_ensemble(job, interrupts, begun)
    folder = begun or RunFolder(arguments.out)
    try:
        if begun is None:
            folder.write_json(CONFIG, config_of(job, folder))
        else:
            check_same(begun, job.dataset, job.test)
        say_job(job, folder)
        compile_job(job)
        history = fit_job(job, folder, interrupts, Checkpoint(folder.file(CHECKPOINT), arguments.checkpoint_every))
    except Interrupted:
        if begun is None and not any(folder.file(name).exists() for name in (MODEL, CHECKPOINT)):
            folder.discard()
        raise
    measured = _finish(job, folder, history, interrupts)
    if interrupts.exit_code is None:
        folder.file(CHECKPOINT).unlink(missing_ok=True)  # only now: until then, --resume ends what is left to do
    _report(job, folder, measured, interrupts)
    return interrupts.exit_code or 0


# ------------------------------------------------------------------------------------------------------ before training


def _read(arguments: argparse.Namespace) -> Job:
    """Read all files and check that everything fits together."""
    check_name(arguments.model)
    _complete(arguments)
    optimizer, schedule, ema = recipe_of(arguments)
    loss = CrossEntropyLoss(arguments.loss_smoothing)
    if arguments.tta > 1 and arguments.augment is None:
        raise UsageError(f"--tta {arguments.tta}: expected --augment with it, whose milder form the views undergo")
    measuring = {
        "--early-stop": arguments.early_stop,
        "--schedule plateau": arguments.schedule == "plateau",
        "--stratify": arguments.stratify,
    }
    for option, given in measuring.items():
        if given and not arguments.val:
            raise UsageError(f"{option}: expected images to measure on, got --val 0; hold some out, such as --val 0.1")
    say_machine()
    dataset = load_labelled(arguments.data, arguments.size)
    labels = labels_of(dataset)
    _check_classes(dataset)
    model = new_model(arguments.model, dataset, arguments.seed)
    channels, *size = dataset.images.shape[1:]
    test = None
    if arguments.test is not None:
        test = data.load(arguments.test, size=(size[0], size[1]), channels=channels)
    if test is not None and test.images.shape[1:] != dataset.images.shape[1:]:
        raise UsageError(
            f"{test.source}: expected images of {_size(dataset)} as in {dataset.source}, got {_size(test)}; "
            "give test images of the same size"
        )
    arguments.augment = _preset_for(dataset) if arguments.augment is True else arguments.augment
    options = augment.chosen("train", arguments.augment)
    train, held_out = data.split(len(dataset), arguments.val, arguments.seed, labels if arguments.stratify else None)
    model.normalization = normalization_of(dataset.images, train)
    shape, step = dataset.images.shape[1:], arguments.batch_size
    check_room("train", model, shape, len(train), len(held_out), step, optimizer, ema)
    return Job(
        arguments,
        model,
        loss,
        optimizer,
        schedule,
        ema,
        dataset,
        labels,
        train,
        held_out,
        test,
        options,
        arguments.seed,
    )


def _complete(arguments: argparse.Namespace) -> None:
    """Fill in what the options leave open."""
    recipe = recipe_for(arguments.model, augmented=arguments.augment is not None)._asdict()
    if arguments.optimizer != "sgd":
        del recipe["lr"], recipe["weight_decay"]
    for name, value in recipe.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


def recipe_of(arguments: argparse.Namespace) -> tuple[Optimizer, Schedule, EMA | None]:
    """Return what remembers its steps, and is thus made anew for each model."""
    how = arguments.lr, arguments.weight_decay, arguments.decay, arguments.clip
    ema = EMA(arguments.ema) if arguments.ema else None
    return optim.by_name(arguments.optimizer, *how), schedules.by_name(arguments.schedule, arguments.warmup), ema


def _preset_for(dataset: Dataset) -> str:
    """Return the preset that ``--augment`` alone means."""
    channels, *size = dataset.images.shape[1:]
    if channels == 3:
        return "cifar"
    if (channels, size) == (1, [28, 28]):
        return "digits"
    raise UsageError(
        f"--augment: expected a preset for images of {_size(dataset)}, one of {', '.join(augment.PRESETS)}; write "
        "--augment digits, for example"
    )


def _check_classes(dataset: Dataset) -> None:
    classes = dataset.num_classes
    if classes < 2:
        raise UsageError(f"{dataset.source}: expected at least two classes, got label 0 alone; add images of others")
    if classes > len(dataset):
        raise UsageError(
            f"{dataset.source}: expected labels from 0 upwards without gaps, got label {classes - 1} in "
            f"{terminal.count(len(dataset), 'image')}; number the classes from 0"
        )


def _size(dataset: Dataset) -> str:
    return "x".join(map(str, dataset.images.shape[1:]))


def config_of(job: Job, folder: RunFolder) -> dict[str, Any]:
    """Return what another person needs to repeat the run."""
    optimizer = {name: value for name, value in vars(job.optimizer).items() if not name.startswith("_")}
    options = vars(job.arguments) | {"lr": job.optimizer.lr, "threads": get_num_threads(), "out": str(folder.path)}
    options["weight_decay"] = job.optimizer.weight_decay
    return {
        **describe_machine(),
        "options": options,
        "optimizer": {name: value for name, value in optimizer.items() if name != "steps"},
        "parameters": sum(parameter.size for parameter in job.model.parameters()),
        "normalization": job.model.normalization._asdict(),
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
    parameters = job.model.parameters()
    size = sum(parameter.value.nbytes for parameter in parameters) / 1024
    terminal.say(f"model  {job.arguments.model}, {sum(p.size for p in parameters):,} parameters ({size:,.0f} KB)")
    terminal.say(f"run    {folder.path}{', which goes on' if folder.resumed else ''}")


def compile_job(job: Job) -> None:
    """Compile what the run needs before its clock starts."""
    shape, step, n = job.dataset.images.shape[1:], job.arguments.batch_size, len(job.train)
    predicted = [size for part in (job.held_out, job.test or ()) for size in (min(BATCH, len(part)), len(part) % BATCH)]
    with CompilingNotice():
        trained = min(step, n), n % step
        compile_kernels(job.model, shape, job.optimizer, trained, predicted, job.loss, job.ema, job.augment)
        if job.arguments.tta > 1 or job.arguments.ensemble > 1:
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


def fit_job(job: Job, folder: RunFolder, interrupts: Interrupts, checkpoint: Checkpoint | None = None) -> History:
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
                checkpoint=checkpoint,
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


# ------------------------------------------------------------------------------------------------------- after training


def _finish(job: Job, folder: RunFolder, history: History, interrupts: Interrupts) -> Measured | None:
    """Write model, metrics and submission; return what became of the images held out, if any were."""
    folder.save(job.model)
    measured = _measure(job)
    folder.write_json(METRICS, metrics_of(measured, training_of(history, interrupts)))
    if job.test is not None and interrupts.exit_code is None:
        answers = job.model.predict(job.test.images, tta=job.arguments.tta, augment=views_preset(job))
        data.write_submission(folder.file(SUBMISSION), answers)
    return measured


def _measure(job: Job) -> Measured | None:
    if not len(job.held_out):
        return None
    images, labels = job.dataset.images[job.held_out], job.labels[job.held_out]
    if job.arguments.tta > 1:
        return by_probabilities(job, probabilities(job, images))
    matrix = confusion_matrix(labels, job.model.predict(images), job.dataset.num_classes)
    return Measured(matrix, evaluate(job.model, images, labels, loss=job.loss)["loss"])


def views_preset(job: Job) -> str | None:
    """Return the preset of the views, if there are any."""
    return job.arguments.augment if job.arguments.tta > 1 else None


def probabilities(job: Job, images: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Return those of the job's model."""
    return job.model.predict_proba(images, tta=job.arguments.tta, augment=views_preset(job))


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


def _report(job: Job, folder: RunFolder, measured: Measured | None, interrupts: Interrupts) -> None:
    if interrupts.exit_code is not None:
        terminal.say(f"interrupted: what was best so far is kept in {folder.path}")
        terminal.say(f"go on  {quoted('fastconv', 'train', '--resume', folder.path)}", wrap=False)
    if measured is None:
        terminal.say("no validation (--val 0): the last weights are kept")
    else:
        views = f" with {job.arguments.tta} views" if job.arguments.tta > 1 else ""
        say_accuracy(f"val accuracy{views}", measured.matrix)
    if job.arguments.report:
        after_training(folder.path, job.model, job.dataset, job.train, job.held_out, interrupts)
    say_files(job, folder)


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
