"""No access outside an array."""

import re
import subprocess
import sys

from benchmarks import processes
from benchmarks.machine import ROOT
from benchmarks.reliability.every_kernel import TESTS
from benchmarks.reliability.promise import Outcome, Promise

# One thread, since the first task that leaves an array ends the launch; kernels that are checked have names of their
# own in the cache, which holds the flag.
# Optimised less, since most of the time goes into compiling.
CHECKED = {"NUMBA_BOUNDSCHECK": "1", "FASTCONV_NUM_THREADS": "1", "NUMBA_OPT": "1"}
INTERPRETED = {"NUMBA_DISABLE_JIT": "1"}


def measure(seed: int, cases: int) -> Outcome:
    """Run every kernel once, and so many files of the kernels' tests, with checked bounds and without the compiler."""
    failures, ran = [], {}
    for how, changes in (("with checked bounds", CHECKED), ("interpreted", INTERPRETED)):
        commands = [["-m", "benchmarks.reliability.every_kernel"]]
        for name in TESTS[:cases]:
            file = str(ROOT / "tests" / f"test_{name}.py")
            commands.append(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", file])
        passed = 0
        for command in commands:
            done = subprocess.run(
                [sys.executable, *command],
                env=processes.environment(changes),
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            passed += int((re.search(r"(\d+) passed", done.stdout) or [0, 1])[1])
            if done.returncode:
                last = " ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
                failures.append(f"{how}: {command[-1]}: exit code {done.returncode}: {last[-500:]}")
        ran[how] = passed
    figure = f"{len(failures)} findings; passed " + " and ".join(f"{count:,} {how}" for how, count in ran.items())
    return Outcome(figure, failures)


PROMISE = Promise(
    "no access outside an array",
    "the kernels and their tests on one thread with NUMBA_BOUNDSCHECK=1, which loads and stores of vectors heed too, "
    "and under NUMBA_DISABLE_JIT=1; CI runs all these tests too, but for five gradient checks without the compiler",
    measure,
    short=0,
    long=len(TESTS),
)
