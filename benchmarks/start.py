"""Time what a user waits for: imports, --help, process start to the end of the first training step; print a table.

Run ``python -m benchmarks.start``; ``--write`` puts the table into docs/benchmarks.md.  PyTorch and JAX stand beside
fastconv where ``--peers-python`` (by default the interpreter that runs this) has them.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

from benchmarks import machine, processes, timing

PEERS = ("torch", "jax")
# Prints the versions of the packages it is asked for, but for those that are not there.
VERSIONS = """
import importlib.metadata as metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def versions(python: str) -> dict[str, str]:
    """Return the peers that an interpreter has, and say which are left out."""
    found: dict[str, str] = json.loads(processes.run(["-c", VERSIONS, *PEERS], python))
    for name in PEERS:
        if name not in found:
            print(f"benchmarks.start: {python} has no {name}, left out; name one with --peers-python", file=sys.stderr)
    return found


def first_step(name: str, python: str = sys.executable, **changes: str) -> None:
    """Run a program of ``benchmarks/first_step``."""
    processes.run(["-m", f"benchmarks.first_step.with_{name}"], python, changes)


def first_step_cold() -> None:
    """Run fastconv's with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        first_step("fastconv", FASTCONV_CACHE_DIR=folder)


def starts(python: str, peers: Sequence[str], cache: str) -> dict[str, Callable[[], object]]:
    """Return what is timed by its name: each runs one process.

    Parameters
    ----------
    python : str
        The peers' interpreter.
    peers : sequence of str
        Those that it has.
    cache : str
        A folder where JAX may keep compiled code; left to itself it compiles in every process.
    """
    jax = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    found: dict[str, Callable[[], object]] = {
        "Python alone": lambda: processes.run(["-c", ""]),
        "`import fastconv`": lambda: processes.run(["-c", "import fastconv"]),
        "`fastconv --help`": lambda: processes.run(["-m", "fastconv", "--help"]),
    }
    for peer in peers:
        found[f"`import {peer}`"] = lambda peer=peer: processes.run(["-c", f"import {peer}"], python)
    found["first training step, kernels cached"] = lambda: first_step("fastconv")
    if "torch" in peers:
        found["first training step, PyTorch, eager"] = lambda: first_step("torch", python)
    if "jax" in peers:
        found["first training step, JAX, jitted"] = lambda: first_step("jax", python)
        found["first training step, JAX, jitted code cached"] = lambda: first_step("jax", python, **jax)
    return found


def measure(runs: int, cold_runs: int, found: Mapping[str, Callable[[], object]]) -> list[list[str]]:
    """Return the rows: what, median seconds, the fastest and the slowest, how many runs."""
    times: dict[str, list[float]] = {what: [] for what in found}
    for what, run in found.items():  # once before the clock: files come into memory, compiled code into its cache
        print(f"{what} ...", file=sys.stderr)
        run()
    for number in range(runs):
        print(f"round {number + 1} of {runs} ...", file=sys.stderr)
        for what, run in found.items():
            times[what].append(timing.once(run))
    if cold_runs:
        print("nothing cached ...", file=sys.stderr)
        times["first training step, nothing cached"] = [timing.once(first_step_cold) for _ in range(cold_runs)]
    return [
        [what, f"{statistics.median(seen):.2f}", f"{min(seen):.2f} to {max(seen):.2f}", str(len(seen))]
        for what, seen in times.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it into the page if asked to."""
    parser = machine.parser("start", __doc__)
    parser.add_argument("--runs", type=int, default=7, help="processes for each line (7)")
    parser.add_argument(
        "--cold-runs", type=int, default=3, help="processes that compile all kernels anew; 0 for none (3)"
    )
    parser.add_argument("--peers-python", metavar="PATH", default=sys.executable, help="has PyTorch and JAX (this one)")
    options = parser.parse_args(arguments)

    peers = versions(options.peers_python)
    with tempfile.TemporaryDirectory() as cache:
        rows = measure(options.runs, options.cold_runs, starts(options.peers_python, list(peers), cache))
    block = f"""
{machine.table(["from process start to its end", "median, s", "range, s", "runs"], rows)}
The first training step is one of LeNet-5 on a batch of 64; fastconv's where no other library is named. Processes take
turns.
{machine.describe(*(f"{name} {version}" for name, version in peers.items()))}.
"""
    machine.publish("start", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
