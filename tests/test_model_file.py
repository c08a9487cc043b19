"""Models on disk: what is saved comes back, and what is damaged is refused."""

import json
import os
import pickle
import random

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastconv as fc
from fastconv import io


def model():
    net = fc.Sequential(
        fc.Sequential(fc.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=1, bias=False), fc.ReLU(), fc.AvgPool2d(2)),
        fc.MaxPool2d(2, ceil_mode=True),
        fc.Dropout(0.25, seed=3),
        fc.Flatten(),
        fc.Linear(12, 4, init="glorot_uniform"),
        fc.Softmax(),
        seed=1,
    )
    net.normalization = fc.Normalization((0.1, 0.2), (0.5, 0.6))
    return net


@pytest.fixture
def saved(tmp_path):
    fc.save(model(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_everything_comes_back(saved):
    net, x = model(), np.random.default_rng(0).integers(0, 256, (5, 2, 8, 16), np.uint8)
    loaded = fc.load(saved)
    assert repr(loaded) == repr(net)
    assert loaded.normalization == net.normalization
    assert np.array_equal(loaded(x), net(x))
    assert fc.load(str(saved))(x).dtype == np.float32


EVERY_OTHER_LAYER = [
    fc.ZeroPad2d((1, 0, 2, 1)), fc.LeakyReLU(0.2), fc.PReLU(), fc.PReLU(2, 0.1), fc.ELU(0.5), fc.GELU("tanh"),
    fc.GELU(), fc.SiLU(), fc.Sigmoid(), fc.Tanh(), fc.Hardswish(), fc.Dropout2d(0.3, seed=4),
    fc.Upsample((9, 8), mode="bilinear", align_corners=True), fc.Upsample(scale_factor=(1.5, 2)),
    fc.AdaptiveMaxPool2d((7, None)), fc.AdaptiveAvgPool2d(4), fc.Reshape(4, 2, -1), fc.GlobalMaxPool2d(),
    fc.Reshape(2, 2), fc.BatchNorm1d(2), fc.LayerNorm((2, 2)), fc.Reshape(2, 2, 1), fc.GlobalAvgPool2d(),
    fc.Reshape(-1), fc.LogSoftmax(),
]  # fmt: skip


def test_layers_with_arguments_of_all_kinds_come_back(tmp_path, rng):
    net, x = fc.Sequential(*EVERY_OTHER_LAYER), rng.standard_normal((3, 2, 4, 5)).astype(np.float32)
    fc.save(net, tmp_path / "m")
    loaded = fc.load(tmp_path / "m")
    assert repr(loaded) == repr(net)
    assert [type(layer) for layer in loaded] == [type(layer) for layer in net]
    np.testing.assert_array_equal(loaded(x), net(x))
    assert "AdaptiveAvgPool2d" in net.summary((2, 4, 5))


def test_equal_models_are_equal_files(tmp_path):
    for number in range(5):
        fc.save(model(), tmp_path / f"{number}")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_float64_comes_back(tmp_path):
    fc.save(fc.Sequential(fc.Linear(2, 2)).to(np.float64), tmp_path / "m")
    assert fc.load(tmp_path / "m").parameters()[0].dtype == np.float64


def test_other_tools_can_read_it(saved):
    tensors = load_file(saved)
    assert list(tensors) == sorted(["0.0.weight", "4.weight", "4.bias"])
    with safe_open(saved, framework="numpy") as file:
        assert file.metadata()["format"] == "pt"
        assert json.loads(file.metadata()["fastconv"])["layers"][1]["layer"] == "MaxPool2d"


def test_saving_replaces_the_whole_file_or_nothing(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="No space left"):
                fc.save(fc.Sequential(fc.Linear(1, 1)), saved)
        assert saved.read_bytes() == before
        assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_only_models_are_saved(tmp_path):
    with pytest.raises(TypeError, match="save: expected a Sequential model, got Linear"):
        fc.save(fc.Linear(1, 1), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fc.load(tmp_path / "absent")
    with pytest.raises(OSError, match="directory"):
        fc.load(tmp_path)


def test_flipped_bits_and_cuts_are_refused(saved, tmp_path):
    content = saved.read_bytes()
    dice = random.Random(0)
    damaged = tmp_path / "damaged"
    cases = [content[: dice.randrange(len(content))] for _ in range(100)]
    for _ in range(300):
        copy = bytearray(content)
        copy[dice.randrange(len(copy))] ^= 1 << dice.randrange(8)
        cases.append(bytes(copy))
    for case in [*cases, b"", b"\xff" * 64, (2**60).to_bytes(8, "little") + b"{}"]:
        damaged.write_bytes(case)
        try:
            loaded = fc.load(damaged)
        except fc.ModelFileError as error:
            assert "\n" not in str(error)  # noqa: PT017 - hundreds of cases, one of which may load
        else:
            # Padding spaces of the header and the "pt" of the format are not part of the model.
            assert np.array_equal(loaded.parameters()[0].value, model().parameters()[0].value)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "m").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(fc.ModelFileError, match="no safetensors file, or damaged"):
        fc.load(tmp_path / "m")
    assert not (tmp_path / "ran").exists()


def test_safetensors_of_others_are_refused(tmp_path):
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "m")
    with pytest.raises(fc.ModelFileError, match="no fastconv model: its metadata does not describe one"):
        fc.load(tmp_path / "m")


def rewrite(path, change):
    """Save the model anew with another architecture and a digest that fits it."""
    from fastconv.io import _digest

    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    description = json.loads(metadata["fastconv"])
    change(description)
    architecture = json.dumps(description)
    save_file(tensors, path, metadata | {"fastconv": architecture, "sha256": _digest(architecture, tensors)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["layers"][1].update(layer="Bomb"), r"its layer 'Bomb' is not known; pass load\(..., layers"),
        (lambda d: d["layers"][4].update(out_features=5), r"expected 4.weight of shape \(5, 12\), got \(4, 12\)"),
        (lambda d: d["layers"][4].update(out_features="many"), "cannot be built"),
        (lambda d: d["layers"][4].update(extra=1), "cannot be built"),
        (lambda d: d["layers"].pop(), None),
        (lambda d: d["layers"].pop(4), r"unknown \['4.bias', '4.weight'\]"),
        (lambda d: d.pop("layers"), "cannot be built"),
        (lambda d: d.pop("normalization"), "cannot be built"),
        (lambda d: d.update(dtype="object"), "cannot be built"),
        (lambda d: d.update(layer="ReLU"), "cannot be built"),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused(saved, change, message):
    rewrite(saved, change)
    if message is None:  # the last layer has no weights: a smaller model, whole
        assert len(fc.load(saved)) == 5
        return
    with pytest.raises(fc.ModelFileError, match=message) as caught:
        fc.load(saved)
    assert str(caught.value).startswith(str(saved))


class Doubled(fc.Layer):
    """A layer of one's own."""

    def __init__(self, by=2):
        self.by = by

    def config(self):
        return {"by": self.by}

    def plan(self, shape, work):
        work.y = work.empty(shape)
        return shape

    def forward_blocks(self, x, work, training):
        np.multiply(x.array, self.by, out=work.y.array)
        return work.y


def test_layers_of_ones_own_are_named_on_load(tmp_path):
    fc.save(fc.Sequential(Doubled(by=3)), tmp_path / "m")
    with pytest.raises(fc.ModelFileError, match=r"'Doubled' is not known; pass load\(..., layers=\[Doubled\]\)"):
        fc.load(tmp_path / "m")
    assert fc.load(tmp_path / "m", layers=[Doubled])(np.ones((1, 2))).tolist() == [[3, 3]]


LYING = {
    "Fortran": lambda a: np.asfortranarray(a),
    "transposed": lambda a: a.T,
    "strided": lambda a: a[::2],
    "backwards": lambda a: a[::-1, ::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "a number": lambda a: a[0, 0],
}


@pytest.mark.parametrize("lies", LYING.values(), ids=LYING.keys())
def test_arrays_come_back_however_they_lie_in_memory(lies, tmp_path):
    array = lies(np.arange(12.0).reshape(3, 4))
    io.write_tensors(tmp_path / "file", "test", "{}", {"a": array})
    _, found = io.read_tensors(tmp_path / "file", "test", "test file")
    assert found["a"].shape == np.shape(array)
    np.testing.assert_array_equal(found["a"], array)


def test_a_layer_of_ones_own_is_none_of_ours(tmp_path):
    class Hardswish(fc.Layer):
        def plan(self, shape, work):
            return shape

        def forward_blocks(self, x, work, training):
            x.array[:] *= 2
            return x

    fc.save(fc.Sequential(Hardswish()), tmp_path / "m")
    with pytest.raises(fc.ModelFileError, match="its layer 'Hardswish' is not known; pass load"):
        fc.load(tmp_path / "m")
    assert fc.load(tmp_path / "m", layers=[Hardswish])(np.ones((1, 2))).tolist() == [[2, 2]]


def test_a_subclass_that_chooses_its_layers_is_saved_as_what_it_is(tmp_path, rng):
    class Net(fc.Sequential):
        def __init__(self, classes=3):
            super().__init__(fc.Flatten(), fc.Linear(16, classes))

    model, x = Net(), rng.standard_normal((3, 1, 4, 4))
    fc.save(model, tmp_path / "m")
    np.testing.assert_array_equal(fc.load(tmp_path / "m")(x), model(x))

    class Otherwise(Net):
        def forward(self, x, training=False):
            return 2 * super().forward(x, training)

    with pytest.raises(
        TypeError, match=r"save: .* a subclass that computes as it does, got Otherwise, which overrides forward"
    ):
        fc.save(Otherwise(), tmp_path / "other")
    with pytest.raises(TypeError, match="got Otherwise, which overrides forward"):
        fc.save(fc.Sequential(Otherwise()), tmp_path / "other")
    # A checkpoint is loaded into a model that is there.
    x, y = rng.standard_normal((6, 1, 4, 4)), np.arange(6) % 3
    for epochs in (1, 2):
        Otherwise().fit(x, y, epochs=epochs, checkpoint=tmp_path / f"checkpoint-{epochs}", verbose=False)


def test_numpys_numbers_are_saved(tmp_path):
    model = fc.Sequential(fc.Conv2d(1, 1, 3))
    model.normalization = fc.Normalization(np.array([0.5]), (np.float32(0.25),))
    x = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
    y = model(x)
    fc.save(model, tmp_path / "m")
    np.testing.assert_array_equal(fc.load(tmp_path / "m")(x), y)
    for wrong, error in (((0.0,), ValueError), ((np.nan,), ValueError), (("a",), TypeError)):
        model.normalization = fc.Normalization((0.0,), wrong)
        with pytest.raises(error, match="normalization: expected"):
            model(x)
        with pytest.raises(error, match="normalization: expected"):
            fc.save(model, tmp_path / "n")
