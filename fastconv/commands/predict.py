"""``fastconv predict``: a trained model's answers for images, as Kaggle takes them."""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastconv import atomic, data, terminal
from fastconv.commands.common import CompilingNotice, check_output, say_data, use_threads
from fastconv.commands.interrupts import Interrupts
from fastconv.commands.model_file import classes_for, find_run, views_of
from fastconv.commands.own_layers import own_layers


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
    say_data(dataset)
    with CompilingNotice():
        predict = found.model.predict_proba if arguments.proba else found.model.predict
        answers = predict(dataset.images, tta=arguments.tta, augment=preset)
    replaced = ", replaced" if output.exists() else ""
    (write_probabilities if arguments.proba else data.write_submission)(output, answers)
    terminal.say(f"wrote {output}: {terminal.count(len(dataset), 'row')}{replaced}")
    return 0


def write_probabilities(path: Path, probabilities: NDArray[np.floating]) -> None:
    """Write ``ImageId,0,1,...``: a row for each image, a column for each class, six digits."""
    header = ",".join(["ImageId", *map(str, range(probabilities.shape[1]))])
    rows = (",".join([str(n), *(f"{p:.6g}" for p in row)]) for n, row in enumerate(probabilities.tolist(), 1))
    atomic.write(path, "\n".join([header, *rows, ""]).encode("ascii"))
