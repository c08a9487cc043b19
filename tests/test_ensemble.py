"""Test-time augmentation, and models that answer together."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import blocks
from fastconv.augment import VIEWS, Augment, Augmentation

SHIFTS = Augment(shift=2, rotate=20)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (37, 1, 9, 8)).astype(np.uint8)


def net(seed=0, classes=3):
    model = fc.Sequential(fc.Conv2d(1, 2, 3), fc.ReLU(), fc.Flatten(), fc.Linear(84, classes), seed=seed)
    model.normalization = fc.Normalization((0.5,), (0.1,))
    return model


# ---------------------------------------------------------------------------------------------------------------- views


def test_one_view_is_plain_prediction(images):
    model = net()
    for augment in (None, SHIFTS, "digits"):
        np.testing.assert_array_equal(model.predict_proba(images, tta=1, augment=augment), model.predict_proba(images))
        np.testing.assert_array_equal(model.predict(images, tta=1, augment=augment), model.predict(images))
    y = np.arange(37) % 3
    assert model.evaluate(images, y, tta=1, augment=SHIFTS) == model.evaluate(images, y)


def test_it_is_the_mean_over_the_image_and_its_views(images):
    model, numbers = net(), np.arange(37)
    run = Augmentation(SHIFTS, images.shape[1:], numbers, 5)
    seen = [model.predict_proba(images)]
    for number in (1, 2):
        y = blocks.unpack(model.run_batch(images, numbers, pack=run.of_epoch(number)))
        seen.append(fc.functional.softmax(y))
    assert (seen[0] != seen[1]).any()
    assert (seen[1] != seen[2]).any()
    expected = sum(part.astype(np.float64) for part in seen) / 3
    p = model.predict_proba(images, tta=3, augment=SHIFTS, seed=5)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, expected, rtol=1e-6)
    np.testing.assert_array_equal(model.predict(images, tta=3, augment=SHIFTS, seed=5), p.argmax(axis=1))


def test_views_follow_from_seed_number_and_place_alone(images, threads):
    model = net()
    expected = model.predict_proba(images, tta=4, augment=SHIFTS)
    for count in (1, 2, 3):
        threads(count)
        for batch_size in (1, 5, 16, 64):
            p = model.predict_proba(images, batch_size, tta=4, augment=SHIFTS)
            np.testing.assert_array_equal(p, expected)
    np.testing.assert_array_equal(model.predict_proba(images[:20], tta=4, augment=SHIFTS), expected[:20])
    np.testing.assert_array_equal(model.predict_proba(np.asfortranarray(images), tta=4, augment=SHIFTS), expected)
    assert (model.predict_proba(images, tta=4, augment=SHIFTS, seed=1) != expected).any()
    assert (model.predict_proba(images, tta=3, augment=SHIFTS) != expected).any()


def test_a_preset_means_its_milder_form(images):
    assert set(VIEWS) == set(fc.augment.PRESETS)
    for name, options in VIEWS.items():
        trained = fc.augment.PRESETS[name]
        assert options.rotate <= trained.rotate / 2
        assert options.crop <= max(trained.crop / 2, 1)
        assert (options.cutout, options.mixup, options.flip) == (0, 0, trained.flip)
        by_name = net().predict_proba(images, tta=2, augment=name)
        np.testing.assert_array_equal(by_name, net().predict_proba(images, tta=2, augment=options))


def test_evaluation_of_views(images):
    model, y = net(), np.arange(37) % 3
    p = model.predict_proba(images, tta=3, augment=SHIFTS).astype(np.float64)
    found = model.evaluate(images, y, tta=3, augment=SHIFTS)
    assert found["accuracy"] == (p.argmax(axis=1) == y).mean()
    assert found["loss"] == pytest.approx(-np.log(p[np.arange(37), y]).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="expected labels from 0 to 2, got 3 at position 36"):
        model.evaluate(images, np.append(y[:-1], 3), tta=3, augment=SHIFTS)


def test_no_images_have_no_views(images):
    assert net().predict_proba(images[:0], tta=3, augment=SHIFTS).shape == (0, 3)
    with pytest.raises(ValueError, match="expected at least one image"):
        net().evaluate(images[:0], np.zeros(0, np.int64), tta=3, augment=SHIFTS)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tta": 0, "augment": SHIFTS}, ValueError, "predict: expected tta of at least 1, got 0"),
        ({"tta": 2.0, "augment": SHIFTS}, ValueError, r"predict: expected tta of at least 1, got 2\.0"),
        (
            {"tta": 2},
            ValueError,
            "predict: expected augment with tta=2, which says what views undergo: digits, fashion",
        ),
        ({"tta": 2, "augment": "letters"}, ValueError, "expected augment as one of digits, .*, got 'letters'"),
        (
            {"tta": 2, "augment": SHIFTS, "seed": -1},
            ValueError,
            "expected seed as a whole number of at least 0, got -1",
        ),
        ({"tta": 2, "augment": Augment(mixup=0.2)}, ValueError, r"expected views of one image each, got mixup=0\.2"),
    ],
)
def test_views_that_make_no_sense(images, options, error, message):
    with pytest.raises(error, match=message):
        net().predict(images, **options)


def test_views_are_of_pixels(images):
    with pytest.raises(TypeError, match="predict_proba: augmentation reads uint8 images, got float32"):
        net().predict_proba(images.astype(np.float32), tta=2, augment=SHIFTS)
    with pytest.raises(fc.ShapeError, match=r"augmentation reads images of shape \(N, C, H, W\), got \(37, 72\)"):
        net().predict(images.reshape(37, -1), tta=2, augment=SHIFTS)


# ------------------------------------------------------------------------------------------------------------ ensembles


def test_the_mean_of_models_in_their_order(images):
    models = [net(seed) for seed in range(3)]
    a, b, c = (model.predict_proba(images).astype(np.float64) for model in models)
    together = fc.Ensemble(models)
    p = together.predict_proba(images)
    assert p.dtype == np.float64
    np.testing.assert_array_equal(p, (a + b + c) / 3)
    np.testing.assert_array_equal(together.predict(images), p.argmax(axis=1))
    y = np.arange(37) % 3
    found = together.evaluate(images, y)
    assert found["accuracy"] == (p.argmax(axis=1) == y).mean()
    assert found["loss"] == pytest.approx(-np.log(p[np.arange(37), y]).mean(), rel=1e-5)
    assert (len(together), repr(together)) == (3, "<Ensemble of 3 models>")


def test_an_ensemble_of_one_answers_as_its_model(images):
    model = net()
    together = fc.Ensemble([model])
    np.testing.assert_array_equal(together.predict_proba(images, 5), model.predict_proba(images))
    viewed = together.predict_proba(images, tta=2, augment=SHIFTS, seed=3)
    np.testing.assert_array_equal(viewed, model.predict_proba(images, tta=2, augment=SHIFTS, seed=3))


def test_what_is_no_ensemble(images):
    with pytest.raises(ValueError, match="Ensemble: expected at least one model, got none"):
        fc.Ensemble([])
    with pytest.raises(TypeError, match="Ensemble: expected models, got str at position 1"):
        fc.Ensemble([net(), "lenet5"])
    with pytest.raises(fc.ShapeError, match=r"got \(37, 3\) from model 0 and \(37, 4\) from model 1"):
        fc.Ensemble([net(), net(classes=4)]).predict(images)


def test_models_of_other_seeds_hold_out_the_same_images(images):
    y, seen = np.arange(37) % 3, []

    class Look(fc.Callback):
        def on_epoch_end(self, run, record):
            seen.append(record["val_loss"])

    for seed, split_seed in ((0, None), (1, 0), (1, None)):
        net().fit(
            images, y, 1, 64, optimizer=fc.SGD(lr=1e-30), validation_split=0.5, seed=seed, split_seed=split_seed,
            callbacks=[Look()], verbose=False,
        )  # fmt: skip
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]
