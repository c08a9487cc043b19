"""The average of weights over the steps of training."""

import copy
import pickle

import numpy as np
import pytest
from cases import each_float

import fastconv as fc
from fastconv import reference
from fastconv.training import KeepBest


def net(seed=0):
    return fc.Sequential(fc.Conv2d(1, 4, 3), fc.BatchNorm2d(4), fc.ReLU(), fc.Flatten(), fc.Linear(16, 3), seed=seed)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 100)
    return (rng.integers(0, 60, (100, 1, 4, 4)) + 80 * y[:, None, None, None]).astype(np.uint8), y


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@each_float
@pytest.mark.parametrize("warmup", [False, True])
def test_ten_steps_of_weights_and_statistics(warmup, dtype, rng):
    model, ema = net().to(dtype), fc.EMA(0.7, warmup)
    ema.begin(model)
    refs = {name: value.astype(float) for name, value in model.state_dict().items()}
    for step in range(1, 11):
        for _, array in model.named_state():
            array[...] = 10 * rng.random(array.shape)
        ema.update()
        kept = min(0.7, (1 + step) / (10 + step)) if warmup else 0.7
        now = model.state_dict()
        refs = {name: reference.moving_average(refs[name], now[name], kept) for name in refs}
    with ema.applied():
        comp = model.state_dict()
    assert same(now, model.state_dict())
    counted = [name for name in comp if name.endswith("num_batches_tracked")]
    assert [comp.pop(name) for name in counted] == [now[name] for name in counted]
    assert "1.running_var" in comp
    for name, value in comp.items():
        assert value.dtype == dtype
        np.testing.assert_allclose(value, refs[name], rtol=0, atol=300 * np.finfo(dtype).eps)


def test_a_model_of_two_dtypes(rng):
    model = fc.Sequential(fc.Linear(3, 2), fc.Linear(2, 2))
    model.layers[1].to(np.float64)
    ema = fc.EMA(0.5, warmup=False)
    ema.begin(model)
    before = model.state_dict()
    for parameter in model.parameters():
        parameter.value = parameter.value + 2
    ema.update()
    ema.finish()
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value, before[name] + 1, rtol=1e-6)


def test_averages_are_what_is_validated_and_what_is_left(data):
    class Look(fc.Callback):
        def on_epoch_end(self, run, record):
            assert run.ema.swapped
            assert run.model.evaluate(*data)["loss"] == pytest.approx(record["val_loss"], rel=1e-6)
            seen.append(run.model.state_dict())

        def on_batch_end(self, run):
            assert not run.ema.swapped
            trained.append(run.model.state_dict())

    seen, trained = [], []
    model, ema = net(), fc.EMA(0.9)
    model.fit(*data, epochs=3, batch_size=20, validation_data=data, ema=ema, callbacks=[Look()], verbose=False)
    assert ema.updates == 15
    assert same(model.state_dict(), seen[-1])
    assert not same(seen[-1], trained[-1])
    # The training itself is the one without averages.
    other = net()
    other.fit(*data, epochs=3, batch_size=20, validation_data=data, verbose=False)
    assert same(other.state_dict(), trained[-1])


def test_the_best_averages_are_kept(data):
    model, best = net(), KeepBest()
    model.fit(*data, epochs=4, batch_size=20, validation_data=data, ema=fc.EMA(0.8), callbacks=[best], verbose=False)
    assert model.evaluate(*data)["accuracy"] == best.record["val_acc"]


def test_an_error_in_a_callback_leaves_the_weights_in_the_model(data):
    class Fail(fc.Callback):
        def on_batch_end(self, run):
            self.trained = run.model.state_dict()

        def on_epoch_end(self, run, record):
            raise OSError("the disk is full")

    model, fail = net(), Fail()
    with pytest.raises(OSError, match="the disk is full"):
        model.fit(*data, epochs=1, ema=fc.EMA(), callbacks=[fail], verbose=False)
    assert same(model.state_dict(), fail.trained)


@pytest.mark.parametrize("swapped", [False, True])
def test_resuming_gives_the_same_bits(swapped, data):
    """All that is to be kept are the model, the optimiser and the averages, in whichever of the two they are."""
    x, y = data
    model, ema, optimizer = net(), fc.EMA(0.9), fc.SGD(0.05)
    loss = fc.CrossEntropyLoss()
    ema.begin(model)

    def steps(model, ema, optimizer):
        for start in (0, 30, 60):
            fc.train_step(model, loss, optimizer, x[start : start + 30], y[start : start + 30])
            ema.update()

    steps(model, ema, optimizer)
    if swapped:
        ema.swap()
    files = {name: value.copy() for name, value in model.state_dict().items()}, ema.state_dict()
    if swapped:
        ema.swap()
    steps(model, ema, optimizer)

    again, resumed = net(seed=5), fc.EMA(0.9)
    again.load_state_dict(files[0])
    resumed.load_state_dict(files[1])
    resumed.begin(again)
    assert (resumed.updates, resumed.swapped) == (3, False)
    steps(again, resumed, fc.SGD(0.05))
    assert same(again.state_dict(), model.state_dict())
    assert same(resumed.state_dict(), ema.state_dict())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_averages_its_own_memory(duplicate, data):
    model, ema = net(), fc.EMA(0.5)
    ema.begin(model)
    before = ema.state_dict()
    twin, its = duplicate((model, ema))
    its.begin(twin)
    fc.train_step(twin, fc.CrossEntropyLoss(), fc.SGD(0.1), *data)
    its.update()
    assert same(ema.state_dict(), before)
    assert not same(its.state_dict(), before)


def test_the_same_bits_at_any_thread_count(threads, rng):
    model = fc.Sequential(fc.Linear(300, 200))
    found = set()
    for count in (1, 2, 3, 4) * 4:
        threads(count)
        ema = fc.EMA(0.9, warmup=False)
        ema.begin(model)
        for parameter in model.parameters():
            parameter.value = parameter.value + np.float32(0.1)
        ema.update()
        ema.swap()
        found.add(ema.state_dict()["0.weight"].tobytes())
        for parameter in model.parameters():
            parameter.value = np.zeros(parameter.shape)
    assert len(found) <= 2  # that of the initial weights, and that of zeros


def test_what_is_refused(rng):
    for decay in (1, -0.1, True, "0.9"):
        with pytest.raises(ValueError, match=f"EMA: expected decay of at least 0 and below 1, got {decay!r}"):
            fc.EMA(decay)
    ema, other = fc.EMA(), fc.EMA()
    with pytest.raises(RuntimeError, match=r"EMA: expected begin\(model\) before update\(\)"):
        ema.update()
    other.begin(fc.Sequential(fc.Linear(3, 2)))
    ema.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match=r"but 0.weight is float32\[2, 4\] there and float32\[2, 3\] here"):
        ema.begin(fc.Sequential(fc.Linear(4, 2)))
    with pytest.raises(ValueError, match=r"but 0.bias is missing there and float32\[2\] here"):
        ema.begin(fc.Sequential(fc.Linear(3, 2, bias=False)))


def test_the_averages_of_one_training_are_not_the_next_ones(data):
    ema, options = fc.EMA(0.9), {"epochs": 1, "verbose": False}
    first, second, alone = net(0), net(5), net(5)
    first.fit(*data, ema=ema, **options)
    second.fit(*data, ema=ema, **options)
    alone.fit(*data, ema=fc.EMA(0.9), **options)
    for name, value in alone.state_dict().items():
        np.testing.assert_array_equal(second.state_dict()[name], value)
