"""The layers of docs/own_layers.md, one with an @njit kernel and one with a crew's, wherever a built-in one works."""

import sys

import numpy as np
import pytest
from own_layers import code, own_layers

import fastconv as fc
from fastconv import cli
from fastconv.augment import Augment

PLACES = {
    "in a row": lambda own: (own(4),),
    "in a Sequential": lambda own: (fc.Sequential(own(4), fc.ReLU()),),
    "as a body": lambda own: (fc.Residual(own(4)),),
    "as a shortcut": lambda own: (fc.Residual(fc.Sequential(fc.Conv2d(4, 4, 1), fc.BatchNorm2d(4)), own(4)), fc.ReLU()),
    "in Concat": lambda own: (fc.Concat(own(4), fc.Sequential(fc.Conv2d(4, 2, 1), own(2))), fc.Conv2d(6, 4, 1)),
}
SHIFTS = Augment(shift=1, rotate=10, mixup=0.2)


@pytest.fixture(params=["ChannelScale", "SharedChannelScale", "ScaledConv"])
def own(request):
    return getattr(own_layers(), request.param)


@pytest.fixture(params=PLACES.values(), ids=PLACES.keys())
def net(own, request):
    """Return what makes a model with the layer in some place."""

    def make(seed=0):
        inside = request.param(own)
        layers = fc.Conv2d(1, 4, 3, padding=1), fc.ReLU(), *inside, fc.MaxPool2d(2), fc.Flatten(), fc.Linear(64, 3)
        model = fc.Sequential(*layers, seed=seed)
        model.normalization = fc.Normalization((0.5,), (0.25,))
        return model

    return make


@pytest.fixture
def data(rng):
    y = rng.integers(0, 3, 90)
    x = rng.integers(0, 80, (90, 1, 8, 8)) + 80 * y[:, None, None, None]
    return x.astype(np.uint8), y


