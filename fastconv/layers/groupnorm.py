"""Group and layer normalisation.  Their loops are in kernels/fastconv_kernels/groupnorm.py."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastconv import init as initializers
from fastconv import shapes
from fastconv.blocks import Blocks
from fastconv.layers.base import Layer, Parameter, Workspace
from fastconv.layers.batchnorm import check_eps
from fastconv.shapes import Shape, ShapeError
from fastconv_kernels import groupnorm
from fastconv_kernels.tile import LANES


class _ImageNorm(Layer):
    """What both have in common: each image is normalised by itself, in evaluation as in training."""

    weight: Parameter | None
    bias: Parameter | None
    eps: float

    def own_parameters(self) -> dict[str, Parameter]:
        """Return gamma as weight, and beta as bias."""
        found = {"weight": self.weight, "bias": self.bias}
        return {name: parameter for name, parameter in found.items() if parameter is not None}

    def _prepare(self, shape: Shape, scales: int, groups: int, work: Workspace) -> None:
        """Prepare memory for images seen as ``scales`` channels in groups, each with a scale and a shift of its own."""
        work.y = work.empty(shape)
        count = work.y.array.shape[0]
        work.view = count, scales, -1, LANES
        work.mean, work.rstd = (np.empty((count, groups, LANES), work.dtype) for _ in range(2))
        work.ones, work.zeros = np.ones(scales, work.dtype), np.zeros(scales, work.dtype)
        work.dgamma, work.dbeta = (
            np.empty((count, scales), work.dtype) if each is None else work.shares(each, count)
            for each in (self.weight, self.bias)
        )

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (101)."""
        work.x = x if training else None
        gamma = work.ones if self.weight is None else self.weight.value.reshape(-1)
        beta = work.zeros if self.bias is None else self.bias.value.reshape(-1)
        seen, written = x.array.reshape(work.view), work.y.array.reshape(work.view)
        groupnorm.group_norm_forward(seen, gamma, beta, self.eps, written, work.mean, work.rstd)
        return work.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write equation (102) into the gradients and return (103), in the memory of ``dy``."""
        gamma = work.ones if self.weight is None else self.weight.value.reshape(-1)
        upstream, seen = dy.array.reshape(work.view), work.x.array.reshape(work.view)
        sums = (shares.reshape(work.view[:2]) for shares in (work.dgamma, work.dbeta))
        groupnorm.group_norm_backward(upstream, seen, dy.n, gamma, work.mean, work.rstd, *sums)
        work.sum_shares()
        return dy if need_dx else None


class GroupNorm(_ImageNorm):
    """Give each group of an image's channels mean 0 and variance 1, then scale and shift each channel.

    Equations (100) to (103) of docs/backprop.md; Wu & He 2018, arXiv:1803.08494.

    Parameters
    ----------
    num_groups : int
        One is layer normalisation with a scale for each channel; as many as channels, instance normalisation.
    num_channels : int
        C, of an input (N, C, H, W), (N, C, L) or (N, C); ``num_groups`` must divide it.
    eps : float
        Added to the variance.
    affine : bool
        Whether there are a learned scale and shift.

    Attributes
    ----------
    weight, bias : Parameter, float[C], or None

    Raises
    ------
    ShapeError, ValueError
        If an argument is outside its range.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        num_groups = shapes.count("GroupNorm", "num_groups", num_groups)
        num_channels = shapes.count("GroupNorm", "num_channels", num_channels)
        if num_channels % num_groups:
            raise ShapeError(
                f"GroupNorm: expected num_channels divisible by num_groups={num_groups}, got {num_channels}"
            )
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine = check_eps("GroupNorm", eps), bool(affine)
        self.weight = Parameter((num_channels,), initializers.ones) if affine else None
        self.bias = Parameter((num_channels,), initializers.zeros) if affine else None

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "num_groups": self.num_groups,
            "num_channels": self.num_channels,
            "eps": self.eps,
            "affine": self.affine,
        }

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape; see ``Layer.plan``."""
        if shape[1] != self.num_channels:
            c = self.num_channels
            raise ShapeError(f"GroupNorm: expected x of shape (N, {c}, ...), got {shape}")
        self._prepare(shape, self.num_channels, self.num_groups, work)
        return shape


class LayerNorm(_ImageNorm):
    """Give each image mean 0 and variance 1 over all its values, then scale and shift each value.

    Equations (100) to (103) of docs/backprop.md; Ba, Kiros & Hinton 2016, arXiv:1607.06450.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The input's shape without the batch axis: features, (C, L) or (C, H, W).
    eps : float
        Added to the variance.
    elementwise_affine : bool
        Whether there is a learned scale.
    bias : bool
        Whether there is a learned shift besides.

    Attributes
    ----------
    weight, bias : Parameter, float[normalized_shape], or None

    Raises
    ------
    ShapeError, ValueError
        If an argument is outside its range.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        shape = tuple(number for number in (shapes.whole(size, 1) for size in sizes) if number is not None)
        if len(shape) not in (1, 2, 3) or len(shape) < len(sizes):
            raise ShapeError(
                "LayerNorm: expected normalized_shape as features, (C, L) or (C, H, W), all at least 1, "
                f"got {normalized_shape!r}"
            )
        self.normalized_shape = shape
        self.eps, self.elementwise_affine = check_eps("LayerNorm", eps), bool(elementwise_affine)
        self.weight = Parameter(shape, initializers.ones, decays=False) if elementwise_affine else None
        self.bias = Parameter(shape, initializers.zeros, decays=False) if elementwise_affine and bias else None

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "normalized_shape": self.normalized_shape,
            "eps": self.eps,
            "elementwise_affine": self.elementwise_affine,
            "bias": self.bias is not None,
        }

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape; see ``Layer.plan``."""
        if shape[1:] != self.normalized_shape:
            expected = ", ".join(map(str, self.normalized_shape))
            raise ShapeError(f"LayerNorm: expected x of shape (N, {expected}), got {shape}")
        self._prepare(shape, prod(shape[1:]), 1, work)
        return shape
