"""``fastconv train``: from labelled images to a folder with a trained model, its figures and a submission."""

import argparse

import numpy as np

from fastconv import augment, data, terminal
from fastconv.commands.common import say_machine, use_threads
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
from fastconv.commands.labels import labels_of, load_labelled
from fastconv.commands.model_file import check_name, new_model
from fastconv.commands.report import after_training
from fastconv.commands.resume import check_same, has_ended, options_of
from fastconv.commands.train_ensemble import train_ensemble
from fastconv.data import Dataset
from fastconv.losses import CrossEntropyLoss
from fastconv.training import History
from fastconv.training.evaluation import evaluate_and_predict
from fastconv.training.metrics import confusion_matrix
from fastconv.training.normalize import normalization_of
from fastconv.training.recipes import recipe_for
from fastconv.training.room_for import check_room
from fastconv.training.run_folder import CHECKPOINT, CONFIG, METRICS, SUBMISSION, RunFolder, check_free

_LISTED = 10
"""How many missing classes are listed."""


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Read, check, train, keep, report."""
    begun = None if arguments.resume is None else RunFolder.reopen(arguments.resume)
    if begun is not None:
        arguments = options_of(begun, arguments)
        if has_ended(begun, arguments):
            return 0
    use_threads(arguments.threads)
    if arguments.out == "":
        raise UsageError("--out: expected a folder's name, got ''")
    if begun is None and arguments.out is not None:
        check_free(arguments.out)  # before the data are read, which may take a while
    try:
        job = _read(arguments)
    except data.DataError as error:
        if begun is None:
            raise
        raise data.DataError(
            f"{error} ({begun.file(CONFIG)} names it as seen from the folder where the run began: go there, or put it "
            "back)"
        ) from error
    if arguments.ensemble > 1:
        return train_ensemble(job, interrupts, begun)
    folder = begun
    try:
        if folder is None:
            with interrupts.held():  # a folder that is made, or removed, by half is no run
                folder = RunFolder(arguments.out)
                folder.write_json(CONFIG, config_of(job, folder))
        else:
            check_same(folder, job.dataset, job.test)
        say_job(job, folder)
        compile_job(job)
        history = fit_job(job, folder, interrupts)
    except Interrupted:
        if begun is None and folder is not None and not folder.has_trained():
            with interrupts.held():
                folder.discard()
        elif folder is not None:
            say_how_to_go_on(folder)
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
    _check_options(arguments)
    arguments = _completed(arguments)
    optimizer, schedule, ema = recipe_of(arguments)
    loss = CrossEntropyLoss(arguments.loss_smoothing)
    say_machine()
    dataset = load_labelled(arguments.data, arguments.size)
    labels = labels_of(dataset)
    _check_classes(dataset)
    model = new_model(arguments.model, dataset, arguments.seed)
    channels, *size = dataset.images.shape[1:]
    test = None
    if arguments.test is not None:
        test = data.load(arguments.test, size=(size[0], size[1]), channels=channels, part="test")
    if test is not None and test.images.shape[1:] != dataset.images.shape[1:]:
        raise UsageError(
            f"{test.source}: expected images of {_size(dataset)} as in {dataset.source}, got {_size(test)}; "
            "give test images of the same size"
        )
    if arguments.augment is True:
        arguments = with_options(arguments, augment=_preset_for(dataset))
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


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go together."""
    if arguments.warmup == 0 and arguments.schedule == "one-cycle":
        raise UsageError(
            "--warmup 0: expected more than 0 with --schedule one-cycle, which begins with a rise; give a little, such "
            "as --warmup 0.05, or --schedule cosine, which begins at the peak"
        )
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


def _completed(arguments: argparse.Namespace) -> argparse.Namespace:
    """Return the options with what the user left open."""
    recipe = recipe_for(arguments.model, augmented=arguments.augment is not None)._asdict()
    if arguments.optimizer != "sgd":
        del recipe["lr"], recipe["weight_decay"]
    still_open = {name: value for name, value in recipe.items() if getattr(arguments, name) is None}
    return with_options(arguments, **still_open)


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
    present = np.unique(dataset.labels) if dataset.labels is not None else np.arange(classes)
    if len(present) < 2:
        alone = terminal.count(len(dataset), "image")
        raise UsageError(
            f"{dataset.source}: expected at least two classes, got label {', '.join(map(str, present))} alone in "
            f"{alone}; add images of others"
        )
    if classes > len(dataset):
        raise UsageError(
            f"{dataset.source}: expected labels from 0 upwards without gaps, got label {classes - 1} in "
            f"{terminal.count(len(dataset), 'image')}; number the classes from 0"
        )
    missing = np.setdiff1d(np.arange(classes), present).tolist()
    if missing:
        listed = ", ".join(map(str, missing[:_LISTED])) + (" ..." if len(missing) > _LISTED else "")
        terminal.say(f"note   no image of {terminal.count(len(missing), 'class', 'classes')} below {classes}: {listed}")


def _size(dataset: Dataset) -> str:
    return "x".join(map(str, dataset.images.shape[1:]))


# ------------------------------------------------------------------------------------------------------- after training


def _finish(job: Job, folder: RunFolder, history: History, interrupts: Interrupts) -> Measured | None:
    """Write model, metrics and submission; return what became of the images held out, if any were."""
    folder.save(job.model)
    measured = _measure(job)
    folder.write_json(METRICS, metrics_of(measured, training_of(history, interrupts)))
    if job.test is not None and interrupts.exit_code is None:
        answers = job.model.predict(job.test.images, tta=job.arguments.tta, augment=job.arguments.augment)
        data.write_submission(folder.file(SUBMISSION), answers)
    return measured


def _measure(job: Job) -> Measured | None:
    if not len(job.held_out):
        return None
    images, labels = job.dataset.images[job.held_out], job.labels[job.held_out]
    if job.arguments.tta > 1:
        return by_probabilities(job, probabilities(job, images))
    figures, predicted = evaluate_and_predict(job.model, images, labels, loss=job.loss)
    return Measured(confusion_matrix(labels, predicted, job.dataset.num_classes), figures["loss"])


def _report(job: Job, folder: RunFolder, measured: Measured | None, interrupts: Interrupts) -> None:
    if interrupts.exit_code is not None:
        terminal.say(f"interrupted: what was best so far is kept in {folder.path}")
        say_how_to_go_on(folder)
    say_measured(job, "val accuracy", measured)
    if job.arguments.report:
        after_training(folder.path, job.model, job.dataset, job.train, job.held_out, interrupts)
    say_files(job, folder)
