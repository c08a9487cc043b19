"""Under NUMBA_BOUNDSCHECK=1 no access outside an array goes unseen: planted ones are found, and kernels make none.

``python -m benchmarks.reliability bounds`` does the latter too, and says what it found.
"""

import pytest
from subprocesses import passed_and_skipped, succeed

from benchmarks.reliability.every_kernel import TESTS
from benchmarks.reliability.promises.bounds import CHECKED
from fastconv_kernels.runtime import INTERPRETED

pytestmark = pytest.mark.skipif(INTERPRETED, reason="NumPy checks bounds itself")

# An access of a 2 x 3 array of vectors, w of 4 x 40 numbers, or v of 60, and the first i at which it leaves the array.
PLANTED = {
    "vectors": ("store(vectors(x, (0, i), 1, 1, 2), x, (0, 0), 0, 1, 1, 1, 2)", 2),
    "vectors, other axis": ("store(vectors(x, (i, 0), 1, 1, 1), x, (0, 0), 0, 1, 1, 1, 1)", 2),
    "vectors, negative": ("store(vectors(x, (0, 1 - i), 1, 1, 1), x, (0, 0), 0, 1, 1, 1, 1)", 2),
    "padded_vectors": ("store(padded_vectors(x, (i, 0), 1, 1, 2), x, (0, 0), 0, 1, 1, 1, 2)", 2),
    "weights": ("store(outer_fma(zeros(x, 2, 1), weights(w, (0, i), 1, 2), vectors(x, (0, 0), 1, 1, 1)), x, (0, 0), "
                "0, 2, 1, 1, 1)", 39),
    "spread": ("store(spread(v, i, 2, 1), x, (0, 0), 0, 2, 1, 1, 1)", 59),
    "store": ("store(zeros(x, 1, 2), x, (0, i), 0, 1, 1, 1, 2)", 2),
    "store, rows": ("store(zeros(x, 2, 1), x, (i, 0), 0, 2, 1, 1, 1)", 1),
    "store_within": ("store_within(vectors(x, (0, 0), 1, 1, 2), x, (i, 2), 1)", 2),
    "store_within, before": ("store_within(vectors(x, (0, 0), 1, 1, 2), x, (0, 1 - i), 1)", 2),
    "store_lane_sums": ("store_lane_sums(zeros(x, 1, 2), w, (0, i), 0, 1, 1, 2)", 39),
    "store_columns": ("store_columns(zeros(x, 1, 2), w, 0, 16, 1, 2, 15 + i)", 26),
    "an index of Numba's": ("w[0, i] = 0", 40),
}  # fmt: skip

CODE = """
import numpy as np
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import outer_fma, padded_vectors, spread, store, store_columns, store_lane_sums, store_within
from fastconv_kernels.tile import vectors, weights, zeros

x, w, v = np.zeros((2, 3, 16)), np.zeros((4, 40)), np.zeros(60)

PLANTED = %r
for number, (name, (line, first)) in enumerate(PLANTED.items()):
    loop = f"    for _ in prange(crew, 2):\\n        i = n\\n        {line}\\n"
    source = f"def planted_{number}(crew, x, w, v, n):\\n{loop}"
    scope = dict(globals())
    exec(source, scope)
    launch = kernel()(scope[f"planted_{number}"])
    launch(x, w, v, first - 1)
    try:
        launch(x, w, v, first)
    except IndexError as error:
        print(name, "-", error)
"""


def test_a_planted_access_outside_an_array_is_found(tmp_path):
    said = succeed(CODE % PLANTED, NUMBA_BOUNDSCHECK="1", FASTCONV_CACHE_DIR=tmp_path).splitlines()
    assert [line.split(" - ")[0] for line in said] == list(PLANTED)
    for line in said:
        name, message = line.split(" - ")
        expected = "out of bounds" if "Numba" in name else f"{name.split(',')[0]}: outside the array"
        assert expected in message


def test_a_planted_access_is_found_in_a_gather(tmp_path):
    code = """
    import numpy as np
    from fastconv_kernels.crew import prange
    from fastconv_kernels.runtime import kernel
    from fastconv_kernels.tile import full, sampled, store

    @kernel()
    def planted(crew, image, like, width, y):
        for _ in prange(crew, 1):
            place = full(like, 9.0, 1, 1)
            store(sampled(image, width, 4, place, place), y, (0, 0), 0, 1, 1, 1, 1)

    image, y = np.zeros(16), np.zeros((1, 1, 16))
    planted(image, y, 4, y)
    try:
        planted(image, y, 5, y)
    except IndexError as error:
        print(error)
    """
    assert succeed(code, NUMBA_BOUNDSCHECK="1", FASTCONV_CACHE_DIR=tmp_path) == "sampled: outside the array"


def test_the_kernels_tests_access_nothing_outside_an_array(tmp_path):
    """On one thread, since the first task that leaves an array ends the launch."""
    passed, skipped = passed_and_skipped(TESTS, [], **CHECKED, FASTCONV_CACHE_DIR=str(tmp_path))
    assert passed > 4000
    assert skipped < 5
