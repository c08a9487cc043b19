"""A normalisation, its ReLU and max pooling as one step.  Its loops are in kernels/fastconv_kernels/normpool.py."""

from typing import Any, NamedTuple

from fastconv.blocks import Blocks, planes
from fastconv.layers.base import Layer, Workspace
from fastconv.layers.batchnorm import BatchNorm2d
from fastconv.layers.pool import MaxPool2d
from fastconv_kernels import normpool


class Pooled(NamedTuple):
    """A normalisation, a ReLU and max pooling by windows that do not overlap as one step of training."""

    norm: BatchNorm2d
    pool: MaxPool2d
    inner: Workspace
    """The pooling's."""

    def forward_blocks(self, x: Blocks, work: Workspace, training: bool) -> Blocks:
        """Write equation (7) of (15) of (35), with the batch's own statistics."""
        values, inner = planes(x.array), self.inner
        work.x = x
        into = work.mean, work.var, work.scale, work.shift, inner.y.array, inner.place
        how = *self.norm.affine_of(work), self.norm.eps
        normpool.forward(*self.pool.kernel_size)(values, x.array.shape[3], x.n, *how, *into)
        self.norm.track(work.mean, work.var, x.n * values.shape[2])
        return inner.y

    def backward_blocks(self, dy: Blocks, work: Workspace, need_dx: bool) -> Blocks | None:
        """Write equation (36) into the gradients and return (37), both of (69)."""
        x, inner = work.x.array, self.inner
        mean, rstd = self.norm.moments(work)
        kept = inner.y.array, inner.place, mean, rstd, work.scale
        into = work.dgamma, work.dbeta, planes(inner.dx.array)
        normpool.backward(*self.pool.kernel_size)(dy.array, planes(x), x.shape[3], dy.n, *kept, *into)
        self.norm.keep(work)
        return inner.dx if need_dx else None


def pooled(steps: list[tuple[Layer, Workspace]]) -> list[tuple[Any, Workspace]]:
    """Return the steps of training, with each max pooling behind a normalisation and its ReLU as one step with it."""
    out: list[tuple[Any, Workspace]] = []
    for layer, work in steps:
        if out and type(layer) is MaxPool2d and _apart(layer):
            norm, before = out[-1]
            if type(norm) is BatchNorm2d and before.relu:
                out[-1] = Pooled(norm, layer, work), before
                continue
        out.append((layer, work))
    return out


def _apart(pool: MaxPool2d) -> bool:
    """Whether each window lies inside the image, and none touches another."""
    return pool.stride == pool.kernel_size and pool.padding == (0, 0) and not pool.ceil_mode
