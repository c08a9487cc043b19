"""Time single training steps and inference on a few images against other libraries, in turns; print the tables.

Run ``python -m benchmarks.latency``; ``--write`` puts the tables into docs/benchmarks.md.  What is run and compared is
that of ``benchmarks.step``; here are the medians of single calls.
"""

import sys
from collections.abc import Sequence

from benchmarks import figures, machine, nets, turns
from benchmarks.libraries import Disagreement
from benchmarks.turns import Times

SIZES = (1, 2, 4, 8, 15, 16)
BATCHES = {nets.LENET5: SIZES, nets.DIGITS: SIZES}


def table(times: Times, work: str) -> str:
    """Return the table of microseconds a call, and of the ratios to PyTorch's better one and to the best of all."""
    names = times.names(work)
    groups = {
        "over PyTorch": [name for name in names if name.startswith("PyTorch")],
        "over the best": names[1:],
    }
    groups = {title: group for title, group in groups.items() if group}
    rows: list[list[str]] = []
    for net, batch in times.cases():
        calls = ([1e6 * seconds for seconds in times.of(net, name, work, batch)] for name in names)
        against = (times.ratios(net, group, work, batch) for group in groups.values())
        rows.append([net.name, str(batch), *map(figures.median, calls), *map(figures.spread, against)])
    return machine.table(["network", "batch", *names, *groups], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write them into the page if asked to."""
    parser = machine.parser("latency", __doc__)
    turns.add_arguments(parser, rounds=3, seconds=0.3)
    options = parser.parse_args(arguments)

    try:
        times = turns.measure(options, BATCHES, "median")
    except Disagreement as error:
        print(f"benchmarks.latency: {error}; no times are given", file=sys.stderr)
        return 1
    block = f"""
**Training, microseconds a step**

{table(times, "training")}
**Inference, microseconds a call**

{table(times, "inference")}
Microseconds are medians of the rounds' medians; ratios have their range. PyTorch is the faster of its two.
{times.notes()}
"""
    machine.publish("latency", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
