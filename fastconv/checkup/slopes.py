"""A numeric check of every layer's gradients, by slopes along random directions, which all elements take part in."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np

from fastconv.checkup.findings import Finding
from fastconv.checkup.probe import Seen, copy_of
from fastconv.layers import Layer
from fastconv.sequential import Sequential

_STEPS = (1e-4, 1e-6, 1e-8)
"""Times the array's size: the first is long enough for a layer that rounds, the last meets no kink of a whole model."""
_TOLERANCE = 0.01
_DIRECTIONS = 2
_JITTER, _SMALL_JITTER = 0.3, 0.01
"""Of an input's deviation, of a parameter's size: what is equal (the background, what a ReLU cut, biases of 0 behind a
dead layer) would be a kink."""


def check_slopes(model: Sequential, seen: Sequence[Seen], seed: int) -> Finding:
    """Compare each layer's gradients, in float64 and at what it is given in the model, with numeric ones.

    Where all layers are right by themselves, the model as a whole is looked at, with its fused steps.
    """
    name = "numeric gradients"
    wrong: list[str] = []
    unable: list[str] = []
    count = 0
    whole = Seen("the whole model", model, seen[0].x, None, 0) if seen else None
    for part in [*seen, *([whole] if whole else [])]:
        if part is whole and wrong:
            continue
        try:
            found, compared = _misfits(part.layer, part.x, seed)
        except Exception as error:  # a layer of the user's may raise whatever it likes
            unable.append(f"{part.name} cannot be checked: {type(error).__name__}: {error}")
            continue
        count += compared
        wrong += [f"{misfit} of {part.name}" for misfit in found]
    if wrong:
        more = f", and {len(wrong) - 2} more" if len(wrong) > 2 else ""
        remedy = "mend backward_blocks of that layer; fc.gradcheck(layer, x) names the element"
        return Finding(name, "fault", "; ".join(wrong[:2]) + more, remedy)
    shown = f"{count} slopes of {len(seen)} layers and of the whole model agree to {_TOLERANCE:.0%}"
    if unable:
        return Finding(
            name, "note", f"{shown}; {unable[0]}", "let the layer take float64, as layer.to(np.float64) does"
        )
    return Finding(name, "ok", shown)


def _misfits(layer: Layer, x: np.ndarray, seed: int) -> tuple[list[str], int]:
    """Return what disagrees, and how many slopes were compared."""
    layer = copy_of(layer) if isinstance(layer, Sequential) else deepcopy(layer)
    layer.to(np.float64)
    rng = np.random.default_rng(seed)
    x = x.astype(np.float64)
    x += rng.uniform(0, _JITTER * (float(x.std()) or 1.0), x.shape)
    for parameter in layer.parameters():
        parameter.value += rng.uniform(0, _SMALL_JITTER * _size_of(parameter.value), parameter.shape)
    upstream = rng.standard_normal(layer.output_shape(x.shape))

    def scalar() -> float:
        return float((layer.forward(x, training=True) * upstream).sum())

    scalar()
    for parameter in layer.parameters():
        parameter.grad[...] = 0
    analytic = {"x": layer.backward(upstream)}
    arrays = {"x": x}
    for name, parameter in layer.named_parameters():
        analytic[name], arrays[name] = parameter.grad.copy(), parameter.value
    found: list[str] = []
    for name, array in arrays.items():
        for _ in range(_DIRECTIONS):
            misfit = _misfit(scalar, array, analytic[name], float(np.abs(upstream).sum()), rng)
            if misfit is not None:
                found.append(f"gradient of {name}: {misfit}")
                break
    return found, _DIRECTIONS * len(arrays)


def _size_of(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(array * array))) or 1.0


def _misfit(
    scalar: Callable[[], float], array: np.ndarray, gradient: np.ndarray, size: float, rng: np.random.Generator
) -> str | None:
    direction = rng.standard_normal(array.shape)
    ours = float((gradient * direction).sum())
    # Directions are random, so a slope may happen to be small: it is then compared with what slopes are like here.
    length = 0.1 * float(np.sqrt((gradient * gradient).sum()))
    before = array.copy()
    unit = _size_of(before)
    here, worst = scalar(), ""
    for step in _STEPS:
        sides: list[float] = []
        for sign in (1, -1):
            array[...] = before + sign * step * unit * direction
            sides.append(sign * (scalar() - here) / (step * unit))
        array[...] = before
        # A kink on one side leaves the other as it is.
        for theirs in (sum(sides) / 2, *sides):
            if abs(ours - theirs) <= _TOLERANCE * max(abs(ours), abs(theirs), length) + 1e-9 * size / unit:
                return None
        worst = f"{ours:.4g} by backward, {sum(sides) / 2:.4g} by differences"
    if not gradient.any():
        worst += "; it is missing, all its elements are 0"
    return worst
