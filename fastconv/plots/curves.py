"""Training curves."""

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from fastconv.plots.figures import BLUE, GREY, ORANGE, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastconv.training.history import Record

_DOTS = 40
"""With more epochs than this, lines are drawn without a dot for each."""
_LOGARITHMIC = 20.0
"""From which ratio of largest to smallest loss their axis is logarithmic."""


def curves(history: "Sequence[Record]") -> "Figure":
    """Draw loss, accuracy and learning rate over the epochs, and mark the epoch of the best validation accuracy.

    Parameters
    ----------
    history : History or a sequence of its records
        What is None, such as validation figures without validation, is left out.

    Returns
    -------
    Figure
        With three diagrams.

    Raises
    ------
    ValueError
        If there is no epoch.
    ImportError
        If matplotlib is absent.
    """
    if not history:
        raise ValueError("curves: expected at least one epoch, got none")
    figure = new_figure(11, 3.6)
    from matplotlib.ticker import MaxNLocator

    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [record["epoch"] for record in history]
    dots = {"marker": "o", "markersize": 3} if len(epochs) <= _DOTS else {}
    for axes, name, title in ((loss, "loss", "loss"), (accuracy, "acc", "accuracy")):
        for part, label, colour in (("val", "validation", ORANGE), ("train", "training", BLUE)):
            points = [(r["epoch"], r[f"{part}_{name}"]) for r in history if r[f"{part}_{name}"] is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, label=label, **dots)
        axes.set(title=title, xlabel="epoch")
    rate.plot(epochs, [record["lr"] for record in history], color=GREY, **dots)
    rate.set(title="learning rate", xlabel="epoch")
    rate.set_ylim(bottom=0)
    for axes in (loss, accuracy, rate):
        plain(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    losses = _values(history, "loss")
    if losses and min(losses) > 0 and max(losses) > _LOGARITHMIC * min(losses):
        loss.set_yscale("log")
    _mark_best(history, loss, accuracy)
    _stay_near_the_end(history, accuracy)
    # Below the diagrams: inside one, there is no place that curves leave free.
    named = accuracy if accuracy.lines else loss
    figure.legend(*named.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _values(history: "Sequence[Record]", name: str) -> list[float]:
    """Return the finite figures of both parts."""
    both = [record[f"{part}_{name}"] for record in history for part in ("train", "val")]
    return [value for value in both if value is not None and isfinite(value)]


def _mark_best(history: "Sequence[Record]", loss: Any, accuracy: Any) -> None:
    """Draw a line where validation accuracy is best, as ``History.best`` chooses."""
    measured = [record for record in history if record["val_acc"] is not None]
    if not measured:
        return
    best = max(measured, key=lambda record: record["val_acc"] or 0.0)
    label = f"best: {best['val_acc']:.4f} in epoch {best['epoch']}"
    loss.axvline(best["epoch"], color=GREY, linestyle=":", zorder=1)
    accuracy.axvline(best["epoch"], color=GREY, linestyle=":", zorder=1, label=label)


def _stay_near_the_end(history: "Sequence[Record]", accuracy: Any) -> None:
    """Let the first fifth of the epochs leave the diagram, so that the differences of the others can be seen."""
    late = _values(history[len(history) // 5 :], "acc")
    if late and len(history) >= 5:
        low, high = min(late), max(late)
        margin = 0.05 * (high - low) + 1e-3
        accuracy.set_ylim(low - margin, min(high + margin, 1 + margin))
