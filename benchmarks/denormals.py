"""Time a LeNet-5 training step whose activations are denormal numbers beside one of ordinary size; print a table.

Run ``python -m benchmarks.denormals``; ``--write`` puts the table into docs/benchmarks.md.  Others were reported to
lose a factor of 100 to 300 to denormals (pytorch#27974).
"""

import statistics
import sys
from collections.abc import Sequence

import numpy as np

import fastconv as fc
from benchmarks import machine, timing

SCALES = (1.0, 1e-39)
ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it into the page if asked to."""
    parser = machine.parser("denormals", __doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=0.3, help="how long each round times each scale (0.3)")
    options = parser.parse_args(arguments)

    digits = fc.data.digits10k()
    chosen = fc.data.permutation(len(digits), 0, 0)[: options.batch]
    images, labels = (digits.images[chosen] / np.float32(255)), digits.labels[chosen]
    model, loss, still = fc.models.lenet5(), fc.CrossEntropyLoss(), fc.SGD(lr=0.0)
    batches = [(images * np.float32(scale)).astype(np.float32) for scale in SCALES]
    inside = np.abs(model[:4](batches[1]))
    if not 0 < inside.max() < np.finfo(np.float32).tiny:
        print(f"benchmarks.denormals: the activations are no denormals: up to {inside.max():.3g}", file=sys.stderr)
        return 1

    times: list[list[float]] = [[] for _ in SCALES]
    for _ in range(ROUNDS):
        for batch, found in zip(batches, times, strict=True):
            found.append(timing.seconds(lambda x=batch: fc.train_step(model, loss, still, x, labels), options.seconds))
    usual, tiny = (statistics.median(found) for found in times)
    ratios = [b / a for a, b in zip(*times, strict=True)]
    rows = [
        ["ordinary", f"{usual * 1e6:,.0f}", "1.00"],
        ["denormal", f"{tiny * 1e6:,.0f}", f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"],
    ]
    block = f"""
{machine.table([f"activations of a step of {options.batch}", "microseconds", "ratio (range)"], rows)}
Float images, {ROUNDS} rounds in turn, one process.
{machine.describe()}.
"""
    machine.publish("denormals", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
