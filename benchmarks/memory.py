"""Measure the peak resident memory of training LeNet-5 on 42,000 digits, in processes of their own; print a table.

Run ``python -m benchmarks.memory``; ``--write`` puts the table into docs/benchmarks.md.  The figure is the one that
``/usr/bin/time -v`` prints as "Maximum resident set size": both ask the system for what it counted.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, processes

TOLD = hasattr(os, "wait4")
"""Whether the system tells a process's peak memory."""
# This program imports nothing big itself: on Linux a new process starts with its parent's peak as its own.
STARTED = "import fastconv as fc; fc.models.lenet5(); fc.thread_layer()"
WRITE = """
import sys
import numpy as np
rng, count = np.random.default_rng(0), int(sys.argv[2])
np.savez(sys.argv[1], images=rng.integers(0, 256, (count, 1, 28, 28), np.uint8), labels=rng.integers(0, 10, count))
"""


def peak(arguments: Sequence[str]) -> int:
    """Run ``python ARGUMENTS`` and return its peak resident memory in kilobytes of 1024 bytes.

    Raises
    ------
    SystemExit
        If the process fails; the message is what it printed.
    """
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(
            [sys.executable, *arguments], env=processes.environment(), stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            output.seek(0)
            raise SystemExit(f"benchmarks.memory: {' '.join(arguments)}: exit code {child.returncode}\n{output.read()}")
    return usage.ru_maxrss // 1024 if sys.platform == "darwin" else usage.ru_maxrss


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it into the page if asked to."""
    parser = machine.parser("memory", __doc__)
    parser.add_argument("--data", metavar="FILE", help="digits to train on, such as train.csv.gz (random ones)")
    parser.add_argument("--digits", type=int, default=42_000, help="how many random digits there are (42000)")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args(arguments)
    if not TOLD:
        print("benchmarks.memory: this system does not tell a process's peak memory", file=sys.stderr)
        return 1

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data, what = options.data, f"`fastconv train {Path(options.data or '').name}`"
        if data is None:
            data, what = str(Path(folder) / "digits.npz"), f"`fastconv train` on {options.digits:,} random digits"
            processes.run(["-c", WRITE, data, str(options.digits)])
        # Without matplotlib, which is no part of what trains.
        train = ["-m", "fastconv", "train", data, "--epochs", str(options.epochs), "--no-report"]
        train += ["--out", str(Path(folder) / "run")]
        for name, command in (("fastconv imported, threads started", ["-c", STARTED]), (what, train)):
            print(f"{name} ...", file=sys.stderr)
            kilobytes = peak(command)
            rows.append([name, f"{kilobytes * 1024 / 1e6:.0f}", f"{kilobytes:,}"])
    block = f"""
{machine.table(["process", "peak, MB", "as `/usr/bin/time -v` counts, kbytes"], rows)}
{options.epochs} epochs with the command's defaults.
{machine.describe()}.
"""
    machine.publish("memory", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
