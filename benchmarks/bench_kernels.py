"""Every kernel and its naive loops under pytest-benchmark.

Plain pytest runs each once, on two images, as a check that the two agree.  To measure, at batch 128 (Python loops: one
image)::

    python -m pytest benchmarks --benchmark-enable --benchmark-group-by=param:operation
"""

import numpy as np
import pytest

from benchmarks import operations
from benchmarks.naive import RUNGS
from fastconv import thread_layer


@pytest.mark.parametrize("rung", [*RUNGS, "fastconv"])
@pytest.mark.parametrize("operation", operations.ALL, ids=str)
def test_kernel(benchmark, operation, rung):
    """Compare one operation's loops with the kernel, then time one of the two."""
    thread_layer()  # so that the loops share the kernels' threads
    images = 2 if benchmark.disabled else 1 if rung == "Python loops" else 128
    case = operation.prepare(np.random.default_rng(0), images)
    run = operations.check(case, "njit" if rung == "fastconv" else rung, operation.name)
    benchmark(case.kernel if rung == "fastconv" else run)
