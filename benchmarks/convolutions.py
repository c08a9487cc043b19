"""Time convolutions of many shapes, forward and both gradients, against PyTorch's, in turns; print the tables.

Run ``python -m benchmarks.convolutions``; ``--write`` puts the tables into docs/benchmarks.md.  Results are compared
in every round.  If they differ, the program ends without a table.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import figures, libraries, machine, peak, processes, quiet, shapes
from benchmarks.libraries import KEEP_MEMORY, Disagreement, Library
from benchmarks.shapes import DIRECTIONS, Shape

OURS = Library("fastconv_convolution", "fastconv")
THEIRS = (
    Library("torch_convolution", "PyTorch", ("torch",)),
    Library("torch_tuned_convolution", "PyTorch tuned", ("torch",), environment=KEEP_MEMORY),
)

# Float32 sums of up to 200,704 products, in different orders: 1.2e-5 at most, in the depthwise gradient to the filters.
# One such product left out makes some 5e-4.
TOLERANCE = 1e-4


def check(shape: Shape, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    """Compare the results in all directions.

    Raises
    ------
    Disagreement
        If an element differs by more than TOLERANCE of the largest.
    """
    for direction in DIRECTIONS:
        a, b = ours[direction], theirs[direction]
        worst = float(np.abs(a - b).max() / np.abs(b).max())
        if not worst <= TOLERANCE:
            raise Disagreement(
                f"{shape}, {direction}: results differ by {worst:.3g} of the largest, tolerance {TOLERANCE:g}"
            )


class Rounds:
    """Seconds a call of each library, shape and direction, one a round, and what was measured beside them."""

    def __init__(self, chosen: Sequence[int], found: Sequence[Library], python: str) -> None:
        self.chosen = chosen
        self.pythons = {OURS: sys.executable} | dict.fromkeys(found, python)
        self.versions = {library.name: "" for library in self.pythons}
        self._seconds: dict[tuple[str, int, str], list[float]] = {}

    def add(self, seconds: float, folder: Path) -> None:
        """Ask each library about each shape, one after the other, in new processes.

        Raises
        ------
        Disagreement
            If results differ.
        """
        with ExitStack() as stack:
            peers = {
                library.name: stack.enter_context(
                    processes.Conversation(
                        ["-m", f"benchmarks.peers.{library.module}"], python, dict(library.environment)
                    )
                )
                for library, python in self.pythons.items()
            }
            for name, peer in peers.items():  # none begins before all have imported what they need
                self.versions[name] = json.loads(peer.hear())["version"]
            for number in self.chosen:
                results: list[dict[str, np.ndarray]] = []
                for name, peer in peers.items():
                    path = folder / f"{name}.npz"
                    question = {"shape": number, "seconds": seconds, "save": str(path)}
                    for direction, spent in json.loads(peer.ask(json.dumps(question))).items():
                        self._seconds.setdefault((name, number, direction), []).append(spent)
                    with np.load(path) as file:
                        results.append({direction: file[direction] for direction in DIRECTIONS})
                for other in results[1:]:
                    check(shapes.ALL[number], results[0], other)

    def speeds(self, name: str, number: int, direction: str) -> list[float]:
        """Return additions and multiplications a second, in each round."""
        return [shapes.ALL[number].flops / seconds for seconds in self._seconds[name, number, direction]]

    def ratios(self, name: str, number: int, direction: str) -> list[float]:
        """Return fastconv's speed over that of ``name``, in each round."""
        speeds = (self.speeds(each, number, direction) for each in (OURS.name, name))
        return [ours / theirs for ours, theirs in zip(*speeds, strict=True)]


def table(rounds: Rounds, direction: str, most: float) -> str:
    """Return the table of one direction."""
    _, *others = rounds.versions
    rows: list[list[str]] = []
    for number in rounds.chosen:
        shape, ours = shapes.ALL[number], rounds.speeds(OURS.name, number, direction)
        row = [str(shape), str(shape.batch), figures.median([speed / 1e9 for speed in ours])]
        row.append(f"{100 * statistics.median(ours) / most:.0f}")
        for name in others:
            row.append(figures.median([speed / 1e9 for speed in rounds.speeds(name, number, direction)]))
            row.append(figures.spread(rounds.ratios(name, number, direction)))
        rows.append(row)
    against = [text for name in others for text in (f"{name}, GFLOP/s", "ratio (range)")]
    return machine.table(["convolution", "batch", "fastconv, GFLOP/s", "% of the peak", *against], rows)


def summary(rounds: Rounds, name: str) -> str:
    """Return the table of geometric means and smallest ratios."""
    rows: list[list[str]] = []
    for direction in DIRECTIONS:
        ratios = {number: statistics.median(rounds.ratios(name, number, direction)) for number in rounds.chosen}
        worst = min(ratios, key=ratios.__getitem__)
        mean = statistics.geometric_mean(ratios.values())
        rows.append([direction, str(shapes.ALL[worst]), figures.digits(ratios[worst]), figures.digits(mean)])
    return machine.table(["direction", "smallest ratio at", "it is", "geometric mean"], rows, texts=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write them into the page if asked to."""
    parser = machine.parser("convolutions", __doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each library has its turn (3)")
    parser.add_argument("--seconds", type=float, default=0.15, help="how long to time each call in a turn (0.15)")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="convolutions whose name has it (all)")
    libraries.add_argument(parser)
    options = parser.parse_args(arguments)

    chosen = [number for number, shape in enumerate(shapes.ALL) if options.only in str(shape)]
    if not chosen:
        parser.error(f"no convolution's name has {options.only!r}")
    found, left_out = libraries.present(THEIRS, options.peers_python)
    rounds = Rounds(chosen, found, options.peers_python)
    before, busy = peak.flops_per_second(), 0.0
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds} ...", file=sys.stderr)
                busy = max(busy, quiet.busy_cores())
                rounds.add(options.seconds, Path(folder))
    except Disagreement as error:
        print(f"benchmarks.convolutions: {error}; no times are given", file=sys.stderr)
        return 1
    most = max(before, peak.flops_per_second())

    block = ""
    for direction in DIRECTIONS:
        block += f"\n**{direction.capitalize()}**\n\n{table(rounds, direction, most)}"
    for library in found:
        block += f"\n**fastconv over {library.name}, all shapes**\n\n{summary(rounds, library.name)}"
    notes = (
        f"Medians of {options.rounds} rounds, each in new processes, in which the libraries take turns shape by shape."
    )
    if found:
        notes += f" Results agree to {TOLERANCE:g} of the largest."
    block += f"""
{notes}
{quiet.remark(busy)}{left_out}The peak is what multiply-adds that never leave the registers do at best, before or after:
{most / 1e9:,.0f} GFLOP/s.
{machine.describe(*dict.fromkeys(list(rounds.versions.values())[1:]))}.
"""
    machine.publish("convolutions", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
