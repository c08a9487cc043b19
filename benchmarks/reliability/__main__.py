"""Measure a promise: ``python -m benchmarks.reliability NAME``; ``--write`` writes it into docs/reliability.md.

``all`` measures every promise, each in a process of its own, whatever becomes of those before.
"""

import argparse
import secrets
import subprocess
import sys
from collections.abc import Sequence

from benchmarks import processes
from benchmarks.reliability import page, promise


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the figure and what was wrong; return 1 if anything was."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    names = [*promise.names(), "all"]
    parser.add_argument("name", nargs="?", choices=names, help="by default none: write the page anew")
    parser.add_argument("--long", action="store_true", help="as many cases as for a release")
    parser.add_argument("--runs", type=int, metavar="N", help="so many cases")
    parser.add_argument("--seed", type=int, metavar="N", help="what cases follow from (default: a new one)")
    parser.add_argument("--write", action="store_true", help="write the figure and docs/reliability.md")
    options = parser.parse_args(words)
    if options.name == "all":
        return _all([word for word in words if word != "all"])
    if options.name is None:
        if not options.write:
            parser.error(f"expected one of {', '.join(names)}, or --write")
        page.write()
        return 0

    found = promise.find(options.name)
    cases = options.runs or (found.long if options.long else found.short)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    command = f"python -m benchmarks.reliability {options.name} --runs {cases} --seed {seed}"
    print(command, file=sys.stderr, flush=True)  # also if the measurement does not end
    measured = page.source()
    outcome = found.measure(seed, cases)
    print(f"{options.name}: {outcome.figure}")
    for note in outcome.notes:
        print(f"  not tried: {note}")
    again = "tries the same cases, at other moments" if options.name in promise.BY_TIMING else "repeats it"
    for failure in outcome.failures:
        print(f"  WRONG: {failure}; {command} {again}")
    if options.write:
        page.record(options.name, outcome, command, cases, measured)
        page.write()
    return len(outcome.failures) > 0


def _all(rest: list[str]) -> int:
    """Measure every promise with the same options; return 1 if one is broken or did not end."""
    broken: list[str] = []
    for name in promise.names():
        command = [sys.executable, "-m", "benchmarks.reliability", name, *rest]
        if subprocess.run(command, env=processes.environment(), check=False).returncode:
            broken.append(name)
    print(f"all: {len(promise.names()) - len(broken)} of {len(promise.names())} promises kept")
    for name in broken:
        print(f"  WRONG: {name}")
    return len(broken) > 0


if __name__ == "__main__":
    sys.exit(main())
