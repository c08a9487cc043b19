"""``fastconv evaluate``: how good a trained model is on labelled images."""

import argparse
from pathlib import Path

from fastconv import data, terminal
from fastconv.commands.common import CompilingNotice, say_accuracy, say_data, use_threads
from fastconv.commands.interrupts import Interrupts
from fastconv.commands.labels import labels_of, numbered_as_in
from fastconv.commands.model_file import classes_for, find_run, views_of
from fastconv.commands.own_layers import own_layers
from fastconv.commands.run_config import difference, read_config
from fastconv.data import Dataset
from fastconv.ensemble import Ensemble
from fastconv.plots.names import class_names
from fastconv.training.evaluation import evaluate_and_predict, of_probabilities
from fastconv.training.metrics import ClassFigures, balanced_accuracy, confusion_matrix, macro_f1, per_class
from fastconv.training.run_folder import CONFIG, METRICS


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Say accuracy, loss, mistakes, and each class's figures."""
    use_threads(arguments.threads)
    found = find_run(arguments.model, own_layers(arguments.layers))
    preset = views_of(found, arguments.tta, arguments.augment)
    channels, *size = found.image_shape
    dataset = data.load(arguments.data, size=(size[0], size[1]), channels=channels, part="test")
    classes = classes_for(found.model, found.name, dataset)
    names = class_names(found.name, found.classes, classes)
    labels = labels_of(numbered_as_in(found.name, found.classes, dataset), classes)
    say_data(dataset)
    _say_if_trained_on(Path(arguments.model), dataset)
    with CompilingNotice():
        if preset is None and not isinstance(found.model, Ensemble):
            measured, predicted = evaluate_and_predict(found.model, dataset.images, labels)
        else:
            p = found.model.predict_proba(dataset.images, tta=arguments.tta, augment=preset)
            measured, predicted = of_probabilities(p, labels), p.argmax(axis=1)
        matrix = confusion_matrix(labels, predicted, classes)
    say_accuracy("accuracy", matrix, names)
    terminal.say(f"balanced accuracy {balanced_accuracy(matrix):.4f}, macro F1 {macro_f1(matrix):.4f}")
    terminal.say(f"loss {measured['loss']:.4f}")
    terminal.say()
    width = max(len("class"), *map(len, names))
    terminal.say(f"{'class':>{width}}  precision  recall  images")
    for figures in per_class(matrix):
        terminal.say(_line(names[figures["label"]].rjust(width), figures))
    return 0


def _say_if_trained_on(run: Path, dataset: Dataset) -> None:
    """Say so if these are the images of the run's training, which it knows better than others."""
    if not (run / CONFIG).is_file():
        return
    recorded = read_config(run / CONFIG, "data")["data"]
    if difference(recorded, dataset) is None:
        terminal.say(
            f"note   the run was trained on {recorded.get('train'):,} of these images, so expect less of others; "
            f"{METRICS} has what it made of those held out"
        )


def _line(name: str, figures: ClassFigures) -> str:
    precision, recall = (
        "-" if value is None else f"{value:.4f}" for value in (figures["precision"], figures["recall"])
    )
    return f"{name}  {precision:>9}  {recall:>6}  {figures['support']:>6,}"
