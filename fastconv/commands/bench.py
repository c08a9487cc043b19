"""``fastconv bench``: each kernel beside the naive loops of ``fastconv.reference``; nothing is timed that disagrees."""

import argparse
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv import blocks, reference, terminal
from fastconv.commands.common import CompilingNotice, say_machine, use_threads
from fastconv.commands.interrupts import Interrupts
from fastconv.layers import AvgPool2d, Conv2d, Layer, Linear, MaxPool2d, ReLU, Workspace
from fastconv.losses import CrossEntropyLoss
from fastconv.normalization import Normalization
from fastconv.optim import SGD, Adam, Optimizer, Together

_QUICK, _FULL = 16, 128
_SECONDS = 0.2
_TOLERANCE = 1e-4
"""Of the largest value: float32 sums of up to 100,000 terms, beside float64."""

Arrays = list[np.ndarray]


class _Case(NamedTuple):
    name: str
    launch: Callable[[], object]
    """What is timed."""
    results: Callable[[], Arrays]
    """What the last launch computed, as ordinary arrays."""
    naive: Callable[[], Arrays]


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Show a line for each kernel: milliseconds of both, and how many times faster ours is."""
    use_threads(arguments.threads)
    say_machine()
    n = _QUICK if arguments.quick else _FULL
    terminal.say(f"LeNet-5's layers on {n} images, beside the loops of fastconv.reference (NumPy windows, float64)")
    cases = list(_cases(n, np.random.default_rng(0)))
    with CompilingNotice():
        for case in cases:
            case.launch()
    wide = terminal.width() >= 54
    terminal.say(_row(wide, "kernel", "naive ms", "ms", "ratio"))
    for case in cases:
        began = perf_counter()
        expected = case.naive()
        naive = perf_counter() - began
        case.launch()
        worst = max(_difference(ours, theirs) for ours, theirs in zip(case.results(), expected, strict=True))
        if not worst <= _TOLERANCE:
            terminal.say(f"{case.name}: differs from the naive loops by {worst:.2g} of the largest value")
            return 1
        ours = _median_seconds(case.launch)
        terminal.say(_row(wide, case.name, f"{1e3 * naive:,.1f}", f"{1e3 * ours:.3f}", f"{naive / ours:,.0f}"))
    return 0


def _row(wide: bool, name: str, naive: str, ours: str, ratio: str) -> str:
    return f"{name:<20}  " + (f"{naive:>10}  " if wide else "") + f"{ours:>8}  {ratio:>7}"


def _difference(ours: NDArray[np.floating], theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max()))


def _median_seconds(launch: Callable[[], object]) -> float:
    times: list[float] = []
    until = perf_counter() + _SECONDS
    while (began := perf_counter()) < until or len(times) < 3:
        launch()
        times.append(perf_counter() - began)
    return median(times)


# --------------------------------------------------------------------------------------------------------------- cases


def _cases(n: int, rng: np.random.Generator) -> Iterator[_Case]:
    """Yield a case for every kernel that training LeNet-5 runs, and average pooling."""

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal((n, *shape)).astype(np.float32)

    yield _pixels(rng.integers(0, 256, (n, 1, 28, 28)).astype(np.uint8))
    yield from _convolution(Conv2d(6, 16, 5), normal(6, 14, 14), normal(16, 10, 10))
    yield from _max_pooling(normal(16, 10, 10), normal(16, 5, 5))
    yield from _average_pooling(normal(16, 10, 10), normal(16, 5, 5))
    yield from _rectifier(normal(400), normal(400))
    yield from _linear(Linear(400, 120), normal(400), normal(120))
    yield _cross_entropy(normal(10), rng.integers(0, 10, n))
    value, gradient = normal(3000).reshape(-1), normal(3000).reshape(-1)
    zeros = np.zeros_like(value)
    yield _step("sgd", SGD(0.1, 0.9), value, gradient, lambda: reference.sgd(value, gradient, zeros, 0.1, 0.9)[0])
    yield _step("adam", Adam(0.1), value, gradient, lambda: reference.adam(value, gradient, zeros, zeros, 1, 0.1)[0])


def _pixels(images: NDArray[np.uint8]) -> _Case:
    normalization = Normalization((0.1,), (0.3,))
    table, out = normalization.table(1, np.float32), blocks.empty(images.shape, np.float32)
    return _Case(
        "pack pixels",
        lambda: blocks.pack_pixels(images, table, out),
        lambda: [blocks.unpack(out)],
        lambda: [reference.normalize_uint8(images, 0.1, 0.3)],
    )


def _pair(
    name: str,
    layer: Layer,
    x: NDArray[np.float32],
    dy: NDArray[np.float32],
    forward: Callable[[], np.ndarray],
    backward: Callable[[], Arrays],
) -> Iterator[_Case]:
    """Yield a layer's two directions; ``backward`` returns the gradients of the input and of every parameter."""
    work = Workspace(np.float32)
    layer.plan(x.shape, work)
    inside = blocks.pack(x, work.empty(x.shape))
    outputs: dict[str, blocks.Blocks] = {}

    def launch_forward() -> None:
        outputs["y"] = layer.forward_blocks(inside, work, True)

    def launch_backward() -> None:
        # Packed anew each time, because a layer may overwrite it: a few per cent of what is measured.
        gradient = layer.backward_blocks(blocks.pack(dy, packed), work, True)
        assert gradient is not None
        outputs["dx"] = gradient

    packed = work.empty(dy.shape)
    yield _Case(f"{name} forward", launch_forward, lambda: [blocks.unpack(outputs["y"])], lambda: [forward()])
    yield _Case(
        f"{name} backward",
        launch_backward,
        lambda: [blocks.unpack(outputs["dx"]), *(parameter.grad for parameter in layer.parameters())],
        backward,
    )


