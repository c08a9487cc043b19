"""Batch normalisation.  Its loops are in kernels/fastconv_kernels/batchnorm.py."""

from typing import Any, NamedTuple

import numpy as np

from fastconv import init as initializers
from fastconv import shapes
from fastconv.blocks import Blocks, pixels, planes
from fastconv.layers.base import Layer, Parameter, Workspace
from fastconv.layers.conv import Conv2d
from fastconv.layers.conv1d import Conv1d
from fastconv.shapes import Shape, ShapeError
from fastconv_kernels import batchnorm
from fastconv_kernels.branches import add


def check_eps(operation: str, eps: object) -> float:
    """Return what is added to a variance; raises ValueError if it is not above 0."""
    if not isinstance(eps, int | float) or isinstance(eps, bool) or not 0 < eps < np.inf:
        raise ValueError(f"{operation}: expected eps above 0, got {eps!r}")
    return float(eps)


class _BatchNorm(Layer):
    """What both have in common: statistics of one channel, or feature, over everything else."""

    fuses_relu = True
    inputs: tuple[str, ...]
    """What stands behind the channels in the shapes that it takes."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        name = type(self).__name__
        num_features = shapes.count(name, "num_features", num_features)
        self.eps = check_eps(name, eps)
        is_share = isinstance(momentum, int | float) and not isinstance(momentum, bool) and 0 <= momentum <= 1
        if momentum is not None and not is_share:
            raise ValueError(f"{name}: expected momentum from 0 to 1, or None, got {momentum!r}")
        self.num_features, self.momentum = num_features, momentum
        self.affine, self.track_running_stats = bool(affine), bool(track_running_stats)
        self.weight = Parameter((num_features,), initializers.ones) if affine else None
        self.bias = Parameter((num_features,), initializers.zeros) if affine else None
        self.running_mean = np.zeros(num_features, self.dtype)
        self.running_var = np.ones(num_features, self.dtype)
        self.num_batches_tracked = np.zeros((), np.int64)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "num_features": self.num_features,
            "eps": self.eps,
            "momentum": self.momentum,
            "affine": self.affine,
            "track_running_stats": self.track_running_stats,
        }

    def own_parameters(self) -> dict[str, Parameter]:
        """Return gamma as weight, and beta as bias."""
        return {} if self.weight is None or self.bias is None else {"weight": self.weight, "bias": self.bias}

    def own_buffers(self) -> dict[str, np.ndarray]:
        """Return the running statistics, as PyTorch names them."""
        if not self.track_running_stats:
            return {}
        return {
            "running_mean": self.running_mean,
            "running_var": self.running_var,
            "num_batches_tracked": self.num_batches_tracked,
        }

    def to(self, dtype: np.typing.DTypeLike) -> "_BatchNorm":
        """Convert parameters and statistics."""
        super().to(dtype)
        self.running_mean, self.running_var = self.running_mean.astype(dtype), self.running_var.astype(dtype)
        return self

    def plan(self, shape: Shape, work: Workspace) -> Shape:
        """Check the input's shape; see ``Layer.plan``."""
        if len(shape) not in (2 + axes.count(",") for axes in self.inputs) or shape[1] != self.num_features:
            expected = " or ".join(f"(N, {self.num_features}{axes})" for axes in self.inputs)
            raise ShapeError(f"{type(self).__name__}: expected x of shape {expected}, got {shape}")
        work.y = work.empty(shape)
        work.dx = work.empty(shape) if work.adds else None
        work.nothing = planes(work.y.array)[:0]
        work.mean, work.var = np.empty(self.num_features), np.empty(self.num_features)
        work.ones, work.zeros = np.ones(self.num_features, work.dtype), np.zeros(self.num_features, work.dtype)
        work.scale, work.shift, work.dgamma, work.dbeta = (np.empty(self.num_features, work.dtype) for _ in range(4))
        return shape

    def fuses_sum(self) -> bool:
        """Return True: what is to be added is read as the output is written."""
        return True

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (35), through ReLU if one follows; while training, with the batch's own statistics."""
        work.x = x if training else None
        values, y = planes(x.array), planes(work.y.array)
        addend = work.nothing if work.addend is None else planes(work.addend.array)
        if training or not self.track_running_stats:
            into = work.mean, work.var, work.scale, work.shift, y
            batchnorm.batch_norm_forward(values, x.n, *self.affine_of(work), self.eps, addend, work.relu, *into)
            if training:
                self.track(work, x.n * values.shape[2])
        else:
            work.mean[:], work.var[:] = self.running_mean, self.running_var
            work.scale[:], work.shift[:] = self.line(work.mean, work.var)
            batchnorm.scale_and_shift(values, work.scale, work.shift, addend, work.relu, y)
        return work.y

    def affine_of(self, work: Workspace) -> tuple[np.ndarray, np.ndarray]:
        """Return gamma and beta, or ones and zeros."""
        if self.weight is None or self.bias is None:
            return work.ones, work.zeros
        return self.weight.value, self.bias.value

    def track(self, work: Workspace, count: int) -> None:
        """Let a batch of so many values a channel take part in the running statistics, if there are any."""
        if not self.track_running_stats:
            return
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean += share * (work.mean - self.running_mean)
        self.running_var += share * (work.var * (count / max(count - 1, 1)) - self.running_var)

    def keep(self, work: Workspace) -> None:
        """Take over the gradients of gamma and beta."""
        if self.weight is not None and self.bias is not None:
            self.weight.grad, self.bias.grad = work.dgamma, work.dbeta

    def line(self, mean: np.ndarray, var: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scale and shift, float[C], with which equation (35) is x * scale + shift."""
        scale = 1 / np.sqrt(np.asarray(var, np.float64) + self.eps)
        if self.weight is not None:
            scale *= self.weight.value
        shift = -mean * scale
        if self.bias is not None:
            shift += self.bias.value
        return scale.astype(self.dtype), shift.astype(self.dtype)

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write equation (36) into the gradients and return (37), in the memory of ``dy`` unless that is kept."""
        dx, y = (work.dx, planes(work.y.array)) if work.adds else (dy, work.nothing)
        batchnorm.batch_norm_backward(
            planes(dy.array),
            planes(work.x.array),
            y,
            dy.n,
            work.mean,
            work.var,
            self.eps,
            work.scale,
            work.shift,
            work.relu,
            work.dgamma,
            work.dbeta,
            planes(dx.array),
        )
        self.keep(work)
        return dx if need_dx else None


class BatchNorm2d(_BatchNorm):
    """Give every channel mean 0 and variance 1 over the batch's pixels, then scale and shift it by what is learned.

    Equations (34) to (37) of docs/backprop.md; Ioffe & Szegedy 2015, arXiv:1502.03167.  In evaluation the running
    statistics take the batch's place, and directly behind a ``Conv2d`` the layer becomes a part of its weights.

    Parameters
    ----------
    num_features : int
        C, of an input (N, C, H, W).
    eps : float
        Added to the variance.
    momentum : float or None
        The new batch's share in the running statistics; None averages over all batches alike.
    affine : bool
        Whether there are a learned scale and shift.
    track_running_stats : bool
        If false, evaluation uses the batch's statistics too.

    Attributes
    ----------
    weight, bias : Parameter, float[C], or None
    running_mean, running_var : float[C]
        Of the unbiased variance, as in PyTorch.
    num_batches_tracked : int64[]

    Raises
    ------
    ShapeError, ValueError
        If an argument is outside its range.
    """

    inputs = (", H, W",)


class Folded(NamedTuple):
    """A convolution and the normalisation behind it as one convolution, for evaluation: equation (38)."""

    conv: Conv1d | Conv2d
    norm: _BatchNorm
    inner: Workspace
    """The convolution's."""
    relu: bool

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Run the convolution with weights that the running statistics have become a part of."""
        scale, shift = self.norm.line(self.norm.running_mean, self.norm.running_var)
        weight = self.conv.weight.value * scale.reshape(-1, *[1] * (self.conv.weight.value.ndim - 1))
        bias = shift if self.conv.bias is None else shift + scale * self.conv.bias.value
        addend = work.addend
        y = self.conv.apply_outside(x, self.inner, weight, bias, self.relu and addend is None)
        if addend is not None:
            add(pixels(y), pixels(addend), pixels(y), self.relu)
        return y


def folded(steps: list[tuple[Layer, Workspace]]) -> list[tuple[Any, Workspace]]:
    """Return the steps of an evaluation: those of training, with each normalisation behind a convolution folded."""
    out: list[tuple[Any, Workspace]] = []
    for layer, work in steps:
        before: Any
        before, inner = out[-1] if out else (None, None)
        fits = (type(before), type(layer)) in ((Conv2d, BatchNorm2d), (Conv1d, BatchNorm1d))
        if fits and isinstance(layer, _BatchNorm) and layer.track_running_stats and inner is not None:
            out[-1] = Folded(before, layer, inner, work.relu), work
        else:
            out.append((layer, work))
    return out


class BatchNorm1d(_BatchNorm):
    """Give every feature mean 0 and variance 1 over the batch; for (N, features), or channels of sequences (N, C, L).

    In evaluation, directly behind a ``Conv1d``, it becomes a part of its weights.  Parameters, attributes, and what is
    raised, are those of ``BatchNorm2d``.
    """

    inputs = "", ", L"
