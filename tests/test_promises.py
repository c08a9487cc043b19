"""What the checks behind docs/reliability.md must find: here something is wrong on purpose."""

import math
import re
import signal
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reliability import array_calls, array_kinds, bombs, children, file_kinds, training
from benchmarks.reliability.promises import arrays, bits, cache, files, numerics, resume, signals, threads
from fastconv.training.checkpoint import Keeper
from fastconv.training.errors import NotFiniteError
from fastconv.training.guard import Guard

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


# ------------------------------------------------------------------------------------------------------------ numerics

PLANTED = range(len(numerics._PLANTED))


@pytest.mark.parametrize("turn", PLANTED)
def test_weights_that_are_finite_and_not_the_last_good_ones_are_found(turn, tmp_path, monkeypatch):
    stop = Guard.stop

    def stop_with_others(self, *arguments):
        try:
            stop(self, *arguments)
        except NotFiniteError:
            self._run.model.parameters()[0].value *= 1.001
            raise

    monkeypatch.setattr(Guard, "stop", stop_with_others)
    wrong = numerics._planted(np.random.default_rng(turn), tmp_path, turn)
    assert wrong.startswith(f"{numerics._PLANTED[turn]}: the weights are not those")


@pytest.mark.parametrize("turn", PLANTED)
def test_a_checkpoint_of_other_weights_is_found(turn, tmp_path, monkeypatch):
    state = Keeper._state

    def other(self, totals):
        found = state(self, totals)
        return found | {"model": {name: 2 * array for name, array in found["model"].items()}}

    monkeypatch.setattr(Keeper, "_state", other)
    rng = np.random.default_rng(100)  # not in the first batch, before which there is none
    assert "checkpoint's weights are not those" in numerics._planted(rng, tmp_path, turn)


def test_a_checkpoint_of_another_batch_is_found(tmp_path, monkeypatch):
    is_due = Keeper.is_due
    monkeypatch.setattr(Keeper, "is_due", lambda self, epoch_ended: not epoch_ended and is_due(self, epoch_ended))
    for turn in PLANTED:
        place = tmp_path / str(turn)
        place.mkdir()
        if wrong := numerics._planted(np.random.default_rng(turn), place, turn):
            assert "a checkpoint of batch 2 of epoch" in wrong
            break
    else:
        pytest.fail("no checkpoint after an epoch was missed")


@pytest.mark.parametrize(("code", "counted"), [(0, "0 stopped with such a message, 1 ended"), (1, "1 stopped")])
def test_commands_that_stop_and_that_end_are_counted_apart(code, counted, monkeypatch):
    def command(rng, folder, turn):
        (folder / "run").mkdir()
        if code == 0:
            (folder / "run" / "metrics.json").write_text("{}")
        return ""

    for kind in ("_planted", "_values", "_constant", "_refused"):
        monkeypatch.setattr(numerics, kind, lambda rng, folder, turn: "")
    monkeypatch.setattr(numerics, "_command", command)
    outcome = numerics.measure(1, 5)
    assert counted in outcome.figure
    assert len(outcome.failures) == (code == 0)


# -------------------------------------------------------------------------------------------------------------- arrays

KINDS = {kind.name: kind for kind in array_kinds.KINDS}


@pytest.mark.parametrize(
    ("role", "refused"),
    [
        ("floats", "f4"),
        ("floats", "f8"),
        ("images", "f4"),
        ("images", "f8"),
        ("images", "u1"),
        ("pixels", "u1"),
        ("labels", "u2"),
        ("labels", "i8"),
    ],
)
def test_a_function_that_refuses_a_type_is_found(role, refused):
    def picky(x):
        if x.dtype == refused:
            raise TypeError(f"picky: expected another type than {refused}")
        return x.sum()

    plain = np.ones((2, 3), np.uint8 if role == "pixels" else np.int64 if role == "labels" else np.float32)
    call = array_calls.Call("picky", picky, {"x": (role, plain)}, ("picky",))
    case = arrays._Case(call, "x", KINDS[f"dtype {refused}"], "ordinary")
    assert arrays._try(case) == (
        f"expected what a plain array gives, got TypeError: picky: expected another type than {refused}"
    )
    assert arrays._try(case._replace(call=call._replace(function=lambda x: float(x.sum())))) is None


