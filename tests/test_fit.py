"""The training loop: what it promises, and what it refuses."""

import numpy as np
import pytest

import fastconv as fc
from fastconv.training import KeepBest


def net(seed=0):
    return fc.Sequential(fc.Flatten(), fc.Linear(16, 8), fc.ReLU(), fc.Dropout(0.2), fc.Linear(8, 3), seed=seed)


@pytest.fixture(scope="module")
def data():
    """Three classes of 4x4 images that a small net can tell apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    x = (rng.integers(0, 60, (150, 1, 4, 4)) + 80 * y[:, None, None, None]).astype(np.uint8)
    return x, y


def weights(model):
    return [p.value.copy() for p in model.parameters()]


def same(a, b):
    return all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


def test_it_learns_and_keeps_records(data, capsys):
    model = net()
    history = model.fit(*data, epochs=12, batch_size=16, validation_split=0.2, verbose=False)
    assert capsys.readouterr().out == ""
    assert [record["epoch"] for record in history] == list(range(1, 13))
    assert history[-1]["val_acc"] > 0.9
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert history.best["val_acc"] == max(history.column("val_acc"))
    assert set(history[0]) == {
        "epoch",
        "time",
        "train_loss",
        "train_acc",
        "val_loss",
        "val_acc",
        "lr",
        "images_per_s",
    }


def test_one_plain_line_an_epoch(data, capsys):
    net().fit(*data, epochs=2, validation_data=data)
    lines = capsys.readouterr().out.strip().split("\n")
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  train_loss ")
    assert "val_acc" in lines[1]


def test_an_estimate_where_it_takes_longer_than_a_moment(data, capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fastconv.training.progress.perf_counter", lambda: now[0])

    class Slow(fc.Callback):
        def on_batch_end(self, run):
            now[0] += seconds

    for seconds, expected in ((2.0, 1), (0.5, 1), (0.1, 0)):
        net().fit(*data, epochs=3, batch_size=15, callbacks=[Slow()])
        said = [line for line in capsys.readouterr().out.splitlines() if "about" in line]
        assert len(said) == expected
        if said:
            assert said == ["3 epochs, about 1m00s" if seconds == 2 else "3 epochs, about 15s"]


def test_the_seed_decides_everything(data):
    first, again, other = net(), net(), net()
    first.fit(*data, epochs=2, seed=1, verbose=False)
    again.fit(*data, epochs=2, seed=1, verbose=False)
    other.fit(*data, epochs=2, seed=2, verbose=False)
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))


def test_no_global_random_state_is_used(data):
    np.random.seed(0)  # noqa: NPY002 - the point is that it does not matter
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    net().fit(*data, epochs=1, verbose=False)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_every_image_is_seen_once_an_epoch(data):
    x, y = data
    seen = []

    class Spy(fc.SGD):
        pass

    class Look(fc.Callback):
        def on_epoch_end(self, run, record):
            seen.append((run.batch, run.batches, run.images))

    # With a rate of 0 the mean loss over an epoch is the loss of the unchanged model over all images.
    model = fc.Sequential(fc.Flatten(), fc.Linear(16, 3))
    history = model.fit(x, y, epochs=2, batch_size=32, optimizer=Spy(lr=0.0), callbacks=[Look()], verbose=False)
    expected = model.evaluate(x, y)
    np.testing.assert_allclose(history.column("train_loss"), expected["loss"], rtol=1e-6)
    assert history.column("train_acc") == [expected["accuracy"]] * 2
    assert seen == [(5, 5, 150)] * 2


@pytest.mark.parametrize("last", [(), (fc.Softmax(),)], ids=["logits", "softmax"])
def test_one_pass_evaluates_and_predicts(data, last):
    from fastconv.training.evaluation import evaluate_and_predict

    model = fc.Sequential(fc.Flatten(), fc.Linear(16, 3), *last)
    figures, predicted = evaluate_and_predict(model, *data, batch_size=40)
    assert figures == model.evaluate(*data, batch_size=40)
    assert predicted.tolist() == model.predict(data[0]).tolist()


def test_fit_is_the_same_as_its_steps(data):
    from fastconv.data import permutation

    x, y = data
    by_fit, by_hand = net(), net()
    by_fit.fit(x, y, epochs=2, batch_size=40, optimizer=fc.Adam(0.01), schedule="constant", verbose=False, seed=7)
    optimizer, loss = fc.Adam(0.01), fc.CrossEntropyLoss()
    by_hand.reseed_dropout(7)
    for epoch in (1, 2):
        order = permutation(len(x), 7, epoch)
        for start in range(0, len(x), 40):
            batch = order[start : start + 40]
            value = fc.train_step(by_hand, loss, optimizer, x[batch], y[batch])
            assert isinstance(value, float)
    assert same(weights(by_fit), weights(by_hand))


def test_a_callback_can_stop_training(data):
    class Stop(fc.Callback):
        ended = False

        def on_batch_end(self, run):
            run.stop = run.epoch == 2 and run.batch == 3

        def on_train_end(self, run):
            self.ended = True

    stop = Stop()
    history = net().fit(*data, epochs=5, batch_size=10, callbacks=[stop], verbose=False)
    assert len(history) == 1
    assert stop.ended


def test_keep_best_puts_the_best_weights_back(data):
    from fastconv.training import KeepBest

    kept = KeepBest()
    best = {}

    class Spoil(fc.Callback):
        def on_epoch_end(self, run, record):
            if run.epoch == 3:
                best.update(run.model.state_dict())
            if run.epoch >= 3:
                for parameter in run.model.parameters():
                    parameter.value = np.zeros(parameter.shape)

    model = net()
    model.fit(
        *data, epochs=5, batch_size=8, validation_data=data, callbacks=[kept, Spoil()], optimizer="adam", verbose=False
    )
    assert kept.record is not None
    assert kept.record["epoch"] <= 3
    assert model.evaluate(*data)["accuracy"] == kept.record["val_acc"]


def test_a_loss_that_is_not_finite_stops_with_the_weights_before(data):
    x, y = data
    model = net()
    with pytest.raises(fc.TrainingError, match=r"the loss is (nan|inf) in epoch 1, batch \d+ of \d+, at learning rate"):
        model.fit(x, y, epochs=3, batch_size=16, optimizer=fc.SGD(lr=1e30), schedule="constant", verbose=False)


def test_a_step_without_finite_loss_changes_no_weight(data):
    x, y = data
    model = net()
    model.parameters()[-1].value = np.full(3, np.nan)
    before = weights(model)
    assert not np.isfinite(fc.train_step(model, fc.CrossEntropyLoss(), fc.SGD(0.1), x[:5], y[:5]))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(weights(model), before, strict=True))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "fit: expected epochs of at least 1, got 0"),
        ({"batch_size": -3}, ValueError, "fit: expected batch_size of at least 1, got -3"),
        ({"batch_size": 2.5}, ValueError, "fit: expected batch_size of at least 1, got 2.5"),
        ({"seed": -1}, ValueError, "fit: expected seed as a whole number of at least 0, got -1"),
        ({"optimizer": "sdg"}, ValueError, "optimizer: expected one of sgd, adam, adamw, rmsprop, lion, got 'sdg'"),
        ({"schedule": "triangle"}, ValueError, "schedule: expected one of constant, step, exponential, cosine"),
        ({"validation_split": 1.5}, ValueError, "1.5"),
        ({"validation_split": 0.1, "validation_data": (1, 2)}, ValueError, "got both"),
        ({"stratify": True}, ValueError, r"validation_split above 0 with stratify=True, .*got validation_split=0\.0"),
        (
            {"stratify": True, "validation_data": (np.zeros((1, 1, 4, 4)), np.zeros(1, int))},
            ValueError,
            "fit: expected a validation_split above 0 with stratify=True, which it draws, got validation_data",
        ),
        ({"y": [0.5] * 150}, TypeError, "expected labels as whole numbers, got float64"),
        ({"y": np.full(150, 3)}, ValueError, "expected labels from 0 to 2, got 3 at position 0"),
        ({"y": np.full(150, -1)}, ValueError, "expected labels from 0 to 2, got -1 at position 0"),
        ({"y": np.zeros(149, int)}, fc.ShapeError, r"expected 150 labels, one an image, got shape \(149,\)"),
        ({"x": np.zeros((0, 1, 4, 4)), "y": np.zeros(0, int)}, ValueError, "fit: expected at least one image"),
        ({"x": np.zeros((150, 1, 5, 4))}, fc.ShapeError, r"layer 1: linear: expected x of shape \(N, 16\)"),
        (
            {"optimizer": fc.Adam},
            TypeError,
            r"fit: expected optimizer as an Optimizer, such as SGD\(0.1\), or a name, got",
        ),
        ({"schedule": 0.1}, TypeError, "fit: expected schedule as a function of progress, or a name, got 0.1"),
        ({"ema": 0.99}, TypeError, r"fit: expected ema as an EMA, such as EMA\(0.999\), or None, got 0.99"),
        ({"callbacks": fc.EarlyStopping()}, TypeError, "fit: expected callbacks as a list of them, got <"),
        ({"callbacks": [fc.EarlyStopping]}, TypeError, "fit: expected callbacks as objects of subclasses of Callback"),
        ({"loss": "mse"}, TypeError, r"expected loss to be a Loss, such as CrossEntropyLoss\(\), got str"),
        ({"schedule": "plateau"}, ValueError, "ReduceOnPlateau: expected images to validate on"),
        ({"callbacks": [fc.EarlyStopping()]}, ValueError, "EarlyStopping: expected images to validate on"),
        ({"x": np.full((150, 1, 4, 4), np.inf)}, ValueError, r"fit: x\[0, 0, 0, 0\] is inf"),
    ],
)
def test_wrong_arguments_are_refused_before_training(data, change, error, message):
    x, y = data
    model = net()
    before = weights(model)
    arguments = {"x": x, "y": y, "verbose": False} | change
    with pytest.raises(error, match=message):
        model.fit(**arguments)
    assert same(weights(model), before)


@pytest.mark.parametrize(
    ("loss", "optimizer", "name"), [(len, fc.SGD(0.1), "loss"), (fc.MSELoss(), "sgd", "optimizer")]
)
def test_a_step_refuses_what_is_no_loss_and_no_optimiser(data, loss, optimizer, name):
    with pytest.raises(TypeError, match=rf"train_step: expected {name} as an object of a subclass of .*, got"):
        fc.train_step(net(), loss, optimizer, *data)


@pytest.mark.parametrize("inside", [lambda model: model, fc.Sequential], ids=["alone", "in another"])
def test_a_model_that_ends_in_softmax_is_not_trained_twice_softmaxed(data, inside):
    model = inside(fc.Sequential(fc.Flatten(), fc.Linear(16, 3), fc.Softmax()))
    with pytest.raises(ValueError, match=r"fit: expected .* got one that ends in Softmax; leave that layer out"):
        model.fit(*data, verbose=False)
    with pytest.raises(ValueError, match=r"lr_find: expected .* got one that ends in Softmax; leave that layer out"):
        fc.lr_find(model, *data)
    p = model.predict_proba(data[0])
    np.testing.assert_array_equal(p, model.forward(data[0]))
    np.testing.assert_allclose(model.evaluate(*data)["loss"], -np.log(p[np.arange(150), data[1]]).mean(), rtol=1e-5)


@pytest.mark.parametrize("name", fc.schedules.NAMES)
def test_schedules_stay_between_zero_and_one(name):
    factor = fc.schedules.by_name(name)
    values = [factor(i / 100) for i in range(101)]
    assert min(values) >= 0
    assert max(values) == pytest.approx(1)


def test_schedules_have_their_shapes():
    cycle = fc.schedules.one_cycle(warmup=0.25, start=0.1, final=0.01)
    assert [cycle(0), cycle(0.25), cycle(1)] == pytest.approx([0.1, 1, 0.01])
    assert [fc.schedules.cosine()(p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    step = fc.schedules.step((0.5, 0.8), gamma=0.5)
    assert [step(p) for p in (0.49, 0.5, 0.8)] == [1, 0.5, 0.25]
    assert [fc.schedules.exponential(0.01)(p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.1, 0.01])
    warm = fc.schedules.cosine(final=0.1, warmup=0.2, start=0.5)
    assert [warm(p) for p in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0.5, 0.75, 1, 0.55, 0.1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fc.schedules.exponential(0), "exponential: expected final above 0 and at most 1, got 0"),
        (lambda: fc.schedules.cosine(warmup=1), "cosine: expected warmup of at least 0 and below 1, got 1"),
        (lambda: fc.schedules.cosine(warmup=None), "cosine: expected warmup of at least 0 and below 1, got None"),
        (lambda: fc.schedules.cosine(final=-0.1), r"cosine: expected final from 0 to 1, got -0\.1"),
        (lambda: fc.schedules.cosine(start="0"), "cosine: expected start from 0 to 1, got '0'"),
        (lambda: fc.schedules.one_cycle(1), "one_cycle: expected warmup between 0 and 1, got 1"),
        (lambda: fc.schedules.one_cycle(start=2), "one_cycle: expected start from 0 to 1, got 2"),
        (lambda: fc.schedules.one_cycle(final=np.nan), "one_cycle: expected final from 0 to 1, got nan"),
        (lambda: fc.schedules.step(0.5), r"step: expected milestones as numbers between 0 and 1, got 0\.5"),
        (lambda: fc.schedules.step((0.5, 1)), r"step: expected milestones as numbers between 0 and 1, got \(0\.5, 1\)"),
        (lambda: fc.schedules.step(("a",)), r"step: expected milestones as numbers between 0 and 1, got \('a',\)"),
        (lambda: fc.schedules.step(gamma=-0.1), r"step: expected gamma above 0, got -0\.1"),
        (lambda: fc.schedules.step(gamma=np.inf), "step: expected gamma above 0, got inf"),
        (lambda: fc.schedules.ReduceOnPlateau("1"), "ReduceOnPlateau: expected factor above 0 and below 1, got '1'"),
        (lambda: fc.schedules.ReduceOnPlateau(1), "ReduceOnPlateau: expected factor above 0 and below 1, got 1"),
        (lambda: fc.schedules.ReduceOnPlateau(patience=-1), "ReduceOnPlateau: expected patience of at least 0, got -1"),
        (
            lambda: fc.schedules.ReduceOnPlateau(monitor="loss"),
            "expected monitor to be one of val_acc, .*, got 'loss'",
        ),
        (lambda: fc.EarlyStopping(0), "EarlyStopping: expected patience of at least 1 epoch, got 0"),
        (lambda: fc.EarlyStopping(monitor="accuracy"), "EarlyStopping: expected monitor to be one of val_acc, "),
        (lambda: fc.EarlyStopping(min_delta=-1), "EarlyStopping: expected min_delta of at least 0, got -1"),
        (lambda: fc.TimeBudget(0), "TimeBudget: expected seconds above 0, got 0"),
    ],
)
def test_schedules_and_callbacks_refuse_what_they_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def fed(schedule, losses, lr=0.5):
    """Return the rate of each epoch of a training with these losses."""
    rates = []
    for loss in losses:
        rates.append(lr * schedule(0.0))
        schedule.after_epoch({"val_loss": loss, "val_acc": -loss, "lr": rates[-1]})
    return rates


LOSSES = [1.0, 0.9, 0.95, 0.91, 0.9, 0.9, 0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.9, np.nan, 1.0, 1.1]


def test_the_rate_falls_on_a_plateau():
    schedule = fc.schedules.ReduceOnPlateau(factor=0.5, patience=2, min_lr=0.1)
    assert fed(schedule, LOSSES[:11]) == pytest.approx([0.5] * 5 + [0.25] * 5 + [0.125])
    assert fed(fc.schedules.ReduceOnPlateau(0.5, 2, 0.0, 0.2, "val_acc"), LOSSES)[-1] == pytest.approx(0.2)


def test_a_loss_of_ones_own_choice(data):
    x, y = data
    target = np.eye(3, dtype=np.float32)[y]
    model = net()
    history = model.fit(x, target, epochs=8, batch_size=16, loss=fc.MSELoss(), validation_split=0.2, verbose=False)
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    assert set(history.column("val_acc") + history.column("train_acc")) == {None}
    soft, hard = net(), net()
    first = soft.fit(x, target, epochs=2, validation_split=0.2, verbose=False)
    second = hard.fit(x, y, epochs=2, validation_split=0.2, verbose=False)
    assert first.column("train_acc") == second.column("train_acc")
    assert first.column("val_loss") == pytest.approx(second.column("val_loss"), rel=1e-4)


def test_lines_without_accuracy(data, capsys):
    x, y = data
    net().fit(x, np.eye(3)[y], epochs=1, loss=fc.L1Loss(), validation_split=0.2)
    assert "acc" not in capsys.readouterr().out


def test_weights_of_classes_are_what_an_epochs_mean_is_divided_by(data):
    x, y = data
    loss = fc.CrossEntropyLoss(weight=[1, 5, 0.1])
    model = fc.Sequential(fc.Flatten(), fc.Linear(16, 3))
    history = model.fit(
        x, y, epochs=1, batch_size=32, loss=loss, optimizer=fc.SGD(0.0), validation_data=(x, y), verbose=False
    )
    expected = pytest.approx(loss(model.forward(x), y), rel=1e-6)
    assert history[0]["train_loss"] == expected
    assert history[0]["val_loss"] == expected


def test_each_hook_is_called_at_its_moment(data):
    calls = []

    class Spy(fc.Callback):
        def on_train_begin(self, run):
            calls.append("train begin")

        def on_epoch_begin(self, run):
            calls.append(f"epoch {run.epoch} begin")

        def on_batch_begin(self, run):
            calls.append(f"batch {run.batch} begin {run.progress:.2f}")

        def on_batch_end(self, run):
            calls.append(f"batch {run.batch} end")

        def on_epoch_end(self, run, record):
            calls.append(f"epoch {run.epoch} end")

        def on_train_end(self, run):
            calls.append("train end")

    net().fit(*data, epochs=2, batch_size=80, callbacks=[Spy()], verbose=False)
    epochs = [
        [f"epoch {n} begin", f"batch 0 begin {a:.2f}", "batch 1 end", f"batch 1 begin {b:.2f}", "batch 2 end",
         f"epoch {n} end"]
        for n, a, b in ((1, 0, 0.25), (2, 0.5, 0.75))
    ]  # fmt: skip
    assert calls == ["train begin", *epochs[0], *epochs[1], "train end"]


class Play(fc.Callback):
    """Gives each epoch the losses of a script, and marks the weights with its number."""

    def __init__(self, losses):
        self.losses = losses

    def on_epoch_end(self, run, record):
        record["val_loss"] = self.losses[run.epoch - 1]
        run.model.parameters()[-1].value = np.full(3, run.epoch)


def test_early_stopping_puts_the_best_weights_back_and_says_from_which_epoch(data, capsys):
    model, early = net(), fc.EarlyStopping(patience=3, min_delta=0.01)
    losses = [1.0, np.nan, 0.8, 0.795, 0.9, 0.791, 0.1]
    history = model.fit(*data, epochs=7, validation_data=data, callbacks=[Play(losses), early], optimizer=fc.SGD(0.0))
    assert len(history) == 6
    assert early.record["epoch"] == 3
    np.testing.assert_array_equal(model.parameters()[-1].value, 3)
    text = "stopped early: no better val_loss in 3 epochs, the weights of epoch 3 are kept (0.8000)"
    assert history.stopped == text
    assert capsys.readouterr().out.splitlines()[-1] == text


def test_early_stopping_without_need_keeps_the_best_weights_too(data, capsys):
    model = net()
    history = model.fit(
        *data, epochs=3, validation_data=data, callbacks=[Play([1, 0.5, 0.7]), fc.EarlyStopping(2)], verbose=False
    )
    np.testing.assert_array_equal(model.parameters()[-1].value, 2)
    assert (len(history), history.stopped, history.kept, history.best["epoch"]) == (3, None, 2, 2)
    net().fit(*data, epochs=3, validation_data=data, callbacks=[Play([1, 0.5, 0.7]), fc.EarlyStopping(2)])
    assert capsys.readouterr().out.splitlines()[-1] == "the weights of epoch 2 are kept"


@pytest.mark.parametrize("make", [lambda: fc.EarlyStopping(2, "train_loss"), lambda: KeepBest("train_loss")])
def test_what_kept_one_trainings_best_forgets_it_for_the_next(data, make):
    kept, options = make(), {"epochs": 4, "verbose": False, "schedule": "constant"}
    net().fit(*data, callbacks=[kept], optimizer=fc.SGD(0.1), **options)
    second, alone = net(5), net(5)
    history = second.fit(*data, callbacks=[kept], optimizer=fc.SGD(1e-6), **options)
    expected = alone.fit(*data, callbacks=[make()], optimizer=fc.SGD(1e-6), **options)
    assert same(weights(second), weights(alone))
    assert (len(history), history.kept, history.stopped) == (len(expected), expected.kept, expected.stopped)


def test_what_is_not_measured_cannot_stop_training(data):
    x, y = data
    with pytest.raises(ValueError, match="EarlyStopping: expected a loss that counts right answers"):
        net().fit(
            x,
            np.eye(3)[y],
            epochs=3,
            loss=fc.MSELoss(),
            callbacks=[fc.EarlyStopping(monitor="train_acc")],
            verbose=False,
        )


def test_a_time_budget_ends_training_in_order(data, clock):
    """A second a batch, 15 an epoch; what happens in ``on_epoch_end`` before the budget's turn counts as validation."""
    progress = []

    class Tick(fc.Callback):
        def on_batch_end(self, run):
            clock.now += 1

        def on_epoch_end(self, run, record):
            clock.now += 2

    def schedule(done):
        progress.append(done)
        return 1 - done

    history = net().fit(
        *data,
        epochs=9,
        batch_size=10,
        schedule=schedule,
        validation_data=data,
        callbacks=[Tick(), fc.TimeBudget(25)],
        verbose=False,
    )
    assert [record["epoch"] for record in history] == [1, 2]
    assert len(progress) == 15 + 6  # 15, 2 of validation, 6, and 2 that are left for the last validation
    assert progress == sorted(progress)
    assert progress[15] == pytest.approx(17 / 23)
    assert history.stopped == "stopped in epoch 2: the 25 s for training are over"
    assert clock.now == 125


