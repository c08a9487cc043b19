"""What a peer does with the work it is given, and the JSON in which it answers.  Imports no library under comparison.

The work is an .npz file: ``images`` uint8[N, C, H, W], ``labels`` int64[N], ``order`` int64[N], and the network's
initial weights under the names that ``torch.nn.Sequential`` gives them, prefixed by ``model.``.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Any, Protocol

import numpy as np

from benchmarks import nets, timing

MEAN, STD = 0.1307, 0.3081
LR, MOMENTUM = 0.001, 0.9
PREFIX = "model."

Works = Mapping[str, Callable[[Any], Any]]
Weights = Mapping[str, np.ndarray]


class Peer(Protocol):
    """One network in one library, made from its description, images, labels and weights."""

    version: str
    """The library and its version."""
    threads: int
    works: Works
    """What it can do with image numbers as ``index`` gives them.

    "training" takes one step on those images and returns its loss, a Python float; "inference" returns their logits,
    an array of the library, when all of them are there.
    """

    def index(self, numbers: np.ndarray) -> Any:
        """Return image numbers, int64[n], as the library likes them."""
        ...


Maker = Callable[[nets.Net, np.ndarray, np.ndarray, Weights], Peer]


def _batches(peer: Peer, order: np.ndarray, size: int) -> Iterator[Any]:
    starts = range(0, len(order) - size + 1, size)
    return cycle([peer.index(order[start : start + size].copy()) for start in starts])


def _times(function: Callable[[Any], object], batches: Iterator[Any], seconds: float) -> dict[str, float]:
    """Return the mean and the median time of a call over ``seconds``, after a fifth of that to warm up."""
    for budget in (seconds / 5, seconds):
        times = timing.samples(lambda: function(next(batches)), budget, 3)
    return {"mean": statistics.fmean(times), "median": statistics.median(times)}


def _results(peer: Peer, order: np.ndarray, size: int, steps: int) -> dict[str, Any]:
    """Return what is compared: logits and, of a peer that can train, losses of some steps and the logits after them."""
    batches = _batches(peer, order, size)
    first = next(batches)
    results = {"logits": np.asarray(peer.works["inference"](first)).tolist()}
    if "training" in peer.works:
        results["losses"] = [peer.works["training"](next(batches)) for _ in range(steps)]
        results["logits after training"] = np.asarray(peer.works["inference"](first)).tolist()
    return results


def main(make: Maker, arguments: list[str] | None = None) -> int:
    """Do the work once: what is compared first and then, from the same weights, what is timed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", help="the .npz file")
    parser.add_argument("--net", required=True, help="the network's name")
    parser.add_argument("--batch", type=int, nargs="+", required=True)
    parser.add_argument("--steps", type=int, required=True, help="how many losses to report")
    parser.add_argument("--seconds", type=float, required=True, help="how long to time each")
    options = parser.parse_args(arguments)
    net = nets.by_name(options.net)
    with np.load(options.work) as file:
        work = {name: file[name] for name in file.files}
    weights = {name.removeprefix(PREFIX): value for name, value in work.items() if name.startswith(PREFIX)}

    def made() -> Peer:
        return make(net, work["images"], work["labels"], weights)

    peer = made()
    results = _results(peer, work["order"], max(options.batch), options.steps)
    times: dict[str, dict[int, dict[str, float]]] = {name: {} for name in peer.works}
    for size in options.batch:
        peer = made()
        for name, function in peer.works.items():
            times[name][size] = _times(function, _batches(peer, work["order"], size), options.seconds)
    answer = {"version": peer.version, "threads": peer.threads, "results": results, "times": times}
    print(json.dumps(answer))
    return 0
