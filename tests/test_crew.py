"""Who takes which task: every task once, one's own first, then those of workers who are late."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv_kernels import crew
from fastconv_kernels.crew import Crew

prange = getattr(crew.prange, "py_func", crew.prange)


@given(workers=st.integers(1, 9), n=st.integers(0, 40), order=st.randoms(use_true_random=False))
def test_every_task_is_taken_once_whoever_is_fast(workers, n, order):
    taken = [0] * workers
    at_work = [prange(Crew(worker, workers, taken), n) for worker in range(workers)]
    tasks = []
    while at_work:
        someone = order.choice(at_work)
        try:
            tasks.append(next(someone))
        except StopIteration:
            at_work.remove(someone)
    assert sorted(tasks) == list(range(n))


@pytest.mark.parametrize(
    ("worker", "tasks"),
    [(0, [0, 1, 2, 3, 4, 5, 6, 7]), (1, [2, 3, 4, 5, 6, 7, 0, 1]), (2, [5, 6, 7, 0, 1, 2, 3, 4])],
)
def test_a_worker_who_is_alone_begins_with_his_own_and_does_the_rest_too(worker, tasks):
    assert list(prange(Crew(worker, 3, [0, 0, 0]), 8)) == tasks


def test_who_was_late_finds_nothing_left():
    taken = [0, 0]
    assert list(prange(Crew(0, 2, taken), 5)) == [0, 1, 2, 3, 4]
    assert list(prange(Crew(1, 2, taken), 5)) == []
