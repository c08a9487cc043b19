"""Checks of what a model gives before another step of training: its loss, its outputs, its rectifiers."""

from collections.abc import Sequence

import numpy as np

from fastconv.checkup.findings import Finding
from fastconv.checkup.probe import Seen
from fastconv.layers import LogSoftmax, Softmax
from fastconv.losses import CrossEntropyLoss, Loss
from fastconv.sequential import Sequential

_FAR = 5.0
"""Times ln(classes): He's initial weights give up to 3 times, since their logits are a few units apart."""
_LARGE = 100.0
"""Of logits: exp(-100) is no float32."""
_DEAD, _SOME_DEAD = 0.5, 0.25


def check_last_layer(model: Sequential, loss: Loss) -> Finding | None:
    """Find a softmax in front of a loss that has one; None for other losses."""
    last = model.last_layer()
    if not isinstance(loss, CrossEntropyLoss) or last is None:
        return None
    if isinstance(last, Softmax) and not isinstance(last, LogSoftmax):
        evidence = "the model ends in Softmax, and CrossEntropyLoss applies one itself: gradients all but vanish"
        return Finding("last layer", "fault", evidence, "leave the Softmax out; predict_proba applies it")
    return Finding("last layer", "ok", f"{type(last).__name__}, which gives logits")


def check_initial_loss(loss: Loss, y: np.ndarray, target: np.ndarray) -> Finding:
    """Compare the loss of outputs ``y`` with ln(classes), which equal probabilities for all give."""
    value, even = loss.forward(y, target), float(np.log(y.shape[1]))
    shown = f"{value:.3g} over {len(y)} images; ln({y.shape[1]}) = {even:.2f} is that of equal probabilities"
    remedy = "check the range of the images and the initial weights; make the last layer's weights smaller"
    if not value <= _FAR * even:
        return Finding("initial loss", "fault", f"{shown}, {value / even:.0f} times less", remedy)
    learned = ": this model has learned already" if value < 0.5 * even else ""
    return Finding("initial loss", "ok", shown + learned)


def check_logits(y: np.ndarray) -> Finding:
    """Find logits so large that softmax is 0 or 1, and its gradient nothing."""
    finite = np.isfinite(y)
    if not finite.all():
        evidence = f"{int((~finite).sum()):,} of {y.size:,} are NaN or infinite"
        return Finding("logits", "fault", evidence, "look for huge weights, a division by 0, a logarithm of 0")
    largest = float(np.abs(y).max())
    shown = f"the largest is {largest:.3g} in magnitude, over {len(y)} images"
    if largest >= _LARGE:
        remedy = "scale the images (mean 0, deviation 1) and the weights (He's initial ones); lower the learning rate"
        return Finding("logits", "fault", f"{shown}: softmax saturates", remedy)
    return Finding("logits", "ok", shown)


def check_outputs(y: np.ndarray) -> Finding | None:
    """Ask whether the outputs depend on the image at all; None for a single image, or where they are not finite."""
    if len(y) < 2 or not np.isfinite(y).all():
        return None
    apart = float((y.max(axis=0) - y.min(axis=0)).max())
    shown = f"between {len(y)} images they differ by up to {apart:.3g}"
    if apart <= 1e-6 * max(1.0, float(np.abs(y).max())):
        remedy = "see dead ReLUs and gradient flow for the layer where the image is lost; weights of 0 lose it too"
        return Finding("outputs", "fault", f"{shown}: every image gets the same", remedy)
    return Finding("outputs", "ok", shown)


def check_relus(seen: Sequence[Seen], images: int) -> Finding | None:
    """Count the units of each ReLU that are 0 for all images: nothing is learned through them. None without ReLUs."""
    shares = [
        (part.silent / part.units, part.name, part.silent, part.units) for part in seen if part.silent is not None
    ]
    if not shares:
        return None
    share, name, silent, units = max(shares, key=lambda part: part[0])
    dead, there = sum(part[2] for part in shares), sum(part[3] for part in shares)
    shown = f"{dead:,} of {there:,} units are 0 for all of {images} images; most in {name}, {silent} of {units}"
    if share >= _SOME_DEAD:
        remedy = "lower the learning rate, look for large negative biases, or use LeakyReLU"
        return Finding("dead ReLUs", "fault" if share >= _DEAD else "note", shown, remedy)
    return Finding("dead ReLUs", "ok", shown)
