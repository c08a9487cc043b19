"""What the checks behind docs/reliability.md must find: here something is wrong on purpose."""

import math
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reliability import bombs, children, file_kinds, training
from benchmarks.reliability.promises import files, signals

# --------------------------------------------------------------------------------------------------------------- files


def hog(path: object) -> None:
    """Take as much as is in a bomb, and give it back."""
    np.ones(bombs._ZEROS, np.uint8)
    raise ValueError("expected another file")


def test_a_reader_that_takes_too_much_is_found(monkeypatch):
    """Also after its file's maker took as much."""

    def make(folder: Path) -> Path:
        np.ones(2 * bombs._ZEROS, np.uint8)
        return folder

    monkeypatch.setattr(bombs, "BOMBS", (bombs.Bomb("hog", make, hog, (ValueError,)),))
    assert re.fullmatch("(299|30.) MB taken", files._bomb(0) or "nothing")


def test_a_reader_of_damaged_files_that_takes_too_much_is_found(tmp_path, monkeypatch):
    damage = files._Damage(1, tmp_path)
    assert damage(0) is None
    greedy = file_kinds.KINDS[0]._replace(read=hog, errors=(ValueError,))
    monkeypatch.setattr(file_kinds, "KINDS", (greedy, *file_kinds.KINDS[1:]))
    assert re.fullmatch("(299|30.) MB taken", damage(0) or "nothing")


def test_a_file_that_cannot_be_made_is_noted(monkeypatch):
    forbidden = next(bomb for bomb in bombs.BOMBS if bomb.name == "data, no permission")
    monkeypatch.setattr(bombs.os, "geteuid", lambda: 0)
    with pytest.raises(children.CannotTry, match="root"):
        forbidden.make(Path("never"))
    answers = [children.Answer(number, None) for number in range(len(bombs.BOMBS))]
    left_out = [children.Answer(0, None, "the moon"), *answers[1:]]
    monkeypatch.setattr(children, "run", lambda module, words, cases: left_out if words[0] == "bombs" else [])
    outcome = files.measure(1, 0)
    assert outcome.notes == [f"{bombs.BOMBS[0].name}: the moon"]
    assert f" {len(bombs.BOMBS) - 1} files made to do damage: 0 signals" in outcome.figure


# ------------------------------------------------------------------------------------------------------------- signals

NEVER = math.inf
INT, TERM = signal.SIGINT, signal.SIGTERM


def ended(code, at_signal=4, trained=4, since=1.0, until=9.0, sent=(5.0,), done=True, said=""):
    return signals.Ended(code, said, [*sent], training.Watched(trained, at_signal, since, until), done)


@pytest.mark.parametrize(
    ("how", "moment", "number"),
    [
        (ended(130), "training", INT),
        (ended(143, trained=5), "saving", TERM),
        (ended(143, at_signal=0, trained=0), "compiling", TERM),
        (ended(-INT, -1, 0, NEVER, NEVER, said="Traceback"), "starting", INT),
        (ended(-TERM, -1, until=4.0), "ending", TERM),
        (ended(-INT, until=6.0, sent=(5.0, 7.0)), "training twice", INT),
        (ended(0, -1, until=4.0), "ending", INT),
    ],
)
def test_ends_that_were_promised(how, moment, number):
    assert signals.judge(how, moment, number)[0] == ""


@pytest.mark.parametrize(
    ("how", "moment", "wrong"),
    [
        (ended(-TERM, -1, until=NEVER), "training", "fastconv's handler was not called; exit code -15"),
        (ended(-TERM, until=NEVER), "training", "exit code -15"),
        (ended(-TERM, -1, 4, NEVER, NEVER), "saving", "no handler of fastconv's; exit code -15"),
        (ended(0, -1), "training", "fastconv's handler was not called; exit code 0"),
        (ended(0, -1), "starting", "fastconv's handler was not called; exit code 0"),
        (ended(0, -1, since=6.0), "starting", "exit code 0"),
        (ended(0), "ending", "exit code 0"),
        (ended(0, -1, until=4.0, done=False), "ending", "exit code 0"),
        (ended(130), "training", "exit code 130"),
        (ended(143, said="Traceback"), "compiling", "a traceback"),
        (ended(143, trained=6), "training", "2 batches after the signal"),
    ],
)
def test_a_signal_that_kills_or_is_ignored_is_found(how, moment, wrong):
    assert signals.judge(how, moment, TERM)[0].startswith(wrong)
