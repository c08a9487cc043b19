"""The fully connected layer.  Its loops are in kernels/fastconv_kernels/linear.py."""

from typing import Any

import numpy as np

from fastconv import init as initializers
from fastconv import shapes
from fastconv.blocks import Blocks, planes
from fastconv.layers.base import Layer, Parameter, Workspace
from fastconv.shapes import Shape
from fastconv_kernels import linear
from fastconv_kernels.bias import bias_backward


class Linear(Layer):
    """Weigh every input for every output: (N, in_features) to (N, out_features).

    Equations (11) to (14) of docs/backprop.md.

    Parameters
    ----------
    in_features, out_features : int
        I and J.
    bias : bool
    init : str
        Name of the weight's initialiser in ``fastconv.init``.

    Attributes
    ----------
    weight : Parameter, float[J, I]
    bias : Parameter, float[J], or None

    Raises
    ------
    ShapeError
        If a number of features is not a whole number of at least 1.
    """

    fuses_relu = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True, init: str = "he_normal") -> None:
        for name, number in (("in_features", in_features), ("out_features", out_features)):
            shapes.count("Linear", name, number)
        self.in_features, self.out_features, self.init = in_features, out_features, init
        self.weight = Parameter((out_features, in_features), initializers.by_name(init))
        self.bias = Parameter((out_features,), initializers.zeros) if bias else None

    def own_parameters(self) -> dict[str, Parameter]:
        """Return weight and bias."""
        return {"weight": self.weight} | ({"bias": self.bias} if self.bias else {})

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
            "init": self.init,
        }

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape and choose tiles; see ``Layer.plan``."""
        out = shapes.linear(shape, self.weight.shape)
        work.y, work.dx = work.empty(out), work.empty(shape)
        count = work.y.array.shape[0]
        work.matrix = linear.Matrix(count, self.in_features, self.out_features, work.dtype)
        work.no_bias = np.zeros(self.out_features, work.dtype)
        work.bias_shares = (
            work.shares(self.bias, count) if self.bias else np.empty((count, self.out_features), work.dtype)
        )
        return out

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (11), through ReLU if one follows, into the workspace."""
        bias = self.bias.value if self.bias else work.no_bias
        work.x = x if training else None
        work.matrix.forward(x.array, self.weight.value, bias, work.y.array, work.relu)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write equations (13) and (14) into the gradients and return (12)."""
        if work.relu or self.bias:
            bias_backward(planes(dy.array), planes(work.y.array), work.relu, work.bias_shares)
        work.matrix.backward_weight(dy.array, work.x.array, work.x.n, self.weight.grad)
        work.sum_shares()
        if not need_dx:
            return None
        work.matrix.backward_input(dy.array, self.weight.value, work.dx.array)
        return work.dx
