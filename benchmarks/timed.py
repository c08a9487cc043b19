"""Work that several programs time: a training step of LeNet-5, and one convolution forward and backward.

Run as ``python -m benchmarks.timed WORK SIZE``, it is the process of its own that ``benchmarks.scaling`` starts: it
prints the median seconds of one run.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

import numpy as np

import fastconv as fc
from benchmarks import timing
from fastconv import blocks
from fastconv.training.step import checked_step

CHANNELS, TAPS = 16, 3
"""The convolution's: as many filters as channels."""


def lenet5_step(batch: int) -> Callable[[], float]:
    """Return a function that takes one training step on the next ``batch`` of the built-in digits; returns the loss."""
    digits = fc.data.digits10k()
    labels = np.asarray(digits.labels)
    order = fc.data.permutation(len(digits), 0, 0)
    batches = [order[start : start + batch] for start in range(0, len(order) - batch + 1, batch)]
    model, loss, optimizer = fc.models.lenet5(), fc.CrossEntropyLoss(), fc.SGD(lr=0.01, momentum=0.9)
    model.normalization = fc.Normalization((0.1307,), (0.3081,))

    def step() -> float:
        index = batches[optimizer.steps % len(batches)]
        return checked_step(model, loss, optimizer, digits.images, index, labels[index], 1.0).value

    return step


def convolution_pass(size: int, batch: int = 128) -> Callable[[], None]:
    """Return a function that runs a 3x3 convolution of 16 channels on size x size images, forward and back."""
    layer, work = fc.Conv2d(CHANNELS, CHANNELS, TAPS, padding=TAPS // 2), fc.Workspace(np.float32)
    shape = layer.plan((batch, CHANNELS, size, size), work)
    rng = np.random.default_rng(0)
    x, dy = (blocks.pack(rng.standard_normal(shape, np.float32), work.empty(shape)) for _ in range(2))

    def run() -> None:
        layer.forward_blocks(x, work, True)
        layer.backward_blocks(dy, work, True)

    return run


def convolution_flops(size: int, batch: int = 128) -> int:
    """Return the additions and multiplications of ``convolution_pass``, products with padding's zeros too."""
    return 3 * 2 * batch * size**2 * CHANNELS**2 * TAPS**2


WORKS: dict[str, Callable[[int], Callable[[], object]]] = {"lenet5": lenet5_step, "convolution": convolution_pass}


def main(arguments: Sequence[str] | None = None) -> int:
    """Time one of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timed")
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("size", type=int, help="images in the batch, or height and width of an image")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long to repeat it (0.5)")
    options = parser.parse_args(arguments)
    run = WORKS[options.work](options.size)
    for _ in range(2):  # compiles, fills caches, and puts every thread to work
        run()
    print(timing.seconds(run, options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
