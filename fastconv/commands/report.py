"""``fastconv report``: the pictures and the page of a run, drawn again from what is in its folder."""

import argparse
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv import data, report, terminal
from fastconv.commands.common import CompilingNotice, quoted, use_threads
from fastconv.commands.errors import UsageError
from fastconv.commands.interrupts import Interrupted, Interrupts
from fastconv.commands.labels import labels_of
from fastconv.commands.model_file import Found, classes_for, find, members_of, one_of
from fastconv.commands.run_config import difference, load_again, read_config, read_json
from fastconv.data import Dataset
from fastconv.sequential import Sequential
from fastconv.training.run_folder import CONFIG, METRICS, MODEL, RESULTS


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Read what the run names, check that it is the same, draw."""
    use_threads(arguments.threads)
    folder = Path(arguments.model)
    if members := members_of(folder):
        raise one_of(folder, len(members))
    for name in (CONFIG, METRICS, RESULTS, MODEL):
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder}: expected the folder of a run that has ended, which holds no {name}; name one, such as "
                "runs/train-001"
            )
    written = _read(folder)
    found = find(str(folder))
    try:
        page = _draw(folder, written, found, arguments.data)
    except ImportError as error:
        raise UsageError(f"report: {error}") from error
    except (KeyError, TypeError) as error:
        raise UsageError(f"{folder}: {CONFIG} or {METRICS} is not of this version of fastconv ({error})") from error
    terminal.say(f"report {page}")
    return 0


class _Written(NamedTuple):
    """What a run has written of itself."""

    config: dict[str, Any]
    metrics: dict[str, Any]


def _read(folder: Path) -> _Written:
    return _Written(read_config(folder / CONFIG, "options", "data"), read_json(folder / METRICS))


def _draw(folder: Path, written: _Written, found: Found, named: str | None) -> Path:
    config = written.config
    dataset = _dataset(folder, config, named)
    classes = classes_for(found.model, found.name, dataset)
    labels, options = labels_of(dataset, classes), config["options"]
    train, held_out = data.split(
        len(dataset), options["val"], config["data"]["split_seed"], labels if options["stratify"] else None
    )
    return _write(folder, written, found.model, dataset, train, held_out)


def after_training(
    folder: Path,
    model: Sequential,
    dataset: Dataset,
    train: NDArray[np.int64],
    held_out: NDArray[np.int64],
    interrupts: Interrupts,
) -> None:
    """Draw a run that has just ended; all else is on the disk, and stays there, whatever happens here."""
    again = quoted("fastconv", "report", folder)
    if interrupts.exit_code is not None:
        terminal.say(f"no report, since training was interrupted; to draw it: {again}")
        return
    interrupts.stop_with(None)
    try:
        page = _write(folder, _read(folder), model, dataset, train, held_out)
    except Interrupted as interrupted:
        interrupts.exit_code = interrupted.exit_code
        terminal.say(f"interrupted while drawing the report; to draw it: {again}")
    except Exception as error:
        if os.environ.get("FASTCONV_DEBUG"):
            raise
        then = "; then" if isinstance(error, ImportError) else "; to try again"
        terminal.say(f"no report: {' '.join(str(error).split())}{then}: {again}")
    else:
        terminal.say(f"report {page}")


def _write(
    folder: Path,
    written: _Written,
    model: Sequential,
    dataset: Dataset,
    train: NDArray[np.int64],
    held_out: NDArray[np.int64],
) -> Path:
    with CompilingNotice():
        return report.write(folder, *written, model, dataset, train, held_out)


def _dataset(folder: Path, config: dict[str, Any], named: str | None) -> Dataset:
    """Return the data of the run, from where it found them or from where they are now."""
    path = config["options"]["data"] if named is None else named
    if path is not None and not Path(path).exists():
        words = quoted("fastconv", "report", folder)
        raise UsageError(f"{path}: the run's data are not here; name them: {words} DATA")
    dataset = load_again(config, path)
    if other := difference(config["data"], dataset):
        raise UsageError(f"{dataset.source}: expected the data of the run, {other}; name those that it was trained on")
    return dataset
