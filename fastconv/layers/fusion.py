"""How the layers of a chain share work: what becomes part of a neighbour's step, and the steps that are left."""

from collections.abc import Sequence
from itertools import pairwise

from fastconv.layers.activation import ReLU
from fastconv.layers.base import Layer, Workspace, is_ours
from fastconv.layers.batchnorm import folded
from fastconv.layers.channelwise import joined
from fastconv.layers.conv import Conv2d
from fastconv.layers.linear import Linear
from fastconv.layers.pool import MaxPool2d
from fastconv.layers.together import together
from fastconv.shapes import Shape, ShapeError

_Step = tuple[Layer, Workspace]


def plan_chain(layers: Sequence[Layer], shape: Shape, work: Workspace) -> Shape:
    """Plan layers one after another into ``work.steps``, for training, and ``work.evaluation``.

    If ``work.adds``, the chain is a branch: its last layer adds the other branch's output, and applies the ReLU that
    follows the sum.

    Parameters
    ----------
    layers : sequence of Layer
    shape : (N, C, H, W), (N, C, L) or (N, features)
    work : Workspace

    Returns
    -------
    tuple of int
        The output's shape.

    Raises
    ------
    ShapeError
        If a layer cannot take what comes; the message has its number.
    """
    stepping = _without_fused_relus(layers)
    steps: list[_Step] = []
    spread = None  # how the images lie, where they come in pieces
    for place, (number, layer, relu) in enumerate(stepping):
        inner = work.within(layer)
        inner.relu = relu
        if work.adds and number == len(layers) - 1:
            inner.adds, inner.relu = True, work.relu
        followers = stepping[place + 1 : place + 2]
        inner.may_stay = is_ours(layer) and any(is_ours(other) and other.knows_pieces for _, other, _ in followers)
        try:
            if spread is not None and not (is_ours(layer) and layer.takes_pieces(shape, spread)):
                steps.append(together(shape, work, spread))
                spread = None
            inner.came = spread
            shape = layer.plan(shape, inner)
        except ShapeError as error:
            raise ShapeError(f"layer {number}: {error}") from None
        spread = inner.left
        steps.append((layer, inner))
    if spread is not None:
        steps.append(together(shape, work, spread))
    _gate(steps)
    work.evaluation, work.steps = folded(steps), joined(steps)
    return shape


def _without_fused_relus(layers: Sequence[Layer]) -> list[tuple[int, Layer, bool]]:
    """Return (number, layer, whether it applies the ReLU behind it on its tile) for layers that have steps."""
    stepping: list[tuple[int, Layer, bool]] = []
    numbered = enumerate(layers)
    for number, layer in numbered:
        followed = number + 1 < len(layers) and type(layers[number + 1]) is ReLU
        relu = followed and is_ours(layer) and layer.fuses_relu
        stepping.append((number, layer, relu))
        if relu:
            next(numbered)
    return stepping


def _gate(steps: Sequence[_Step]) -> None:
    """Let max pooling compute the gradient of the ReLU, and of the bias, before it (docs/adr/0017)."""
    for (layer, inner), (after, behind) in pairwise(steps):
        if inner.relu and type(layer) in (Conv2d, Linear) and type(after) is MaxPool2d:
            behind.gates, inner.gated = inner, True