def test_a_function_that_refuses_everything_is_found():
    def never(x):
        raise ValueError("never: no")

    call = array_calls.Call("never", never, {"x": ("floats", np.ones((2, 3), np.float32))}, ("never",))
    wrong = arrays._try(arrays._Case(call, "x", KINDS["reversed"], "ordinary"))
    assert wrong == "expected what a plain array gives, got ValueError: never: no"


def test_only_calls_count():
    """There is no matrix of four axes, nor another layout of a number."""
    met = {(case.kind.name, case.call.arguments[case.argument][1].ndim) for case in arrays._all_cases()}
    assert {axes for kind, axes in met if kind == "matrix"} == {2}
    assert ("reversed", 0) not in met
    assert ("dtype f4", 0) in met


# -------------------------------------------------------------------------------------------------------------- resume


class Process:
    """A run that leaves ``config.json`` if it comes so far, and ends with a code."""

    def __init__(self, run: Path, code: int, begins: bool) -> None:
        self.code = code
        if begins:
            run.mkdir(exist_ok=True)
            (run / "config.json").touch()


@pytest.mark.parametrize(
    ("lives", "kills"),
    [
        ([(0, True), (-9, True), (0, True)], 1),  # the first was not killed in time
        ([(-9, False), (0, True), (-9, True), (0, True)], 2),  # nor was the second, and there was nothing of the first
        ([(0, True)] * resume._TRIES, None),
    ],
)
def test_a_run_that_ends_before_it_is_killed_is_done_again(lives, kills, tmp_path, monkeypatch):
    coming = iter(lives)
    run = tmp_path / "run"
    monkeypatch.setattr(training, "start", lambda *_: Process(run, *next(coming)))
    monkeypatch.setattr(training, "finish", lambda process: (process.code, ""))
    monkeypatch.setattr(resume, "_kill", lambda *_: None)
    rng = np.random.default_rng(1)
    if kills is None:
        with pytest.raises(RuntimeError, match="ended 20 times before it was killed"):
            resume._until_done(rng, [], run, 9)
    else:
        assert resume._until_done(rng, [], run, 9) == (kills, 0)
        assert list(coming) == []


# ------------------------------------------------------------------------------------------------------------- threads


def test_threads_that_nothing_disturbs_are_found(monkeypatch):
    monkeypatch.setattr(threads.jobs, "digest", lambda number, calls=6: str(number))
    monkeypatch.setattr(threads.fc, "set_num_threads", lambda count: None)
    monkeypatch.setattr(threads._Crowd, "_disturbed", lambda self: nullcontext())
    monkeypatch.setattr(threads, "_DISTURBED", 0.01)
    crowd = threads._Crowd(1)
    crowd.different(8)
    kinds = ("error", "death of a thread", "interrupt of the main thread")
    assert crowd.wrong == [f"no {kind} in 0.01 s" for kind in kinds]
    assert crowd.done > 0


# --------------------------------------------------------------------------------------------------------- short forms


def test_short_forms_meet_different_kinds():
    kinds = list(cache.SCENARIOS)
    few = [kinds.index(kind) for kind in cache.chosen(1, cache.PROMISE.short)]
    assert few == [1, 7, 13, 19]
    assert sorted(cache.chosen(5, 2 * len(kinds))) == sorted(2 * kinds)

    assert sorted(bits._ORDER) == list(range(bits._ALL))
    assert {bits._LAYERS[number % 3] for number in bits._ORDER[: bits.PROMISE.short]} == set(bits._LAYERS)
    assert signals.PROMISE.short == len(signals._MOMENTS)
