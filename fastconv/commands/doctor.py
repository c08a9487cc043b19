"""``fastconv doctor``: what is wrong with the machine, the data, the model, the learning rate, each with its remedy."""

import argparse
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from fastconv import data, optim, terminal
from fastconv.checkup import Finding, Report, doctor
from fastconv.commands.common import CompilingNotice, images_of, use_threads
from fastconv.commands.errors import UsageError
from fastconv.commands.interrupts import Interrupts
from fastconv.commands.labels import labels_of, numbered_as_in
from fastconv.commands.model_file import Found, check_name, find, new_model
from fastconv.commands.run_config import difference, load_again, read_config
from fastconv.data import DataError, Dataset
from fastconv.losses import CrossEntropyLoss
from fastconv.optim import Optimizer
from fastconv.sequential import Sequential
from fastconv.training import History
from fastconv.training.normalize import normalization_of
from fastconv.training.run_folder import CONFIG, MODEL, RESULTS, TIMING, RunFolderError, read_results

_OPTIMIZER = "sgd"


class _Patient(NamedTuple):
    """What is to be looked at."""

    model: Sequential | None = None
    dataset: Dataset | None = None
    test: Dataset | None = None
    optimizer: Optimizer | str = _OPTIMIZER
    batch_size: int = 64
    smoothing: float = 0.0
    records: History | None = None
    found: tuple[Finding, ...] = ()
    """What was noticed while all this was read."""


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Show the findings, and how long they took from the reading of files on; 1 if one is a fault."""
    begin = perf_counter()
    use_threads(arguments.threads)
    patient = _patient(arguments)
    dataset, test = patient.dataset, patient.test
    with nullcontext() if arguments.json else CompilingNotice():
        report = doctor(
            None if dataset is None else patient.model,
            None if dataset is None else dataset.images,
            None if dataset is None else labels_of(dataset),
            x_test=None if test is None else test.images,
            loss=CrossEntropyLoss(patient.smoothing),
            optimizer=patient.optimizer,
            batch_size=patient.batch_size,
            records=patient.records,
            seed=arguments.seed,
        )
    report = Report([*report, *patient.found])
    shown = report.to_json() if arguments.json else f"{report}, in {perf_counter() - begin:.1f} s"
    terminal.say(shown, wrap=False)
    return 1 if report.faults else 0


def _patient(arguments: argparse.Namespace) -> _Patient:
    named = arguments.data
    if named is not None and _is_run(Path(named)):
        if arguments.model is not None:
            raise UsageError(f"--model: expected none beside {named}, which is a run and holds its own")
        return _of_run(arguments)
    if arguments.model is None:
        if named is not None:
            raise UsageError(f"{named}: no run; to look at data, say with --model what is to be trained on them")
        if arguments.test is not None:
            raise UsageError("--test: expected a run, or data and --model, to compare it with")
        return _Patient()
    check_name(arguments.model)
    optimizer = optim.by_name(arguments.optimizer or _OPTIMIZER, arguments.lr)
    dataset = data.load(named)
    labels_of(dataset)
    model = new_model(arguments.model, dataset, arguments.seed)
    model.normalization = normalization_of(dataset.images, np.arange(len(dataset)))
    test = _test(arguments.test, dataset)
    return _Patient(model, dataset, test, optimizer, found=(*_read("data", dataset), *_read("test", test)))


def _is_run(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).exists() for name in (MODEL, CONFIG))
    return path.suffix == ".safetensors"


def _test(path: str | None, dataset: Dataset) -> Dataset | None:
    """Return the test images; they may have any size, which is one of the things to find out."""
    return None if path is None else data.load(path, channels=dataset.images.shape[1], part="test")


def _read(name: str, dataset: Dataset | None) -> list[Finding]:
    """Return what images were read, which may be a part of what was named; nothing if none were."""
    return [] if dataset is None else [Finding(name, "ok", images_of(dataset))]


# -------------------------------------------------------------------------------------------------------------- a run


def _of_run(arguments: argparse.Namespace) -> _Patient:
    found = find(arguments.data)
    folder = Path(arguments.data)
    folder = folder if folder.is_dir() else folder.parent
    config = _config(folder / CONFIG)
    options: dict[str, Any] = config.get("options", {})
    notes: list[Finding] = []
    its_own = options.get("optimizer", _OPTIMIZER)
    name = arguments.optimizer or its_own
    how = options if name == its_own else {}  # the run's rate is none for another optimizer
    optimizer = optim.by_name(name, arguments.lr or how.get("lr"), how.get("weight_decay"))
    dataset = _dataset(found, config, options, notes)
    test = None
    if dataset is not None:
        try:
            test = _test(arguments.test or options.get("test"), dataset)
            notes.extend(_read("test", test))
        except (DataError, OSError) as error:
            if arguments.test is not None:
                raise
            notes.append(Finding("test", "note", f"{error}", "name the images with --test"))
    return _Patient(
        found.model,
        dataset,
        test,
        optimizer,
        options.get("batch_size", 64),
        options.get("loss_smoothing", 0.0),
        _records(folder / RESULTS),
        tuple(notes),
    )


def _config(path: Path) -> dict[str, Any]:
    """Return what a run has recorded; nothing for a model file without its folder."""
    if not path.exists():
        return {}
    try:
        return read_config(path, "options", "data")
    except UsageError as error:
        raise UsageError(f"{error}; give the data with --model in place of the run") from error


def _dataset(found: Found, config: dict[str, Any], options: dict[str, Any], notes: list[Finding]) -> Dataset | None:
    """Read the data of the run again; None if they are not there any more, with a note."""
    if not config:
        notes.append(
            Finding("data", "note", "no config.json beside the model: what it was trained on is not known", "")
        )
        return None
    try:
        dataset = load_again(config, options.get("data"))
    except (DataError, OSError) as error:
        remedy = "put the file back where it was, or run the command where the run was made"
        notes.append(Finding("data", "note", f"{error}: only the machine was looked at", remedy))
        return None
    if other := difference(config["data"], dataset):
        evidence = f"{dataset.source}: expected the data that the run was made with, {other}"
        notes.append(Finding("data", "fault", evidence, "the data have changed: train again, or put the old file back"))
        return _numbered(found, dataset, notes)
    known = config["data"]["sha256"][:12]
    notes.append(Finding("data", "ok", f"{dataset.source}: what the run was made with, SHA-256 {known}"))
    return dataset


def _numbered(found: Found, dataset: Dataset, notes: list[Finding]) -> Dataset | None:
    """Return data that have changed with the run's labels; None if there are classes that it does not know."""
    try:
        return numbered_as_in(found.name, found.classes, dataset)
    except UsageError as error:
        notes.append(Finding("classes", "fault", f"{error}: only the machine was looked at"))
        return None


def _records(path: Path) -> History | None:
    """Return the epochs of results.csv; None where there are none to read."""
    if not path.exists() or not path.with_name(TIMING).exists():
        return None
    try:
        return read_results(path) or None
    except RunFolderError as error:
        raise UsageError(f"{error}; remove it to look at the rest of the run") from error