def weights(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def test_the_pages_code_runs(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    names = dict(vars(own_layers()))
    exec(compile(code()[1], "docs/own_layers.md", "exec"), names)
    x = rng.integers(0, 256, (5, 1, 8, 8)).astype(np.uint8)
    np.testing.assert_array_equal(names["again"](x), names["model"](x))
    assert (names["again"].layers[1].factor.value != 1).all()


def test_it_trains_on_augmented_pixels_with_averaged_weights(net, data):
    model = net()
    options = {"epochs": 8, "batch_size": 15, "augment": SHIFTS, "ema": fc.EMA(0.8), "validation_split": 0.2}
    history = model.fit(*data, optimizer=fc.Adam(0.02), verbose=False, **options)
    assert history[-1]["val_acc"] > 0.8
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    factors = [parameter for parameter in model.parameters() if parameter.name.endswith("factor")]
    assert factors
    assert all((factor.value != 1).any() for factor in factors)


def test_a_step_of_ones_own_loop(net, data):
    model, loss, optimizer = net(), fc.CrossEntropyLoss(), fc.SGD(0.01, momentum=0.9)
    losses = [fc.train_step(model, loss, optimizer, *data) for _ in range(15)]
    assert losses[-1] < losses[0]


def test_it_is_saved_summarised_and_loaded(net, own, data, tmp_path):
    model = net()
    model.fit(*data, epochs=1, verbose=False)
    fc.save(model, tmp_path / "m")
    with pytest.raises(
        fc.ModelFileError, match=rf"its layer '{own.__name__}' is not known; pass load\(\.\.\., layers="
    ):
        fc.load(tmp_path / "m")
    loaded = fc.load(tmp_path / "m", layers=[own])
    assert repr(loaded) == repr(model)
    np.testing.assert_array_equal(loaded(data[0]), model(data[0]))
    assert own.__name__ in model.summary((1, 8, 8))


def test_commands_are_told_where_it_is(tmp_path, monkeypatch, capsys, rng):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine_for_commands.py").write_text(code()[0])
    model = fc.Sequential(own_layers().ChannelScale(1), fc.Flatten(), fc.Linear(36, 3))
    fc.save(model, "m.safetensors")
    images, labels = rng.integers(0, 256, (20, 1, 6, 6)).astype(np.uint8), np.arange(20) % 3
    np.savez("x.npz", images=images, labels=labels)
    layers = ["--layers", "mine_for_commands:SharedChannelScale,ChannelScale"]
    assert cli.main(["evaluate", "m.safetensors", "x.npz"]) == 2
    assert "'ChannelScale' is not known; pass load(..., layers=[ChannelScale]), or --layers" in capsys.readouterr().err
    assert cli.main(["evaluate", "m.safetensors", "x.npz", *layers]) == 0
    assert f"accuracy {model.evaluate(images, labels)['accuracy']:.4f} (" in capsys.readouterr().out
    assert cli.main(["predict", "m.safetensors", "x.npz", *layers]) == 0
    assert cli.main(["summary", "m.safetensors", "--input", "1x6x6", *layers]) == 0
    assert "0 ChannelScale" in capsys.readouterr().out
    assert cli.main(["gradcheck", "m.safetensors", "--input", "1x6x6", *layers]) == 0
    assert "agree" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("mine", "--layers: expected MODULE:CLASS[,CLASS...], such as mine:ChannelScale, got 'mine'"),
        (":Conv2d", "--layers: expected MODULE:CLASS[,CLASS...], such as mine:ChannelScale, got ':Conv2d'"),
        ("no_such_module:A", "--layers: no_such_module cannot be imported (No module named 'no_such_module')"),
        ("fastconv:Conv2d,SGD", "--layers: expected SGD of fastconv to be a class of layers, got <class"),
        ("fastconv:Cov2d", "--layers: expected Cov2d of fastconv to be a class of layers, got None"),
    ],
)
def test_layers_that_are_none_are_named(named, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert cli.main(["summary", "lenet5", "--layers", named]) == 2
    assert capsys.readouterr().err.startswith(f"fastconv: {message}")


def test_it_predicts_alone_by_views_and_in_an_ensemble(net, data):
    x, y = data
    models = [net(), net(1)]
    for model in models:
        model.fit(*data, epochs=6, batch_size=15, optimizer=fc.Adam(0.02), verbose=False)
    p = models[0].predict_proba(x)
    np.testing.assert_array_equal(models[0].predict(x, batch_size=7), p.argmax(axis=1))
    assert (models[0].predict_proba(x, tta=3, augment="digits") != p).any()
    together = fc.Ensemble(models)
    np.testing.assert_allclose(together.predict_proba(x), (p + models[1].predict_proba(x)) / 2, rtol=1e-5)
    assert together.evaluate(x, y)["accuracy"] > 0.6


def test_training_goes_on_with_the_same_bits(net, data, tmp_path):
    class Kill(fc.Callback):
        def on_batch_end(self, run):
            if run.epoch == 2:
                raise KeyboardInterrupt

    options = {"epochs": 3, "batch_size": 20, "augment": SHIFTS, "verbose": False}
    whole = net()
    whole.fit(*data, **options)
    with pytest.raises(KeyboardInterrupt):
        net().fit(*data, checkpoint=tmp_path / "c", callbacks=[Kill()], **options)
    resumed = net()
    resumed.fit(*data, checkpoint=tmp_path / "c", resume=True, **options)
    assert weights(resumed) == weights(whole)


def test_the_same_bits_at_any_thread_count(net, data, threads):
    found = set()
    for count in (1, 2, 3, 4):
        threads(count)
        model = net()
        model.fit(*data, epochs=2, batch_size=17, augment="digits", verbose=False)
        found.add(tuple(weights(model).items()))
    assert len(found) == 1


def test_its_gradients_in_float64(net, rng):
    report = fc.gradcheck(net(), rng.standard_normal((17, 1, 8, 8)), max_elements=40)
    assert report.checked > 80
    assert report.worst < 0.5


@pytest.mark.parametrize("place", ["in a row", "as a shortcut"])
def test_the_doctor_finds_nothing_wrong_with_it(own, place, rng):
    y = rng.integers(0, 3, 400)
    x = (rng.integers(0, 150, (400, 1, 8, 8)) + 50 * y[:, None, None, None]).astype(np.uint8)
    model = fc.Sequential(fc.Conv2d(1, 4, 3, padding=1), *PLACES[place](own), fc.Flatten(), fc.Linear(256, 3))
    before = weights(model)
    report = fc.doctor(model, x, y, optimizer=fc.SGD(0.005), machine=False)
    assert not report.faults, report
    assert "numeric gradients" in {finding.name for finding in report}
    assert weights(model) == before


# ------------------------------------------------------------------------------------------- lanes that hold no image


class Inverse(fc.Layer):
    """1 / x, which makes infinities of the zeros in lanes without an image, and NaN of them on the way back."""

    def plan(self, shape, work):
        work.y, work.dx = work.empty(shape), work.empty(shape)
        return shape

    def forward_blocks(self, x, work, training):
        with np.errstate(divide="ignore"):
            np.divide(1, x.array, out=work.y.array)
        return work.y

    def backward_blocks(self, dy, work, need_dx):
        with np.errstate(invalid="ignore"):
            np.multiply(-dy.array, np.square(work.y.array), out=work.dx.array)
        return work.dx


BEHIND = {
    "convolution": lambda: (fc.Conv2d(2, 3, 3), (2, 5, 4)),
    "winograd": lambda: (fc.Conv2d(29, 31, 3, padding=1), (29, 8, 8)),
    "pointwise": lambda: (fc.Conv2d(3, 5, 1), (3, 4, 4)),
    "depthwise": lambda: (fc.Conv2d(3, 3, 3, groups=3), (3, 5, 5)),
    "padded by reflection": lambda: (fc.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 5, 4)),
    "transposed convolution": lambda: (fc.ConvTranspose2d(2, 3, 3), (2, 4, 4)),
    "sequence": lambda: (fc.Conv1d(2, 3, 3), (2, 9)),
    "linear": lambda: (fc.Linear(7, 3), (7,)),
    "batch norm": lambda: (fc.BatchNorm2d(2), (2, 3, 3)),
    "group norm": lambda: (fc.GroupNorm(1, 2), (2, 3, 3)),
    "layer norm": lambda: (fc.LayerNorm(7), (7,)),
    "prelu": lambda: (fc.PReLU(2), (2, 3, 3)),
    "of one's own": lambda: (own_layers().ChannelScale(2), (2, 3, 3)),
    "in a Residual": lambda: (fc.Residual(fc.Conv2d(2, 2, 1), Inverse()), (2, 3, 3)),
    "behind branches": lambda: (fc.Sequential(fc.Concat(Inverse(), fc.ReLU()), fc.Conv2d(4, 1, 1)), (2, 3, 3)),
}


