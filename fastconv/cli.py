"""The command line: its options, and what becomes of errors.  What each command does is in ``fastconv/commands/``.

Nothing heavy is imported before a command is known, so that ``fastconv --help`` answers at once.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from math import isfinite
from typing import Any, NoReturn, Protocol

from fastconv import __version__, models
from fastconv.commands.interrupts import Interrupted, Interrupts

EPOCHS, BATCH_SIZE, VALIDATION = 20, 64, 0.1
AUGMENTED = "60 for a lenet or tiny, 40 for others"  # of fastconv.training.recipes
MODEL, OPTIMIZER, SCHEDULE = "lenet5", "sgd", "one-cycle"
MODELS = f"{', '.join(models.NAMES[:-1])} or {models.NAMES[-1]}"
PRESETS = ("digits", "fashion", "cifar")  # of fastconv.augment, which would import NumPy

LABELLED = (
    "labelled images: CSV (square and grey), .npz, a folder with a sub-folder of PNG or JPEG files for each class, an "
    "IDX file of images, or a folder with MNIST's, of which train-* (default: the built-in digits)"
)
ROWS = (
    "of a folder with MNIST's files t10k-*; in a folder of PNG or JPEG files ImageId 1 is the first by name, as text: "
    "10.png comes before 2.png"
)

DESCRIPTION = "Train and use convolutional networks on CPUs."
EXAMPLES = """\
examples:
  fastconv train
      train on the built-in digits
  fastconv train train.csv --test test.csv
      from Kaggle's files to a submission
  fastconv predict runs/train-001 test.csv
      write submission.csv
  fastconv train --resume runs/train-001
      continue an interrupted run

exit codes:
  0    done
  1    failed
  2    wrong options or data
  130  interrupted by Ctrl-C, run saved
  143  terminated by SIGTERM, run saved

environment:
  FASTCONV_NUM_THREADS  most threads to use
  FASTCONV_CACHE_DIR    folder of compiled kernels
  FASTCONV_DEBUG=1      show tracebacks of errors
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class _Options(Protocol):
    """A parser, or one group of its options."""

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action: ...


# ----------------------------------------------------------------------------------------------------- option values


