"""How much memory a model takes to train and to predict, found before it does: by planning for few images.

A plan is memory that nobody has written to, which costs nothing; but for what does not depend on the number of lane
blocks, it grows with them.  Comparisons with what processes took: ``python -m benchmarks.reliability limits``.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from fastconv import room
from fastconv.layers import Layer, Workspace
from fastconv.layers.base import Parameter
from fastconv.layers.batchnorm import Folded
from fastconv.layers.channelwise import Channelwise
from fastconv.shapes import Shape
from fastconv_kernels import limits, memory
from fastconv_kernels.runtime import get_num_threads
from fastconv_kernels.tile import LANES

_OF_TRAINING = frozenset(
    {"dx", "dpadded", "dgamma", "dbeta", "copies", "parts", "place", "_shares", "weight_shares", "bias_shares"}
)
"""Attributes of workspaces that only a backward pass writes to, or a forward pass before one."""
_OURS = ("fastconv", "fastconv_kernels")


class Footprint(NamedTuple):
    """Bytes."""

    forward: float
    """What predicting writes to."""
    backward: float
    """What training writes to besides."""


def of_plan(work: Workspace) -> Footprint:
    """Return what a planned workspace, with all inside it, takes."""
    totals = [0, 0]
    waiting = [0]  # the threads' own memory, which all launches share
    met: set[int] = set()

    def walk(thing: Any, is_of_training: bool) -> None:
        if id(thing) in met:
            return
        met.add(id(thing))
        if isinstance(thing, np.ndarray):
            while isinstance(thing.base, np.ndarray):
                thing = thing.base
                if id(thing) in met:
                    return
                met.add(id(thing))
            totals[is_of_training] += thing.nbytes
        elif isinstance(thing, list | tuple):
            for each in thing:
                walk(each, is_of_training)
        elif isinstance(thing, Workspace):
            # A normalisation that an evaluation folds into the convolution before it gives nothing of its own then, and
            # the first of those that are joined gives nothing in training.
            chains = [
                (layer, inner) for layer, inner in thing.__dict__.get("steps", ()) if isinstance(layer, Channelwise)
            ]
            joined = [inner.y for _, inner in chains]
            for chain, inner in chains:
                waiting.append(get_num_threads() * chain.kernels.scratch_bytes(len(inner.y.array)))
            for layer, inner in thing.__dict__.get("evaluation", ()):
                if isinstance(layer, Folded):
                    if any(inner.y is each for each in joined):
                        met.add(id(inner.y))
                    walk(inner.y, True)
            inside(thing, is_of_training)
        elif type(thing).__module__.split(".")[0] in _OURS and not isinstance(thing, Layer | Parameter):
            inside(thing, is_of_training)

    def inside(thing: Any, is_of_training: bool) -> None:
        for name, each in getattr(thing, "__dict__", {}).items():
            walk(each, is_of_training or name in _OF_TRAINING)

    walk(work, False)
    return Footprint(totals[0], totals[1] + max(waiting))


def of_batch(model: Layer, shape: Shape) -> Footprint:
    """Return what a batch of this shape takes in a model, with its packed images.

    Raises
    ------
    NoRoomError
        If there is no memory for one lane block.
    """
    count = -(-shape[0] // LANES)
    if count <= 2:
        return _planned(model, shape)
    one, two = (_planned(model, (LANES * blocks, *shape[1:])) for blocks in (1, 2))
    return Footprint(*(a + (count - 1) * (b - a) for a, b in zip(one, two, strict=True)))


def _planned(model: Layer, shape: Shape) -> Footprint:
    free = limits.free_memory()
    with memory.counted() as asked:
        work = Workspace(model.dtype)
        try:
            memory.empty((-(-shape[0] // LANES), *shape[1:], LANES), model.dtype)
            model.plan(shape, work)
        except MemoryError:
            needs = {f"a part of what {shape[0]} images of {'x'.join(map(str, shape[1:]))} take": float(sum(asked))}
            raise room.NoRoomError(
                room.refusal("Sequential", needs, "take smaller images, or a smaller model", free)
            ) from None
    planned = of_plan(work)
    return planned._replace(forward=planned.forward + asked[0])


def of_training(
    model: Layer,
    image_shape: Shape,
    images: int,
    held_out: int,
    batch_size: int,
    evaluated: int,
    copies: int,
    is_planned: Callable[[Shape], bool] = lambda shape: False,
) -> dict[str, float]:
    """Return what training takes beyond what the process has, by what it is for.

    Parameters
    ----------
    model : Layer
    image_shape : (C, H, W), (C, L) or (features,)
    images, held_out : int
        Those to train on, and to validate on.
    batch_size, evaluated : int
        Those in a batch of training, and of validation.
    copies : int
        How many more arrays of the weights' size there will be: of the optimiser, averages, the best ones.
    is_planned : function of a batch's shape
        Whether its memory is there.
    """
    needs: dict[str, float] = {}
    for count, largest, trains in ((images, batch_size, True), (held_out, evaluated, False)):
        for n in _sizes(count, largest):
            if not is_planned((n, *image_shape)):
                found = of_batch(model, (n, *image_shape))
                name = f"{'training' if trains else 'validation'} batches of {min(count, largest):,} images"
                needs[name] = needs.get(name, 0.0) + found.forward + trains * found.backward
    needs["weights, their gradients and copies"] = float(of_weights(model) + (copies + 1) * _bytes(model))
    needs["the order of the images"] = 24.0 * images
    return needs


def _sizes(count: int, largest: int) -> Iterable[int]:
    return {n for n in (min(count, largest), count % largest) if n}


def of_weights(model: Layer) -> int:
    """Return the bytes that weights which were not drawn yet will take, with what drawing the largest takes."""
    waiting = [parameter for parameter in model.parameters() if not parameter.is_drawn]
    drawing = max((8 * parameter.size for parameter in waiting), default=0)
    return sum(parameter.size * parameter.dtype.itemsize for parameter in waiting) + drawing


def _bytes(model: Layer) -> int:
    return sum(parameter.size * parameter.dtype.itemsize for parameter in model.parameters())
