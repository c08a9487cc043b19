"""Whatever array a public function is given, it answers rightly or rejects it with a clear error."""

import sys
import warnings
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

import fastconv as fc
from benchmarks.reliability import array_calls, array_kinds, children
from benchmarks.reliability.array_kinds import ANYTHING, REFUSED
from benchmarks.reliability.promise import Outcome, Promise

_MEGABYTES, _SECONDS = 6000, 60


class _Case(NamedTuple):
    call: array_calls.Call
    argument: str
    kind: array_kinds.Kind
    content: str

    def __str__(self) -> str:
        return f"{self.call.name}, {self.argument}: {self.kind.name}, {self.content} values"


def _all_cases() -> list[_Case]:
    found: list[_Case] = []
    for call in array_calls.calls():
        for argument, kind in product(call.arguments, array_kinds.KINDS):
            role, array = call.arguments[argument]
            with np.errstate(all="ignore"):
                if kind.make(array, role) is None:
                    continue
            is_float = array.dtype.kind == "f"
            contents = array_kinds.CONTENTS if is_float else ("ordinary",)
            found += [_Case(call, argument, kind, content) for content in contents]
    return found


def _drawn(seed: int, cases: int) -> list[_Case]:
    found = _all_cases()
    order = np.random.default_rng(seed).permutation(len(found))
    return [found[number] for number in order[:cases]]


def measure(seed: int, cases: int) -> Outcome:
    """Try so many of the cases, drawn from the seed, or all if there are no more."""
    drawn = _drawn(seed, cases)
    answers = children.run(__name__, [str(seed)], len(drawn))
    failures = [f"{drawn[answer.case]}: {answer.wrong}" for answer in answers if answer.wrong]
    failures += [f"no call for the public name {name}" for name in array_calls.uncovered()]
    functions = len({case.call.name for case in drawn})
    kinds = len({case.kind.name for case in drawn})
    figure = f"{len(drawn):,} calls of {functions} functions and layers with {kinds} kinds of arrays: {len(failures)} "
    return Outcome(figure + "wrong results, wrong refusals, changed inputs, crashes or errors of others", failures)


# ------------------------------------------------------------------------------------------------------- in the child


def _try(case: _Case) -> str | None:
    """Return what is wrong, or None."""
    call, arguments = case.call, {}
    for name, (_, array) in call.arguments.items():
        arguments[name] = array
    role, array = call.arguments[case.argument]
    if array.dtype.kind == "f":
        with np.errstate(all="ignore"):
            array = array_kinds.CONTENTS[case.content](array)
    made = case.kind.make(array, role)
    assert made is not None, "a case of nothing"
    before = _Witness(made.hostile)
    got = _outcome(call, arguments | {case.argument: made.hostile})
    if not before.agrees():
        return "the array was changed"
    if got.wrong:
        return got.wrong
    if made.plain is ANYTHING:
        return None
    if made.plain is REFUSED:
        return None if got.error else f"expected an error, got {str(got.result)[:80]}"
    plain = _outcome(call, arguments | {case.argument: made.plain.copy()})
    must_work = role in case.kind.must_work and not call.is_strict
    # Of ordinary values a plain array must work, too; else an error of both may be right.
    if got.error and must_work and (case.content == "ordinary" or not plain.error):
        return f"expected what a plain array gives, got {got.error}"
    if got.error:
        return None
    if plain.error:
        return f"expected the error of a plain array, {plain.error}, got a result"
    return None if got.result == plain.result else "expected the bits that a plain array gives, got others"


class _Witness:
    """Remembers the memory behind an array."""

    def __init__(self, thing: object) -> None:
        self._array = thing if isinstance(thing, np.ndarray) else None
        while self._array is not None and isinstance(self._array.base, np.ndarray):
            self._array = self._array.base
        self._before = self._state()

    def _state(self) -> object:
        found = self._array
        if found is None or found.dtype.hasobject:
            return None
        return bytes(np.asarray(found).tobytes()), found.flags.writeable, found.shape, found.strides

    def agrees(self) -> bool:
        return self._state() == self._before


class _Outcome(NamedTuple):
    result: bytes | None
    error: str | None
    wrong: str | None


def _outcome(call: array_calls.Call, arguments: dict[str, Any]) -> _Outcome:
    try:
        with warnings.catch_warnings(action="ignore"):
            result = call.function(**arguments)
        return _Outcome(b"".join(_bits(result)), None, None)
    except (ValueError, TypeError, MemoryError, IndexError, RuntimeError) as error:
        kind, message = type(error), str(error)
        said = f"{kind.__name__}: {message[:200]}"
        if kind.__module__.startswith("numba") or not _is_ours(kind, message, call):
            return _Outcome(None, said, f"an error that is not ours: {said}")
        return _Outcome(None, said, None)
    except Exception as error:
        return _Outcome(None, repr(error), f"an error that is not ours: {type(error).__name__}: {str(error)[:200]}")


def _is_ours(kind: type, message: str, call: array_calls.Call) -> bool:
    if kind in (fc.TrainingError, fc.GradientError):
        return True
    named = any(name.lower() in message.lower() for name in call.says)
    expected = issubclass(kind, ValueError | TypeError | MemoryError) or "no saved input" in message
    expected |= "Augment" in call.name and kind is IndexError
    return named and expected and "\n" not in message


def _bits(tree: Any) -> Iterator[bytes]:
    """Yield what a result is, to the bit; a NaN is like another."""
    if isinstance(tree, np.ndarray):
        if type(tree) is not np.ndarray:
            raise AssertionError(f"a result of type {type(tree).__name__}")
        values = tree.copy()
        if values.dtype.kind == "f":
            values[np.isnan(values)] = np.nan
        yield f"{tree.dtype.str}{tree.shape}".encode() + values.tobytes()
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield str(key).encode()
            yield from _bits(value)
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from _bits(part)
    else:
        yield repr(tree).encode()


def _main(words: list[str]) -> None:
    seed, first, last = map(int, words)
    drawn = _drawn(seed, last)
    fc.Sequential(fc.Linear(2, 2)).fit(np.zeros((2, 2)), [0, 1], epochs=1, verbose=False)  # starts the threads
    children.limits(_MEGABYTES)
    cases: Iterable[int] = range(first, last)
    children.answer(cases, lambda case: _try(drawn[case]), _SECONDS)


PROMISE = Promise(
    "Whatever array comes, the result is right or the error is ours",
    "each public function and layer that takes arrays, each of its arrays in turn: every type, byte order, order of "
    "axes and stride, read-only, overlapping, unaligned, empty, huge, subclasses, masked, lists and what is no array; "
    "ordinary values, denormal ones, NaN and infinities. Results equal to the bit to those of a plain copy, or an "
    "error that names the operation; any layout, float32, float64, uint8 images and labels of any whole type must be "
    "taken; inputs are not changed",
    measure,
    short=1500,
    long=100_000,
)

if __name__ == "__main__":
    _main(sys.argv[1:])
