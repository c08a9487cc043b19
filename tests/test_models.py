"""The ready-made networks: what their docstrings say is so, and they learn."""

import re

import numpy as np
import pytest

import fastconv as fc
from fastconv import models

SHAPES = {
    name: (1, 28, 28) if name in ("lenet5", "lenet_seed", "digitnet", "tiny") else (3, 32, 32) for name in models.NAMES
}
each_model = pytest.mark.parametrize("name", models.NAMES)


@each_model
def test_parameters_and_arithmetic_are_those_of_the_docstring(name):
    text = " ".join(getattr(models, name).__doc__.split())
    model = models.create(name, in_channels=SHAPES[name][0])
    parameters = sum(parameter.size for parameter in model.parameters())
    assert f"{parameters:,} parameters" in text
    said = re.search(r"([\d.]+) MFLOP for (?:an image of )?(\d)x(\d+)x(\d+)", text)
    assert said is not None
    assert tuple(map(int, said.groups()[1:])) == SHAPES[name]
    mflop = float(str(model.summary(SHAPES[name])).splitlines()[-2].split()[-1])
    assert float(said[1]) == pytest.approx(mflop, rel=0.005)


@each_model
@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_number_of_channels_and_classes(name, channels, classes, rng):
    shape = channels, *SHAPES[name][1:]
    model = models.create_for(name, shape, classes, seed=1)
    x = rng.integers(0, 256, (2, *shape), np.uint8)
    assert model(x).shape == (2, classes)
    np.testing.assert_array_equal(models.create_for(name, shape, classes, seed=1)(x), model(x))
    assert not np.array_equal(models.create_for(name, shape, classes, seed=2)(x), model(x))


@each_model
def test_one_epoch_on_real_digits_is_better_than_guessing(name):
    digits = fc.data.digits10k()
    every = 4 if name == "tiny" else 20
    images, labels = digits.images[::every], digits.labels[::every]
    model = models.create_for(name, (1, 28, 28), 10)
    optimizer = fc.Adam(0.02 if name == "tiny" else 0.001)
    history = model.fit(
        images, labels, epochs=1, batch_size=20, optimizer=optimizer, schedule="constant", verbose=False
    )
    assert history[-1]["train_acc"] > 0.3


@each_model
def test_saved_and_loaded(name, tmp_path, rng):
    model = models.create(name, in_channels=SHAPES[name][0])
    x = rng.integers(0, 256, (2, *SHAPES[name]), np.uint8)
    model.forward(x, training=True)  # moves running statistics
    fc.save(model, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "model.safetensors")(x), model(x))


@pytest.mark.parametrize(("name", "size"), [("lenet5", 32), ("lenet_seed", 20)])
def test_lenet_for_images_of_another_size(name, size, rng):
    assert models.create_for(name, (3, size, size), 10)(rng.integers(0, 256, (1, 3, size, size), np.uint8)).shape == (
        1,
        10,
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: models.create("lenet6"), ValueError, "model: expected one of lenet5, lenet_seed, .*, got 'lenet6'"),
        (
            lambda: models.create("resnet20", depth=3),
            TypeError,
            "resnet20: expected options among in_channels, num_classes, seed, got 'depth'",
        ),
        (lambda: models.create_for("lenet5", (1, 28, 30), 10), ValueError, "lenet5: expected square images, got 28x30"),
        (lambda: models.lenet5(image_size=11), fc.ShapeError, "lenet5: expected image_size of at least 12, got 11"),
        (lambda: models.lenet_seed(image_size=15), fc.ShapeError, "expected image_size of at least 16, got 15"),
    ],
)
def test_what_is_wrong_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_list_of_models_is_what_create_knows():
    assert models.list_models() == models.NAMES
    assert all(callable(getattr(models, name)) for name in models.list_models())
