"""A model one layer at a time, each run by itself: what a table of layers and a search for the first mistake look at.

Layers inside ``Sequential`` and the built-in branches come one by one, branches before what joins them; a composite of
somebody else's comes as a whole.
"""

from collections.abc import Generator

import numpy as np

from fastconv.layers import Layer, Workspace
from fastconv.layers.branches import Branches
from fastconv.sequential import Sequential
from fastconv.shapes import Shape


def shapes(layer: Layer, shape: Shape, name: str = "") -> Generator[tuple[str, Layer, Shape, Shape], None, Shape]:
    """Yield (name, layer, input's shape, output's shape), and return the last output's.

    Raises
    ------
    ShapeError
        If a layer cannot take such an input.
    """
    if isinstance(layer, Sequential):
        for number, child in enumerate(layer):
            shape = yield from shapes(child, shape, f"{name}.{number}" if name else str(number))
        return shape
    output = layer.plan(shape, Workspace(layer.dtype))
    if isinstance(layer, Branches):
        for number, child in enumerate(layer.children()):
            yield from shapes(child, shape, f"{name}.{number}")
    yield name, layer, shape, output
    return output


def values(
    layer: Layer, x: np.ndarray, training: bool, name: str = ""
) -> Generator[tuple[str, Layer, np.ndarray, np.ndarray], None, np.ndarray]:
    """Yield (name, layer, input, output) as soon as each is computed, and return the last output."""
    if isinstance(layer, Sequential):
        for number, child in enumerate(layer):
            x = yield from values(child, x, training, f"{name}.{number}" if name else str(number))
        return x
    if isinstance(layer, Branches):
        for number, child in enumerate(layer.children()):
            yield from values(child, x, training, f"{name}.{number}")
    y = layer.forward(x, training)
    yield name, layer, x, y
    return y
