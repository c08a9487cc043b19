"""The search for a learning rate: what it measures, and that it leaves everything as it was."""

import sys

import numpy as np
import pytest

import fastconv as fc


def net():
    return fc.Sequential(fc.Flatten(), fc.Linear(16, 8), fc.ReLU(), fc.Dropout(0.2), fc.Linear(8, 3))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    return (rng.integers(0, 60, (150, 1, 4, 4)) + 80 * y[:, None, None, None]).astype(np.uint8), y


@pytest.mark.parametrize("optimizer", ["sgd", "adam", fc.SGD(123.0, momentum=0.5, clip_norm=1.0)])
def test_it_suggests_a_rate_and_changes_nothing(optimizer, data):
    model = net()
    before = model.state_dict()
    found = fc.lr_find(model, *data, optimizer=optimizer, batch_size=16, steps=80)
    assert all(np.array_equal(before[name], value) for name, value in model.state_dict().items())
    if not isinstance(optimizer, str):
        assert (optimizer.lr, optimizer.steps) == (123.0, 0)
    assert found.rates[0] == pytest.approx(1e-5)
    np.testing.assert_allclose(np.diff(np.log(found.rates)), np.log(1e6) / 79)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) > 20
    assert 1e-2 < found.suggestion < 2
    assert found.suggestion in found.rates
    # The suggestion trains.
    history = model.fit(*data, epochs=8, batch_size=16, optimizer=fc.SGD(found.suggestion), verbose=False)
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_the_first_steps_of_rmsprop_do_not_hide_the_later_ones(data):
    """They are ten times as long as their rate says, which the test took for a fall of the loss at that rate."""
    model = net()
    found = {name: fc.lr_find(model, *data, optimizer=name, lowest=1e-3) for name in ("adam", "rmsprop")}
    # Both move every weight by the rate.
    assert found["rmsprop"].losses[:2] == pytest.approx(found["adam"].losses[:2], rel=1e-4)
    optimizer = fc.RMSprop(0.01)
    assert optimizer.stride == pytest.approx(10)
    optimizer.steps = 1000
    assert optimizer.stride == pytest.approx(1, abs=1e-4)


def test_it_ends_when_the_loss_has_exploded(data):
    found = fc.lr_find(net(), *data, highest=1e8, steps=200)
    assert len(found.rates) < 200
    assert found == fc.lr_find(net(), *data, highest=1e8, steps=200)


def test_another_loss(data):
    x, y = data
    found = fc.lr_find(net(), x, np.eye(3)[y], loss=fc.MSELoss(), optimizer="adam")
    assert found.losses[0] < 2


def test_the_plot(data, tmp_path):
    pytest.importorskip("matplotlib")
    fc.lr_find(net(), *data).plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_what_to_install_for_plots(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'^plots need matplotlib, which comes with: pip install "fastconv\[plot\]"$'):
        fc.lr_find(net(), *data).plot(tmp_path / "rates.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lowest": 0}, "lr_find: expected 0 < lowest < highest, got 0 and 10.0"),
        ({"highest": 1e-6}, "lr_find: expected 0 < lowest < highest, got 1e-05 and 1e-06"),
        ({"steps": 5}, "lr_find: expected steps of at least 10, got 5"),
        ({"seed": -1}, "lr_find: expected seed as a whole number of at least 0, got -1"),
        ({"batch_size": 0}, "lr_find: expected batch_size of at least 1, got 0"),
        ({"x": np.zeros((0, 1, 4, 4)), "y": []}, "lr_find: expected at least one image"),
        ({"lowest": 1e30, "highest": 1e38}, "lr_find: expected a finite loss at the lowest rate, 1e\\+30, got"),
    ],
)
def test_what_is_refused(change, message, data):
    arguments = {"x": data[0], "y": data[1]} | change
    with pytest.raises(ValueError, match=message):
        fc.lr_find(net(), **arguments)


def test_a_loss_that_is_none_is_refused(data):
    with pytest.raises(TypeError, match="lr_find: expected loss to be a Loss, such as CrossEntropyLoss"):
        fc.lr_find(net(), *data, loss=len)
