"""Time every kernel against its naive loops: Python, njit, njit(parallel=True); print the table.

Run ``python -m benchmarks.kernels``; ``--write`` puts the table into docs/benchmarks.md.
"""

import sys
from collections.abc import Sequence

import numpy as np

import fastconv as fc
from benchmarks import machine, operations, peak, timing
from benchmarks.operations import Operation

HEADER = [
    "operation",
    "shape",
    "Python loops, ms",
    "njit, ms",
    "njit parallel, ms",
    "fastconv, ms",
    "GFLOP/s",
    "times Python",
]


def measure(operation: Operation, batch: int, few: int, budget: float) -> list[str]:
    """Compare one operation with its loops, time all four, and return its row.

    Parameters
    ----------
    operation : Operation
    batch : int
        Images for everything but the Python loops.
    few : int
        Images for those; their time is scaled to the batch.
    budget : float
        Seconds for each of the other three.
    """
    small, full = (operation.prepare(np.random.default_rng(0), n) for n in (few, batch))
    python = timing.once(operations.check(small, "Python loops", operation.name)) * full.work / small.work
    compiled = [
        timing.seconds(operations.check(full, rung, operation.name), budget) for rung in ("njit", "njit parallel")
    ]
    ours = timing.seconds(full.kernel, budget)
    times = [f"{1e3 * python:,.0f}", *(f"{1e3 * t:.3f}" for t in (*compiled, ours))]
    speed = f"{full.flops / ours / 1e9:,.0f}" if full.flops else machine.ABSENT
    return [operation.name, operation.shape, *times, speed, f"{python / ours:,.0f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all operations, print the table, and write it into the page if asked to."""
    parser = machine.parser("kernels", __doc__)
    parser.add_argument("--batch", type=int, default=128, help="images (128)")
    parser.add_argument("--few", type=int, default=1, help="images for the Python loops, whose time is scaled (1)")
    parser.add_argument("--seconds", type=float, default=0.3, help="how long to repeat each kernel (0.3)")
    options = parser.parse_args(arguments)

    fc.thread_layer()  # so that the loops share the kernels' threads
    rows = []
    for operation in operations.ALL:
        print(f"{operation.name} ...", file=sys.stderr)
        rows.append(measure(operation, options.batch, options.few, options.seconds))
    most = peak.flops_per_second(budget=options.seconds) / 1e9
    images = "one image" if options.few == 1 else f"{options.few} images"
    block = f"""
{machine.table(HEADER, rows, texts=2)}
Batch {options.batch}, float32, {fc.get_num_threads()} threads; medians. Python loops ran on {images}, and their time is
scaled by the work. njit ran on one thread. The loops' results were compared with the kernels' before they were timed.
Multiply-adds that never leave the registers: {most:,.0f} GFLOP/s at best.
{machine.describe()}.
"""
    machine.publish("kernels", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
