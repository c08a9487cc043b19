"""Time a training step and inference of LeNet-5 against PyTorch eager, in processes that take turns; print the table.

Run ``python -m benchmarks.step``; ``--write`` puts the table into docs/benchmarks.md and README.md.  Both start
from the same weights and see the same digits.  If their first losses differ, the program ends without a table.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import fastconv as fc
from benchmarks import machine, processes
from benchmarks.peers.protocol import PREFIX

# Float32 sums in two orders: losses differ by less than 1e-6 after 20 steps, logits by 3e-6 of the largest.
STEPS, TOLERANCE = 20, 1e-4
WITHOUT_TORCH = (
    'PyTorch is not installed here, so its columns are left out: pip install "fastconv[bench]", '
    "or name an interpreter that has it with --torch-python.\n"
)

CHECKED = (
    f"Ratios are taken within a round. Both libraries' losses of the first {STEPS} steps agree to {TOLERANCE:g} of "
    "their size.\n"
)

# On a quiet machine rounds differ by a few per cent.
UNSTEADY = 0.25

Answer = Mapping[str, Any]


class Disagreement(ValueError):
    """The two libraries did not compute the same thing; their times mean nothing."""


def write_work(path: Path, images: int, seed: int) -> None:
    """Write digits, their order and initial weights where both peers read them."""
    digits = fc.data.digits10k()
    order = fc.data.permutation(len(digits), seed, 0)[:images]
    weights = {PREFIX + name: value for name, value in fc.models.lenet5(seed=seed).state_dict().items()}
    np.savez(path, images=digits.images, labels=digits.labels, order=order, **weights)


def check(ours: Answer, theirs: Answer) -> None:
    """Compare the losses of the first steps, and the logits after them.

    Raises
    ------
    Disagreement
        If two losses differ by more than TOLERANCE of their size, or two logits by that of the largest.
    """
    names = f"{ours['library']} and {theirs['library']}"
    for step, (a, b) in enumerate(zip(ours["losses"], theirs["losses"], strict=True), 1):
        if not abs(a - b) <= TOLERANCE * abs(b):
            raise Disagreement(f"{names}: losses of step {step} are {a:.9g} and {b:.9g}, tolerance {TOLERANCE:g}")
    a, b = np.array(ours["logits"]), np.array(theirs["logits"])
    worst, scale = float(np.abs(a - b).max()), float(np.abs(b).max())
    if not worst <= TOLERANCE * scale:
        raise Disagreement(f"{names}: logits differ by {worst:.3g}, tolerance {TOLERANCE:g} of {scale:.3g}")


def measure(rounds: int, pythons: Mapping[str, str], options: Sequence[str]) -> dict[str, list[Answer]]:
    """Run each peer once a round, one after the other, and return all answers, checked.

    Parameters
    ----------
    rounds : int
    pythons : {module in benchmarks.peers: interpreter}
    options : sequence of str
        What the peers take.
    """
    answers: dict[str, list[Answer]] = {peer: [] for peer in pythons}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", file=sys.stderr)
        for peer, python in pythons.items():
            answer = json.loads(processes.run(["-m", f"benchmarks.peers.{peer}", *options], python))
            answers[peer].append(answer)
        first, *others = (each[-1] for each in answers.values())
        for other in others:
            check(first, other)
    return answers


def unsteady(answers: Mapping[str, Sequence[Answer]]) -> bool:
    """Whether some speed differs so much between rounds that its median means little."""
    for rounds in answers.values():
        for work, speeds in rounds[0]["speeds"].items():
            for batch in speeds:
                found = [answer["speeds"][work][batch] for answer in rounds]
                if max(found) > (1 + UNSTEADY) * min(found):
                    return True
    return False


def _spread(values: Sequence[float], form: str) -> list[str]:
    return [format(statistics.median(values), form), f"{min(values):{form}} to {max(values):{form}}"]


def rows(answers: Mapping[str, Sequence[Answer]], batches: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: medians and ranges over the rounds, and the ratio, which is taken within each round."""
    ours, *theirs = answers.values()
    header = ["work", "batch", ours[0]["library"] + ", images/s", "range"]
    for other in theirs:
        header += [other[0]["library"] + ", images/s", "range", "ratio", "range"]
    lines = []
    for work in ("training", "inference"):
        for batch in map(str, batches):
            mine = [answer["speeds"][work][batch] for answer in ours]
            cells = [work, batch, *_spread(mine, ",.0f")]
            for other in theirs:
                speeds = [answer["speeds"][work][batch] for answer in other]
                cells += _spread(speeds, ",.0f") + _spread([a / b for a, b in zip(mine, speeds, strict=True)], ".2f")
            lines.append(cells)
    return header, lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it into the page if asked to."""
    parser = machine.parser("step", __doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128], metavar="N", help="batch sizes (64 128)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each library has its turn (5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to time each batch size in a turn (1)")
    parser.add_argument("--images", type=int, default=6400, help="digits to cycle through (6400)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--torch-python", metavar="PATH", help="an interpreter that has torch (this one if it has)")
    options = parser.parse_args(arguments)

    pythons = {"fastconv_lenet": sys.executable}
    if options.torch_python or find_spec("torch"):
        pythons["torch_lenet"] = options.torch_python or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work.npz"
        write_work(work, options.images, options.seed)
        flags = [str(work), "--batch", *map(str, options.batch)]
        flags += ["--steps", str(STEPS), "--seconds", str(options.seconds)]
        try:
            answers = measure(options.rounds, pythons, flags)
        except Disagreement as error:
            print(f"benchmarks.step: {error}; no times are given", file=sys.stderr)
            return 1

    header, lines = rows(answers, options.batch)
    libraries = [each[0]["library"] for each in answers.values()]
    threads = ", ".join(f"{each[0]['library']} on {each[0]['threads']} threads" for each in answers.values())
    compared = CHECKED if len(answers) > 1 else WITHOUT_TORCH
    if unsteady(answers):
        compared += (
            f"**The rounds of one library differ by more than {UNSTEADY:.0%}: the machine was not quiet, or that "
            "library is unsteady on it.**\n"
        )
    block = f"""
{machine.table(header, lines, texts=2)}
Medians and ranges of {options.rounds} rounds in which the libraries take turns, each in a new process ({threads}).
{compared}{machine.describe(*libraries[1:])}.
"""
    machine.publish("step", block, options.write)
    if options.write:  # the same table stands in the README
        readme = machine.ROOT / "README.md"
        readme.write_text(machine.replace_block(readme.read_text(encoding="utf-8"), "step", block), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
