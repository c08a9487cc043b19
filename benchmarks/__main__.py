"""Run the programs that write docs/benchmarks.md, one after the other: ``python -m benchmarks --write``."""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from benchmarks import libraries, processes

BESIDE_OTHERS = ("step", "models", "latency", "convolutions", "start")
ALONE = (
    "roofline",
    "scaling",
    "busy",
    "time_to_accuracy",
    "epoch",
    "doctor",
    "kernels",
    "memory",
    "denormals",
    "tiles",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run each in a process of its own; those that fail are named at the end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the tables in docs/benchmarks.md and README.md")
    libraries.add_argument(parser)
    options = parser.parse_args(arguments)

    failed: list[str] = []
    for name in (*BESIDE_OTHERS, *ALONE):
        flags = ["--write"] * options.write
        if name in BESIDE_OTHERS:
            flags += ["--peers-python", options.peers_python]
        print(f"benchmarks.{name}", file=sys.stderr)
        command = [sys.executable, "-m", f"benchmarks.{name}", *flags]
        if subprocess.run(command, env=processes.environment(), check=False).returncode:
            failed.append(name)
    if failed:
        print(f"benchmarks: failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed) > 0


if __name__ == "__main__":
    sys.exit(main())
