"""Repeat the training logs of the post that fastconv grew from, and print them beside its figures.

Run ``python -m benchmarks.origins``.  With ``--data TRAIN.csv.gz``, Kaggle's 42,000 digits, the third experiment runs
too, and ``--write`` puts the table into ``docs/origins.md``.
"""

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fastconv as fc
from fastconv import data, models

PAGE = Path(__file__).resolve().parent.parent / "docs" / "origins.md"
BEGIN = "<!-- generated: python -m benchmarks.origins -->\n"
END = "<!-- end -->"

EPOCHS = 10
ABSENT = "-"


@dataclass(frozen=True)
class Experiment:
    """One training log of the post: what was trained on how much, and what came of it."""

    title: str
    model: str
    train: int
    validation: int
    validation_accuracy: tuple[float, ...]
    best_train_accuracy: float | None = None
    images_per_second: float | None = None


BUILT_IN = (
    Experiment(
        "small net, 2,700/300",
        "lenet_seed",
        2_700,
        300,
        (0.407, 0.677, 0.753, 0.79, 0.813, 0.81, 0.84, 0.83, 0.863, 0.863),
    ),
    Experiment(
        "LeNet, 2,700/300",
        "lenet5",
        2_700,
        300,
        (0.887, 0.937, 0.913, 0.957, 0.953, 0.937, 0.917, 0.927, 0.933, 0.93),
    ),
)
KAGGLE = Experiment(
    "LeNet, 37,800/4,200",
    "lenet5",
    37_800,
    4_200,
    (0.961, 0.967, 0.972, 0.971, 0.976, 0.973, 0.970, 0.975, 0.976, 0.975),
    best_train_accuracy=0.986,
    images_per_second=31,
)

History = Sequence[Mapping[str, Any]]


def run(experiment: Experiment, path: str | None, seed: int) -> History:
    """Train as the post did, on digits drawn from ``path`` or from the built-in ones; return one record an epoch."""
    dataset = data.load(path)
    wanted = experiment.train + experiment.validation
    if len(dataset.labels) < wanted:
        raise ValueError(
            f"{experiment.title}: expected at least {wanted:,} labelled digits, got {len(dataset.labels):,}"
        )
    print(f"{experiment.title}: {EPOCHS} epochs ...", file=sys.stderr)
    order = data.permutation(len(dataset.labels), seed, 0)
    train, validation = order[: experiment.train], order[experiment.train : wanted]
    model = getattr(models, experiment.model)(seed=seed)
    return model.fit(
        dataset.images[train],
        dataset.labels[train],
        epochs=EPOCHS,
        batch_size=10,
        optimizer=fc.SGD(lr=0.05, momentum=0.0),
        schedule="constant",
        validation_data=(dataset.images[validation], dataset.labels[validation]),
        seed=seed,
        verbose=False,
    )


def table(results: Sequence[tuple[Experiment, History | None]]) -> str:
    """Return the Markdown table: two columns an experiment, the post's and ours, which is empty without a history."""

    def row(label: str, cells: Sequence[str]) -> str:
        return f"| {' | '.join([label, *cells])} |"

    def cell(value: float | None, form: str) -> str:
        return ABSENT if value is None else format(value, form)

    titles = [text for experiment, _ in results for text in (f"{experiment.title}: the post", "fastconv")]
    lines = [row("epoch", titles), "|" + "---:|" * (1 + len(titles))]
    for epoch in range(EPOCHS):
        cells = []
        for experiment, history in results:
            ours = history[epoch]["val_acc"] if history else None
            cells += [cell(experiment.validation_accuracy[epoch], ".3f"), cell(ours, ".3f")]
        lines.append(row(str(epoch + 1), cells))
    best, speed = [], []
    for experiment, history in results:
        accuracy = max(record["train_acc"] for record in history) if history else None
        images_per_second = statistics.median(record["images_per_s"] for record in history) if history else None
        best += [cell(experiment.best_train_accuracy, ".3f"), cell(accuracy, ".3f")]
        speed += [cell(experiment.images_per_second, ",.0f"), cell(images_per_second, ",.0f")]
    return "\n".join([*lines, row("best training accuracy", best), row("images/s, training", speed)]) + "\n"


def machine() -> str:
    """Return one line that says where and with what the figures were made."""
    name, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = named[0] if named else name
    packages = ", ".join(f"{package} {version(package)}" for package in ("fastconv", "numba", "numpy"))
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}, {date.today().isoformat()}"


def replace_block(page: str, block: str) -> str:
    """Return ``page`` with ``block`` between the two markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the lines {BEGIN.strip()!r} and {END!r} in the page, and found no such pair")
    return before + begin + block + end + after


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments, print the table, and write it into the page if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.origins", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", metavar="TRAIN.csv.gz", help="Kaggle's training file, for the third experiment")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/origins.md")
    options = parser.parse_args(arguments)

    results: list[tuple[Experiment, History | None]] = [(each, run(each, None, options.seed)) for each in BUILT_IN]
    results.append((KAGGLE, run(KAGGLE, options.data, options.seed) if options.data is not None else None))

    block = f"\n{table(results)}\n{machine()}.\n"
    if options.data is None:
        block += "The third experiment needs Kaggle's training file: `--data train.csv.gz`.\n"
    block += "\n"
    print(block)
    if options.write:
        PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), block), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
