"""What the layers with a weight and a bias have in common."""

import numpy as np

from fastconv import init as initializers
from fastconv.blocks import Blocks, planes
from fastconv.layers.base import Layer, Parameter, Workspace
from fastconv.shapes import Shape
from fastconv_kernels.bias import bias_backward


class Weighted(Layer):
    """Base of layers that multiply by a weight and may add a bias, and apply a ReLU behind it.

    Attributes
    ----------
    weight : Parameter
    bias : Parameter or None
        One number for each channel, or feature, of the output.
    """

    fuses_relu = True
    weight: Parameter
    bias: Parameter | None

    def _make_parameters(self, shape: Shape, outputs: int, bias: bool, init: str) -> None:
        """Make the parameters, the weight's initial value by the initialiser of that name."""
        self.weight = Parameter(shape, initializers.by_name(init))
        self.bias = Parameter((outputs,), initializers.zeros) if bias else None

    def own_parameters(self) -> dict[str, Parameter]:
        """Return weight and bias."""
        return {"weight": self.weight} | ({"bias": self.bias} if self.bias else {})

    def _plan_bias(self, outputs: int, work: Workspace) -> None:
        """Prepare, behind ``work.y``, what stands for a bias that is not there, and the shares of its gradient."""
        count = work.y.array.shape[0]
        work.no_bias = np.zeros(outputs, work.dtype)
        work.bias_shares = work.shares(self.bias, count) if self.bias else np.empty((count, outputs), work.dtype)

    def _bias_of(self, work: Workspace) -> np.ndarray:
        """Return the bias, float[outputs], or zeros."""
        return self.bias.value if self.bias else work.no_bias

    def _backward_bias(self, dy: Blocks, work: Workspace) -> None:
        """Write equation (4) into the bias's shares, and the fused ReLU's gradient into ``dy``, where there are any."""
        if work.relu or self.bias:
            bias_backward(planes(dy.array), planes(work.y.array), work.relu, work.bias_shares)
