"""Files that were damaged, or made to do damage, are read rightly or refused in one line."""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.reliability import bombs, children, file_damage, file_kinds, resident
from benchmarks.reliability.promise import Outcome, Promise

_MEGABYTES, _SECONDS = 1500, 60
_MOST_GROWTH = 250
"""Megabytes that reading a file may take: less than what is in the bombs."""


def measure(seed: int, cases: int) -> Outcome:
    """Read so many damaged files of each kind, and each bomb once."""
    kinds, failures, notes, tried = len(file_kinds.KINDS), [], [], 0
    for answer in children.run(__name__, ["damage", str(seed)], kinds * cases):
        if answer.wrong:
            failures.append(f"case {answer.case}, {file_kinds.KINDS[answer.case % kinds].name}: {answer.wrong}")
    for answer in children.run(__name__, ["bombs", str(seed)], len(bombs.BOMBS)):
        name = bombs.BOMBS[answer.case].name
        if answer.left_out:
            notes.append(f"{name}: {answer.left_out}")
            continue
        tried += 1
        if answer.wrong:
            failures.append(f"{name}: {answer.wrong}")
    figure = (
        f"{kinds * cases:,} damaged files, {cases:,} of each of {kinds} kinds, and {tried} files made to do damage: "
        f"{len(failures)} signals, hangs, wrong loads, errors of others or more than {_MOST_GROWTH} MB taken by one"
    )
    return Outcome(figure, failures, notes)


# ------------------------------------------------------------------------------------------------------- in the child


class _Damage:
    """Tries cases: one of each kind after another."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed, self._folders = seed, [folder / str(number) for number in range(len(file_kinds.KINDS))]
        self._good = []
        for kind, place in zip(file_kinds.KINDS, self._folders, strict=True):
            place.mkdir()
            self._good.append(file_kinds.good(kind, place))

    def __call__(self, case: int) -> str | None:
        which = case % len(file_kinds.KINDS)
        kind, folder, (content, right) = file_kinds.KINDS[which], self._folders[which], self._good[which]
        rng = np.random.default_rng((self._seed, case))
        is_restamped = kind.restamp is not None and rng.random() < 0.5
        changed = kind.restamp(content, rng) if is_restamped else file_damage.damaged(content, rng)
        (folder / kind.name).write_bytes(changed)
        before = resident.forget_peak()
        try:
            found = kind.read(folder)
        except kind.errors as error:
            return _one_line(error) or _too_much(before)
        except Exception as error:
            return f"an error that is not ours: {type(error).__name__}: {str(error)[:200]}"
        if taken := _too_much(before):
            return taken
        if kind.otherwise is not None:
            try:
                right = kind.otherwise(changed)
            except Exception as error:
                return f"expected an error, as by another reading ({error!r}), got a result"
        elif is_restamped:
            return None  # whatever a stranger says that the model is, it is
        return None if found == right else f"a wrong load: {file_kinds.digest(found)}, not {file_kinds.digest(right)}"


def _one_line(error: Exception) -> str | None:
    message = str(error)
    return f"an error of no or several lines: {message[:200]!r}" if "\n" in message or not message else None


def _too_much(before: int) -> str | None:
    """Say what was taken since there was so much, if it is more than may be."""
    grown = (resident.peak() - before) >> 20
    return f"{grown} MB taken" if grown > _MOST_GROWTH else None


def _bomb(number: int) -> str | None:
    bomb = bombs.BOMBS[number]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = bomb.make(folder)
        before = resident.forget_peak()  # the making of some takes more than a reader may
        try:
            bomb.read(path)
            wrong = None if bomb.is_good else "expected an error, got a result"
        except bomb.errors as error:
            wrong = _one_line(error) if not bomb.is_good else f"expected a result, got {error}"
        except Exception as error:
            wrong = f"an error that is not ours: {type(error).__name__}: {str(error)[:200]}"
        if (folder / "mark").exists():
            return "the file was executed"
        return wrong or _too_much(before)


def _main(words: list[str]) -> None:
    what, (seed, first, last) = words[0], map(int, words[1:])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder
        tried = _Damage(seed, Path(folder)) if what == "damage" else _bomb
        children.limits(_MEGABYTES)
        children.answer(range(first, last), tried, _SECONDS)


PROMISE = Promise(
    "Files from strangers are read rightly or refused in one line",
    "bits flipped, bytes removed, put in and exchanged, ends cut off, lengths and numbers made huge, in models, "
    "checkpoints, config.json, CSV, IDX, both in gzip, .npz and PNG folders, also with checksums made anew; headers "
    "that ask for terabytes, gzip bombs, endless lines, deep JSON, pickles, pipes, devices, links. In a process with "
    "limits to memory and time; the most that is resident while a file is read, beside what was before. What is read "
    "is what was written, or what an independent reading gives",
    measure,
    short=10,
    long=2000,
)

if __name__ == "__main__":
    _main(sys.argv[1:])
