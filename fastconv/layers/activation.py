"""Activations, which keep the shape: ReLU, PReLU, and those that are a curve of one number.

Their loops are in kernels/fastconv_kernels/activation.py and elementwise.py.
"""

from collections.abc import Callable
from functools import partial
from math import isfinite
from typing import Any, ClassVar

import numpy as np

from fastconv import shapes
from fastconv.blocks import Blocks, channels, pixels
from fastconv.init import constant
from fastconv.layers.base import Layer, Parameter, Workspace
from fastconv.shapes import Shape, ShapeError
from fastconv_kernels import activation, elementwise


class ReLU(Layer):
    """max(0, x); NaN stays NaN.  Equations (15) and (16) of docs/backprop.md."""

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Accept any shape."""
        work.y, work.dx = work.empty(shape), work.empty(shape)
        return shape

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (15)."""
        activation.relu_forward(pixels(x), pixels(work.y))
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (16)."""
        activation.relu_backward(pixels(dy), pixels(work.y), pixels(work.dx))
        return work.dx


def _elements(x: Blocks) -> np.ndarray:
    """View blocks as (B, elements)."""
    return x.array.reshape(x.array.shape[0], -1)


def _finite(layer: Layer, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{type(layer).__name__}: expected {name} as a finite number, got {value!r}")
    return float(value)


class _Curve(Layer):
    """What all curves share: equation (40) of docs/backprop.md, by a curve and its slope."""

    curve: ClassVar[Callable[[float, float], float]]
    slope: ClassVar[Callable[[float, float], float]]
    slope_of_output: ClassVar[bool] = False
    """Whether the slope is a function of the output, not of the input."""
    number: float = 0.0
    """The layer's own number, if it has one."""

    def _kernels(self) -> tuple[Callable[[float, float], float], Callable[[float, float], float]]:
        return type(self).curve, type(self).slope

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Accept any shape."""
        work.y, work.dx = work.empty(shape), work.empty(shape)
        return shape

    def apply(self, x: Blocks, y: Blocks) -> None:
        """Write equation (40) into ``y``."""
        curve, _ = self._kernels()
        elementwise.forward(curve)(_elements(x), self.number, _elements(y))

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (40)."""
        work.kept = (work.y if self.slope_of_output else x) if training else None
        self.apply(x, work.y)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (40)'s gradient."""
        _, slope = self._kernels()
        elementwise.backward(slope)(_elements(dy), _elements(work.kept), self.number, dy.n, _elements(work.dx))
        return work.dx


class LeakyReLU(_Curve):
    """x where it is positive, else ``negative_slope`` times x.  Equation (41) of docs/backprop.md.

    Raises
    ------
    ValueError
        If ``negative_slope`` is no finite number.
    """

    curve, slope = elementwise.leaky, elementwise.leaky_slope

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.number = _finite(self, "negative_slope", negative_slope)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"negative_slope": self.number}


class ELU(_Curve):
    """x where it is positive, else alpha (exp(x) - 1).  Equation (42) of docs/backprop.md; arXiv:1511.07289.

    Raises
    ------
    ValueError
        If ``alpha`` is no finite number.
    """

    curve, slope = elementwise.elu, elementwise.elu_slope

    def __init__(self, alpha: float = 1.0) -> None:
        self.number = _finite(self, "alpha", alpha)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"alpha": self.number}


class Sigmoid(_Curve):
    """1 / (1 + exp(-x)).  Equation (43) of docs/backprop.md."""

    curve, slope, slope_of_output = elementwise.sigmoid, elementwise.sigmoid_slope, True


class SiLU(_Curve):
    """x / (1 + exp(-x)), also called swish.  Equation (44) of docs/backprop.md."""

    curve, slope = elementwise.silu, elementwise.silu_slope


class GELU(_Curve):
    """x times the normal distribution's Phi(x).  Equations (45) and (46) of docs/backprop.md; arXiv:1606.08415.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        "tanh" is the older formula that comes within 0.0005 of it, at half the cost.

    Raises
    ------
    ValueError
        If ``approximate`` is neither.
    """

    curve, slope = elementwise.gelu, elementwise.gelu_slope

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: expected approximate as 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"approximate": self.approximate}

    def _kernels(self) -> tuple[Callable[[float, float], float], Callable[[float, float], float]]:
        if self.approximate == "tanh":
            return elementwise.gelu_tanh, elementwise.gelu_tanh_slope
        return super()._kernels()


class Tanh(_Curve):
    """The hyperbolic tangent.  Equation (47) of docs/backprop.md."""

    curve, slope, slope_of_output = elementwise.hyperbolic, elementwise.hyperbolic_slope, True


class Hardswish(_Curve):
    """x min(max(x + 3, 0), 6) / 6.  Equation (48) of docs/backprop.md; Howard et al. 2019, arXiv:1905.02244."""

    curve, slope = elementwise.hardswish, elementwise.hardswish_slope


class PReLU(Layer):
    """x where it is positive, else w times x, with a learned w.  Equations (41) and (49) of docs/backprop.md.

    He et al. 2015, arXiv:1502.01852.

    Parameters
    ----------
    num_parameters : int
        1, or as many as there are channels or features: one w each.
    init : float
        What w starts at.

    Raises
    ------
    ShapeError
        If ``num_parameters`` is no whole number of at least 1, or fits neither case.
    ValueError
        If ``init`` is no finite number.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        num_parameters = shapes.count("PReLU", "num_parameters", num_parameters)
        self.num_parameters, self.init = num_parameters, _finite(self, "init", init)
        self.weight = Parameter((num_parameters,), partial(constant, value=self.init))

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"num_parameters": self.num_parameters, "init": self.init}

    def own_parameters(self) -> dict[str, Parameter]:
        """Return the slopes."""
        return {"weight": self.weight}

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the number of channels; see ``Layer.plan``."""
        if self.num_parameters not in (1, shape[1]):
            raise ShapeError(f"PReLU: expected x of shape (N, {self.num_parameters}, ...), got {shape}")
        work.y, work.dx = work.empty(shape), work.empty(shape)
        work.slope_shares = work.shares(self.weight, len(work.y.array))
        return shape

    def apply(self, x: Blocks, y: Blocks) -> None:
        """Write equation (41) into ``y``."""
        elementwise.prelu_forward(channels(x), self.weight.value, channels(y))

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (41)."""
        work.x = x if training else None
        self.apply(x, work.y)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write equation (49) into the gradient and return (40)'s."""
        elementwise.prelu_backward(
            channels(dy), channels(work.x), self.weight.value, dy.n, channels(work.dx), work.slope_shares
        )
        work.sum_shares()
        return work.dx
