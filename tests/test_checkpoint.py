"""Training that is stopped and goes on elsewhere: the same bits as if it had never been."""

import json
import os

import numpy as np
import pytest

import fastconv as fc
from fastconv.schedules import ReduceOnPlateau
from fastconv.training import Checkpoint, KeepBest, TimeBudget
from fastconv.training.checkpoint import Keeper

EPOCHS, BATCHES = 4, 5


@pytest.fixture
def data(rng):
    return rng.integers(0, 256, (90, 1, 6, 6)).astype(np.uint8), rng.integers(0, 3, 90)


def net():
    return fc.Sequential(
        fc.Conv2d(1, 4, 3, padding=1),
        fc.BatchNorm2d(4),
        fc.ReLU(),
        fc.Residual(fc.Dropout2d(0.2)),
        fc.Flatten(),
        fc.Dropout(0.3),
        fc.Linear(144, 3),
    )


class Kill(Exception):
    """In the place of a signal that no process survives."""


class KillAt(fc.Callback):
    def __init__(self, steps):
        self.steps = steps

    def on_batch_end(self, run):
        self.steps -= 1
        if self.steps < 0:
            raise Kill


class Remember(fc.Callback):
    """A callback of a user, with numbers and arrays to remember."""

    def __init__(self):
        self.seen = {"losses": np.zeros(0), "batches": 0, "names": []}

    def on_batch_end(self, run):
        self.seen["losses"] = np.append(self.seen["losses"], run.loss)
        self.seen["batches"] += 1

    def state_dict(self):
        return dict(self.seen)

    def load_state_dict(self, state):
        self.seen = state


def options(optimizer="adam", plateau=False):
    return {
        "epochs": EPOCHS,
        "batch_size": 16,
        "validation_split": 0.2,
        "optimizer": fc.optim.by_name(optimizer, clip_norm=1.0) if isinstance(optimizer, str) else optimizer,
        "schedule": ReduceOnPlateau(patience=0, monitor="train_loss", threshold=0.5) if plateau else "one-cycle",
        "ema": fc.EMA(0.9),
        "augment": fc.augment.Augment(rotate=10, shift=1, elastic=(4, 3), mixup=0.2 if plateau else 0.0),
        "verbose": False,
        "seed": 3,
    }


def without_time(history):
    return [{k: v for k, v in record.items() if k not in ("time", "images_per_s")} for record in history]


def same(these, those):
    return these.keys() == those.keys() and all(np.array_equal(these[name], those[name]) for name in these)


@pytest.mark.parametrize(
    ("optimizer", "plateau"), [("sgd", False), ("adam", True), ("rmsprop", False), ("lion", False)]
)
def test_killed_at_any_batch_and_gone_on_with(data, tmp_path, rng, optimizer, plateau):
    unbroken, whole, best = net(), Remember(), KeepBest()
    expected = unbroken.fit(*data, callbacks=[whole, best], **options(optimizer, plateau))
    for every in (0, 2e-3):
        path, lives = tmp_path / f"{every}.safetensors", 0
        for _ in range(1000):
            model, remember, keep = net(), Remember(), KeepBest()
            kill = KillAt(int(rng.integers(2, 9)))
            where = Checkpoint(path, every if lives % 2 else None)
            try:
                history = model.fit(
                    *data,
                    callbacks=[remember, keep, kill],
                    checkpoint=where,
                    resume=True,
                    **options(optimizer, plateau),
                )
                break
            except Kill:
                lives += 1
        assert lives >= 2
        assert same(model.state_dict(), unbroken.state_dict())
        assert without_time(history) == without_time(expected)
        assert without_time([keep.record]) == without_time([best.record])
        np.testing.assert_array_equal(remember.seen["losses"], whole.seen["losses"])
        assert remember.seen["batches"] == EPOCHS * BATCHES


def test_stopped_at_any_batch_training_goes_on(data, tmp_path):
    unbroken = net()
    expected = unbroken.fit(*data, callbacks=[KeepBest()], **options())

    class StopAt(fc.Callback):
        def __init__(self, step):
            self.step = step

        def on_batch_end(self, run):
            self.step -= 1
            run.stop = self.step == 0

    for step in range(1, EPOCHS * BATCHES + 1):
        path = tmp_path / f"{step}.safetensors"
        history = net().fit(*data, callbacks=[KeepBest(), StopAt(step)], checkpoint=path, **options())
        assert len(history) == (step - 1) // BATCHES  # an epoch that was not validated leaves no record
        model = net()
        history = model.fit(*data, callbacks=[KeepBest()], checkpoint=path, resume=True, **options())
        assert without_time(history) == without_time(expected), step
        assert same(model.state_dict(), unbroken.state_dict()), step


