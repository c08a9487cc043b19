"""Networks in libraries that take turns, each in a new process: run, compared, and their times side by side."""

import json
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastconv as fc
from benchmarks import libraries, machine, processes, quiet
from benchmarks.libraries import KEEP_MEMORY, Disagreement, Library
from benchmarks.nets import Net
from benchmarks.peers import fastconv_net
from benchmarks.peers.protocol import PREFIX

OURS = Library("fastconv_net", "fastconv")
THEIRS = (
    Library("torch_net", "PyTorch", ("torch",)),
    Library("torch_tuned_net", "PyTorch tuned", ("torch",), environment=KEEP_MEMORY),
    Library("torch_compile_net", "PyTorch compiled", ("torch",), ("g++",), KEEP_MEMORY),
    Library("jax_net", "JAX", ("jax",)),
    Library("onnxruntime_net", "onnxruntime", ("onnx", "onnxruntime")),
)

# Where rounding sends one rectifier or maximum the other way, two libraries part, and further with every step.  In 12
# (LeNet-5) and 6 (3x3 nets) seeds, in which these steps took the loss down by a fifth to a half: logits differed by up
# to 3e-6 of the largest, losses by 1e-5 of their size, logits after the steps by 1e-3.  Twenty steps: losses by 8e-4.
STEPS = 4
TOLERANCES = {"logits": 1e-5, "losses": 1e-4, "logits after training": 1e-2}

# On a quiet machine rounds differ by a few per cent.
UNSTEADY = 0.25

AGREED = (
    "Ratios are taken within a round; the best is the fastest of the others in that round. The libraries agree: in "
    f"their logits to {TOLERANCES['logits']:g} of the largest, in the losses of the first {STEPS} steps to "
    f"{TOLERANCES['losses']:g}, in the logits after those to {TOLERANCES['logits after training']:g}."
)

Answer = Mapping[str, Any]


# ---------------------------------------------------------------------------------------------------------- the work


