"""The lane-block layout: sixteen images side by side, and the way in and out of it.

Outside, arrays are (N, C, H, W), (N, C, L) or (N, features).  Inside, they are (B, C, H, W, 16), (B, C, L, 16) or
(B, features, 16): one pixel of sixteen images is one vector.  N, the number of real images, travels with the array; the
lanes behind it are padding.
"""

from typing import NamedTuple

import numpy as np

from fastconv import room
from fastconv.shapes import Shape, ShapeError
from fastconv_kernels import lanes, limits, memory
from fastconv_kernels.tile import LANES

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Blocks(NamedTuple):
    """Lane blocks and the number of real images in them."""

    array: np.ndarray
    n: int

    @property
    def shape(self) -> Shape:
        """The shape outside: (n, C, H, W), (n, C, L) or (n, features)."""
        return (self.n, *self.array.shape[1:-1])

    def flat(self) -> "Blocks":
        """Return the same memory as (B, features, 16): what Flatten is, in this layout."""
        return Blocks(pixels(self), self.n)

    def clear_empty_lanes(self) -> None:
        """Write zeros where there is no image."""
        if self.n % LANES:
            self.array[-1, ..., self.n % LANES :] = 0


def empty(shape: Shape, dtype: np.typing.DTypeLike) -> Blocks:
    """Return uninitialised lane blocks for a batch of the given outside shape."""
    return Blocks(memory.empty((-(-shape[0] // LANES), *shape[1:], LANES), dtype), shape[0])


def planes(array: np.ndarray) -> np.ndarray:
    """View (B, C, H, W, 16), (B, C, L, 16) or (B, features, 16) as (B, C, S, 16)."""
    return array.reshape(array.shape[0], array.shape[1], -1, LANES)


def pixels(x: Blocks) -> np.ndarray:
    """View blocks as (B, S, 16), S pixels of all channels."""
    return x.array.reshape(x.array.shape[0], -1, LANES)


def channels(x: Blocks) -> np.ndarray:
    """View blocks as (B, C, elements), the lanes of all pixels of a channel."""
    return x.array.reshape(*x.array.shape[:2], -1)


def as_array(operation: str, name: str, array: object) -> np.ndarray:
    """Return what an argument holds as a plain array of whatever dtype; raises TypeError if it is none."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{operation}: expected {name} as a plain array, got a masked array: fill it first")
    try:
        return np.asarray(array)
    except (ValueError, TypeError, OverflowError) as error:  # such as lists of different lengths
        raise TypeError(f"{operation}: expected {name} as an array, got {type(array).__name__} ({error})") from error


def contiguous(operation: str, name: str, array: np.ndarray, dtype: np.typing.DTypeLike | None = None) -> np.ndarray:
    """Return an array in the order of memory, a copy only if need be.

    Raises
    ------
    NoRoomError
        If there is no memory for the copy: a view that repeats few numbers may seem to hold terabytes.
    """
    dtype = array.dtype if dtype is None else np.dtype(dtype)
    if array.dtype == dtype and array.flags.c_contiguous:
        return np.ascontiguousarray(array, dtype).reshape(array.shape)
    needs = {f"a copy of {name}, {dtype} of shape {array.shape}": float(array.size * dtype.itemsize)}
    remedy = f"give it in the order of memory, as {dtype}, or less of it"
    room.check(operation, needs, remedy)
    try:
        return np.ascontiguousarray(array, dtype).reshape(array.shape)
    except MemoryError:
        raise room.NoRoomError(room.refusal(operation, needs, remedy, limits.free_memory())) from None


def as_float(operation: str, name: str, array: object, dtype: np.typing.DTypeLike | None = None) -> np.ndarray:
    """Return a contiguous float32 or float64 array in this machine's byte order: the one gate in front of kernels.

    Parameters
    ----------
    operation, name : str
        For the message.
    array : array_like of real numbers
        Integers, booleans and float16 become float32 unless ``dtype`` says otherwise.
    dtype : float32, float64 or None
        None keeps the array's own where it is one of the two.

    Raises
    ------
    TypeError
        If it does not hold real numbers.
    NoRoomError
        If there is no memory for a copy.
    """
    given = as_array(operation, name, array)
    if given.dtype.kind not in "fiub" or given.dtype.itemsize > 8:
        raise TypeError(f"{operation}: expected {name} of float32 or float64, got {given.dtype}")
    if dtype is None:
        dtype = np.float64 if given.dtype.kind == "f" and given.dtype.itemsize == 8 else np.float32
    return contiguous(operation, name, given, dtype)


def read_only_planes(images: np.ndarray) -> np.ndarray:
    """View (N, C, H, W), (N, C, L) or (N, features) as (N, C, S), never to be written to."""
    # Whether the caller's array can be written to would otherwise be one more signature to compile.
    view = images.reshape(images.shape[0], images.shape[1], -1)
    view.flags.writeable = False
    return view


def pack(x: np.ndarray, out: Blocks, index: np.ndarray | None = None) -> Blocks:
    """Copy images ``x[index]`` (all if None), of the dtype of ``out``, into the lane blocks ``out``."""
    if index is None:
        index = np.arange(x.shape[0])
    if out.n:
        lanes.pack(read_only_planes(x), index, planes(out.array))
    return out


def pack_pixels(x: np.ndarray, table: np.ndarray, out: Blocks, index: np.ndarray | None = None) -> Blocks:
    """Copy uint8 images ``x[index]`` (all if None) into ``out``; channel c's value v becomes ``table[c, v]``."""
    if index is None:
        index = np.arange(x.shape[0])
    if out.n:
        square = memory.scratch((LANES, LANES), out.array.dtype)
        lanes.pack_pixels(read_only_planes(x), index, table, planes(out.array), square)
    return out


def unpack(x: Blocks) -> np.ndarray:
    """Return a new array (n, C, H, W), (n, C, L) or (n, features) of the real images."""
    images = np.empty(x.shape, x.array.dtype)
    if x.n:
        lanes.unpack(planes(x.array), images.reshape(x.n, x.array.shape[1], -1))
    return images


def check_batch(operation: str, x: np.ndarray) -> np.ndarray:
    """Return ``x`` if it is (N, C, H, W), (N, C, L) or (N, features); raises ShapeError otherwise."""
    if x.ndim not in (2, 3, 4) or min(x.shape[1:]) < 1:
        raise ShapeError(f"{operation}: expected x of shape (N, C, H, W) or (N, C, L) or (N, features), got {x.shape}")
    return x
