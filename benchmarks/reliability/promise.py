"""What a promise is, and where promises are found."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

from benchmarks.reliability import promises

BY_TIMING = ("cache", "processes", "resume", "signals", "threads")
"""Promises whose cases depend on the moment, too, at which threads or processes do something: no seed repeats that."""


@dataclass(frozen=True)
class Outcome:
    """What a measurement found.

    Parameters
    ----------
    figure : str
        In words: '50 of 50 runs equal to the byte'.
    failures : list of str
        What was found wrong, a line each; the promise is kept if there is none.
    notes : list of str
        What could not be tried here, and why.
    """

    figure: str
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Promise:
    """A promise, and how it is shown.

    Parameters
    ----------
    promise : str
        In words.
    shown : str
        How it is measured, in words.
    measure : function of (seed, cases)
        Tries so many cases, drawn from the seed, in whatever unit suits the promise.
    short, long : int
        Cases in the tests, and with ``--long``.
    """

    promise: str
    shown: str
    measure: Callable[[int, int], Outcome]
    short: int
    long: int


def names() -> list[str]:
    """Return the names of all promises."""
    return sorted(module.name for module in pkgutil.iter_modules(promises.__path__) if module.name[0] != "_")


def find(name: str) -> Promise:
    """Return the promise of that name."""
    found = import_module(f"{promises.__name__}.{name}").PROMISE
    assert isinstance(found, Promise)
    return found
