"""Stores past the caches: the same values as other stores, wherever an array begins."""

import platform
import re

import numpy as np
import pytest
from cases import each_float

from fastconv_kernels import memory
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import INTERPRETED, kernel
from fastconv_kernels.tile import LANES, plus, settle, stream, vectors

SIZE = 40


@kernel()
def doubled(crew, x, y):
    """Write x + x, both [B, S, 16], into ``y``."""
    for b in prange(crew, x.shape[0]):
        for s in range(0, x.shape[1], 2):
            row = vectors(x, (b, s), 1, 1, 2)
            stream(plus(row, row), y, (b, s), 0, 1, 1, 1, 2)
    settle()


@each_float
@pytest.mark.parametrize("away", [0, 1, 8, 15])
def test_what_is_streamed_is_there(dtype, away):
    """Also where no vector begins at a cache line, for which hardware has no such store."""
    x = np.arange(8 * SIZE * LANES, dtype=dtype).reshape(8, SIZE, LANES)
    room = memory.empty((x.size + LANES,), dtype)
    room[:] = -1
    y = room[away : away + x.size].reshape(x.shape)
    doubled(x, y)
    assert np.array_equal(y, 2 * x)
    assert np.all(room[:away] == -1)
    assert np.all(room[away + x.size :] == -1)


@pytest.mark.skipif(INTERPRETED or platform.machine() != "x86_64", reason="it looks for an instruction of x86-64")
def test_it_goes_past_the_caches():
    """And is waited for before a worker says that it is done."""
    x = memory.empty((1, 2, LANES), np.float32)
    x[:] = 1
    doubled(x, np.empty_like(x))
    code = "".join(doubled.dispatcher.inspect_asm().values())
    assert "movntp" in code
    assert re.search(r"mfence|lock\s+orl", code)
