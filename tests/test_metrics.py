"""Confusion matrix, precision, recall, and Wilson's interval, by hand-computed values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv.training.metrics import (
    balanced_accuracy,
    confusion_matrix,
    macro_f1,
    most_confused,
    per_class,
    wilson_interval,
)

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 1, 1, 1, 0, 0])


def test_rows_are_true_classes_and_columns_predicted_ones():
    matrix = confusion_matrix(LABELS, PREDICTED, 4)
    np.testing.assert_array_equal(matrix, [[1, 2, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_the_matrix_counts_every_image_once(pairs):
    labels, predicted = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    matrix = confusion_matrix(labels, predicted, 5)
    naive = np.zeros((5, 5), int)
    for label, guess in pairs:
        naive[label, guess] += 1
    np.testing.assert_array_equal(matrix, naive)


def test_precision_recall_and_support():
    figures = per_class(confusion_matrix(LABELS, PREDICTED, 4))
    assert figures[0] == {"label": 0, "precision": 1 / 3, "recall": 1 / 3, "support": 3}
    assert figures[1] == {"label": 1, "precision": 1 / 3, "recall": 1 / 2, "support": 2}
    assert figures[2] == {"label": 2, "precision": None, "recall": 0.0, "support": 1}
    assert figures[3] == {"label": 3, "precision": None, "recall": None, "support": 0}
    assert all(type(figures[0][name]) in (int, float) for name in figures[0])  # what JSON can hold


def test_balanced_accuracy_and_macro_f1():
    matrix = confusion_matrix(LABELS, PREDICTED, 4)
    assert balanced_accuracy(matrix) == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    # hits, images, and how many were called so: 1 of 3 and 3, 1 of 2 and 3, 0 of 1 and 0
    assert macro_f1(matrix) == pytest.approx((2 / 6 + 2 / 5 + 0) / 3)
    assert balanced_accuracy(np.diag([5, 1, 0])) == macro_f1(np.diag([5, 1, 0])) == 1


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_balanced_accuracy_does_not_know_how_many_images_a_class_has(counts):
    matrix = np.zeros((len(counts) + 1,) * 2, int)
    for label, count in enumerate(counts):
        matrix[label, label], matrix[label, -1] = count, count
    assert balanced_accuracy(matrix) == pytest.approx(0.5)


def test_most_confused_are_the_most_frequent_mistakes():
    matrix = confusion_matrix(LABELS, PREDICTED, 3)
    assert most_confused(matrix) == [(0, 1, 2), (1, 0, 1)]
    assert most_confused(matrix, 9) == [(0, 1, 2), (1, 0, 1), (2, 0, 1)]
    assert most_confused(np.diag([3, 2])) == []


# Computed from the formula in 50 decimal digits.
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(8, 10, 0.4901625, 0.9433178), (987, 1000, 0.9778856, 0.9923872), (0, 5, 0.0, 0.4344825), (5, 5, 0.5655175, 1.0)],
)
def test_wilson_interval(hits, n, low, high):
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_contains_the_rate(pair):
    low, high = wilson_interval(*pair)
    assert 0 <= low <= pair[0] / pair[1] + 1e-12
    assert pair[0] / pair[1] - 1e-12 <= high <= 1


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts(hits, n):
    with pytest.raises(ValueError, match=f"got hits {hits} and n {n}"):
        wilson_interval(hits, n)