def _whole(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return value

    return whole


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _rate(text: str) -> float:
    value = _number(text)
    if not (isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a finite number above 0, got {text!r}")
    return value


def _amount(text: str) -> float:
    value = _number(text)
    if not (isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a finite number of at least 0, got {text!r}")
    return value


def _fraction(text: str) -> float:
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a fraction from 0 to below 1, such as 0.1 for 10 %, got {text!r}")
    return value


def _preset(text: str) -> str:
    if text not in PRESETS:
        raise argparse.ArgumentTypeError(
            f"expected {', '.join(PRESETS[:-1])} or {PRESETS[-1]}, got {text!r}; a file goes before it"
        )
    return text


def _size(text: str) -> tuple[int, int]:
    sizes = [int(part) if part.isdecimal() else 0 for part in text.split("x")]
    if len(sizes) not in (1, 2) or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected height x width, such as 28x28, got {text!r}")
    return sizes[0], sizes[-1]


def _image_shape(text: str) -> tuple[int, int, int]:
    sizes = [int(part) if part.isdecimal() else 0 for part in text.split("x")]
    if len(sizes) != 3 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected channels x height x width, such as 1x28x28, got {text!r}")
    return sizes[0], sizes[1], sizes[2]


# ---------------------------------------------------------------------------------------------------------- commands


def _add_train(parser: argparse.ArgumentParser) -> None:
    data, model = parser.add_argument_group("data"), parser.add_argument_group("model")
    optimisation, run = parser.add_argument_group("optimisation"), parser.add_argument_group("run")
    data.add_argument("data", nargs="?", metavar="DATA", help=LABELLED)
    data.add_argument("--test", metavar="TEST", help=f"images to predict, for a submission; {ROWS}")
    model.add_argument("--model", default=MODEL, metavar="NAME", help=f"{MODELS} (default: %(default)s)")
    optimisation.add_argument(
        "--epochs",
        type=_whole(1),
        metavar="N",
        help=f"passes over the images (default: {EPOCHS}; with --augment the model's recipe: {AUGMENTED})",
    )
    optimisation.add_argument(
        "--batch-size",
        type=_whole(1),
        metavar="N",
        help=f"images per step (default: {BATCH_SIZE}; with --augment the model's recipe)",
    )
    optimisation.add_argument(
        "--lr", type=_rate, metavar="X", help="peak learning rate (default: from the recipe or optimizer)"
    )
    data.add_argument(
        "--val",
        type=_fraction,
        default=VALIDATION,
        metavar="X",
        help="fraction of the images to hold out for validation; 0 for none (default: %(default)s)",
    )
    run.add_argument(
        "--seed", type=_whole(0), default=0, metavar="N", help="seed for weights, split and shuffling (default: 0)"
    )
    data.add_argument("--stratify", action="store_true", help="hold out the same fraction of each class")
    data.add_argument(
        "--augment",
        nargs="?",
        type=_preset,
        const=True,
        metavar="PRESET",
        help="change the images at random, differently in each epoch; PRESET is digits, fashion or cifar (default: no "
        "augmentation; without PRESET, the one that suits the images)",
    )
    _add_size(data)
    run.add_argument(
        "--no-report", dest="report", action="store_false", help="do not draw plots and report.html after training"
    )
    _add_threads(run)
    run.add_argument("--out", metavar="DIR", help="folder for the run (default: runs/train-001, -002, ...)")
    _add_optimizer(optimisation)
    optimisation.add_argument(
        "--schedule",
        default=SCHEDULE,
        metavar="NAME",
        help="learning-rate schedule: constant, step, exponential, cosine, one-cycle or plateau (default: %(default)s)",
    )
    optimisation.add_argument(
        "--warmup",
        type=_fraction,
        metavar="X",
        help="fraction of training in which cosine or one-cycle rises first, above 0 for one-cycle (default: 0 for "
        "cosine, 0.3 for one-cycle)",
    )
    optimisation.add_argument(
        "--weight-decay",
        type=_amount,
        metavar="X",
        help="weight decay (default: from the recipe or optimizer)",
    )
    optimisation.add_argument(
        "--decay",
        choices=("all", "weights"),
        help="apply weight decay to all parameters, or only to weights, not biases and norms (default: all; with "
        "--augment weights)",
    )
    optimisation.add_argument(
        "--clip", type=_rate, metavar="X", help="clip the gradients' total norm to X (default: no clipping)"
    )
    optimisation.add_argument(
        "--loss-smoothing",
        type=_fraction,
        metavar="X",
        help="label smoothing: spread this share of each label over all classes (default: 0; with --augment 0.1, or 0 "
        "for tiny)",
    )
    optimisation.add_argument(
        "--ema",
        type=_fraction,
        metavar="X",
        help="decay of a moving average of the weights, which is then validated and saved, such as 0.999; 0 = off "
        "(default: 0; with --augment 0.998)",
    )
    optimisation.add_argument(
        "--early-stop",
        type=_whole(1),
        metavar="N",
        help="stop after N epochs without better validation accuracy (default: never)",
    )
    run.add_argument(
        "--time-budget",
        type=_rate,
        metavar="SECONDS",
        help="end training within this time; the schedule then follows the clock (default: no limit)",
    )
    run.add_argument(
        "--resume",
        metavar="RUN",
        help="continue an interrupted or killed run with its own options; the results are the same to the byte; only "
        "--threads may be given too",
    )
    run.add_argument(
        "--checkpoint-every",
        type=_amount,
        metavar="SECONDS",
        help="how often to save what --resume needs (default: after each epoch and every 30 s, at most 1 %% of the "
        "time)",
    )
    model.add_argument(
        "--ensemble",
        type=_whole(1),
        default=1,
        metavar="K",
        help="train K models with consecutive seeds and average their predictions; they share a time budget (default: "
        "%(default)s)",
    )
    _add_views(model)


def _add_optimizer(parser: _Options) -> None:
    parser.add_argument(
        "--optimizer",
        default=OPTIMIZER,
        metavar="NAME",
        help="sgd, adam, adamw, rmsprop or lion (default: %(default)s)",
    )


def _add_lr_find(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", metavar="DATA", help=LABELLED)
    parser.add_argument("--model", default=MODEL, metavar="NAME", help=f"{MODELS} (default: %(default)s)")
    _add_optimizer(parser)
    parser.add_argument(
        "--batch-size", type=_whole(1), default=BATCH_SIZE, metavar="N", help="images per step (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=_whole(0), default=0, metavar="N", help="seed for weights and shuffling (default: 0)"
    )
    _add_size(parser)
    parser.add_argument("--plot", metavar="FILE", help="plot loss against learning rate into a .png, .svg or .pdf file")
    _add_threads(parser)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument("data", metavar="DATA", help=f"images, with or without labels; {ROWS}")
    parser.add_argument(
        "-o", "--output", default="submission.csv", metavar="FILE", help="file to write (default: %(default)s)"
    )
    parser.add_argument(
        "--proba", action="store_true", help="write the probability of every class instead of the label"
    )
    _add_views(parser)
    _add_views_preset(parser)
    _add_threads(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument(
        "data",
        metavar="DATA",
        help="labelled images; of a folder with MNIST's files t10k-*; classes are the run's of the same names",
    )
    _add_views(parser)
    _add_views_preset(parser)
    _add_threads(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="the run's data (default: the file that it was trained on)"
    )
    _add_threads(parser)


def _add_summary(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL|RUN", help="a model's name, a run's folder or a model.safetensors")
    _add_input(parser)


def _add_gradcheck(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        default=MODEL,
        metavar="MODEL|RUN",
        help="a model's name, a run's folder or a model.safetensors (default: %(default)s)",
    )
    _add_input(parser)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        nargs="?",
        metavar="RUN|DATA",
        help="a run's folder, or labelled images for --model (default: the built-in digits with --model, else only the "
        "machine is checked)",
    )
    parser.add_argument("--model", metavar="NAME", help=f"model to check on DATA: {MODELS}")
    parser.add_argument("--test", metavar="FILE", help="images that the model is meant for (default: the run's)")
    parser.add_argument(
        "--optimizer",
        metavar="NAME",
        help=f"sgd, adam, adamw, rmsprop or lion (default: the run's, else {OPTIMIZER})",
    )
    parser.add_argument(
        "--lr", type=_rate, metavar="X", help="peak learning rate (default: the run's, or that of --optimizer)"
    )
    parser.add_argument(
        "--seed", type=_whole(0), default=0, metavar="N", help="seed for weights and samples (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    _add_threads(parser)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="use smaller arrays; takes a few seconds")
    _add_threads(parser)


def _add_warmup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", nargs="*", default=[MODEL], metavar="MODEL", help=f"models to compile for (default: {MODEL})"
    )
    _add_threads(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN", help="a run's folder or a model.safetensors")
    _add_layers(parser)


def _add_layers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layers",
        metavar="CLASSES",
        help="layers of your own that the model holds, as MODULE:CLASS,...; imports the module, from this folder too",
    )


def _add_input(parser: argparse.ArgumentParser) -> None:
    _add_layers(parser)
    parser.add_argument(
        "--input",
        type=_image_shape,
        metavar="CxHxW",
        help="size of an image (default: the run's; for a name 1x28x28 or 3x32x32, as the model is made for)",
    )


def _add_views(parser: _Options) -> None:
    parser.add_argument(
        "--tta",
        type=_whole(1),
        default=1,
        metavar="K",
        help="average predictions over the image and K-1 augmented views (default: %(default)s)",
    )


def _add_views_preset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--augment",
        type=_preset,
        metavar="PRESET",
        help="how to augment the views, in a milder form: digits, fashion or cifar (default: the run's)",
    )


def _add_size(parser: _Options) -> None:
    parser.add_argument(
        "--size", type=_size, metavar="HxW", help="resize PNG and JPEG files (default: all must have the same size)"
    )


def _add_threads(parser: _Options) -> None:
    parser.add_argument("--threads", type=_whole(1), metavar="N", help="number of threads (default: one per core)")


_COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "train": (_add_train, "train on labelled images; writes a folder with model, metrics and submission"),
    "lr-find": (_add_lr_find, "suggest a learning rate"),
    "predict": (_add_predict, "write a model's predictions"),
    "evaluate": (_add_evaluate, "measure a model on labelled images"),
    "report": (_add_report, "redraw a run's plots and report.html"),
    "summary": (_add_summary, "show a model's layers, sizes and parameters"),
    "gradcheck": (_add_gradcheck, "compare every gradient with finite differences"),
    "doctor": (
        _add_doctor,
        "check machine, data, model and learning rate for what makes training fail; exit code 1 if found",
    ),
    "bench": (_add_bench, "time each kernel against naive loops, after comparing results"),
    "warmup": (_add_warmup, "compile the kernels now, not at the first training"),
}


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    formatter = argparse.RawDescriptionHelpFormatter
    top = _Parser("fastconv", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=formatter, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    by_name: dict[str, _Parser] = {}
    for name, (add, text) in _COMMANDS.items():
        by_name[name] = commands.add_parser(name, help=text, description=text[0].upper() + text[1:], allow_abbrev=False)
        add(by_name[name])
    return top, by_name


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    top, by_name = _parsers()
    arguments, unknown = top.parse_known_args(argv)
    if unknown:
        from difflib import get_close_matches

        parser = by_name[arguments.command]
        near = get_close_matches(unknown[0], parser._option_string_actions, 1)
        parser.error(f"{unknown[0]!r} is unknown" + (f", did you mean {near[0]}?" if near else ""))
    if arguments.command == "train" and arguments.resume is not None:
        others = _given(argv) - {"command", "resume", "threads"}
        if others:
            name = min(others)
            option = "DATA" if name == "data" else f"--{name.replace('_', '-')}"
            by_name["train"].error(f"--resume takes {option} from the run, so it cannot be given with it")
    return arguments


def _given(argv: Sequence[str] | None) -> set[str]:
    """Return the names of the options that are there, and not by default."""
    top, by_name = _parsers()
    for parser in by_name.values():
        for action in parser._actions:
            action.default = argparse.SUPPRESS
    return set(vars(top.parse_known_args(argv)[0]))


# ------------------------------------------------------------------------------------------------------------ errors


def _complain(text: object) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"fastconv: {' '.join(str(text).splitlines())}\n")


def _show_warning(message: Warning | str, *_: object) -> None:
    """Take the place of ``warnings.showwarning``: one line, without the file that warns."""
    _complain(f"warning: {message}")


def _describe(error: Exception) -> str:
    from fastconv.room import NoRoomError

    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError) and not isinstance(error, NoRoomError):
        return f"not enough memory ({error or 'amount unknown'}); take smaller batches, images or data"
    return str(error)


def _exit_code(error: Exception) -> int | None:
    """Return what an error means for the shell; None for one that is a mistake of ours and deserves its traceback."""
    from fastconv.room import NoRoomError
    from fastconv.training.errors import TrainingError

    if isinstance(error, TrainingError):
        return 1
    if isinstance(error, MemoryError):  # foreseen, or found out in the middle
        return 2 if isinstance(error, NoRoomError) else 1
    return 2 if isinstance(error, ValueError | TypeError | OSError) else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The command and its options; by default those of this process.

    Returns
    -------
    int
        The exit code: 0, 1 if the command failed, 2 for wrong options or data, 130 or 143 after SIGINT or SIGTERM.

    Raises
    ------
    SystemExit
        From argparse: with 0 after --help and --version, with 2 for wrong options.

    Notes
    -----
    FASTCONV_DEBUG=1 shows the traceback of every error.
    """
    arguments = _parse(argv)
    try:
        with Interrupts() as interrupts, warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return import_module(f"fastconv.commands.{arguments.command.replace('-', '_')}").run(arguments, interrupts)
    except Interrupted as interrupted:
        _complain("interrupted")
        return interrupted.exit_code
    except Exception as error:
        code = _exit_code(error)
        if code is None or os.environ.get("FASTCONV_DEBUG"):
            raise
        _complain(_describe(error))
        return code
