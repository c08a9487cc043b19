"""The size of a tile: as many accumulators as the host's registers hold, and as little wasted at the edges as can be.

The size decides speed alone.  Each output is one lane of one accumulator whatever the tile, so its bits do not change.
"""

from functools import cache

import llvmlite.binding as llvm
from numba import config

from fastconv_kernels.tile import LANES

# Vector registers and the float32 values that one holds.
_REGISTERS = {"avx512": (32, 16), "avx2": (16, 8), "neon": (32, 4), "generic": (16, 4)}


@cache
def instruction_set():
    """Name the vector instructions that kernels are compiled for: 'avx512', 'avx2', 'neon' or 'generic'."""
    name, features = config.CPU_NAME, config.CPU_FEATURES
    if name is None:
        found = llvm.get_host_cpu_features()
        features = ",".join(f"+{feature}" for feature, present in found.items() if present)
    elif name in ("skylake-avx512", "znver4", "znver5") or "+avx512f" in (features or ""):
        return "avx512"
    elif name in ("haswell", "skylake", "znver3"):
        return "avx2"
    for feature, instructions in (("+avx512f", "avx512"), ("+avx2", "avx2"), ("+neon", "neon")):
        if feature in (features or "").split(","):
            return instructions
    return "generic"


def fits(m, p):
    """Whether m x p accumulators, p loaded vectors and one weight find room in the registers at once.

    Measured: with more than 24 accumulators or 5 addresses LLVM spills, and a tile is 1.2 to 3 times slower.
    """
    registers, width = _REGISTERS[instruction_set()]
    each = LANES // width
    return m * p * each <= 24 and p <= 5 and (m * p + p) * each + 1 <= registers


SCALAR, VECTOR = 0.3, 1.2
# Each further tile is one more kernel to compile on a cold start, about a second.
_ROWS = (1, 2, 3, 4, 6, 8)


def tiles(rows, columns):
    """Return all tiles (M, P) that fit the registers, with M <= rows and P <= columns, both at least 1."""
    return [(m, p) for m in _ROWS if m <= rows for p in range(1, min(columns, 5) + 1) if fits(m, p)]


def cost(tile, rows, columns, row_load=SCALAR):
    """Return what covering rows x columns with a tile should cost, in units of one multiply-add of a vector.

    A step takes its M x P multiply-adds, at least the eight that hide one's latency, and for each load what ``SCALAR``
    and ``VECTOR`` say.  The model was fitted to 30 tiles of LeNet's convolutions; ``python -m benchmarks.tiles`` prints
    it beside measurements.

    Parameters
    ----------
    tile : (int, int)
    rows, columns : int
        Filters and pixels (taps, blocks), at least 1.
    row_load : SCALAR or VECTOR
        Whether a step loads one weight for each of its rows and spreads it, or a whole vector.
    """
    m, p = tile
    steps = -(-rows // m) * -(-columns // p)
    return steps * (max(m * p, 8) + row_load * m + VECTOR * p)


@cache
def choose(rows, columns, row_load=SCALAR):
    """Return the cheapest tile that fits, the one with more rows of equal ones; arguments as in ``cost``."""
    return min(tiles(rows, columns), key=lambda tile: (cost(tile, rows, columns, row_load), -tile[0]))
