"""``fastconv train --resume``: what a run was started with, and whether it can go on."""

import argparse
import warnings
from pathlib import Path

from fastconv import terminal
from fastconv.commands.errors import UsageError
from fastconv.commands.machine import versions
from fastconv.commands.model_file import member, recorded_members
from fastconv.commands.run_config import difference, read_config
from fastconv.data import Dataset
from fastconv.training.run_folder import CHECKPOINT, CONFIG, METRICS, SUBMISSION, RunFolder
from fastconv_kernels import runtime


def is_trained(path: Path) -> bool:
    """Whether the training of one model has ended in this folder."""
    return (path / METRICS).exists() and not (path / CHECKPOINT).exists()


def has_ended(folder: RunFolder, options: argparse.Namespace) -> bool:
    """Whether there is nothing left to do, which is then said."""
    ended = is_trained(folder.path)
    if options.ensemble > 1:
        parts = [folder.file(member(number)) for number in range(1, options.ensemble + 1)]
        ended = ended and all(is_trained(part) for part in parts) and recorded_members(folder.path) == len(parts)
        ended = ended and (options.test is None or folder.file(SUBMISSION).exists())
    if ended:
        terminal.say(f"{folder.path}: its training has ended, nothing is left to do")
    return ended


def options_of(folder: RunFolder, arguments: argparse.Namespace) -> argparse.Namespace:
    """Return the options that a run was started with; ``arguments`` has defaults and --threads.

    Raises
    ------
    UsageError
        If its config.json does not say.
    """
    config = read_config(folder.file(CONFIG), "options", "data", "versions")
    options = dict(config["options"])
    size, threads, models = options.get("size"), options.get("threads", 1), options.get("ensemble", 1)
    if not isinstance(threads, int) or not isinstance(models, int) or not isinstance(size, list | None):
        raise UsageError(
            f"{folder.file(CONFIG)}: expected threads and ensemble as numbers and size as a list or null, got "
            f"{threads!r}, {models!r} and {size!r}"
        )
    if config["data"].get("split_seed") != options.get("seed"):
        raise UsageError(
            f"{folder.path}: expected the run of a model or of an ensemble, got a part of one; name the whole"
        )
    if size is not None:
        options["size"] = tuple(size)  # JSON has lists alone
    # The bits do not depend on it, and this may be a smaller machine.
    options["threads"] = arguments.threads or min(threads, runtime.get_num_threads())
    began, now = config["versions"], versions()
    for package in ("fastconv", "numpy", "numba"):
        if began.get(package) != now[package]:
            warnings.warn(
                f"{folder.path} began with {package} {began.get(package)} and goes on with {now[package]}: the bits "
                "may not be those of a run that was not interrupted",
                stacklevel=2,
            )
    return argparse.Namespace(**vars(arguments) | options | {"resume": str(folder.path)})


def check_same(folder: RunFolder, dataset: Dataset, test: Dataset | None) -> None:
    """Raise UsageError if data are not those that the run began with."""
    config = read_config(folder.file(CONFIG), "data")
    for recorded, found in ((config["data"], dataset), (config.get("test"), test)):
        other = found and difference(recorded, found)
        if found is not None and other:
            raise UsageError(f"{found.source}: expected the images that {folder.path} began with, {other}")
