"""Arrays as nobody wants them: odd types, odd memory, odd values, and things that are no arrays.

Each kind makes one of a plain, C-contiguous array, and says which plain array it means: a function must give the same
bits for both, or refuse.  What means no array must be refused.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

ROLES = ("floats", "images", "pixels", "labels", "numbers")
"""What an array is for: floats; images, which are floats or uint8; uint8 alone; whole numbers; or never mind."""


class Made(NamedTuple):
    """A hostile thing, and what it means."""

    hostile: Any
    plain: Any
    """The plain array, REFUSED, or ANYTHING where only the manner of the answer counts."""


class Kind(NamedTuple):
    """A way to be hostile."""

    name: str
    make: Callable[[np.ndarray, str], Made | None]
    """Of a plain array and its role; None where there is no such thing of it."""
    must_work: tuple[str, ...] = ()
    """The roles in which refusing it would be wrong."""


class Mine(np.ndarray):
    """A subclass as users have them, whose arithmetic is not NumPy's."""

    def __array_ufunc__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("arithmetic of a subclass was used")


REFUSED, ANYTHING = object(), object()
_GUARD = 5


def _amid(array: np.ndarray, step: int = 1) -> np.ndarray:
    """Return a copy that lies in the middle of a larger array, every ``step``-th row and column of it."""
    around = np.full([2 * _GUARD + step * size for size in array.shape], 77, array.dtype)
    view = around[tuple(slice(_GUARD, _GUARD + step * size, step) for size in array.shape)]
    view[...] = array
    return view


def _reversed(array: np.ndarray) -> np.ndarray:
    axes = tuple(range(array.ndim))
    return np.flip(np.ascontiguousarray(np.flip(array, axes)), axes)


