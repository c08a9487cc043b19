"""What ``fastconv train`` takes where its options leave it open."""

import json

import pytest

from fastconv import augment, cli, models, optim
from fastconv.training.recipes import recipe_for


@pytest.mark.parametrize("model", models.NAMES)
def test_help_says_what_the_recipes_say(model):
    plain, augmented = recipe_for(model, augmented=False), recipe_for(model, augmented=True)
    assert (plain.epochs, plain.batch_size, plain.decay) == (cli.EPOCHS, cli.BATCH_SIZE, "all")
    assert (plain.loss_smoothing, plain.ema) == (0, 0)
    assert (augmented.decay, augmented.ema) == ("weights", 0.998)
    assert augmented.loss_smoothing == (0 if model == "tiny" else 0.1)
    kind = "a lenet or tiny" if model.startswith("lenet") or model == "tiny" else "others"
    assert f"{augmented.epochs} for {kind}" in cli.AUGMENTED


def test_help_names_the_presets():
    assert cli.PRESETS == tuple(augment.PRESETS)


def options_of(words, tmp_path):
    assert cli.main(["train", *words, "--no-report", "--out", str(tmp_path / "run")]) == 0
    return json.loads((tmp_path / "run" / "config.json").read_bytes())["options"]


@pytest.fixture
def images(tmp_path):
    import numpy as np

    rng = np.random.default_rng(0)
    np.savez(tmp_path / "few.npz", images=rng.integers(0, 256, (60, 28, 28)).astype(np.uint8), labels=np.arange(60) % 3)
    return str(tmp_path / "few.npz")


def test_what_an_option_says_is_taken_and_the_recipe_says_the_rest(images, tmp_path):
    found = options_of([images, "--augment", "--epochs", "1", "--ema", "0", "--lr", "0.01"], tmp_path)
    assert (found["epochs"], found["ema"], found["lr"]) == (1, 0, 0.01)
    recipe = recipe_for("lenet5", augmented=True)
    for name in ("batch_size", "weight_decay", "decay", "loss_smoothing"):
        assert found[name] == getattr(recipe, name)


def test_another_optimizer_has_its_own_rate(images, tmp_path):
    found = options_of([images, "--augment", "--epochs", "1", "--optimizer", "adamw"], tmp_path)
    its_own = optim.by_name("adamw")
    assert (found["lr"], found["weight_decay"], found["batch_size"]) == (its_own.lr, its_own.weight_decay, 128)
