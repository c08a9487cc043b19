"""``fastconv predict``: a trained model's answers for images, as Kaggle takes them."""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastconv import atomic, data, terminal
from fastconv.commands.common import CompilingNotice, check_output, say_data, use_threads
from fastconv.commands.errors import UsageError
from fastconv.commands.interrupts import Interrupts
from fastconv.commands.model_file import classes_for, find_run, views_of
from fastconv.commands.own_layers import own_layers

_ANSWERS = b"ImageId,"


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Write labels, or probabilities with --proba."""
    use_threads(arguments.threads)
    output = Path(arguments.output)
    check_output(output, "-o")
    found = find_run(arguments.model, own_layers(arguments.layers))
    preset = views_of(found, arguments.tta, arguments.augment)
    channels, *size = found.image_shape
    dataset = data.load(arguments.data, size=(size[0], size[1]), channels=channels, part="test")
    classes_for(found.model, found.name, dataset)
    _check_replaces_answers(output)
    say_data(dataset)
    with CompilingNotice():
        predict = found.model.predict_proba if arguments.proba else found.model.predict
        answers = predict(dataset.images, tta=arguments.tta, augment=preset)
    replaced = ", replaced" if output.exists() else ""
    (write_probabilities if arguments.proba else data.write_submission)(output, answers)
    terminal.say(f"wrote {output}: {terminal.count(len(dataset), 'row')}{replaced}")
    return 0


def _check_replaces_answers(path: Path) -> None:
    """Raise UsageError if the file is there and holds no answers, such as data or a model, or is to be compressed."""
    if path.suffix == ".gz" or str(path) == "-":
        raise UsageError(f"{path}: answers are written as text, into a file; name one such as submission.csv with -o")
    if not path.exists():
        return
    if not path.is_file() or not _holds_answers(path):
        raise UsageError(
            f"{path}: is there already, and holds no answers to replace, which begin with {_ANSWERS.decode()}; name "
            "another file with -o"
        )


def _holds_answers(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ANSWERS)) == _ANSWERS


def write_probabilities(path: Path, probabilities: NDArray[np.floating]) -> None:
    """Write ``ImageId,0,1,...``: a row for each image, a column for each class, six digits."""
    header = ",".join(["ImageId", *map(str, range(probabilities.shape[1]))])
    rows = (",".join([str(n), *(f"{p:.6g}" for p in row)]) for n, row in enumerate(probabilities.tolist(), 1))
    atomic.write(path, "\n".join([header, *rows, ""]).encode("ascii"))
