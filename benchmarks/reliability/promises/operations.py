"""Every operation is right."""

from benchmarks.reliability import checks
from benchmarks.reliability.promise import Outcome, Promise
from benchmarks.reliability.records import RECORDS


def measure(seed: int, cases: int) -> Outcome:
    """Try so many random samples of each operation, and what must be refused; those by hand if there are many.

    tests/test_operations.py has them too, on few tiles, which saves compiling.
    """
    tallies = checks.measure(RECORDS, seed, cases, by_hand=cases > PROMISE.short)
    wrong = [line for tally in tallies.values() for line in tally.wrong]
    worst = max(tallies, key=lambda name: tallies[name].worst)
    figure = (
        f"{len(tallies)} operations, {sum(tally.cases for tally in tallies.values()):,} cases, of each at least "
        f"{min(tally.cases for tally in tallies.values()):,}: {len(wrong)} wrong, "
        f"largest error {tallies[worst].worst:.2g} ulp ({worst})"
    )
    return Outcome(figure, wrong, [] if checks.has_torch() else ["PyTorch, which is not installed"])


PROMISE = Promise(
    "every operation is right",
    "one record an operation: random and hard samples in float32 and float64, forward and backward, against the naive "
    "twin and PyTorch; linearity, adjointness and movement with == on integers; wrong arguments refused by name",
    measure,
    short=1,
    long=1500,
)
