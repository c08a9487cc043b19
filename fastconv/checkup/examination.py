"""``fc.doctor``: all checks that what was given allows, in one report."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from fastconv import optim
from fastconv.checkup import flow, history, learning, preprocessing, probe, rows, slopes, start
from fastconv.checkup.findings import Finding, Report
from fastconv.checkup.machine import check_machine
from fastconv.losses import CrossEntropyLoss, Loss
from fastconv.optim import Optimizer
from fastconv.sequential import Sequential


def doctor(
    model: Sequential | None = None,
    x: np.ndarray | None = None,
    y: np.ndarray | None = None,
    *,
    x_test: np.ndarray | None = None,
    loss: Loss | None = None,
    optimizer: Optimizer | str = "sgd",
    batch_size: int = 64,
    records: Sequence[Mapping[str, Any]] | None = None,
    machine: bool = True,
    seed: int = 0,
) -> Report:
    """Look for what makes training fail, or its figures wrong, and say with which numbers and what to do.

    Takes seconds, after the kernels it needs, in float64 too, are compiled.  Duplicates and leakage are looked for
    among all rows; everything else goes by a sample, evenly spread over the rows.

    Parameters
    ----------
    model : Sequential, optional
        Left as it is, to the bit: copies are worked on.  Without one, only data and machine are looked at.
    x : uint8 or float, (N, C, H, W), (N, C, L) or (N, features), optional
        What the model is to be, or was, trained on.
    y : int[N], or whatever else the loss takes
    x_test : as x, optional
        What the model is to be used on.
    loss : Loss, optional
        By default ``CrossEntropyLoss()``.
    optimizer : Optimizer or its name
        Whose learning rate is looked at; left as it is.
    batch_size : int
        Of training.
    records : History, optional
        What ``fit`` returned.
    machine : bool
        Whether to look at the machine too.
    seed : int
        What is drawn follows from it.

    Returns
    -------
    Report
        A list of ``Finding``, which shows itself as a table.

    Raises
    ------
    ShapeError, TypeError, ValueError
        If arguments do not fit together.
    """
    if model is not None and not isinstance(model, Sequential):
        raise TypeError(f"doctor: expected a Sequential model, got {type(model).__name__}")
    if (x is None) != (y is None):
        raise ValueError("doctor: expected images and their labels, got one without the other")
    for given, value in (("a model", model), ("x_test", x_test)):
        if value is not None and x is None:
            raise ValueError(f"doctor: expected images and labels with {given}, got none")
    for name, number, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"doctor: expected {name} of at least {least}, got {number!r}")
    loss = CrossEntropyLoss() if loss is None else deepcopy(loss)
    optimizer = optim.by_name(optimizer) if isinstance(optimizer, str) else deepcopy(optimizer)
    report = Report(check_machine() if machine else [])
    if x is None or y is None:
        return report
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim < 2 or y.ndim < 1:
        raise ValueError(f"doctor: expected images and labels in batches, got shapes {x.shape} and {y.shape}")
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"doctor: expected at least one image and a label for each, got {len(x)} and {len(y)}")
    if model is not None:
        x = model.check_images("doctor", x)
    x_test = None if x_test is None or len(x_test) == 0 else np.asarray(x_test)
    classes = _classes(model, loss, x, y)
    report += _of_data(x, y, x_test, classes)
    if records is not None:
        report += history.check_history(records, classes)
    usable = classes is None or not ((y < 0) | (y >= classes)).any()
    if model is not None and usable:
        report += _of_model(model, loss, optimizer, x, y, batch_size, seed)
    return report


def _classes(model: Sequential | None, loss: Loss, x: np.ndarray, y: np.ndarray) -> int | None:
    """Return how many classes labels are of: the model's outputs; None for a regression or soft targets."""
    if not isinstance(loss, CrossEntropyLoss) or y.ndim != 1 or y.dtype.kind not in "iu":
        return None
    if model is None:
        return max(int(y.max()) + 1, 1)
    return model.output_shape((1, *x.shape[1:]))[1]


def _of_data(x: np.ndarray, y: np.ndarray, x_test: np.ndarray | None, classes: int | None) -> list[Finding]:
    found: list[Finding | None] = [rows.check_targets(y) if classes is None else rows.check_labels(y, classes)]
    if classes is not None and found[0] is not None and found[0].severity != "fault":
        found.append(rows.check_labels_and_images(x, y))
    found.append(rows.check_duplicates(x, y))
    found.append(preprocessing.check_range(x))
    if x_test is not None:
        found += [preprocessing.check_test_preprocessing(x, x_test), rows.check_leakage(x, x_test)]
    return [finding for finding in found if finding is not None]


def _of_model(
    model: Sequential, loss: Loss, optimizer: Optimizer, x: np.ndarray, y: np.ndarray, batch_size: int, seed: int
) -> list[Finding]:
    model = probe.copy_of(model)
    target = loss.check_target(y, model.output_shape(x.shape))
    part = probe.sample(model, x)
    images, wanted = np.ascontiguousarray(x[part]), target[part]
    seen, outputs = probe.trace(model, images)
    classified = isinstance(loss, CrossEntropyLoss)
    found: list[Finding | None] = [start.check_last_layer(model, loss)]
    if classified:
        found += [start.check_initial_loss(loss, outputs, wanted), start.check_logits(outputs)]
    found += [start.check_outputs(outputs), start.check_relus(seen, len(images))]
    zero, one = (flow.gradients(model, loss, images, wanted, fill) for fill in (0.0, 1.0))
    value = loss.forward(outputs, wanted)
    found += [flow.check_written(model, zero, one), flow.check_flow(model, zero, value, len(images))]
    found.append(slopes.check_slopes(model, seen, seed))
    found += learning.check_memory(model, loss, images, wanted)
    found.append(learning.check_rate(model, loss, optimizer, x, target, batch_size, seed))
    return [finding for finding in found if finding is not None]
