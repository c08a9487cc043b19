"""Dropout of elements and of whole channels.  Their loops are in kernels/fastconv_kernels/activation.py."""

from typing import Any

import numpy as np

from fastconv import shapes
from fastconv.blocks import Blocks, pixels, planes
from fastconv.layers.base import Layer, Workspace
from fastconv.shapes import Shape
from fastconv_kernels import activation


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
        If p or seed is outside its range.
    """

    def __init__(self, p: float = 0.5, seed: int = 0) -> None:
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p < 1:
            raise ValueError(f"{type(self).__name__}: expected p of at least 0 and below 1, got {p!r}")
        self.p, self.seed, self.passes = float(p), shapes.seed(type(self).__name__, seed), 0

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
        activation.dropout(pixels(x), pixels(y), key, *self._odds())

    def _odds(self) -> tuple[np.uint64, float]:
        """Return below which random bits an element is dropped, and by what the others are multiplied."""
        return np.uint64(int(self.p * 2**64)), 1 / (1 - self.p)


class Dropout2d(Dropout):
    """Drop whole channels of an image, (N, C, H, W), since neighbouring pixels know each other's values.

    Equation (30) of docs/backprop.md with one random number for each image and channel; Tompson et al. 2015,
    arXiv:1411.4280.  Parameters, and what is raised, are those of ``Dropout``.
    """

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape; see ``Layer.plan``."""
        return super().plan(shapes.images("Dropout2d", shape), work)

    def _apply(self, x: Blocks, y: Blocks, key: np.uint64) -> None:
        activation.dropout_channels(planes(x.array), planes(y.array), key, *self._odds())