def test_a_stop_during_validation_is_heeded_at_its_next_batch(data, tmp_path, monkeypatch):
    from fastconv.training import epoch as module

    unbroken = net()
    expected = unbroken.fit(*data, **options())
    runs, measure = [], module.measure

    class Take(fc.Callback):
        def on_train_begin(self, run):
            runs.append(run)

    def stopped(*arguments, wanted):
        runs[-1].stop = len(runs[-1].history) == 2
        return measure(*arguments, wanted=wanted)

    monkeypatch.setattr(module, "measure", stopped)
    history = net().fit(*data, callbacks=[Take()], checkpoint=tmp_path / "c", **options())
    assert len(history) == 2
    monkeypatch.setattr(module, "measure", measure)
    model = net()
    history = model.fit(*data, checkpoint=tmp_path / "c", resume=True, **options())
    assert without_time(history) == without_time(expected)
    assert same(model.state_dict(), unbroken.state_dict())


def test_a_training_that_ended_early_does_not_begin_anew(data, tmp_path):
    def early():
        return fc.EarlyStopping(1, "train_loss", min_delta=10.0)

    first = net()
    history = first.fit(*data, callbacks=[early()], checkpoint=tmp_path / "c", **options())
    assert len(history) == 2
    again = net()
    repeated = again.fit(*data, callbacks=[early()], checkpoint=tmp_path / "c", resume=True, **options())
    assert repeated == history
    assert repeated.stopped == history.stopped
    assert same(again.state_dict(), first.state_dict())


def test_early_stopping_counts_on(data, tmp_path):
    def early():
        return fc.EarlyStopping(2, "train_loss", min_delta=10.0)

    with pytest.raises(Kill):
        net().fit(
            *data, callbacks=[early(), KillAt(BATCHES * 2 + 1)], checkpoint=Checkpoint(tmp_path / "c", 0), **options()
        )
    history = net().fit(*data, callbacks=[early()], checkpoint=tmp_path / "c", resume=True, **options())
    assert len(history) == 3


def test_a_time_budget_is_of_the_time_that_training_runs():
    run = type("Run", (), {"progress": 0.0})()
    budget = TimeBudget(1000)
    budget.load_state_dict({"spent": 900.0, "kept": 100.0})
    budget.on_train_begin(run)
    budget.on_batch_begin(run)
    assert run.progress == 1
    assert budget.state_dict()["spent"] >= 900


def test_without_a_file_training_begins(data, tmp_path):
    model, other = net(), net()
    model.fit(*data, checkpoint=tmp_path / "c", resume=True, **options())
    other.fit(*data, **options())
    assert same(model.state_dict(), other.state_dict())


def test_a_checkpoint_is_replaced_only_by_who_goes_on(data, tmp_path):
    net().fit(*data, checkpoint=tmp_path / "c", **options())
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(ValueError, match=r"c: there is a checkpoint; go on from it with resume=True"):
        net().fit(*data, checkpoint=tmp_path / "c", **options())
    assert (tmp_path / "c").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("epochs: expected 4, got 5", {"epochs": 5}),
        ("batch_size: expected 16, got 8", {"batch_size": 8}),
        ("seed: expected 3, got 4", {"seed": 4}),
        ("optimizer", {"optimizer": "sgd"}),
        ("schedule", {"schedule": "cosine"}),
        ("ema", {"ema": None}),
        ("augment", {"augment": None}),
        ("images", {"validation_split": 0.1}),
        ("loss", {"loss": fc.CrossEntropyLoss(0.1)}),
    ],
)
def test_another_training_is_refused(data, tmp_path, name, change):
    net().fit(*data, checkpoint=tmp_path / "c", **options())
    name, _, numbers = name.partition(": ")
    with pytest.raises(ValueError, match=rf"c: a checkpoint of another training, whose {name} is.*{numbers}"):
        net().fit(*data, checkpoint=tmp_path / "c", resume=True, **options() | change)


