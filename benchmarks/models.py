"""Time training steps and inference of three ready-made networks against other libraries, in turns; print the tables.

Run ``python -m benchmarks.models``; ``--write`` puts the tables into docs/benchmarks.md.  What is run and compared is
that of ``benchmarks.step``; these networks normalise their batches, and two have convolutions of other kinds.
"""

import sys
from collections.abc import Sequence

from benchmarks import machine, nets, step, turns
from benchmarks.libraries import Disagreement

BATCHES = {nets.RESNET20: (128,), nets.DIGITNET: (128,), nets.MOBILENET: (128,)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write them into the page if asked to."""
    parser = machine.parser("models", __doc__)
    turns.add_arguments(parser, rounds=3, seconds=2.0)
    options = parser.parse_args(arguments)

    try:
        times = turns.measure(options, BATCHES, "mean")
    except Disagreement as error:
        print(f"benchmarks.models: {error}; no times are given", file=sys.stderr)
        return 1
    machine.publish("models", f"{step.tables(times)}\n{times.notes()}", options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
