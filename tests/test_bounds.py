"""Under NUMBA_BOUNDSCHECK=1 no access outside an array goes unseen: planted ones are found, and kernels make none.

``python -m benchmarks.reliability bounds`` does the latter too, and says what it found.
"""

import re
from pathlib import Path

import pytest
from subprocesses import passed_and_skipped, succeed

from benchmarks.reliability.every_kernel import TESTS
from benchmarks.reliability.promises.bounds import CHECKED
from fastconv_kernels import many, tile
from fastconv_kernels.runtime import INTERPRETED

pytestmark = pytest.mark.skipif(INTERPRETED, reason="NumPy checks bounds itself")

# An access of a 2 x 3 array of vectors, of the same as an image z of 2 x 1 x 3, of w of 4 x 40 numbers, of v of 60, or
# of v by its place, and the first i at which it leaves the array.
PLANTED = {
    "vectors": ("store(vectors(x, (0, i), 1, 1, 2), x, (0, 0), 0, 1, 1, 1, 2)", 2),
    "vectors, other axis": ("store(vectors(x, (i, 0), 1, 1, 1), x, (0, 0), 0, 1, 1, 1, 1)", 2),
    "vectors, negative": ("store(vectors(x, (0, 1 - i), 1, 1, 1), x, (0, 0), 0, 1, 1, 1, 1)", 2),
    "padded_vectors": ("store(padded_vectors(x, (i, 0), 1, 1, 2), x, (0, 0), 0, 1, 1, 1, 2)", 2),
    "padded_pixels": ("store(padded_pixels(z, (i, 0, 1), 2), x, (0, 0), 0, 1, 1, 1, 2)", 2),
    "padded_pixels, negative": ("store(padded_pixels(z, (-i, 0, 1), 2), x, (0, 0), 0, 1, 1, 1, 2)", 1),
    "weights": ("store(outer_fma(zeros(x, 2, 1), weights(w, (0, i), 1, 2), vectors(x, (0, 0), 1, 1, 1)), x, (0, 0), "
                "0, 2, 1, 1, 1)", 39),
    "spread": ("store(spread(v, i, 2, 1), x, (0, 0), 0, 2, 1, 1, 1)", 59),
    "store": ("store(zeros(x, 1, 2), x, (0, i), 0, 1, 1, 1, 2)", 2),
    "store, rows": ("store(zeros(x, 2, 1), x, (i, 0), 0, 2, 1, 1, 1)", 1),
    "stream": ("stream(zeros(x, 1, 2), x, (0, i), 0, 1, 1, 1, 2)", 2),
    "store_within": ("store_within(vectors(x, (0, 0), 1, 1, 2), x, (i, 2), 1)", 2),
    "store_within, before": ("store_within(vectors(x, (0, 0), 1, 1, 2), x, (0, 1 - i), 1)", 2),
    "store_lane_sums": ("store_lane_sums(zeros(x, 1, 2), w, (0, i), 0, 1, 1, 2)", 39),
    "store_columns": ("store_columns(zeros(x, 1, 2), w, 0, 16, 1, 2, 15 + i)", 26),
    "part": ("part(places[0, 0], i, i + 20, v)[0] = 0", 41),
    "part, negative": ("part(places[0, 0], -i, 3, v)[0] = 0", 1),
    "an index of Numba's": ("w[0, i] = 0", 40),
}  # fmt: skip

CODE = """
import numpy as np
from fastconv_kernels.crew import prange
from fastconv_kernels.many import Many, part
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import *

x, w, v = np.zeros((2, 3, 16)), np.zeros((4, 40)), np.zeros(60)
z, places = x.reshape(2, 1, 3, 16), Many([(v,)]).table[0]

PLANTED = %r
for number, (name, (line, first)) in enumerate(PLANTED.items()):
    loop = f"    for _ in prange(crew, 2):\\n        i = n\\n        {line}\\n"
    source = f"def planted_{number}(crew, x, z, w, v, places, n):\\n{loop}"
    scope = dict(globals())
    exec(source, scope)
    launch = kernel()(scope[f"planted_{number}"])
    launch(x, z, w, v, places, first - 1)
    try:
        launch(x, z, w, v, places, first)
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


def test_every_operation_that_checks_bounds_is_planted():
    """A gather has a test of its own."""
    sources = (Path(module.__file__).read_text(encoding="utf-8") for module in (tile, many))
    checked = set(re.findall(r'(?:(?:check_inside|_refuse)\(context, builder, |_writing\()"(\w+)"', "".join(sources)))
    planted = {name.split(",")[0] for name in PLANTED if "Numba" not in name}
    assert checked == planted | {"sampled"}
    assert len(checked) > 9


def test_arrays_that_are_smaller_than_their_groups_are_found(tmp_path):
    code = """
    import numpy as np
    from fastconv_kernels.bias import sum_shares
    from fastconv_kernels.many import Many

    shares, total = np.zeros((2, 10)), np.zeros(10)
    sum_shares(*Many([(shares, total)]).table, 2)
    for blocks, given in ((3, shares), (1, shares[0, :9])):
        try:
            sum_shares(*Many([(given, total)]).table, blocks)
        except IndexError as error:
            print(error)
    """
    said = succeed(code, NUMBA_BOUNDSCHECK="1", FASTCONV_NUM_THREADS="1", FASTCONV_CACHE_DIR=tmp_path)
    assert said.splitlines() == ["part: outside the array"] * 2


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