def test_other_data_and_another_model_are_refused(data, tmp_path):
    net().fit(*data, checkpoint=tmp_path / "c", **options())
    x = data[0].copy()
    x[40, 0, 3, 3] ^= 1
    with pytest.raises(ValueError, match=r"whose data is not this one's: expected [0-9a-f]{64}, got"):
        net().fit(x, data[1], checkpoint=tmp_path / "c", resume=True, **options())
    small = fc.Sequential(fc.Flatten(), fc.Linear(36, 3))
    with pytest.raises(ValueError, match="whose model is not"):
        small.fit(*data, checkpoint=tmp_path / "c", resume=True, **options())


def test_a_callback_with_memory_must_be_there_again(data, tmp_path):
    net().fit(*data, callbacks=[KeepBest(), KeepBest("val_loss")], checkpoint=tmp_path / "c", **options())
    with pytest.raises(
        ValueError, match=r"expected callbacks KeepBest, KeepBest 2 as when it was written, got KeepBest$"
    ):
        net().fit(*data, callbacks=[KeepBest()], checkpoint=tmp_path / "c", resume=True, **options())


def test_damage_is_found(data, tmp_path, rng):
    path = tmp_path / "c"
    net().fit(*data, checkpoint=path, **options())
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:]):
        path.write_bytes(damaged)
        with pytest.raises(fc.ModelFileError, match="damaged"):
            net().fit(*data, checkpoint=path, resume=True, **options())
    fc.save(net(), path)
    with pytest.raises(fc.ModelFileError, match="no checkpoint of fastconv"):
        net().fit(*data, checkpoint=path, resume=True, **options())
    path.write_bytes(whole)
    with pytest.raises(fc.ModelFileError, match="no fastconv model"):
        fc.load(path)


def test_another_format_is_refused(data, tmp_path, monkeypatch):
    net().fit(*data, checkpoint=tmp_path / "c", **options())
    monkeypatch.setattr("fastconv.training.checkpoint._FORMAT", 2)
    with pytest.raises(fc.ModelFileError, match="expected a checkpoint of format 2, got 1"):
        net().fit(*data, checkpoint=tmp_path / "c", resume=True, **options())


def test_the_file_is_the_same_at_the_same_moment(data, tmp_path):
    """But for the clock: so that damage, or a difference between machines, can be found by a comparison."""

    def kept(name):
        net().fit(*data, checkpoint=tmp_path / name, **options("sgd"))
        text, tensors = fc.io.read_tensors(tmp_path / name, "fastconv_checkpoint", "checkpoint")
        state = json.loads(text)
        del state["seconds"]
        return state | {"history": without_time(state["history"])}, tensors

    (one, arrays), (two, others) = kept("a"), kept("b")
    assert one == two
    assert same(arrays, others)


def test_how_often(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fastconv.training.checkpoint.perf_counter", lambda: now[0])

    def due(every, seconds, epoch_ended, cost=0.0):
        now[0] = 0.0
        run = type("Run", (), {})()
        keeper = Keeper(Checkpoint("c", every), {}, run, None, [])
        keeper._cost = cost
        now[0] = seconds
        return keeper.is_due(epoch_ended)

    assert due(0, 0, False)
    assert not due(10, 9.9, True)
    assert due(10, 10, False)
    assert due(None, 0.1, True)
    assert not due(None, 29, False)
    assert due(None, 30, False)
    assert not due(None, 0.9, True, cost=0.01)
    assert due(None, 1.1, True, cost=0.01)
    assert not due(None, 30, False, cost=0.5)


@pytest.mark.parametrize("every", [-1, True, "often", float("nan")])
def test_how_often_must_make_sense(every):
    with pytest.raises(ValueError, match="Checkpoint: expected every as seconds of at least 0"):
        Checkpoint("c", every)


def test_nothing_but_the_checkpoint_is_left(data, tmp_path):
    net().fit(*data, checkpoint=Checkpoint(tmp_path / "c", 0), **options())
    assert os.listdir(tmp_path) == ["c"]


def test_an_optimizer_takes_back_its_own_memory_alone(data):
    model, adam = net(), fc.Adam()
    model.fit(*data, epochs=1, optimizer=adam, verbose=False)
    state = adam.state_dict(model)
    with pytest.raises(ValueError, match=r"SGD: expected the memory of such an optimiser, got 0\.bias\.1"):
        fc.SGD().load_state_dict(model, state)
    with pytest.raises(ValueError, match=r"Adam: expected 432 numbers about 6\.weight, got 5, 5"):
        fc.Adam().load_state_dict(model, state | {"6.weight.0": np.zeros(5), "6.weight.1": np.zeros(5)})
    with pytest.raises(ValueError, match="got no number of steps"):
        fc.Adam().load_state_dict(model, {})
