"""The statistics for normalisation."""

import numpy as np
import pytest

from fastconv.training.normalize import normalization_of


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
