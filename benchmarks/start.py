"""Time what a user waits for: imports, --help, and process start to the end of the first training step; print a table.

Run ``python -m benchmarks.start``; ``--write`` puts the table into docs/benchmarks.md.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence

from benchmarks import machine, processes, timing

FIRST_STEP = """
import numpy as np
import fastconv as fc
model, loss, optimizer = fc.models.lenet5(), fc.CrossEntropyLoss(), fc.SGD(lr=0.01, momentum=0.9)
rng = np.random.default_rng(0)
x, y = rng.integers(0, 256, (64, 1, 28, 28), np.uint8), rng.integers(0, 10, 64)
fc.train_step(model, loss, optimizer, x, y)
"""


def measure(runs: int, cold_runs: int) -> list[list[str]]:
    """Return the rows: what, median seconds, the fastest and the slowest, how many runs."""

    def row(what: str, run: Callable[[], object], count: int) -> list[str]:
        print(f"{what} ...", file=sys.stderr)
        times = [timing.once(run) for _ in range(count)]
        return [what, f"{statistics.median(times):.2f}", f"{min(times):.2f} to {max(times):.2f}", str(count)]

    def first_step(**changes: str) -> None:
        processes.run(["-c", FIRST_STEP], changes=changes)

    def first_step_cold() -> None:
        with tempfile.TemporaryDirectory() as folder:
            first_step(FASTCONV_CACHE_DIR=folder)

    first_step()
    rows = [
        row("Python alone", lambda: processes.run(["-c", ""]), runs),
        row("`import fastconv`", lambda: processes.run(["-c", "import fastconv"]), runs),
        row("`fastconv --help`", lambda: processes.run(["-m", "fastconv", "--help"]), runs),
        row("first training step, kernels cached", first_step, runs),
    ]
    if cold_runs:
        rows.append(row("first training step, nothing cached", first_step_cold, cold_runs))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it into the page if asked to."""
    parser = machine.parser("start", __doc__)
    parser.add_argument("--runs", type=int, default=7, help="processes for each line (7)")
    parser.add_argument(
        "--cold-runs", type=int, default=3, help="processes that compile all kernels anew; 0 for none (3)"
    )
    options = parser.parse_args(arguments)

    rows = measure(options.runs, options.cold_runs)
    block = f"""
{machine.table(["from process start to its end", "median, s", "range, s", "runs"], rows)}
The first training step is one of LeNet-5 on a batch of 64.
{machine.describe()}.
"""
    machine.publish("start", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