@pytest.mark.parametrize("n", [1, 17, 32])
@pytest.mark.parametrize("case", BEHIND.values(), ids=BEHIND.keys())
def test_infinities_in_empty_lanes_reach_no_gradient(case, n, rng):
    """Behind such a layer the gradients are those of its output alone, with zeros in lanes without an image."""
    layer, shape = case()
    x = rng.uniform(1, 2, (n, *shape))
    model = fc.Sequential(Inverse(), layer)
    dy = rng.standard_normal(model(x).shape)
    model.forward(x, training=True)
    assert np.isfinite(model.backward(dy)).all()
    found = [parameter.grad.copy() for parameter in layer.parameters()]
    layer.forward(1 / x, training=True)
    layer.backward(dy)
    for parameter, grad in zip(layer.parameters(), found, strict=True):
        assert np.isfinite(parameter.grad).all()
        np.testing.assert_allclose(grad, parameter.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("before", [fc.Conv2d(2, 2, 1), fc.Conv2d(2, 2, 3, padding=1), fc.BatchNorm2d(2), fc.PReLU(2)])
def test_nan_in_empty_lanes_is_not_passed_back(before, rng):
    model = fc.Sequential(before, Inverse())
    y = model.forward(rng.uniform(1, 2, (17, 2, 3, 3)), training=True)
    model.backward(np.ones_like(y))
    for parameter in model.parameters():
        assert np.isfinite(parameter.grad).all()


def test_one_lane_more_or_less_is_no_other_gradient(rng):
    """What a layer of one's own sums over images stops at the last, whatever lies in the lanes behind."""
    layer = own_layers().ChannelScale(2)
    work = fc.layers.Workspace(np.float32)
    shape = (3, 2, 2, 2)
    layer.plan(shape, work)
    x, dy = work.empty(shape), work.empty(shape)
    x.array[:], dy.array[:] = np.inf, 0
    x.array[..., :3], dy.array[..., :3] = 2, 1
    layer.forward_blocks(x, work, True)
    layer.backward_blocks(dy, work, True)
    np.testing.assert_array_equal(layer.factor.grad, [24, 24])


class Negated(fc.Conv2d):
    """A layer of somebody else's, on one of ours: what it does comes behind what it inherits."""

    def forward_blocks(self, x, work, training):
        y = super().forward_blocks(x, work, training)
        np.negative(y.array, out=y.array)
        return y

    def backward_blocks(self, dy, work, need_dx):
        np.negative(dy.array, out=dy.array)
        return super().backward_blocks(dy, work, need_dx)


@pytest.mark.parametrize("n", [2, 40])
@pytest.mark.parametrize(
    "around",
    [
        lambda layer: (layer, fc.ReLU(), fc.Conv2d(4, 4, 3)),
        lambda layer: (fc.Conv2d(4, 4, 3, padding=1), fc.ReLU(), layer, fc.ReLU()),
        lambda layer: (fc.Residual(layer), fc.ReLU()),
        lambda layer: (fc.Residual(fc.Sequential(fc.Conv2d(4, 4, 1), layer)), fc.ReLU()),
    ],
    ids=["before", "behind", "a branch", "at a branch's end"],
)
def test_nothing_of_ours_slips_into_a_subclass_of_ours(around, n, rng):
    """A ReLU behind it, a sum that it ends, and images in pieces would come before its own code."""
    x = rng.standard_normal((n, 4, 8, 8)).astype(np.float32)
    model = fc.Sequential(*around(Negated(4, 4, 3, padding=1)), seed=3)
    ours = fc.Sequential(*around(fc.Conv2d(4, 4, 3, padding=1)), seed=3)
    for theirs, plain in zip(model.modules(), ours.modules(), strict=True):
        if isinstance(theirs, Negated):
            plain.weight.value, plain.bias.value = -theirs.weight.value, -theirs.bias.value
    y = model.forward(x, training=True)
    np.testing.assert_allclose(y, ours.forward(x, training=True), atol=1e-5)
    dy = rng.standard_normal(y.shape)
    np.testing.assert_allclose(model.backward(dy), ours.backward(dy), atol=1e-4)
