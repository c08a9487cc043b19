"""The fully connected layer.  Its loops are in kernels/fastconv_kernels/linear.py."""

from typing import Any

from fastconv import shapes
from fastconv.blocks import Blocks
from fastconv.layers.base import Workspace
from fastconv.layers.weighted import Weighted
from fastconv.shapes import Shape
from fastconv_kernels import linear


class Linear(Weighted):
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

    def __init__(self, in_features: int, out_features: int, bias: bool = True, init: str = "he_normal") -> None:
        self.in_features = shapes.count("Linear", "in_features", in_features)
        self.out_features = shapes.count("Linear", "out_features", out_features)
        self.init = init
        self._make_parameters((self.out_features, self.in_features), self.out_features, bias, init)

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
        work.matrix = linear.Matrix(work.y.array.shape[0], self.in_features, self.out_features, work.dtype)
        self._plan_bias(self.out_features, work)
        return out

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (11), through ReLU if one follows, into the workspace."""
        work.x = x if training else None
        work.matrix.forward(x.array, self.weight.value, self._bias_of(work), work.y.array, work.relu)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write equations (13) and (14) into the gradients and return (12)."""
        self._backward_bias(dy, work)
        work.matrix.backward_weight(dy.array, work.x.array, work.x.n, self.weight.grad)
        work.sum_shares()
        if not need_dx:
            return None
        work.matrix.backward_input(dy.array, self.weight.value, work.dx.array)
        return work.dx