def _read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _unaligned(array: np.ndarray) -> np.ndarray:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _layout(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Kind:
    return Kind(name, lambda array, role: Made(change(array), array) if array.ndim else None, ROLES)


def _repeated(array: np.ndarray, role: str) -> Made | None:
    """All images are the first one, in the same memory."""
    if not array.ndim or not array.shape[0]:
        return None
    hostile = np.broadcast_to(array[:1], array.shape)
    return Made(hostile, hostile.copy())


def _sliding(array: np.ndarray, role: str) -> Made | None:
    """Each image begins in the middle of the one before."""
    if array.ndim < 2:
        return None
    inner = array[0].size
    memory = np.resize(array, inner + len(array) * max(1, inner // 2)).astype(array.dtype)
    rest = np.ascontiguousarray(array[0]).strides
    hostile = np.lib.stride_tricks.as_strided(memory, array.shape, (max(1, inner // 2) * array.itemsize, *rest))
    return Made(hostile, hostile.copy())


def _matrix(array: np.ndarray, role: str) -> Made | None:
    return Made(array.view(np.matrix), array) if array.ndim == 2 else None


_TYPES = (
    *("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "g"),
    *(">i2", ">u4", ">i8", ">f2", ">f8"),
)


_PROMISED = {"f4": ("floats", "images"), "f8": ("floats", "images"), "u1": ("images", "pixels", "labels")}
"""Roles in which all public functions take a type."""


def _typed(code: str) -> Kind:
    dtype = np.dtype(code)

    def make(array: np.ndarray, role: str) -> Made:
        with np.errstate(all="ignore"):
            hostile = (np.nan_to_num(array).clip(0, 100) if dtype.kind in "iu" else array).astype(dtype)
        if role == "numbers":
            return Made(hostile, ANYTHING)
        if role == "labels":
            return Made(hostile, np.nan_to_num(hostile.astype(np.float64)).astype(np.int64))
        if role == "pixels":
            return Made(hostile, hostile.astype(np.uint8))
        # Doubles and images stay what they are; all else becomes single.
        kept = (dtype.kind == "f" and dtype.itemsize == 8) or (role == "images" and dtype == np.uint8)
        return Made(hostile, hostile.astype(dtype.newbyteorder("=") if kept else np.float32))

    whole = ("labels",) if dtype.kind in "iu" else ()
    return Kind(f"dtype {code}", make, _PROMISED.get(code, whole))


def _foreign(name: str, change: Callable[[np.ndarray], Any]) -> Kind:
    return Kind(name, lambda array, role: Made(change(array), REFUSED) if array.ndim else None)


def _odd(name: str, change: Callable[[np.ndarray], Any]) -> Kind:
    return Kind(name, lambda array, role: Made(change(array), ANYTHING) if array.ndim else None)


def _structured(array: np.ndarray) -> np.ndarray:
    return np.zeros(array.shape, [("a", array.dtype), ("b", "i4")])


def _first(array: np.ndarray) -> Any:
    return array.reshape(-1)[0] if array.size else 0


HUGE = "terabytes of one number"
KINDS = (
    _layout("reversed", _reversed),
    _layout("amid others", _amid),
    _layout("every third", lambda array: _amid(array, 3)),
    _layout("Fortran", lambda array: np.array(array, order="F")),
    _layout("transposed", lambda array: np.array(array.T, order="C").T),
    _layout("other byte order", lambda array: array.astype(array.dtype.newbyteorder())),
    _layout("read-only", _read_only),
    _layout("unaligned", _unaligned),
    _layout("subclass", lambda array: array.copy().view(Mine)),
    Kind("matrix", _matrix, ROLES),
    Kind("repeated", _repeated, ROLES),
    Kind("overlapping", _sliding, ROLES),
    Kind("nested lists", lambda array, role: Made(array.tolist(), np.array(array.tolist()))),
    *map(_typed, _TYPES),
    _foreign("complex", lambda array: array.astype(np.complex64)),
    _foreign("text", lambda array: array.astype("U8")),
    _foreign("bytes", lambda array: array.astype("S8")),
    _foreign("objects", lambda array: array.astype(object)),
    _foreign("dates", lambda array: np.zeros(array.shape, "M8[s]")),
    _foreign("durations", lambda array: np.zeros(array.shape, "m8[s]")),
    _foreign("records", _structured),
    _foreign("void", lambda array: np.zeros(array.shape, "V4")),
    _foreign("masked", lambda array: np.ma.masked_array(array, np.zeros(array.shape, bool))),
    _foreign("ragged lists", lambda array: [[1.0, 2.0], [3.0]]),
    _foreign("huge integers", lambda array: [10**400] * 3),
    _foreign("a word", lambda array: "abc"),
    _foreign("a dictionary", lambda array: {"x": array}),
    _foreign("an object", lambda array: object()),
    Kind(HUGE, lambda array, role: Made(np.broadcast_to(_first(array), (2**40, *array.shape[1:])), REFUSED)),
    _odd("nothing", lambda array: None),
    _odd("no axis", lambda array: np.array(_first(array))),
    _odd("a number", _first),
    _odd("no images", lambda array: array[:0]),
    _odd("no values", lambda array: np.empty((*array.shape[:1], *(0 for _ in array.shape[1:])), array.dtype)),
    _odd("an axis more", lambda array: array[None]),
    _odd("an axis less", lambda array: array[0] if array.ndim and len(array) else array),
    _odd("one image less", lambda array: array[1:]),
    _odd("too large", lambda array: np.concatenate([array, array], axis=-1) if array.ndim else array),
    _odd("no images of a terabyte", lambda array: np.broadcast_to(array[:1], array.shape)[:0].reshape(
        (0, *array.shape[1:-1], 2**40))),
)  # fmt: skip


def _specials(array: np.ndarray) -> np.ndarray:
    """Not a number, infinities, zeros of both signs, the smallest and the largest numbers, among others."""
    limits = np.finfo(array.dtype)
    special = [np.nan, np.inf, -np.inf, -0.0, limits.smallest_subnormal, -limits.tiny / 2, limits.max, limits.min]
    changed = array.copy().reshape(-1)
    changed[::3] = np.resize(np.array(special, array.dtype), changed[::3].size)
    return changed.reshape(array.shape)


CONTENTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ordinary": lambda array: array,
    "denormal": lambda array: array * array.dtype.type(np.finfo(array.dtype).tiny),
    "special": _specials,
}
"""Of floating-point arrays."""
