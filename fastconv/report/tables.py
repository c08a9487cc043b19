"""The tables of a report: from config.json and metrics.json to what people read."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastconv.report import html
from fastconv.training.history import History
from fastconv.training.metrics import most_confused

_UNFOLDED = 20
"""Up to so many classes are shown without being asked for."""
_CONFUSIONS = 8


def result(metrics: Mapping[str, Any], history: History) -> str:
    """Return how good the model is, and what that took."""
    rows: list[tuple[str, str]] = []
    if metrics["val_accuracy"] is None:
        rows.append(("validation", "none (--val 0): the last weights are kept"))
    else:
        matrix = np.asarray(metrics["confusion_matrix"])
        total, (low, high) = int(matrix.sum()), metrics["interval95"]
        rows += [
            ("accuracy", f"{metrics['val_accuracy']:.4f}, 95 % interval {low:.4f} to {high:.4f}"),
            ("wrong", f"{total - int(matrix.trace()):,} of {total:,} images held out"),
            ("mean of the classes", f"recall {metrics['balanced_accuracy']:.4f}, F1 {metrics['macro_f1']:.4f}"),
            ("loss", f"{metrics['val_loss']:.4f}"),
        ]
    epochs = f"{metrics['epochs']:,}"
    if metrics["best_epoch"]:
        epochs += f"; the weights of epoch {metrics['best_epoch']:,} are kept"
    rows += [("epochs", epochs), ("time", _time(history.seconds))]
    if history.images_per_second is not None:
        rows.append(("images per second", f"{history.images_per_second:,.0f}"))
    if metrics["interrupted"]:
        rows.append(("ended", "interrupted"))
    elif metrics["stopped"]:
        rows.append(("ended", metrics["stopped"]))
    return html.facts(rows)


def settings(config: Mapping[str, Any]) -> str:
    """Return what another needs to know of how the run was made; config.json has the rest."""
    options, data, versions = config["options"], config["data"], config["versions"]
    machine = config["machine"]
    rate = f"{options['optimizer']}, highest rate {options['lr']:g}, weight decay {options['weight_decay']:g}"
    return html.facts(
        [
            ("model", f"{options['model']}, {config['parameters']:,} parameters"),
            ("data", data["source"]),
            ("images", f"{data['train']:,} to train, {data['validation']:,} held out, {_size(data)}"),
            ("SHA-256", data["sha256"]),
            ("optimizer", rate),
            ("schedule", f"{options['schedule']}, batches of {options['batch_size']:,}, seed {options['seed']}"),
            ("augmentation", str(options["augment"] or "none")),
            (
                "machine",
                f"{machine['cpu']}, {_threads(machine['threads'])} ({machine['thread_layer']})",
            ),
            ("versions", ", ".join(f"{name} {number}" for name, number in versions.items())),
            ("started", config["started"]),
        ]
    )


def classes(metrics: Mapping[str, Any], names: list[str]) -> str:
    """Return each class's figures."""
    rows = [
        (names[each["label"]], _fraction(each["precision"]), _fraction(each["recall"]), f"{each['support']:,}")
        for each in metrics["per_class"]
    ]
    content = html.table(("class", "precision#", "recall#", "images#"), rows)
    return content if len(rows) <= _UNFOLDED else html.folded(f"all {len(rows)} classes", content)


def confusions(metrics: Mapping[str, Any], names: list[str]) -> str:
    """Return the most frequent mistakes."""
    found = most_confused(np.asarray(metrics["confusion_matrix"]), _CONFUSIONS)
    if not found:
        return html.paragraph("No image that was held out is taken for another class.")
    rows = [(names[each.label], names[each.predicted], f"{each.times:,}") for each in found]
    return html.table(("class", "taken for", "times#"), rows)


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _size(data: Mapping[str, Any]) -> str:
    return f"{' x '.join(map(str, data['image_shape']))}, {data['classes']} classes"


def _time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"
