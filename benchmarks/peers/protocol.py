"""What a peer does with the work it is given, and the JSON in which it answers.  Imports no library under comparison.

The work is an .npz file: ``images`` uint8[N, 1, 28, 28], ``labels`` int64[N], ``order`` int64[N], and LeNet-5's initial
weights under the names that ``torch.nn.Sequential`` gives them, prefixed by ``model.``.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Protocol

import numpy as np

MEAN, STD = 0.1307, 0.3081
# Where rounding sends one rectifier or maximum the other way, the two libraries part: at a rate of 0.01 by 2e-3 of the
# loss within 20 steps (one of twelve seeds), at 0.001 by less than 1e-6 (twelve seeds).
LR, MOMENTUM = 0.001, 0.9
PREFIX = "model."


class Peer(Protocol):
    """LeNet-5 in one library, made from images, labels and weights."""

    library: str
    """Name and version."""
    threads: int

    def index(self, numbers: np.ndarray) -> Any:
        """Return image numbers, int64[n], as the library likes them."""

    def train(self, index: Any) -> float:
        """Take one step on the images at ``index`` and return its loss, a Python float."""

    def infer(self, index: Any) -> Any:
        """Return the logits of the images at ``index``, an array of the library."""


Maker = Callable[[np.ndarray, np.ndarray, Mapping[str, np.ndarray]], Peer]


def _batches(peer: Peer, order: np.ndarray, size: int) -> list[Any]:
    return [peer.index(order[start : start + size].copy()) for start in range(0, len(order) - size + 1, size)]


def _speed(function: Callable[[Any], object], batches: Sequence[Any], size: int, seconds: float) -> float:
    """Return images a second over ``seconds``, after a fifth of that to warm up."""
    count = 0
    for budget in (seconds / 5, seconds):
        count, began, spent = 0, perf_counter(), 0.0
        while spent < budget or count < 3:
            function(batches[count % len(batches)])
            count += 1
            spent = perf_counter() - began
    return count * size / spent


def main(make: Maker, arguments: Sequence[str] | None = None) -> int:
    """Do the work once: some steps whose losses are reported, and then, from the same weights, the timed ones."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", help="the .npz file")
    parser.add_argument("--batch", type=int, nargs="+", required=True)
    parser.add_argument("--steps", type=int, required=True, help="how many losses to report")
    parser.add_argument("--seconds", type=float, required=True, help="how long to time each")
    options = parser.parse_args(arguments)
    with np.load(options.work) as file:
        work = {name: file[name] for name in file.files}
    weights = {name.removeprefix(PREFIX): value for name, value in work.items() if name.startswith(PREFIX)}

    peer = make(work["images"], work["labels"], weights)
    batches = _batches(peer, work["order"], options.batch[0])
    losses = [peer.train(batches[step % len(batches)]) for step in range(options.steps)]
    logits = np.asarray(peer.infer(batches[0])).tolist()

    speeds: dict[str, dict[int, float]] = {"training": {}, "inference": {}}
    for size in options.batch:
        peer = make(work["images"], work["labels"], weights)
        batches = _batches(peer, work["order"], size)
        speeds["training"][size] = _speed(peer.train, batches, size, options.seconds)
        speeds["inference"][size] = _speed(peer.infer, batches, size, options.seconds)
    answer = {"library": peer.library, "threads": peer.threads, "losses": losses, "logits": logits, "speeds": speeds}
    print(json.dumps(answer))
    return 0
