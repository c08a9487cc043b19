"""Time whole training steps and inference of three networks against other libraries, in turns; print the tables.

Run ``python -m benchmarks.step``; ``--write`` puts the tables into docs/benchmarks.md, and a short one into README.md.
All start from the same weights and see the same images.  If results differ, the program ends without a table.
"""

import sys
from collections.abc import Sequence

from benchmarks import figures, machine, nets, peak, turns
from benchmarks.libraries import Disagreement
from benchmarks.nets import LENET5, Net
from benchmarks.turns import OURS, Times

BATCHES = {LENET5: (32, 64, 128, 256), nets.DIGITS: (128,), nets.COLOUR: (128,)}
README = machine.ROOT / "README.md"
README_BATCHES = (64, 128)


def _thousands(times: Times, net: Net, name: str, work: str, batch: int) -> list[float]:
    """Return thousand images a second, in each round."""
    return [batch / seconds / 1000 for seconds in times.of(net, name, work, batch)]


def speeds(times: Times, work: str) -> str:
    """Return the table of thousand images a second."""
    names = times.names(work)
    rows = [
        [net.name, str(batch), *(figures.spread(_thousands(times, net, name, work, batch)) for name in names)]
        for net, batch in times.cases()
    ]
    return machine.table(["network", "batch", *names], rows)


def ratios(times: Times, work: str) -> str:
    """Return the table of fastconv's speed over the others'."""
    others = times.names(work)[1:]
    groups = [*([name] for name in others), others]
    rows = [
        [net.name, str(batch), *(figures.spread(times.ratios(net, group, work, batch)) for group in groups)]
        for net, batch in times.cases()
    ]
    return machine.table(["network", "batch", *others, "the best"], rows)


def limit(times: Times, most: float) -> str:
    """Return the table of LeNet-5's training step beside ``most`` additions and multiplications a second."""
    flops = nets.training_flops(LENET5)
    bound = most / flops / 1000
    rows = [
        [
            str(batch),
            figures.spread([100 * rate / bound for rate in _thousands(times, LENET5, OURS.name, "training", batch)]),
        ]
        for batch in times.batches[LENET5]
    ]
    return f"""{machine.table(["batch", "% of the arithmetic limit"], rows, texts=0)}
The limit: {flops / 1e6:.3f} MFLOP an image, at the {most / 1e9:,.0f} GFLOP/s of multiply-adds that never leave the
registers, at best, before or after the rounds: {figures.digits(bound)} thousand images a second.
"""


def tables(times: Times) -> str:
    """Return the tables of speeds and, if there are others, of ratios."""
    block = ""
    for work in ("training", "inference"):
        block += f"\n**{work.capitalize()}, thousand images a second: median (range)**\n\n{speeds(times, work)}"
        if len(times.names(work)) > 1:
            block += f"\n**{work.capitalize()}, fastconv's speed over theirs: median (range)**\n\n{ratios(times, work)}"
    return block


def full(times: Times, most: float) -> str:
    """Return the block for docs/benchmarks.md."""
    block = tables(times)
    if LENET5 in times.batches:
        block += f"\n**LeNet-5's training step and the arithmetic limit**\n\n{limit(times, most)}"
    return f"{block}\n{times.notes()}"


def short(times: Times) -> str:
    """Return the block for the README: one table of medians, and the ratio to the best of the others with its range."""
    everyone = times.names("inference")[1:]
    rows: list[list[str]] = []
    for work in ("training", "inference"):
        others = times.names(work)[1:]
        for net, batch in times.cases():
            if batch in README_BATCHES:
                row = [net.name, work, str(batch), figures.median(_thousands(times, net, OURS.name, work, batch))]
                for name in everyone:
                    known = name in others
                    row.append(figures.median(times.ratios(net, [name], work, batch)) if known else machine.ABSENT)
                if others:
                    row.append(figures.spread(times.ratios(net, others, work, batch)))
                rows.append(row)
    against = [*(f"over {name}" for name in everyone), "over the best (range)"] if everyone else []
    header = ["network", "work", "batch", "thousand images/s", *against]
    return f"{machine.table(header, rows, texts=2)}\n{times.notes()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write them into the pages if asked to."""
    parser = machine.parser("step", __doc__)
    turns.add_arguments(parser, rounds=5, seconds=1.0)
    options = parser.parse_args(arguments)

    try:
        before = peak.flops_per_second()
        times = turns.measure(options, BATCHES, "mean")
        most = max(before, peak.flops_per_second())
    except Disagreement as error:
        print(f"benchmarks.step: {error}; no times are given", file=sys.stderr)
        return 1
    machine.publish("step", full(times, most), options.write)
    if options.write:
        readme = machine.replace_block(README.read_text(encoding="utf-8"), "step", short(times))
        README.write_text(readme, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
