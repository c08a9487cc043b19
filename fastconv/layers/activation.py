"""Layers without parameters that keep the shape: ReLU, Dropout, Softmax.

Their loops are in kernels/fastconv_kernels/activation.py and loss.py.
"""

from typing import Any

import numpy as np

from fastconv.blocks import Blocks, pixels, planes
from fastconv.layers.base import Layer, Workspace
from fastconv.shapes import Shape
from fastconv_kernels import activation, loss


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


class Dropout(Layer):
    """While training, set each element to 0 with probability p and scale the others by 1 / (1 - p); else do nothing.

    Equation (30) of docs/backprop.md; Srivastava et al. 2014.  What is dropped is a pure function of the seed and of
    the number of training passes so far, at any thread count.

    Parameters
    ----------
    p : float
        From 0 up to, but not including, 1.
    seed : int
        Training sets it from its own seed and the layer's place, so it matters only for a layer used alone.

    Raises
    ------
    ValueError
        If p is outside its range.
    """

    def __init__(self, p: float = 0.5, seed: int = 0) -> None:
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p < 1:
            raise ValueError(f"Dropout: expected p of at least 0 and below 1, got {p!r}")
        self.p, self.seed, self.passes = float(p), seed, 0

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"p": self.p, "seed": self.seed}

    def reseed(self, *entropy: int) -> None:
        """Start a new sequence of masks."""
        self.seed, self.passes = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]), 0

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Accept any shape."""
        work.y, work.dx = work.empty(shape), work.empty(shape)
        work.key = None
        return shape

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (30) while training; else pass ``x`` on as it is."""
        work.key = None
        if not training or self.p == 0:
            return x
        state = np.random.SeedSequence((self.seed, self.passes)).generate_state(1, np.uint64)
        work.key, self.passes = state[0], self.passes + 1
        self._apply(x, work.y, work.key)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Apply the forward pass's mask to the gradient."""
        if work.key is None:
            return dy
        self._apply(dy, work.dx, work.key)
        return work.dx

    def _apply(self, x: Blocks, y: Blocks, key: np.uint64) -> None:
        activation.dropout(pixels(x), pixels(y), key, np.uint64(int(self.p * 2**64)), 1 / (1 - self.p))


class Softmax(Layer):
    """Turn the logits of each image, or of each pixel across channels, into probabilities: along axis 1.

    Equations (17) and (18) of docs/backprop.md.  For training, prefer ``CrossEntropyLoss`` on the logits: it is the
    same mathematics, fused, and stable.
    """

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Accept any shape."""
        work.y, work.dx = work.empty(shape), work.empty(shape)
        return shape

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (17)."""
        loss.softmax_forward(planes(x.array), planes(work.y.array), False)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Return equation (18)."""
        loss.softmax_backward(planes(dy.array), planes(work.y.array), planes(work.dx.array))
        return work.dx
