"""Checks that train a copy for a moment: on one image, on one batch, and at the learning rate that is meant."""

from copy import deepcopy

import numpy as np

from fastconv import terminal
from fastconv.checkup import probe
from fastconv.checkup.findings import Finding
from fastconv.checkup.sampling import evenly
from fastconv.data import permutation
from fastconv.losses import CrossEntropyLoss, Loss
from fastconv.optim import Adam, Optimizer
from fastconv.sequential import Sequential
from fastconv.training.step import checked_step

_BATCH = 16
_STEPS = 150
_LEARNED = 0.1
"""Of the loss of knowing nothing: what is left of it when an image is known by heart."""
_RATE = 3e-3
"""Of Adam, with which images are learned by heart."""
_TRIAL, _LONG = 40, 160
"""Steps at a rate, and at one that seems too low."""
_WORK = 2e9
"""Multiply-adds of all steps at one rate, one way; above it batches are of one lane block."""
_TRIED = tuple(10.0**n for size in range(1, 7) for n in (-size, size))


# ---------------------------------------------------------------------------------------------------- learned by heart


def check_memory(model: Sequential, loss: Loss, x: np.ndarray, target: np.ndarray) -> list[Finding]:
    """Learn one image by heart, then one batch; and ask whether the loss is stuck at ln(classes)."""
    one = _by_heart(model, loss, x[:1], target[:1], "one image")
    rows = evenly(len(x), _BATCH)
    batch = _by_heart(model, loss, np.ascontiguousarray(x[rows]), target[rows], "one batch")
    return [one[0], batch[0], *([] if batch[1] is None else [batch[1]])]


def _by_heart(
    model: Sequential, loss: Loss, x: np.ndarray, target: np.ndarray, name: str
) -> tuple[Finding, Finding | None]:
    model, optimizer = probe.copy_of(model), Adam(_RATE)
    shape = model.output_shape(x.shape)
    least = probe.floor(loss, target, shape)
    # Of a regression, a single image is its own mean: it is held to what an output of 0 gives.
    nothing = probe.baseline(loss, target, shape) if len(x) > 1 else _of_zero(loss, target, shape)
    enough = least + _LEARNED * max(nothing - least, 1e-6)
    first = last = float("nan")
    step = 0
    for step in range(_STEPS + 1):  # the last one only measures what the one before has brought
        last = checked_step(model, loss, optimizer, x, None, target, 1.0).value
        first = last if step == 0 else first
        if not np.isfinite(last) or last < enough:
            break
    shown = f"loss {first:.3g} -> {last:.3g} in {terminal.count(step, 'step')} of Adam at {_RATE:g}, on "
    shown += terminal.count(len(x), "image")
    if last < enough:
        memory = Finding(name, "ok", shown)
    else:
        remedy = "see initial loss, gradient flow and numeric gradients; a network that cannot do this learns nothing"
        memory = Finding(name, "fault", f"{shown}: cannot learn {'it' if len(x) == 1 else 'them'} by heart", remedy)
    return memory, _stuck(model, loss, x, first, last, step) if len(x) > 1 else None


def _of_zero(loss: Loss, target: np.ndarray, shape: tuple[int, ...]) -> float:
    return max(loss.forward(np.zeros(shape), target), 1e-3)


