"""From a run's folder to its pictures and its page."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv import atomic, plots
from fastconv.augment import Augment
from fastconv.data import Dataset
from fastconv.layers import Conv2d
from fastconv.report import html, tables
from fastconv.sequential import Sequential
from fastconv.training.history import History
from fastconv.training.run_folder import REPORT, RESULTS, read_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS = "plots"
_PREVIEWED = 5


class _Picture(NamedTuple):
    """A picture of the page, and of the folder ``plots``."""

    name: str
    title: str
    text: str
    draw: "Callable[[], Figure]"


def write(
    folder: str | os.PathLike[str],
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    model: Sequential,
    dataset: Dataset,
    train: NDArray[np.int64],
    held_out: NDArray[np.int64],
) -> Path:
    """Write a run's ``plots/*.png`` and ``report.html``, whole or not at all, over those that were there.

    Parameters
    ----------
    folder : path
        With results.csv and timing.csv.
    config, metrics : dict
        The content of its config.json and metrics.json.
    model : Sequential
        What the run has trained.
    dataset : Dataset
        What it was trained on, with labels.
    train, held_out : int64[n]
        Which of its images.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    ImportError
        If matplotlib is absent; the message says how to install it.
    OSError, ValueError
        If a file cannot be read or written, or is damaged.
    """
    folder = Path(folder)
    history = read_results(folder / RESULTS)
    pictures = _pictures(config, metrics, history, model, dataset, train, held_out)
    drawn = [(each, plots.png(each.draw())) for each in pictures]
    (folder / PLOTS).mkdir(exist_ok=True)
    for each, png in drawn:
        atomic.write(folder / PLOTS / f"{each.name}.png", png)
    parts = [
        html.paragraph(str(folder)),
        html.heading("Result"),
        tables.result(metrics, history),
        *_about_views(config["options"]["tta"]),
        html.heading("Run"),
        tables.settings(config),
    ]
    if metrics["per_class"] is not None:
        names = [*dataset.classes] if dataset.classes else [str(label) for label in range(len(metrics["per_class"]))]
        parts += [html.heading("Classes"), tables.classes(metrics, names)]
        parts += [html.heading("Most confused"), tables.confusions(metrics, names)]
    for each, png in drawn:
        parts += [html.heading(each.title), html.paragraph(each.text), html.picture(png, each.title)]
    page = html.document(f"{config['options']['model']} on {dataset.source}", parts)
    atomic.write(folder / REPORT, page.encode("utf-8", "replace"))
    return folder / REPORT


def _pictures(
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    history: History,
    model: Sequential,
    dataset: Dataset,
    train: NDArray[np.int64],
    held_out: NDArray[np.int64],
) -> list[_Picture]:
    """Return the pictures that there is something to show on, in the page's order."""
    found: list[_Picture] = []
    labels = dataset.labels
    if history:
        text = "The figures of results.csv. The model that is kept is that of the epoch with the dotted line."
        if metrics["best_epoch"] is None:
            text = "The figures of results.csv."
        found.append(_Picture("curves", "Training", text, lambda: plots.curves(history)))
    if metrics["confusion_matrix"] is not None:
        text = "Images held out, counted. Blue: right. Orange: taken for another class."
        matrix = np.asarray(metrics["confusion_matrix"])
        found.append(_Picture("confusion", "Confusion matrix", text, lambda: plots.confusion(matrix, dataset.classes)))
    if labels is not None and len(held_out):
        images, views = dataset.images[held_out], config["options"]["tta"]
        preset = config["options"]["augment"] if views > 1 else None

        def worst() -> "Figure":
            chances = model.predict_proba(images, tta=views, augment=preset)
            return plots.worst_errors(images, labels[held_out], chances, dataset.classes, held_out)

        text = "Images held out whose true class the model thought least likely, with the probability of the class "
        text += "that it took them for. Below each its index in the data, from 0."
        found.append(_Picture("errors", "Worst errors", text, worst))
    if any(isinstance(layer, Conv2d) for layer in model.modules()):
        text = "The weights of the first convolution."
        if dataset.images.shape[1] == 3:
            text += " Grey is 0; each filter has its own scale."
        found.append(_Picture("filters", "First filters", text, lambda: plots.filters(model)))
    if config["augment"] is not None and labels is not None and dataset.images.shape[1] in (1, 3):
        options = Augment(**{name: _tuples(value) for name, value in config["augment"].items()})
        shown, seed = train[_first_of_each_class(labels[train])], config["options"]["seed"]

        def preview() -> "Figure":
            return plots.augmentation(dataset.images, options, shown.tolist(), seed)

        text = "Training images, and what the first epochs made of them."
        found.append(_Picture("augmentation", "Augmentation", text, preview))
    return found


def _tuples(value: Any) -> Any:
    """Return what JSON has made a list of."""
    return tuple(value) if isinstance(value, list) else value


def _about_views(count: int) -> list[str]:
    if count == 1:
        return []
    return [
        html.paragraph(f"Accuracy, classes, confusions and errors with {count} views of each image, curves with one.")
    ]


def _first_of_each_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(labels, return_index=True)[1][:_PREVIEWED]