def _convolution(layer: Conv2d, x: NDArray[np.float32], dy: NDArray[np.float32]) -> Iterator[_Case]:
    weight = layer.weight.value
    yield from _pair(
        "conv2d",
        layer,
        x,
        dy,
        lambda: reference.conv2d(x, weight),
        lambda: [
            reference.conv2d_backward_input(dy, weight, x.shape),
            reference.conv2d_backward_filter(dy, x, weight.shape),
            reference.conv2d_backward_bias(dy),
        ],
    )


def _max_pooling(x: NDArray[np.float32], dy: NDArray[np.float32]) -> Iterator[_Case]:
    index = reference.max_pool2d(x, 2)[1]
    yield from _pair(
        "max_pool2d",
        MaxPool2d(2),
        x,
        dy,
        lambda: reference.max_pool2d(x, 2)[0],
        lambda: [reference.max_pool2d_backward(dy, index, x.shape)],
    )


def _average_pooling(x: NDArray[np.float32], dy: NDArray[np.float32]) -> Iterator[_Case]:
    yield from _pair(
        "avg_pool2d",
        AvgPool2d(2),
        x,
        dy,
        lambda: reference.avg_pool2d(x, 2),
        lambda: [reference.avg_pool2d_backward(dy, x.shape, 2)],
    )


def _rectifier(x: NDArray[np.float32], dy: NDArray[np.float32]) -> Iterator[_Case]:
    y = reference.relu(x)
    yield from _pair("relu", ReLU(), x, dy, lambda: reference.relu(x), lambda: [reference.relu_backward(dy, y)])


def _linear(layer: Linear, x: NDArray[np.float32], dy: NDArray[np.float32]) -> Iterator[_Case]:
    weight = layer.weight.value
    yield from _pair(
        "linear",
        layer,
        x,
        dy,
        lambda: reference.linear(x, weight),
        lambda: list(reference.linear_backward(dy, x, weight)),
    )


def _cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> _Case:
    loss, packed = CrossEntropyLoss(), blocks.pack(logits, blocks.empty(logits.shape, np.float32))
    return _Case(
        "cross entropy",
        lambda: loss.of_blocks(packed, labels),
        lambda: [blocks.unpack(loss.of_blocks(packed, labels).dy)],
        lambda: [reference.cross_entropy(logits, labels)[1]],
    )


def _step(
    name: str,
    optimizer: Optimizer,
    value: NDArray[np.float32],
    gradient: NDArray[np.float32],
    naive: Callable[[], np.ndarray],
) -> _Case:

    def groups(moved: NDArray[np.float32]) -> Together:
        memory = (np.zeros_like(moved) for _ in range(optimizer.slots))
        return Together([(*memory, gradient, moved)], [True], steps=1)

    def first() -> Arrays:
        fresh = value.copy()
        optimizer.update(groups(fresh), optimizer.lr, 1.0)
        return [fresh]

    many = groups(value.copy())
    return _Case(f"{name} step", lambda: optimizer.update(many, optimizer.lr, 1.0), first, lambda: [naive()])