def _stuck(model: Sequential, loss: Loss, x: np.ndarray, first: float, last: float, steps: int) -> Finding | None:
    if not isinstance(loss, CrossEntropyLoss):
        return None
    p = model.forward(x, training=True).astype(np.float64)
    p = np.exp(p - p.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    even, level = 1 / p.shape[1], float(np.log(p.shape[1]))
    between, apart = float((p.max(axis=0) - p.min(axis=0)).max()), float(np.abs(p - even).max())
    shown = f"after {terminal.count(steps, 'step')} those of {len(x)} images differ by up to {between:.2g}"
    shown += f", from 1/{p.shape[1]} by {apart:.2g}"
    # The last layer's bias still learns how frequent each class is in the batch.
    if between < 0.1 * even and apart < even and abs(last - level) < 0.05 * level:
        remedy = "the image does not reach the output: see dead ReLUs, outputs, and gradient flow"
        evidence = f"{shown}; the loss is stuck at ln({p.shape[1]}) = {level:.2f}, from {first:.3g} to {last:.3g}"
        return Finding("equal probabilities", "fault", evidence, remedy)
    return Finding("equal probabilities", "ok", shown)


# ------------------------------------------------------------------------------------------------------- learning rate


def check_rate(
    model: Sequential, loss: Loss, optimizer: Optimizer, x: np.ndarray, target: np.ndarray, batch: int, seed: int
) -> Finding:
    """Take a few steps at the rate that is meant, and at others if that does not learn.

    A model that has learned already begins again with new weights, since nothing shows with those.
    """
    name = "learning rate"
    model, weights = probe.copy_of(model), ""
    if probe.work_of(model, x.shape[1:]) * _TRIAL * batch > _WORK:
        batch = min(batch, _BATCH)
    part = evenly(len(x), _TRIAL * batch)
    x, target = np.ascontiguousarray(x[part]), target[part]
    nothing = probe.baseline(loss, target, model.output_shape(x.shape))
    start = _loss_of(model, loss, x, target, batch)
    if start < 0.5 * nothing:
        model.initialize(seed)
        weights, start = " with new weights", _loss_of(model, loss, x, target, batch)
    rate = optimizer.lr
    reached = _reached(model, loss, optimizer, rate, x, target, batch, seed)
    shown = f"{type(optimizer).__name__} at {rate:g}{weights}: loss {start:.3g} -> {reached:.3g} in {_TRIAL} steps"
    shown += f" of {min(batch, len(x))} images"
    learned = 0.95 * min(start, nothing)
    if reached < learned:
        return Finding(name, "ok", shown)
    for factor in _TRIED:
        other = _reached(model, loss, optimizer, factor * rate, x, target, batch, seed)
        if other < 0.95 * nothing and (not np.isfinite(reached) or other < 0.8 * reached):
            # A small network at a careful rate needs more steps than one at a bold one, and is not ill for that.
            if (
                factor > 1
                and (later := _reached(model, loss, optimizer, rate, x, target, batch, seed, _LONG)) < learned
            ):
                return Finding(name, "ok", f"{shown}, {later:.3g} in {_LONG}")
            verdict = "high" if factor < 1 else "low"
            evidence = f"{shown}, and -> {other:.3g} at {factor * rate:.2g}: too {verdict}"
            return Finding(name, "fault", evidence, f"try {factor * rate:.2g}, or what lr_find suggests")
    evidence = f"{shown}; no rate from {rate * min(_TRIED):.2g} to {rate * max(_TRIED):.2g} does much better"
    return Finding(name, "note", evidence, "the rate is not what is wrong: see the other findings")


def _loss_of(model: Sequential, loss: Loss, x: np.ndarray, target: np.ndarray, batch: int) -> float:
    rows = evenly(len(x), batch)
    return loss.forward(model.forward(x[rows], training=True), target[rows])


def _reached(
    model: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    rate: float,
    x: np.ndarray,
    target: np.ndarray,
    batch: int,
    seed: int,
    steps: int = _TRIAL,
) -> float:
    """Return the mean loss of the last ten of some steps, of which the first twenty warm up; inf if it explodes."""
    model, optimizer = probe.copy_of(model), deepcopy(optimizer)
    optimizer.lr, optimizer.steps = rate, 0
    losses: list[float] = []
    batches = -(-len(x) // batch)
    for step in range(steps):
        epoch, number = divmod(step, batches)
        index = permutation(len(x), seed, epoch + 1)[number * batch : (number + 1) * batch]
        factor = min(1.0, 2 * (step + 1) / _TRIAL)
        value = checked_step(model, loss, optimizer, x, index, target[index], factor).value
        if not (np.isfinite(value) and np.isfinite(optimizer.norm)):
            return float("inf")
        losses.append(value)
    return float(np.mean(losses[-_TRIAL // 4 :]))
