"""Every operation is right."""

from benchmarks.reliability import checks
from benchmarks.reliability.promise import Outcome, Promise
from benchmarks.reliability.records import RECORDS

WITHOUT_TORCH = "PyTorch, which is not installed"


def measure(seed: int, cases: int) -> Outcome:
    """Try so many random samples of each operation, and what must be refused; those by hand if there are many.

    tests/test_operations.py has them too, on few tiles, which saves compiling.
    """
    tallies = checks.measure(RECORDS, seed, cases, by_hand=cases > PROMISE.short)
    wrong = [line for tally in tallies.values() for line in tally.wrong]
    worst = max(tallies, key=lambda name: tallies[name].worst)
    met = {name: tally.torch for name, tally in tallies.items() if tally.torch}
    figure = (
        f"{len(tallies)} operations, {sum(tally.cases for tally in tallies.values()):,} cases, of each at least "
        f"{min(tally.cases for tally in tallies.values()):,}; {sum(met.values()):,} of them beside PyTorch, of each of "
        f"{len(met)} operations at least {min(met.values(), default=0):,}: {len(wrong)} wrong, "
        f"largest error {tallies[worst].worst:.2g} ulp ({worst})"
    )
    if not checks.has_torch():
        return Outcome(figure, wrong, [WITHOUT_TORCH])
    return Outcome(figure, wrong, [f"PyTorch beside {name}" for name, tally in tallies.items() if tally.alone])


PROMISE = Promise(
    "every operation is right",
    "one record an operation: random and hard samples in float32 and float64, forward and backward, against the naive "
    "twin and PyTorch; linearity, adjointness and movement with == on integers; wrong arguments refused by name",
    measure,
    short=1,
    long=2000,
)
