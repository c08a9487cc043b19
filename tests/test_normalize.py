"""Augmentation by shifts, and the statistics for normalisation."""

import numpy as np
import pytest

import fastconv as fc
from fastconv.training.normalize import normalization_of
from fastconv.training.shift import RandomShift, shifted


def naive_shift(images, down, right):
    out = np.empty_like(images)
    _, _, height, width = images.shape
    for i in range(height):
        for j in range(width):
            out[:, :, i, j] = images[:, :, min(max(i - down, 0), height - 1), min(max(j - right, 0), width - 1)]
    return out


@pytest.mark.parametrize("down", [-2, -1, 0, 1, 3])
@pytest.mark.parametrize("right", [-3, 0, 2])
def test_shifting_moves_pixels_and_repeats_edges(rng, down, right):
    images = rng.integers(0, 256, (2, 3, 4, 5)).astype(np.uint8)
    np.testing.assert_array_equal(shifted(images, down, right), naive_shift(images, down, right))


def run(epochs=3):
    model = fc.Sequential(fc.Flatten(), fc.Linear(30, 2))
    return fc.training.callbacks.Run(model, fc.SGD(), epochs, 1, 1)


def epochs_of(images, index, seed, epochs=3, **options):
    """Return what each epoch sees, and then what is left."""
    images = images.copy()
    shift, state = RandomShift(images, index, seed, **options), run(epochs)
    shift.on_train_begin(state)
    seen = [images.copy()]
    for state.epoch in range(1, epochs + 1):
        shift.on_epoch_end(state, None)
        seen.append(images.copy())
    shift.on_train_end(state)
    return seen[:-1], images


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (400, 1, 5, 6)).astype(np.uint8)


def test_every_training_image_is_one_of_nine_shifts_and_all_occur(images):
    index = np.arange(0, 400, 2)
    for seen in epochs_of(images, index, seed=1)[0]:
        matches = np.array(
            [
                [(seen[index] == shifted(images[index], d, r)).all(axis=(1, 2, 3)) for r in (-1, 0, 1)]
                for d in (-1, 0, 1)
            ]
        )
        assert matches.any(axis=(0, 1)).all()
        assert (matches.sum(axis=2) > 5).all()  # 200 images, nine shifts


def test_held_out_images_stay_and_all_come_back(images):
    index = np.arange(0, 400, 2)
    seen, left = epochs_of(images, index, seed=1)
    held_out = np.arange(1, 400, 2)
    assert all((epoch[held_out] == images[held_out]).all() for epoch in seen)
    np.testing.assert_array_equal(left, images)


def test_shifts_are_a_function_of_seed_and_epoch(images):
    index = np.arange(400)
    first, _ = epochs_of(images, index, seed=1)
    again, _ = epochs_of(images, index, seed=1, epochs=2)
    other, _ = epochs_of(images, index, seed=2)
    assert all((a == b).all() for a, b in zip(first, again, strict=False))
    assert (first[0] != first[1]).any()
    assert (first[0] != other[0]).any()


def test_images_smaller_than_the_shift(rng):
    images = rng.integers(0, 256, (50, 1, 1, 2)).astype(np.uint8)
    seen, _ = epochs_of(images, np.arange(50), seed=0, pixels=5)
    rows = {tuple(row) for row in np.hstack([images.reshape(50, 2), seen[0].reshape(50, 2)])}
    assert all(c in (a, b) and d in (a, b) for a, b, c, d in rows)


def test_fit_sees_the_shifted_images(images):
    labels = np.arange(400) % 2

    def weights(augment):
        x, model = images.copy(), fc.Sequential(fc.Flatten(), fc.Linear(30, 2))
        model.fit(x, labels, epochs=2, verbose=False, callbacks=augment(x))
        return model.state_dict()["1.weight"]

    plain = weights(lambda x: [])
    assert (weights(lambda x: [RandomShift(x, np.arange(400), 0)]) != plain).any()
    np.testing.assert_array_equal(weights(lambda x: [RandomShift(x, np.arange(400), 0, pixels=0)]), plain)


def test_normalization_is_that_of_the_training_images_alone(rng):
    images = rng.integers(0, 256, (3000, 2, 3, 4)).astype(np.uint8)
    index = np.sort(rng.choice(3000, 2500, replace=False))
    found = normalization_of(images, index)
    part = images[index] / 255
    np.testing.assert_allclose(found.mean, part.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.std, part.std(axis=(0, 2, 3)), rtol=1e-12)


def test_a_channel_without_contrast_is_not_divided_by_zero():
    images = np.full((4, 1, 2, 2), 51, np.uint8)
    found = normalization_of(images, np.arange(4))
    assert found.mean == pytest.approx((0.2,))
    assert found.std == (1.0,)
