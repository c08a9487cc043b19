"""What stops training when a number is not finite: the first one is named, and the last good weights are kept."""

import pickle

import numpy as np
import pytest

import fastconv as fc
from fastconv.training import History
from fastconv.training.callbacks import KeepBest
from fastconv.training.errors import Statistics
from fastconv.training.run_folder import CHECKPOINT, MODEL, RESULTS, Recorder, RunFolder, read_results


class Before(fc.Callback):
    """Does something before a batch."""

    def __init__(self, epoch, batch, what):
        self.where, self.what = (epoch, batch), what
        self.began = {}

    def on_epoch_begin(self, run):
        self.began = run.model.state_dict()

    def on_batch_begin(self, run):
        if (run.epoch, run.batch + 1) == self.where:
            self.what(run)


@pytest.fixture
def data(rng):
    return rng.standard_normal((40, 1, 6, 6)).astype(np.float32), np.arange(40) % 3


def net():
    body = fc.Sequential(fc.Conv2d(4, 4, 3, padding=1), fc.Dropout(0.2))
    layers = [fc.Conv2d(1, 4, 3), fc.BatchNorm2d(4), fc.ReLU(), fc.Residual(body), fc.Flatten(), fc.Linear(64, 3)]
    return fc.Sequential(*layers, seed=2)


def fail(model, data, what, epoch=2, batch=2, **options):
    before = Before(epoch, batch, what)
    options = {"epochs": 4, "batch_size": 10, "verbose": False, "schedule": "constant"} | options
    with pytest.raises(fc.NotFiniteError) as caught:
        model.fit(*data, **options | {"callbacks": [before, *options.get("callbacks", ())]})
    assert all(np.isfinite(array).all() for array in model.state_dict().values())
    return caught.value, before


def same(these, those):
    return all(np.array_equal(array, those[name]) for name, array in these.items())


def test_a_weight(data):
    def spoil(run):
        run.model.parameters()[4].value[0, 1] = np.nan

    model = net()
    error, before = fail(model, data, spoil)
    assert (error.epoch, error.batch, error.cause, error.layer) == (2, 2, "weights", "3.0.0 Conv2d")
    assert error.statistics.shape == (4, 4, 3, 3)
    assert error.statistics.not_finite == pytest.approx(9 / 144)
    assert str(error).startswith(
        "fit: the loss is nan in epoch 2, batch 2 of 4, at learning rate 0.04; the first that "
    )
    assert "is not finite is in weight of layer 3.0.0 Conv2d: 6.25 % of 4x4x3x3 not finite, the others from -" in str(
        error
    )
    assert str(error).endswith(
        "the model has the weights with which this epoch began. A smaller learning rate usually helps"
    )
    assert same(model.state_dict(), before.began)
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.statistics) == (str(error), error.statistics)


def test_activations_inside_a_branch(data):
    def spoil(run):
        run.model.parameters()[4].value = np.full((4, 4, 3, 3), 3e38)

    model = net()
    error, _ = fail(model, data, spoil)
    assert (error.cause, error.layer) == ("activations", "3.0.0 Conv2d")
    assert error.statistics.shape == (10, 4, 4, 4)
    assert "what layer 3.0.0 Conv2d gives" in str(error)
    assert "the weights are those before this batch" in str(error)
    assert (model.parameters()[4].value == np.float32(3e38)).all()


def test_data_that_changed_meanwhile(data):
    """The running statistics of a normalisation kept the NaN, for ever."""
    x, y = data

    def spoil(run):
        x[:] = np.nan

    error, _ = fail(net(), (x, y), spoil)
    assert (error.cause, error.layer, error.statistics.not_finite) == ("data", None, 1)
    assert "is in the data, image " in str(error)
    assert " and 9 others: 100 % of 10x1x6x6 not finite; the model has the weights with which" in str(error)
    assert str(error).endswith("Look at these images")


