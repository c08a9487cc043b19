"""Permutations and splits: pure functions of the seed, with bits that stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv.data import DataError, permutation, split

SEEDS = st.integers(0, 2**70)


@given(n=st.integers(0, 500), seed=SEEDS, epoch=st.integers(0, 10**6))
def test_permutation_visits_each_once(n, seed, epoch):
    order = permutation(n, seed, epoch)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))
    np.testing.assert_array_equal(permutation(n, seed, epoch), order, strict=True)


def test_bits_stay():
    # These numbers are a promise: a run that is resumed with another NumPy must see the same order.
    assert permutation(10, 0, 0).tolist() == [1, 9, 2, 8, 6, 5, 7, 4, 3, 0]
    assert permutation(10, 0, 1).tolist() == [9, 3, 5, 1, 4, 8, 6, 2, 7, 0]
    assert split(10, 3, 0)[1].tolist() == [0, 5, 8]


def test_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002 - what must not change
    permutation(10, 0, 0)
    split(10, 0.5, 0)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_each_seed_epoch_and_purpose_has_its_own_order():
    n = 50
    orders = [permutation(n, seed, epoch) for seed in range(20) for epoch in range(20)]
    # A seed of more than 32 bits must not run into the epoch.
    orders += [permutation(n, (epoch << 32) + seed, 0) for seed in range(5) for epoch in range(1, 5)]
    assert len({order.tobytes() for order in orders}) == len(orders)
    held_out = {split(n, 25, seed)[1].tobytes() for seed in range(20)}
    assert len(held_out) == 20
    assert not held_out & {np.sort(permutation(n, seed, 0)[:25]).tobytes() for seed in range(20)}


def test_permutation_is_uniform():
    # Each of the 24 orders of 4 things; 6 standard deviations of a count of 400 are 118.
    counts = np.zeros(256)
    for epoch in range(9600):
        counts[permutation(4, 3, epoch) @ [64, 16, 4, 1]] += 1
    assert (counts > 0).sum() == 24
    assert np.abs(counts[counts > 0] - 400).max() < 118


@given(n=st.integers(2, 400), seed=SEEDS, fraction=st.floats(0, 1, exclude_max=True))
def test_split_by_fraction(n, seed, fraction):
    if max(1, round(n * fraction)) >= n:
        with pytest.raises(DataError, match=rf"^split: expected fewer than the {n} images there are, got {n} to hold"):
            split(n, fraction, seed)
        return
    train, validation = split(n, fraction, seed)
    assert len(validation) == (max(1, round(n * fraction)) if fraction > 0 else 0)
    check_parts(n, train, validation)


@given(n=st.integers(1, 400), seed=SEEDS, data=st.data())
def test_split_by_count(n, seed, data):
    count = data.draw(st.integers(0, n - 1))
    train, validation = split(n, count, seed)
    assert len(validation) == count
    check_parts(n, train, validation)
    again = split(n, np.int64(count), seed)
    np.testing.assert_array_equal(again[1], validation, strict=True)


def check_parts(n, train, validation):
    assert train.dtype == validation.dtype == np.int64
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    assert sorted(train.tolist() + validation.tolist()) == list(range(n))


def test_split_of_the_digits():
    train, validation = split(10_000, 0.1, seed=0)
    assert (len(train), len(validation)) == (9_000, 1_000)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((-1, 0, 0), r"^permutation: expected n as a whole number from 0 upwards, got -1$"),
        ((10, -3, 0), r"^permutation: expected seed as a whole number from 0 upwards, got -3$"),
        ((10, 0, -2), r"^permutation: expected epoch as a whole number from 0 upwards, got -2$"),
        ((10, 0.5, 0), r"^permutation: expected seed as a whole number from 0 upwards, got 0\.5$"),
        ((10, True, 0), r"^permutation: expected seed as a whole number from 0 upwards, got True$"),
        ((10, None, 0), r"^permutation: expected seed as a whole number from 0 upwards, got None$"),
        ((10, "7", 0), r"^permutation: expected seed as a whole number from 0 upwards, got '7'$"),
    ],
)
def test_bad_permutation(arguments, match):
    with pytest.raises(DataError, match=match):
        permutation(*arguments)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((10, 1.0, 0), r"^split: expected a fraction from 0 to below 1, or a whole number of images, got 1\.0; for"),
        ((10, -0.1, 0), r"^split: expected a fraction .* got -0\.1"),
        ((10, 10.0, 0), r"^split: expected a fraction .* got 10\.0"),
        ((10, float("nan"), 0), r"^split: expected a fraction .* got nan"),
        ((10, np.float32(2), 0), r"^split: expected a fraction .* got 2\.0"),
        ((10, -1, 0), r"^split: expected held_out as a whole number from 0 upwards, got -1"),
        ((10, True, 0), r"^split: expected held_out as a whole number from 0 upwards, got True"),
        ((10, "0.1", 0), r"^split: expected held_out as a whole number from 0 upwards, got '0\.1'"),
        ((10, 10, 0), r"^split: expected fewer than the 10 images there are, got 10 to hold out \(10\).* fewer"),
        ((10, 11, 0), r"^split: expected fewer than the 10 images there are, got 11"),
        ((10, 0.99, 0), r"^split: expected fewer than the 10 images there are, got 10 to hold out \(0\.99\)"),
        ((1, 0.1, 0), r"^split: expected fewer than the 1 images there are, got 1"),
        ((0, 0.1, 0), r"^split: expected fewer than the 0 images there are, got 1"),
        ((10, 0.1, -5), r"^split: expected seed as a whole number from 0 upwards, got -5"),
        ((-4, 0.1, 0), r"^split: expected n as a whole number from 0 upwards, got -4"),
    ],
)
def test_bad_split(arguments, match):
    with pytest.raises(DataError, match=match):
        split(*arguments)


# --------------------------------------------------------------------------------------------------------- stratified


@given(st.lists(st.integers(0, 5), min_size=2, max_size=120), st.integers(0, 2**32), st.data())
def test_a_stratified_split_holds_out_the_same_share_of_each_class(classes, seed, data):
    n, classes = len(classes), np.array(classes) * 7 - 3
    count = data.draw(st.integers(0, n - 1))
    train, validation = split(n, count, seed, classes)
    assert len(validation) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(n))
    np.testing.assert_array_equal(split(n, count, seed, classes)[1], validation)
    sizes = {c: (classes == c).sum() for c in set(classes.tolist())}
    held_out = {c: (classes[validation] == c).sum() for c in sizes}
    room = sum(size - 1 for size in sizes.values())
    for c, size in sizes.items():
        assert abs(held_out[c] - count * size / n) < 1 or min(sizes.values()) == 1
        assert held_out[c] < size or count > room or count * size // n == size or size == 1


def test_one_class_is_split_as_without_classes():
    for stratify in (None, np.zeros(50, int)):
        np.testing.assert_array_equal(split(50, 0.2, 3, stratify)[1], split(50, 0.2, 3)[1])


def test_stratified_splits_of_many_small_classes():
    classes = np.repeat(np.arange(10), 3)
    train, validation = split(30, 0.3, 0, classes)
    assert np.bincount(classes[train]).tolist() == [2] * 9 + [3] or len(validation) == 9
    assert np.bincount(classes[validation], minlength=10).max() == 1


@pytest.mark.parametrize("stratify", [np.zeros(9, int), np.zeros(10), np.zeros((10, 1), int), "ab"])
def test_bad_classes(stratify):
    with pytest.raises(DataError, match=r"^split: expected stratify as 10 whole numbers, one an image, got "):
        split(10, 0.1, 0, stratify)
