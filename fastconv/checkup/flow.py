"""Checks of the gradients that one backward pass of the whole model writes: whether they are there, and their size."""

import numpy as np

from fastconv.checkup.findings import Finding
from fastconv.checkup.probe import copy_of
from fastconv.losses import Loss
from fastconv.sequential import Sequential

_EXPLODING = 100.0
"""Norm of a gradient over that of its weights: a rate of 0.01 then changes them by as much as they are."""
_VANISHING = 1e-7
"""Root mean square over the largest of all layers."""


def gradients(model: Sequential, loss: Loss, x: np.ndarray, target: np.ndarray, fill: float) -> dict[str, np.ndarray]:
    """Return every parameter's gradient after one backward pass of a copy, whose gradients are filled with ``fill``."""
    model = copy_of(model)
    for parameter in model.parameters():
        parameter.grad[...] = fill
    result = loss.of_blocks(model.run_batch(x, None, True), target)
    model.backward_batch(result.dy)
    return {name: parameter.grad.copy() for name, parameter in model.named_parameters()}


def check_written(model: Sequential, zero: dict[str, np.ndarray], one: dict[str, np.ndarray]) -> Finding | None:
    """Compare gradients of memory that held zeros and ones before: backward must write each, and not add to it."""
    if not zero:
        return None
    kept = [name for name in zero if not zero[name].any() and (one[name] == 1).all()]
    partly = [name for name in zero if name not in kept and ((zero[name] == 0) & (one[name] == 1)).any()]
    added = [name for name in zero if name not in kept and _added(zero[name], one[name])]
    if kept:
        evidence = f"backward does not write {_listed(model, kept)}: what was there before stays there"
        return Finding("gradients written", "fault", evidence, "write parameter.grad in that layer's backward_blocks")
    if added:
        evidence = f"backward adds to {_listed(model, added)}: a second pass gives the sum of both"
        return Finding("gradients written", "fault", evidence, "overwrite it: parameter.grad[...] = ... in place of +=")
    if partly:
        name = partly[0]
        untouched = int(((zero[name] == 0) & (one[name] == 1)).sum())
        evidence = (
            f"backward leaves {untouched:,} of {zero[name].size:,} elements of {_listed(model, [name])} unwritten"
        )
        return Finding("gradients written", "fault", evidence, "write every element of parameter.grad")
    return Finding("gradients written", "ok", f"backward writes those of all {len(zero)} parameters")


def _added(zero: np.ndarray, one: np.ndarray) -> bool:
    finite = np.isfinite(zero) & np.isfinite(one)
    return bool(finite.any()) and bool(np.allclose(one[finite] - zero[finite], 1, rtol=0, atol=1e-3))


def _listed(model: Sequential, names: list[str]) -> str:
    """Return names with their layers, such as '3.bias (Conv2d)'."""
    shown = [f"{name} ({_layer_of(model, name)})" for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _layer_of(model: Sequential, name: str) -> str:
    layer = model
    for part in name.split(".")[:-1]:
        layer = layer.children()[int(part)]
    return type(layer).__name__


def check_flow(model: Sequential, found: dict[str, np.ndarray], value: float, images: int) -> Finding | None:
    """Find gradients that are zero, not finite, all but gone beside the others, or far larger than their weights.

    ``value`` is the loss: where it is 0, there is nothing to learn, and gradients are 0 rightly.
    """
    if not found:
        return None
    name = "gradient flow"
    weights = dict(model.named_parameters())
    wild = [key for key, gradient in found.items() if not np.isfinite(gradient).all()]
    if wild:
        remedy = "see logits and input range; lower the learning rate, or clip with clip_norm=1.0"
        return Finding(name, "fault", f"NaN or infinite: {_listed(model, wild)}, at loss {value:.3g}", remedy)
    size = {key: float(np.sqrt(np.mean(np.square(gradient, dtype=np.float64)))) for key, gradient in found.items()}
    largest, smallest = max(size, key=lambda key: size[key]), min(size, key=lambda key: size[key])
    span = f"from {size[smallest]:.2g} ({smallest}) to {size[largest]:.2g} ({largest})"
    shown = f"root mean squares over {images} images are {span}"
    if value < 1e-3:
        return Finding(name, "ok", f"{shown}, at loss {value:.2g}")
    gone = [key for key in found if size[key] == 0]
    if gone:
        remedy = "look at the layers behind them: dead ReLUs, a backward that returns zeros, weights of 0"
        return Finding(name, "fault", f"zero, every element: {_listed(model, gone)}, at loss {value:.3g}", remedy)
    matrices = [key for key, gradient in found.items() if gradient.ndim > 1]
    faint = [key for key in matrices if size[key] < _VANISHING * size[largest]]
    if faint:
        remedy = "use ReLU in place of Sigmoid or Tanh, BatchNorm, Residual, or He's initial weights"
        return Finding(name, "fault", f"{shown}: vanishing in {_listed(model, faint)}", remedy)
    ratios = {key: _ratio(found[key], weights[key].value) for key in matrices}
    worst = max(ratios, key=lambda key: ratios[key], default=None)
    if worst is not None and ratios[worst] > _EXPLODING:
        evidence = f"{shown}; that of {_listed(model, [worst])} is {ratios[worst]:.3g} times as long as its weights"
        remedy = "scale images and initial weights; lower the learning rate, or clip with clip_norm=1.0"
        return Finding(name, "fault", f"{evidence}: exploding", remedy)
    return Finding(name, "ok", shown)


def _ratio(gradient: np.ndarray, value: np.ndarray) -> float:
    length = float(np.linalg.norm(value.astype(np.float64)))
    return float(np.linalg.norm(gradient.astype(np.float64))) / length if length > 0 else 0.0
