"""Time LeNet-5 from the start of a process until it has 99.0 % of the held-out digits right; print the table.

Run ``python -m benchmarks.time_to_accuracy --data train.csv.gz``; ``--write`` puts the table into docs/benchmarks.md,
which also has the protocol.  What is timed is ``benchmarks/time_to_accuracy_run.py``.
"""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from benchmarks import machine, processes

TRAINING = "training"


class Run(NamedTuple):
    """One process.

    Attributes
    ----------
    seed : int
    stages : dict of str to float
        Seconds, in order; together they are the whole process.
    epochs : float
    accuracy : float
    images : (int, int)
        How many were trained on, and how many evaluated on.
    """

    seed: int
    stages: dict[str, float]
    epochs: float
    accuracy: float
    images: tuple[int, int]

    @property
    def seconds(self) -> float:
        """From the start of the process to its end."""
        return sum(self.stages.values())


def run(seed: int, flags: Sequence[str]) -> Run:
    """Start the process, wait for its end, and return what it said.

    Raises
    ------
    SystemExit
        If it fails, or does not reach the goal: there is no figure then.
    """
    print(f"seed {seed} ...", file=sys.stderr)
    last, stages = monotonic(), {}
    answer = json.loads(processes.run(["-m", "benchmarks.time_to_accuracy_run", str(seed), *flags]))
    for stage, ended in (*answer["ended"].items(), ("exit", monotonic())):
        stages[stage], last = ended - last, ended
    return Run(seed, stages, answer["epochs"], answer["accuracy"], answer["images"])


def _row(name: str, accuracy: str, runs: Sequence[Run], of: Callable[[list[float]], float]) -> list[str]:
    columns = zip(*((each.epochs, each.stages[TRAINING], each.seconds) for each in runs), strict=True)
    return [name, accuracy, *(f"{of(list(column)):.2f}" for column in columns)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every seed, print the table, and write it into the page if asked to."""
    parser = machine.parser("time_to_accuracy", __doc__)
    parser.add_argument("--data", metavar="FILE", help="labelled digits, such as train.csv.gz (the built-in ones)")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5), help="one process each (0 to 4)")
    parser.add_argument("--held-out", default="0.1", metavar="SHARE", help="of the images, to evaluate on (0.1)")
    parser.add_argument("--goal", default="0.99", metavar="SHARE", help="of those, to have right (0.99)")
    options = parser.parse_args(arguments)

    flags = ["--held-out", options.held_out, *(["--data", options.data] if options.data else [])]
    run(options.seeds[0], [*flags, "--goal", "0"])  # compiles what is not cached, and brings the file into memory
    runs = [run(seed, [*flags, "--goal", options.goal]) for seed in options.seeds]
    rows = [_row(str(each.seed), f"{each.accuracy:.4f}", [each], max) for each in runs]
    rows += [_row("mean", "", runs, statistics.fmean), _row("worst", "", runs, max)]
    stages = ", ".join(f"{name} {statistics.fmean(each.stages[name] for each in runs):.2f}" for name in runs[0].stages)
    trained, held_out = runs[0].images
    block = f"""
{machine.table(["seed", "right", "epochs", "training, s", "process, s"], rows)}
Goal {options.goal} of {held_out:,} held-out images; {trained:,} to train on. The mean process, in seconds:
{stages}.
{machine.describe()}.
"""
    machine.publish("time_to_accuracy", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
