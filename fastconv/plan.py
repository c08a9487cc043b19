"""The memory of a model for one shape of its input."""

import numpy as np

from fastconv import blocks, footprint, room
from fastconv.layers.base import Layer, Workspace
from fastconv.normalization import Normalization
from fastconv.shapes import Shape
from fastconv_kernels import limits

_REMEDY = "take fewer images in a batch"


class Plan:
    """What a batch of one shape is packed into and run with, training or not.

    Parameters
    ----------
    model : Layer
    shape : (N, C, H, W), (N, C, L) or (N, features)
    training : bool
        Whether what only training writes to must fit into memory now.

    Attributes
    ----------
    x : Blocks
        The packed images.
    work : Workspace
    output_shape : tuple of int

    Raises
    ------
    ShapeError
        If the model cannot take such an input.
    NoRoomError
        If there is not enough memory.
    """

    def __init__(self, model: Layer, shape: Shape, training: bool) -> None:
        free = limits.free_memory()  # before: an address space is full of what nobody has written to, too
        self.work = Workspace(model.dtype)
        try:
            self.x = blocks.empty(shape, model.dtype)
            self.output_shape = model.plan(shape, self.work)
            forward, backward = footprint.of_plan(self.work)
            forward += self.x.array.nbytes
        except MemoryError:
            forward, backward = footprint.of_batch(model, shape)
            raise room.NoRoomError(
                room.refusal("Sequential", _needs(shape, forward + backward), _REMEDY, free)
            ) from None
        room.check("Sequential", _needs(shape, forward + training * backward), _REMEDY, free)
        self._normalization: Normalization | None = None
        self._table = np.empty((0, 256))

    def table(self, normalization: Normalization) -> np.ndarray:
        """Return float[C, 256]: what becomes of pixels; made once for as long as the normalisation stays."""
        if normalization is not self._normalization:
            self._table = normalization.table(self.x.shape[1], self.x.array.dtype)
            self._normalization = normalization
        return self._table


def _needs(shape: Shape, size: float) -> dict[str, float]:
    return {f"a batch of {shape[0]:,} images of {'x'.join(map(str, shape[1:]))}": size}
