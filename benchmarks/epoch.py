"""Train every ready-made network for one epoch on the built-in digits; print what each is, how long it took, how good.

Run ``python -m benchmarks.epoch``; ``--write`` puts the table into docs/benchmarks.md.  The recipe is that of ``fit``,
the same for all, and a tenth of the digits is held out.
"""

import sys
from collections.abc import Sequence

import numpy as np

import fastconv as fc
from benchmarks import figures, machine
from fastconv.training.history import History
from fastconv.training.normalize import normalization_of

TENTH, BATCH, CLASSES = 10, 64, 10
WARM = 2 * BATCH
"""Images to load the kernels with."""


def row(name: str, images: np.ndarray, labels: np.ndarray, seed: int) -> list[str]:
    """Train one network; return its line of the table."""
    train, held_out = fc.data.split(len(images), len(images) // TENTH, seed)
    x, y = images[train], labels[train]
    validation = images[held_out], labels[held_out]

    def trained(count: int) -> tuple[fc.Sequential, History]:
        model = fc.models.create_for(name, images.shape[1:], CLASSES, seed)
        model.normalization = normalization_of(images, train)
        return model, model.fit(
            x[:count], y[:count], epochs=1, batch_size=BATCH, validation_data=validation, seed=seed, verbose=False
        )

    trained(WARM + len(x) % BATCH)
    model, history = trained(len(x))
    _, parameters, mflop = str(model.summary(images.shape[1:])).splitlines()[-2].split()
    record = history[0]
    speed = [figures.digits(record["time"]), f"{record['images_per_s']:,.0f}"]
    return [name, parameters, mflop, *speed, f"{record['val_acc']:.4f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print the table, and write it into the page if asked to."""
    parser = machine.parser("epoch", __doc__)
    parser.add_argument(
        "--images", type=int, default=10_000, help="digits to train on, those held out included (10000)"
    )
    parser.add_argument("--only", nargs="+", default=fc.models.list_models(), metavar="MODEL", help="instead of all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    digits = fc.data.digits10k()
    chosen = fc.data.permutation(len(digits), options.seed, 0)[: options.images]
    images, labels = digits.images[chosen], np.asarray(digits.labels)[chosen]
    rows: list[list[str]] = []
    for name in options.only:
        print(f"{name} ...", file=sys.stderr)
        rows.append(row(name, images, labels, options.seed))
    held_out = len(images) // TENTH
    header = ["network", "parameters", "MFLOP an image", "seconds", "images/s", "accuracy"]
    block = f"""
{machine.table(header, rows)}
One epoch of {len(images) - held_out:,} digits in batches of {BATCH}, kernels loaded before; the accuracy is that on
{held_out:,} others. Arithmetic is that of a forward pass. {fc.get_num_threads()} threads.
{machine.describe()}.
"""
    machine.publish("epoch", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