def test_epochs_end_training_before_the_budget(data, clock):
    history = net().fit(*data, epochs=2, callbacks=[fc.TimeBudget(1000)], verbose=False)
    assert (len(history), history.stopped) == (2, None)


def test_a_norm_that_is_not_finite_is_an_error_of_training(data):
    class Spoilt(fc.SGD):
        @property
        def norm(self):
            return float("inf")

    with pytest.raises(fc.TrainingError, match=r"fit: the gradients' norm is inf in epoch 1, batch 1 of 3"):
        net().fit(*data, epochs=1, optimizer=Spoilt(0.1, clip_norm=1.0), verbose=False)


@pytest.mark.parametrize("optimizer", [fc.RMSprop(0.01, momentum=0.5), fc.Lion(0.01)], ids=["rmsprop", "lion"])
def test_other_optimisers_learn(optimizer, data):
    history = net().fit(*data, epochs=15, batch_size=16, optimizer=optimizer, verbose=False)
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]


@pytest.mark.parametrize("schedule", [lambda p: np.float32(1 - p / 2), lambda p: 1])
def test_a_schedules_numbers_may_be_numpys(data, schedule, tmp_path):
    options = {"epochs": 2, "verbose": False, "optimizer": fc.SGD(np.float32(0.05))}
    history = net().fit(*data, schedule=schedule, checkpoint=tmp_path / "c", **options)
    assert type(history[-1]["lr"]) is float


@pytest.mark.parametrize("factor", [None, np.ones(1), "1", True])
def test_a_schedule_that_gives_no_number(data, factor):
    with pytest.raises(TypeError, match="schedule: expected a number of progress 0, got"):
        net().fit(*data, schedule=lambda progress: factor, verbose=False)
