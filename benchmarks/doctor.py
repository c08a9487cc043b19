"""Time ``fastconv doctor DATA --model M`` for every ready-made network, a process each; print a table.

Run ``python -m benchmarks.doctor``; ``--write`` puts the table into docs/benchmarks.md.
"""

import statistics
import sys
from collections.abc import Sequence

import fastconv as fc
from benchmarks import machine, processes, timing


def row(name: str, data: str | None, runs: int) -> list[str]:
    """Examine one network; return its line: median seconds, the fastest and the slowest, what was found."""
    command = ["-m", "fastconv", "doctor", *([] if data is None else [data]), "--model", name]
    found = processes.run(command).splitlines()[-1].rpartition(", in ")[0]  # before the clock: it compiles
    times = [timing.once(lambda: processes.run(command)) for _ in range(runs)]
    return [name, found, f"{statistics.median(times):.1f}", f"{min(times):.1f} to {max(times):.1f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it into the page if asked to."""
    parser = machine.parser("doctor", __doc__)
    parser.add_argument("--data", metavar="FILE", help="what the networks are to be trained on (the built-in digits)")
    parser.add_argument("--runs", type=int, default=5, help="processes for each network (5)")
    parser.add_argument("--only", nargs="+", default=fc.models.list_models(), metavar="MODEL", help="instead of all")
    options = parser.parse_args(arguments)

    rows: list[list[str]] = []
    for name in options.only:
        print(f"{name} ...", file=sys.stderr)
        rows.append(row(name, options.data, options.runs))
    command = " ".join(["fastconv doctor", *([options.data] if options.data else []), "--model NETWORK"])
    block = f"""
{machine.table(["network", "found", "median, s", "range, s"], rows, texts=2)}
`{command}`, from process start to its end, kernels cached, {options.runs} processes each.
{machine.describe()}.
"""
    machine.publish("doctor", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
