"""What becomes of a model's lock in a forked process, where the threads that may have held it do not exist."""

import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What wants to know of forks."""

    def after_fork(self) -> None:
        """Is called in the child."""
        ...


_told: "WeakSet[Forked]" = WeakSet()


def tell(thing: Forked) -> None:
    """Have ``thing.after_fork()`` called in forked children, for as long as it lives."""
    _told.add(thing)


def _after_fork() -> None:
    for thing in list(_told):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class HalfTrained:
    """The lock of a model whose weights may be those of half a step: nobody gets it."""

    def __enter__(self) -> None:
        raise RuntimeError(
            "Sequential: another thread was training this model when the process forked, so its weights here may be "
            "those of half a step; fork while holding model.lock, or load the model from a file"
        )

    def __exit__(self, *_: object) -> None:
        """Is never called."""
