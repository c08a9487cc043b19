"""Repeat the training logs of the post that fastconv grew from, and print them beside its figures.

Run ``python -m benchmarks.origins``.  With ``--data TRAIN.csv.gz``, Kaggle's 42,000 digits, the third experiment runs
too, and ``--write`` puts the table into ``docs/origins.md``.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fastconv as fc
from benchmarks import machine
from fastconv import data, models

PAGE = machine.ROOT / "docs" / "origins.md"
EPOCHS = 10


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

    def cell(value: float | None, form: str) -> str:
        return machine.ABSENT if value is None else format(value, form)

    header = ["epoch", *(text for experiment, _ in results for text in (f"{experiment.title}: the post", "fastconv"))]
    rows = []
    for epoch in range(EPOCHS):
        row = [str(epoch + 1)]
        for experiment, history in results:
            ours = history[epoch]["val_acc"] if history else None
            row += [cell(experiment.validation_accuracy[epoch], ".3f"), cell(ours, ".3f")]
        rows.append(row)
    best, speed = ["best training accuracy"], ["images/s, training"]
    for experiment, history in results:
        accuracy = max(record["train_acc"] for record in history) if history else None
        images_per_second = statistics.median(record["images_per_s"] for record in history) if history else None
        best += [cell(experiment.best_train_accuracy, ".3f"), cell(accuracy, ".3f")]
        speed += [cell(experiment.images_per_second, ",.0f"), cell(images_per_second, ",.0f")]
    return machine.table(header, [*rows, best, speed])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments, print the table, and write it into the page if asked to."""
    parser = machine.parser("origins", __doc__, PAGE)
    parser.add_argument("--data", metavar="TRAIN.csv.gz", help="Kaggle's training file, for the third experiment")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    results: list[tuple[Experiment, History | None]] = [(each, run(each, None, options.seed)) for each in BUILT_IN]
    results.append((KAGGLE, run(KAGGLE, options.data, options.seed) if options.data is not None else None))

    block = f"{table(results)}\n{machine.describe()}.\n"
    if options.data is None:
        block += "The third experiment needs Kaggle's training file: `--data train.csv.gz`.\n"
    machine.publish("origins", block, options.write, PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
