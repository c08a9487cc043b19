"""An average of a model's weights over the steps of its training."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ref

import numpy as np

from fastconv import blocks
from fastconv.layers import Layer
from fastconv_kernels import optim as kernels
from fastconv_kernels.many import Many


class EMA:
    """Exponential moving average of all weights and running statistics: equation (81) of docs/backprop.md.

    ``fit(..., ema=EMA())`` averages after every step, evaluates the averages, and leaves them in the model at the end.
    In a loop of one's own: ``begin(model)`` once, ``update()`` after each step, ``finish()``.

    Parameters
    ----------
    decay : float
        How much of the average each step keeps, from 0 to below 1.
    warmup : bool
        Keep less in the first steps, (1 + t) / (10 + t) after step t, so that the initial weights are soon forgotten.

    Attributes
    ----------
    updates : int
        Steps that were averaged.
    swapped : bool
        Whether the model holds the averages at the moment, and this object the weights that are trained.

    Raises
    ------
    ValueError
        If decay is outside its range.
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise ValueError(f"EMA: expected decay of at least 0 and below 1, got {decay!r}")
        self.decay, self.warmup = float(decay), bool(warmup)
        self.updates, self.swapped = 0, False
        self._finished = False
        self._model: ref[Layer] | None = None
        self._arrays: dict[str, np.ndarray] = {}
        self._groups: list[Many] = []

    def begin(self, model: Layer) -> None:
        """Start at the model's weights, or go on with averages of this model that there are and were not finished.

        Raises
        ------
        ValueError
            If the averages are those of a model with other weights.
        """
        # Whole numbers, such as a count of batches, have no average: they stay the model's.
        live = {name: array for name, array in model.named_state() if array.dtype.kind == "f"}
        other = self._model is not None and self._model() is not model
        if self._finished or other:
            self._arrays, self.updates, self.swapped, self._finished = {}, 0, False, False
        if not self._arrays:
            self._arrays = {name: array.copy() for name, array in live.items()}
        mine, its = ({name: (a.shape, a.dtype) for name, a in all_.items()} for all_ in (self._arrays, live))
        if mine != its:
            name = next(name for name in [*mine, *its] if mine.get(name) != its.get(name))
            raise ValueError(
                f"EMA: expected a model with the weights of its averages, but {name} is {_kind(its.get(name))} there "
                f"and {_kind(mine.get(name))} here"
            )
        self._model = ref(model)
        groups: dict[np.dtype, list[tuple[np.ndarray, ...]]] = {}
        for name, array in live.items():
            groups.setdefault(array.dtype, []).append((self._arrays[name], array))
        self._groups = [Many(each) for each in groups.values()]
        if self.swapped:
            self.swap()

    def update(self) -> None:
        """Let the averages follow the weights by one step; raises RuntimeError if they were not begun."""
        if self._model is None:
            raise RuntimeError("EMA: expected begin(model) before update()")
        self.updates += 1
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        for together in self._groups:
            kernels.average(*together.table, 1 - kept)

    def swap(self) -> None:
        """Exchange averages and weights, in their memory."""
        self.swapped = not self.swapped
        for average, value in self._pairs():
            trained = value.copy()
            value[...] = average
            average[...] = trained

    @contextmanager
    def applied(self) -> Generator[None]:
        """Give the model the averages inside a ``with``, and its weights back behind it."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def finish(self) -> None:
        """Leave the averages in the model; the next ``begin`` starts anew."""
        for average, value in self._pairs():
            value[...] = average
        self._finished = True

    def _pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for together in self._groups:
            yield from together.groups

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all that this object knows: with the model's own, what resuming needs, swapped or not."""
        counts = {"updates": np.array(self.updates), "swapped": np.array(self.swapped)}
        return counts | {name: array.copy() for name, array in self._arrays.items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Set what ``state_dict`` returned; ``begin`` comes next, and looks whether it fits the model."""
        state = dict(state)
        self._finished, self._model = False, None
        self.updates, self.swapped = int(state.pop("updates")), bool(state.pop("swapped"))
        self._arrays, self._groups = (
            {name: _native(name, array) for name, array in state.items()},
            [],
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_groups": [], "_model": None}  # which hold addresses


def _native(name: str, array: object) -> np.ndarray:
    given = blocks.as_array("EMA", name, array)
    return blocks.contiguous("EMA", name, given, given.dtype.newbyteorder("=")).copy()


def _kind(found: tuple[tuple[int, ...], np.dtype] | None) -> str:
    return "missing" if found is None else f"{found[1]}{list(found[0])}"
