"""What many test files share: a generator, hypothesis' profiles, and few tiles."""

import os
import signal

import numpy as np
import pytest
from hypothesis import settings

from fastconv_kernels import conv2d, depthwise, linear, pointwise, winograd
from fastconv_kernels.runtime import INTERPRETED, get_num_threads, set_num_threads

settings.register_profile("local", deadline=None, print_blob=True, max_examples=100)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.register_profile("interpreted", settings.get_profile("ci"), max_examples=10)
settings.load_profile("interpreted" if INTERPRETED else "ci" if os.environ.get("CI") else "local")

# The pool of threads cannot grow once a kernel ran: room for four, on any machine.
_cores = get_num_threads()
set_num_threads(max(_cores, 4))
set_num_threads(_cores)


# Ctrl-C is ignored in the workers of pytest-xdist, and by our commands wherever it was ignored before them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _few(rows, columns, row_load=None):
    if columns < 3:
        return 1, 1
    return min(rows, 2), 3


@pytest.fixture(scope="class")  # for a function without a class: once for all examples that hypothesis draws
def few_tiles():
    """Three tiles for all shapes, since each tile is a kernel to compile; 2 x 3 leaves every remainder at the edges.

    Other tiles give the same bits: test_same_bits.py.  What ``choose`` chooses: test_tilesize.py.
    """
    with pytest.MonkeyPatch.context() as patch:
        for each in (conv2d, linear, pointwise, winograd):
            patch.setattr(each, "choose", _few)
        patch.setattr(depthwise, "PIXELS", 2)
        yield


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """What callbacks read the time from; a test moves its ``now``."""
    clock = Clock()
    for module in ("callbacks", "progress"):
        monkeypatch.setattr(f"fastconv.training.{module}.perf_counter", clock)
    return clock


@pytest.fixture
def threads():
    """``set_num_threads``, undone afterwards."""
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)
