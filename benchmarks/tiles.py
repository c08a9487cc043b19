"""Time LeNet-5's convolutions with every tile that fits, beside what the model in tilesize.py expects; print tables.

Run ``python -m benchmarks.tiles``; ``--write`` puts them into docs/benchmarks.md.  The first run compiles some fifty
kernels, which takes a minute or two.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple
from unittest.mock import patch

import numpy as np

import fastconv as fc
from benchmarks import machine, operations, timing
from fastconv_kernels import conv2d, tilesize
from fastconv_kernels.tilesize import SCALAR, VECTOR

Tile = tuple[int, int]


class Kernel(NamedTuple):
    """One operation of benchmarks/operations.py, and what its tile is chosen from."""

    name: str
    rows: int
    columns: int
    row_load: float


def _kernels() -> list[Kernel]:
    """List them: LeNet-5's training never asks for the first convolution's gradient to the input."""
    found = []
    for number, (channels, size, filters, taps, padding) in operations.CONVOLUTIONS.items():
        name, out = f"convolution {number}", size + 2 * padding - taps + 1
        found.append(Kernel(f"{name}, forward", filters, out, SCALAR))
        if channels > 1:
            found.append(Kernel(f"{name}, to the input", channels, size, SCALAR))
        found.append(Kernel(f"{name}, to the filters", filters, _columns(filters, channels, taps), VECTOR))
    return found


def _columns(filters: int, channels: int, taps: int) -> int:
    """Return what a tile of the gradient to the filters spans beside filters: channels, or the taps of a row."""

    def cost_of_each(columns: int) -> float:
        return tilesize.cost(tilesize.choose(filters, columns, VECTOR), filters, columns, VECTOR) / columns

    return min(taps, channels, key=cost_of_each)


def expected(tile: Tile, kernel: Kernel) -> float:
    """Return the cost by the model of ``tilesize``."""
    return tilesize.cost(tile, kernel.rows, kernel.columns, kernel.row_load)


def tiles(kernel: Kernel, most: int) -> list[Tile]:
    """Return the tiles that fit, the best by the model first, at most ``most`` of them."""
    fitting = tilesize.tiles(kernel.rows, kernel.columns)
    return sorted(fitting, key=lambda tile: (expected(tile, kernel), -tile[0]))[:most]


def measure(kernel: Kernel, batch: int, most: int, budget: float) -> list[list[str]]:
    """Return one row a tile: rank by the model, size, cost, microseconds, GFLOP/s.

    Raises
    ------
    operations.Disagreement
        If a tile gives other bits than the chosen one.
    """
    prepare = next(each.prepare for each in operations.ALL if each.name == kernel.name)
    rows, reference = [], None
    for m, p in tiles(kernel, most):
        print(f"{kernel.name}, tile {m} x {p} ...", file=sys.stderr)
        with (
            patch.object(conv2d, "choose", lambda *_, tile=(m, p): tile),
            # Of the two kernels to the filters, that which the columns are of.
            patch.object(conv2d, "cost", lambda _, __, columns, ___: columns != kernel.columns),
        ):
            case = prepare(np.random.default_rng(0), batch)
        spent = timing.seconds(case.kernel, budget)
        result = [array.copy() for array in case.results()]
        reference = reference or result
        if not all(map(np.array_equal, result, reference)):
            raise operations.Disagreement(f"{kernel.name}: tile {m} x {p} gives other bits than the chosen one")
        speed = (case.flops or 0) / spent / 1e9
        cost = expected((m, p), kernel)
        rows.append([f"{m} x {p}", f"{cost:,.0f}", f"{1e6 * spent:,.0f}", f"{speed:,.0f}"])
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all tiles, print a table for each kernel, and write them into the page if asked to."""
    parser = machine.parser("tiles", __doc__)
    parser.add_argument("--batch", type=int, default=128, help="images (128)")
    parser.add_argument("--most", type=int, default=99, help="how many tiles of each kernel, the best first (all)")
    parser.add_argument("--seconds", type=float, default=0.3, help="how long to repeat each (0.3)")
    options = parser.parse_args(arguments)

    header = ["tile, M x P", "expected cost", "measured, us", "GFLOP/s"]
    block = f"""
Batch {options.batch}, float32, {fc.get_num_threads()} threads, {tilesize.instruction_set()}; medians. The first tile of
each table is the one that the kernels use; all give the same bits.
"""
    for kernel in _kernels():
        block += f"\n**{kernel.name[0].upper()}{kernel.name[1:]}**\n\n"
        block += machine.table(header, measure(kernel, options.batch, options.most, options.seconds))
    machine.publish("tiles", f"{block}\n{machine.describe()}.\n", options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
