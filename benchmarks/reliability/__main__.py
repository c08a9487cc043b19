"""Measure a promise: ``python -m benchmarks.reliability NAME``; ``--write`` writes it into docs/reliability.md."""

import argparse
import secrets
import sys
from collections.abc import Sequence

from benchmarks.reliability import page, promise


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the figure and what was wrong; return 1 if anything was."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("name", nargs="?", choices=promise.names(), help="by default none: write the page anew")
    parser.add_argument("--long", action="store_true", help="as many cases as for a release")
    parser.add_argument("--runs", type=int, metavar="N", help="so many cases")
    parser.add_argument("--seed", type=int, metavar="N", help="what cases follow from (default: a new one)")
    parser.add_argument("--write", action="store_true", help="write the figure and docs/reliability.md")
    options = parser.parse_args(arguments)
    if options.name is None:
        if not options.write:
            parser.error(f"expected one of {', '.join(promise.names())}, or --write")
        page.write()
        return 0

    found = promise.find(options.name)
    cases = options.runs or (found.long if options.long else found.short)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    command = f"python -m benchmarks.reliability {options.name} --runs {cases} --seed {seed}"
    outcome = found.measure(seed, cases)
    print(f"{options.name}: {outcome.figure}")
    for note in outcome.notes:
        print(f"  not tried: {note}")
    for failure in outcome.failures:
        print(f"  WRONG: {failure}; {command} repeats it")
    if options.write:
        page.record(options.name, outcome, command)
        page.write()
    return len(outcome.failures) > 0


if __name__ == "__main__":
    sys.exit(main())
