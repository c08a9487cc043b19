"""Checks of a training run's curve: what its losses and accuracies say after the fact."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastconv.checkup.findings import Finding

_STUCK = 0.02
_GAP = 0.3


def check_history(records: Sequence[Mapping[str, Any]], classes: int | None) -> list[Finding]:
    """Read the records of ``fit``, or the rows of results.csv.

    Parameters
    ----------
    records : of each epoch
        With train_loss, and train_acc, val_loss, val_acc and lr where they are known.
    classes : int or None
        What ln(classes) is of; None for a regression.
    """
    losses = [np.nan if record["train_loss"] is None else float(record["train_loss"]) for record in records]
    if not losses:
        return [Finding("history", "note", "no epoch has ended", "train for an epoch at least")]
    first, last = losses[0], losses[-1]
    level = first if classes is None else float(np.log(classes))
    shown = f"{len(losses)} epochs, training loss {first:.3g} -> {last:.3g}"
    found: list[Finding] = []
    if classes is not None and all(abs(loss - level) < _STUCK * level for loss in losses):
        evidence = f"{shown}: stuck at ln({classes}) = {level:.2f}, equal probabilities for all classes"
        remedy = "lower the learning rate, and see the findings on the model and on the labels"
        found.append(Finding("history", "fault", evidence, remedy))
    elif not np.isfinite(losses).all() or (last > 2 * min(losses) and last > 0.5 * level):
        evidence = f"{shown}, the lowest {np.nanmin(losses):.3g}: it has grown again"
        found.append(Finding("history", "fault", evidence, "lower the learning rate, or clip with clip_norm=1.0"))
    elif len(losses) > 1 and last < 0.9 * losses[-2] and last > 0.1 * level:
        evidence = f"{shown}, of which the last epoch took {1 - last / losses[-2]:.0%}: it was still falling"
        found.append(Finding("history", "note", evidence, "train for more epochs, or at a higher rate"))
    else:
        found.append(Finding("history", "ok", shown))
    known, new = records[-1].get("train_acc"), records[-1].get("val_acc")
    if known is not None and new is not None:
        accuracies = f"{known:.3f} in training, {new:.3f} in validation, in the last epoch"
        if known - new > _GAP:
            remedy = "more images, augmentation, a smaller network; were both parts read the same way?"
            found.append(Finding("accuracy", "fault", f"{accuracies}: what was learned does not carry over", remedy))
        else:
            found.append(Finding("accuracy", "ok", accuracies))
    return found