def test_gradients_and_their_norm(data):
    model = fc.Sequential(fc.Flatten(), fc.Linear(36, 4), fc.Tanh(), fc.Linear(4, 3))
    loss = fc.MSELoss()
    target = np.zeros((40, 3), np.float32)

    def spoil(run):  # the loss is finite, and what comes back through such weights is not
        run.model.parameters()[2].value = np.array([[3e38, -3e38, 3e38, -3e38]] * 3)
        run.model.parameters()[0].value = np.zeros((4, 36))
        run.model.parameters()[3].value = np.full(3, 1e15)

    error, _ = fail(model, (data[0], target), spoil, loss=loss, optimizer=fc.SGD(1e-30, clip_norm=1.0))
    assert (error.cause, error.layer) == ("gradients", "1 Linear")
    assert "fit: the gradients' norm is " in str(error)
    assert "gradient of bias of layer 1 Linear, in the last step: " in str(error)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_weights_that_the_last_step_of_an_epoch_spoils_are_never_kept(data, tmp_path, ema):
    """They were measured, saved as the best model, and written into the checkpoint."""

    def spoil(run):
        run.optimizer.lr = 1e38

    run, best = RunFolder(tmp_path / "run"), KeepBest()
    model = fc.Sequential(fc.Flatten(), fc.Linear(36, 3))
    error, _ = fail(
        model, data, spoil, 1, 4, validation_data=data, callbacks=[best, Recorder(run, best)],
        optimizer=fc.SGD(0.1, momentum=0.9), checkpoint=fc.Checkpoint(run.file(CHECKPOINT), 0), ema=ema and fc.EMA(ema),
    )  # fmt: skip
    assert (error.epoch, error.batch) == (1, 4)
    assert "a weight is not finite after epoch 1, batch 4 of 4" in str(error) or "validation loss" in str(error)
    assert len(read_results(run.file(RESULTS))) == 0
    assert not run.file(MODEL).exists()
    # The checkpoint before it is there, goes on, and ends in the same way.
    with pytest.raises(fc.NotFiniteError) as again:
        model.fit(
            *data, epochs=4, batch_size=10, verbose=False, schedule="constant", validation_data=data, resume=True,
            callbacks=[Before(1, 4, spoil), KeepBest(), Recorder(run, KeepBest())], ema=ema and fc.EMA(ema),
            optimizer=fc.SGD(0.1, momentum=0.9), checkpoint=fc.Checkpoint(run.file(CHECKPOINT), 0),
        )  # fmt: skip
    assert str(again.value) == str(error)


def test_a_validation_loss(data):
    great = np.zeros((300, 1, 6, 6), np.float32)
    great[290] = 3e38
    model = net()
    error, before = fail(
        model, data, lambda run: None, 1, 1, validation_data=(great, np.arange(300) % 3), ema=fc.EMA(0.5)
    )
    assert (error.epoch, error.batch, error.cause) == (1, 4, "activations")
    assert "fit: the validation loss is nan after epoch 1, batch 4 of 4" in str(error) or "is inf after" in str(error)
    assert error.statistics.shape[0] == 300 - 256
    assert "the model has the weights with which this epoch began" in str(error)
    assert same(model.state_dict(), before.began)


def test_the_best_model_on_disk_stays(data, tmp_path):
    def spoil(run):
        run.model.parameters()[0].value = np.full((4, 1, 3, 3), np.nan)

    run, best = RunFolder(tmp_path / "run"), KeepBest()
    kept = {}

    class Keep(fc.Callback):
        def on_epoch_end(self, run, record):
            if best.record is record:
                kept.update(run.model.state_dict())

    fail(net(), data, spoil, 3, 1, validation_data=data, callbacks=[best, Recorder(run, best), Keep()])
    assert len(read_results(run.file(RESULTS))) == 2
    assert same(fc.load(run.file(MODEL)).state_dict(), kept)


def test_weights_that_are_bad_from_the_beginning(data):
    model = net()
    model.parameters()[0].value = np.full((4, 1, 3, 3), np.inf)
    with pytest.raises(
        fc.NotFiniteError, match=r"epoch 1, batch 1 of .* the weights were not finite when training began"
    ):
        model.fit(*data, epochs=1, verbose=False)


def test_a_training_that_was_over_when_it_was_stopped_goes_on(data, tmp_path):
    """With no batch left in its epoch."""

    class Stop(fc.Callback):
        def on_batch_end(self, run):
            run.stop = run.batch == run.batches

    options = {"epochs": 2, "batch_size": 10, "verbose": False, "checkpoint": tmp_path / "c.safetensors"}
    net().fit(*data, callbacks=[Stop()], **options)
    history = net().fit(*data, **options, resume=True)
    assert isinstance(history, History)
    assert len(history) == 2


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([[1.0, np.nan], [3.0, np.inf]]), "50 % of 2x2 not finite, the others from 1 to 3 with mean 2"),
        (np.full(4, np.nan, np.float32), "100 % of 4 not finite"),
        (np.array(2.5), "0 % of 1 not finite, the others from 2.5 to 2.5 with mean 2.5"),
    ],
)
def test_statistics(array, text):
    assert str(Statistics.of(array)) == text
