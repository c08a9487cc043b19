"""Time LeNet-5's training step on the quiet machine and while another process keeps one core busy; print a table.

Run ``python -m benchmarks.busy``; ``--write`` puts the table into docs/benchmarks.md.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from time import sleep

import fastconv as fc
from benchmarks import machine, timed, timing

# Ends by itself, should this process be gone without having ended it.
LOOP = """
import os
parent = os.getppid()
print("busy", flush=True)
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def busy_core() -> Generator[subprocess.Popen[bytes], None, None]:
    """Keep one core busy inside the context; it gives the process that does."""
    # Its own interpreter, not a thread or a fork: it must not share anything with what is measured.
    with subprocess.Popen([sys.executable, "-c", LOOP], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            yield child
        finally:
            child.kill()


def throughput(step: Callable[[], object], batch: int, budget: float) -> float:
    """Return images a second over all steps of the time: a median step would not show the few that had to wait."""
    times = timing.samples(step, budget, least=3)
    return batch * len(times) / sum(times)


def measure(batch: int, rounds: int, budget: float) -> tuple[list[float], list[float]]:
    """Return images a second on the quiet machine and beside a busy core, one value a round, in turn."""
    step, quiet, busy = timed.lenet5_step(batch), [], []
    for _ in range(3):
        step()
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", file=sys.stderr)
        quiet.append(throughput(step, batch, budget))
        with busy_core():
            sleep(min(budget, 0.2))  # until the system has spread the processes over the cores
            busy.append(throughput(step, batch, budget))
    return quiet, busy


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it into the page if asked to."""
    parser = machine.parser("busy", __doc__)
    parser.add_argument("--batch", type=int, default=128, help="images in a step (128)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured, in turn (7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each (1)")
    options = parser.parse_args(arguments)

    quiet, busy = measure(options.batch, options.rounds, options.seconds)
    rows = []
    for what, speeds in (("quiet", quiet), ("one core busy elsewhere", busy)):
        ratios = [a / b for a, b in zip(speeds, quiet, strict=True)]
        spread, ratio = f"{min(speeds):,.0f} to {max(speeds):,.0f}", f"{statistics.median(ratios):.2f}"
        rows.append(
            [what, f"{statistics.median(speeds):,.0f}", spread, ratio, f"{min(ratios):.2f} to {max(ratios):.2f}"]
        )
    block = f"""
{machine.table(["machine", "images/s", "range", "of quiet", "range"], rows)}
LeNet-5's training step at batch {options.batch} on {fc.get_num_threads()} threads, {options.rounds} rounds in turn; all
steps of {options.seconds:g} s count. The other process is a loop in Python, started and ended in every round.
{machine.describe()}.
"""
    machine.publish("busy", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