def _colour(digits: np.ndarray, seed: int) -> np.ndarray:
    """Return uint8[N, 3, 32, 32]: each digit in a light colour of its own on a dark one."""
    rng = np.random.default_rng(seed)
    light, dark = rng.integers(128, 256, (len(digits), 3, 1, 1)), rng.integers(0, 128, (len(digits), 3, 1, 1))
    ink = np.pad(digits, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return ((ink * light + (255 - ink) * dark) // 255).astype(np.uint8)


def write_work(path: Path, net: Net, images: int, seed: int) -> None:
    """Write digits, their order and initial weights where all peers read them."""
    digits = fc.data.digits10k()
    chosen = fc.data.permutation(len(digits), seed, 0)[:images]
    pixels, labels = digits.images[chosen], np.asarray(digits.labels)[chosen]
    arrays = {PREFIX + name: value for name, value in fastconv_net.build(net, seed).state_dict().items()}
    arrays["images"] = pixels if net.image == pixels.shape[1:] else _colour(pixels, seed)
    arrays |= {"labels": labels, "order": fc.data.permutation(len(labels), seed, 1)}
    np.savez(path, allow_pickle=False, **arrays)


def check(ours: Answer, theirs: Answer, names: str) -> None:
    """Compare logits and, if both can train, losses of the first steps and the logits after them.

    Parameters
    ----------
    ours, theirs : dict
        What two peers answered.
    names : str
        What to call the two.

    Raises
    ------
    Disagreement
        If something differs by more than TOLERANCES say: losses as a part of their size, logits as one of the largest.
    """
    for what, tolerance in TOLERANCES.items():
        if what not in ours["results"] or what not in theirs["results"]:
            continue
        a, b = (np.array(answer["results"][what]) for answer in (ours, theirs))
        size = np.abs(b) if what == "losses" else np.abs(b).max()
        worst = float((np.abs(a - b) / size).max())
        if not worst <= tolerance:
            raise Disagreement(f"{names}: {what} differ by {worst:.3g} of their size, tolerance {tolerance:g}")


# --------------------------------------------------------------------------------------------------------- the rounds


@dataclass(frozen=True)
class Times:
    """Every answer, of each network and each library one a round; ``kind`` is mean or median, within a process."""

    batches: Mapping[Net, Sequence[int]]
    answers: Mapping[Net, Mapping[str, Sequence[Answer]]]
    kind: str
    left_out: str
    """Sentences about libraries that are missing."""
    busy: float = 0.0
    """Cores that others used between rounds."""

    def _firsts(self) -> dict[str, Answer]:
        """Return an answer of each library."""
        return {name: rounds[0] for name, rounds in next(iter(self.answers.values())).items()}

    def cases(self) -> list[tuple[Net, int]]:
        """Return the networks with each of their batch sizes, in order."""
        return [(net, size) for net, sizes in self.batches.items() for size in sizes]

    def names(self, work: str) -> list[str]:
        """Return the libraries that can do this work, fastconv first."""
        return [name for name, answer in self._firsts().items() if work in answer["times"]]

    def of(self, net: Net, name: str, work: str, batch: int) -> list[float]:
        """Return the seconds of a call, in each round."""
        return [answer["times"][work][str(batch)][self.kind] for answer in self.answers[net][name]]

    def ratios(self, net: Net, names: Sequence[str], work: str, batch: int) -> list[float]:
        """Return how often fastconv's time goes into that of the fastest of ``names``, in each round."""
        fastest = map(min, zip(*(self.of(net, name, work, batch) for name in names), strict=True))
        return [theirs / ours for theirs, ours in zip(fastest, self.of(net, OURS.name, work, batch), strict=True)]

    def unsteady(self) -> list[str]:
        """Return the libraries of which some time differs so much between rounds that its median means little."""
        found: dict[str, None] = {}
        for work in ("training", "inference"):
            for name in self.names(work):
                seconds = [self.of(net, name, work, batch) for net, batch in self.cases()]
                if any(max(each) > (1 + UNSTEADY) * min(each) for each in seconds):
                    found[name] = None
        return list(found)

    def notes(self) -> str:
        """Return what stands below the tables: rounds, threads, agreement, noise, who is missing, machine, versions."""
        firsts, rounds = self._firsts(), len(next(iter(self.answers.values()))[OURS.name])
        threads = ", ".join(f"{name} {answer['threads']}" for name, answer in firsts.items())
        lines = [
            f"Medians of {rounds} rounds in which the libraries take turns, each in a new process; threads: {threads}."
        ]
        if len(firsts) > 1:
            lines.append(AGREED)
        if unsteady := self.unsteady():
            lines.append(
                f"**Between rounds some times of {', '.join(unsteady)} differ by more than {UNSTEADY:.0%}: the machine "
                "was not quiet, or the library is unsteady on it.**"
            )
        versions = dict.fromkeys(answer["version"] for name, answer in firsts.items() if name != OURS.name)
        return "\n".join([*lines, f"{quiet.remark(self.busy)}{self.left_out}{machine.describe(*versions)}.\n"])


def add_arguments(parser: ArgumentParser, rounds: int, seconds: float) -> None:
    """Add what ``measure`` takes."""
    parser.add_argument("--rounds", type=int, default=rounds, help=f"how often each library has its turn ({rounds})")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help=f"how long to time each batch size in a turn ({seconds:g})"
    )
    parser.add_argument("--batch", type=int, nargs="+", metavar="N", help="batch sizes, instead of the table's")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="networks whose name has it (all)")
    parser.add_argument("--images", type=int, default=6400, help="digits to cycle through (6400)")
    parser.add_argument("--seed", type=int, default=0)
    libraries.add_argument(parser)


def measure(options: Namespace, batches: Mapping[Net, Sequence[int]], kind: str) -> Times:
    """Run each library once a round, one after the other, and return all answers, checked.

    Raises
    ------
    Disagreement
        As ``check``.
    SystemExit
        If no network is left, or a process fails.
    """
    batches = {net: options.batch or sizes for net, sizes in batches.items() if options.only in net.name}
    if not batches:
        raise SystemExit(f"no network's name has {options.only!r}")
    others, left_out = libraries.present(THEIRS, options.peers_python)
    pythons = {OURS: sys.executable} | {library: options.peers_python for library in others}
    answers: dict[Net, dict[str, list[Answer]]] = {net: {each.name: [] for each in pythons} for net in batches}
    busy = 0.0
    with tempfile.TemporaryDirectory() as folder:
        work = {net: Path(folder) / f"{number}.npz" for number, net in enumerate(batches)}
        for net, path in work.items():
            write_work(path, net, options.images, options.seed)
        for number in range(options.rounds):
            busy = max(busy, quiet.busy_cores())
            for net, sizes in batches.items():
                flags = [str(work[net]), "--net", net.name, "--batch", *map(str, sizes)]
                flags += ["--steps", str(STEPS), "--seconds", str(options.seconds)]
                for library, python in pythons.items():
                    print(f"round {number + 1} of {options.rounds}: {net.name}, {library.name} ...", file=sys.stderr)
                    command = ["-m", f"benchmarks.peers.{library.module}", *flags]
                    answer = json.loads(processes.run(command, python, dict(library.environment)))
                    answers[net][library.name].append(answer)
                    check(answers[net][OURS.name][-1], answer, f"{OURS.name} and {library.name}")
    return Times(batches, answers, kind, left_out, busy)
