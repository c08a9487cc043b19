"""Numeric against analytic gradients: for any layer, built-in or your own, through the very kernels that train.

The layer is copied in float64, a random upstream gradient r makes a number out of its output, sum(r * y), and each
element of the input and of every parameter is moved by +eps and -eps.  At a kink, where a rectifier or a maximum
switches, the two one-sided slopes differ, and no numeric gradient exists: such elements are counted, not compared.
A deep network has kinks too slight to be seen so; they show when an element that disagrees is moved by less.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from fastconv import blocks
from fastconv.layers import Dropout, Layer


class GradientError(AssertionError):
    """An analytic gradient differs from the numeric one; the message names the worst element."""


@dataclass(frozen=True)
class GradientReport:
    """What a successful ``gradcheck`` found."""

    checked: int
    """Elements compared."""
    kinks: int
    """Elements left out, because the function has no gradient there."""
    worst: float
    """The largest difference, relative to the tolerance: at most 1."""
    unseen: tuple[str, ...] = ()
    """Arrays of which no element was compared, since all that were tried are at kinks."""

    def __str__(self) -> str:
        kinks = f", {self.kinks} at kinks left out" if self.kinks else ""
        unseen = f", among them all of {', '.join(self.unseen)}" if self.unseen else ""
        return f"{self.checked} elements agree{kinks}{unseen}; largest difference {self.worst:.2g} of the tolerance"


def gradcheck(
    layer: Layer,
    x: np.ndarray,
    eps: float = 1e-5,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    max_elements: int = 2000,
    seed: int = 0,
) -> GradientReport:
    """Compare every gradient of a layer or model at ``x`` with central differences.

    Parameters
    ----------
    layer : Layer
        Left as it is: a float64 copy is checked, in training mode, with dropout's mask held still.
    x : float[N, ...]
        An input that the layer takes.
    eps : float
        How far each element is moved, times its magnitude where that is above 1.
    rtol, atol : float
        An element passes if |analytic - numeric| <= atol * scale + rtol * max(|analytic|, |numeric|), where scale is
        the largest numeric gradient of its array, or 1 if that is smaller.
    max_elements : int
        Arrays with more elements are sampled.
    seed : int
        For the upstream gradient and the sample.

    Returns
    -------
    GradientReport

    Raises
    ------
    GradientError
        If one differs.  The message has the array, the index, both values and the tolerance.
    ValueError
        If nothing can be compared, since all elements are at kinks or give no finite number; or if the batch is empty.
    """
    layer = deepcopy(layer).to(np.float64)
    x = blocks.check_batch("gradcheck", blocks.as_float("gradcheck", "x", x, np.float64)).copy()
    dropouts = [part for part in layer.modules() if isinstance(part, Dropout)]
    start = [part.passes for part in dropouts]
    # A stream of its own: an x of the caller's from the same seed would be the upstream gradient, too, and that of a
    # normalisation is 0 there.
    (rng,) = np.random.default_rng(seed).spawn(1)
    upstream = rng.standard_normal(_shape_of(layer, x))

    def scalar() -> float:
        for part, passes in zip(dropouts, start, strict=True):
            part.passes = passes
        return float((layer.forward(x, training=True) * upstream).sum())

    scalar()
    analytic = {"x": layer.backward(upstream)}
    arrays = {"x": x}
    for name, parameter in layer.named_parameters():
        analytic[name], arrays[name] = parameter.grad.copy(), parameter.value

    checked = kinks = 0
    worst, report = 0.0, ""
    unseen: list[str] = []
    for name, array in arrays.items():
        sample = np.arange(array.size)
        if array.size > max_elements:
            sample = np.sort(rng.choice(array.size, max_elements, replace=False))
        numeric = np.array([_central_difference(scalar, array.reshape(-1), int(i), eps) for i in sample])
        smooth = ~np.isnan(numeric)
        if not smooth.any():
            kinks, unseen = kinks + sample.size, unseen + [name] * (sample.size > 0)
            continue
        ours = analytic[name].reshape(-1)[sample]
        scale = max(1.0, float(np.abs(numeric[smooth]).max()))
        tolerance = atol * scale + rtol * np.maximum(np.abs(ours), np.abs(numeric))
        # A gradient that is itself NaN must fail, not be skipped.
        excess = np.where(smooth, np.nan_to_num(np.abs(ours - numeric) / tolerance, nan=np.inf), 0.0)
        for at in np.argsort(-excess).tolist():  # the worst first: one that is an error settles it
            where = array.reshape(-1), int(sample[at]), eps
            if excess[at] <= 1 or not _agrees_nearer(scalar, *where, float(ours[at]), float(tolerance[at])):
                break
            smooth[at], excess[at] = False, 0.0
        at = int(excess.argmax())
        checked, kinks = checked + int(smooth.sum()), kinks + int((~smooth).sum())
        if excess[at] > worst:
            worst = float(excess[at])
            index = ", ".join(str(i) for i in np.unravel_index(sample[at], array.shape))
            report = (
                f"gradcheck: {type(layer).__name__}: gradient of {name}[{index}] is {ours[at]:.9g} by backward and "
                f"{numeric[at]:.9g} by central differences; they differ by {abs(ours[at] - numeric[at]):.3g}, "
                f"tolerance {tolerance[at]:.3g}"
            )
    if worst > 1:
        raise GradientError(report)
    if not checked:
        raise ValueError(
            f"gradcheck: {type(layer).__name__}: expected an x at which gradients exist, got one where all {kinks} "
            "elements tried are at kinks or give no finite number: nothing could be compared"
        )
    return GradientReport(checked, kinks, worst, tuple(unseen))


def _shape_of(layer: Layer, x: np.ndarray) -> tuple[int, ...]:
    shape = layer.output_shape(x.shape)
    if 0 in shape:
        raise ValueError(f"gradcheck: expected a batch with at least one image, got x of shape {x.shape}")
    return shape


def _agrees_nearer(
    scalar: Callable[[], float], flat: np.ndarray, i: int, eps: float, analytic: float, tolerance: float
) -> bool:
    """Whether the slope at flat[i] is the analytic one by smaller steps, which leave out a kink beside it."""
    if not np.isfinite(analytic):
        return False

    def slope(step: float) -> float:
        below, above = _moved(scalar, flat, i, step, (-1.0, 1.0))
        return (above - below) / (2 * step)

    return any(abs(slope(_step(flat, i, eps) / part) - analytic) <= tolerance for part in (4, 16, 64))


def _step(flat: np.ndarray, i: int, eps: float) -> float:
    return eps * max(1.0, abs(float(flat[i])))


def _moved(
    scalar: Callable[[], float], flat: np.ndarray, i: int, step: float, factors: tuple[float, ...]
) -> list[float]:
    """Return the values with flat[i] moved by each factor times ``step``; it is put back."""
    old = float(flat[i])
    values: list[float] = []
    for factor in factors:
        flat[i] = old + factor * step
        values.append(scalar())
    flat[i] = old
    return values


def _central_difference(scalar: Callable[[], float], flat: np.ndarray, i: int, eps: float) -> float:
    """Return d scalar / d flat[i], or NaN at a kink."""
    step = _step(flat, i, eps)
    values = _moved(scalar, flat, i, step, (-1.0, -0.5, 0.0, 0.5, 1.0))
    slopes = np.diff(values) / (step / 2)
    central = (values[4] - values[0]) / (2 * step)
    # On a smooth function neighbouring slopes differ by about step * curvature; across a kink by the jump itself.
    # Rounding alone moves a slope by about machine epsilon * |value| / step.
    rounding = 64 * np.finfo(np.float64).eps * max(map(abs, values)) / step
    jump = np.abs(np.diff(slopes)).max()
    if jump > 1e-3 * max(1e-3, float(np.abs(slopes).max())) + rounding:
        return float("nan")
    return central
