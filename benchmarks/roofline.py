"""Say where each microsecond of LeNet-5's training step goes: every kernel, and the least it could take; print a table.

Run ``python -m benchmarks.roofline``; ``--write`` puts the table into docs/benchmarks.md.  ``measure`` returns the same
as data.

A kernel's floor is the longer of two times: its additions and multiplications at the speed of ``benchmarks.peak``, and
its bytes, each array read or written once, at the speed of ``benchmarks.bandwidth`` for as many bytes.
"""

import statistics
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from time import perf_counter
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from numba.core.registry import CPUDispatcher

import fastconv as fc
from benchmarks import bandwidth, machine, peak, timed, timing

# ------------------------------------------------------------------------------------------------ what a kernel costs


class Cost(NamedTuple):
    """What a launch has to do at least."""

    flops: float
    bytes: float


def _bytes(*arrays: np.ndarray) -> int:
    return sum(array.nbytes for array in arrays)


def _twice(*arrays: np.ndarray) -> int:
    return 2 * _bytes(*arrays)  # read, changed and written


def _elements(tasks: np.ndarray) -> int:
    return int((tasks[:, 2] - tasks[:, 1]).sum())


# From the arguments of a launch; a kernel that is not here is listed with its time alone.  Products with padding's
# zeros count where the output is no larger than the input; additions of a bias, and comparisons, do not: they are few.
COSTS: dict[str, Callable[..., Cost]] = {
    "pack_pixels": lambda images, index, table, x, _: Cost(0, _bytes(images[0]) * len(index) + _bytes(index, table, x)),
    "pack_forward": lambda k, packed: Cost(0, _bytes(k, packed)),
    "pack_backward_input": lambda k, packed, *taps: Cost(0, _bytes(k, packed)),
    # Also the gradient to the input, where y is the larger image, and most of what lies around x is skipped.
    "conv2d_forward": lambda x, packed, bias, y, *rest: Cost(
        2 * min(y.size * packed.shape[2], x.size * y.shape[1] // packed.shape[0]) * prod(packed.shape[3:5]),
        _bytes(x, packed, bias, y),
    ),
    "conv2d_backward_filter": lambda dy, x, shares, *lines: Cost(
        2 * dy.size * prod(shares.shape[2:]), _bytes(dy, x, shares)
    ),
    "conv2d_backward_filter_rows": lambda dy, x, shares, *lines: Cost(
        2 * dy.size * prod(shares.shape[2:]), _bytes(dy, x, shares)
    ),
    "linear_forward": lambda x, w, bias, y, relu: Cost(2 * y.size * w.shape[1], _bytes(x, w, bias, y)),
    "linear_backward_input": lambda dy, w, dx: Cost(2 * dx.size * w.shape[0], _bytes(dy, w, dx)),
    "transpose_lanes": lambda x, xt: Cost(0, _bytes(x, xt)),
    "linear_backward_weight": lambda dy, xt, n, dw: Cost(2 * dw.size * n, _bytes(dy, xt, dw)),
    "bias_backward": lambda dy, y, relu, shares: Cost(
        0, _bytes(shares) + (_twice(dy) + _bytes(y) if relu else _bytes(dy))
    ),
    "sum_shares": lambda arrays, tasks, like, B: Cost(_elements(tasks) * B, _elements(tasks) * (B + 1) * like.itemsize),
    "max_pool2d_forward": lambda x, y, place, *geometry: Cost(0, _bytes(x, y, place)),
    "max_pool2d_backward": lambda dy, place, y, dx, *rest: Cost(0, _bytes(dy, place, y, dx)),
    "cross_entropy": lambda z, labels, smoothing, weights, divisor, *out: Cost(0, _bytes(z, labels, weights, *out)),
    "sgd": lambda arrays, tasks, like, *numbers: Cost(6 * _elements(tasks), 5 * _elements(tasks) * like.itemsize),
}


def training_flops(model: fc.Sequential, shape: tuple[int, ...]) -> int:
    """Return the additions and multiplications of a step; the first layer has no gradient to its input."""
    total, times = 0, 2
    for layer in model.layers:
        shape = layer.output_shape(shape)
        if isinstance(layer, fc.Conv2d | fc.Linear):
            total += times * 2 * layer.weight.size * prod(shape) // shape[1]
            times = 3
    return total


# --------------------------------------------------------------------------------------------------- watching a step


class Seen(NamedTuple):
    """A launch that was watched."""

    kernel: str
    arguments: tuple[Any, ...]
    seconds: float


@contextmanager
def watched(launches: list[Seen]) -> Generator[None, None, None]:
    """Add every compiled function that Python calls inside the context to ``launches``.

    It looks at Numba's dispatchers rather than at fastconv's launches, so that kernels without threads are seen too,
    and that fastconv pays nothing for the possibility.
    """
    call = CPUDispatcher.__call__

    def watch(dispatcher: CPUDispatcher, *arguments: Any) -> Any:
        began = perf_counter()
        result = call(dispatcher, *arguments)
        seconds = perf_counter() - began
        own = arguments[1:] if isinstance(arguments[0], int) else arguments  # a crew's size comes first
        launches.append(Seen(dispatcher.__name__, own, seconds))
        return result

    with patch.object(CPUDispatcher, "__call__", watch):
        yield


@dataclass
class Launch:
    """One kernel's place in the step.

    Attributes
    ----------
    kernel : str
    writes : tuple of int
        Shape of the last array that it is given, which is what it writes.
    cost : Cost or None
        None for a kernel that ``COSTS`` does not know.
    floor : float
        The least seconds that cost can take on this machine; 0 without one.
    by_arithmetic : bool
        Whether arithmetic sets the floor, rather than memory.
    times : list of float
        Seconds, one value a step.
    """

    kernel: str
    writes: tuple[int, ...]
    cost: Cost | None
    floor: float = 0.0
    by_arithmetic: bool = False
    times: list[float] = field(default_factory=list[float])

    @property
    def seconds(self) -> float:
        """The median time."""
        return statistics.median(self.times)


@dataclass
class Roofline:
    """A step's launches in order, and what the machine can do.

    Attributes
    ----------
    batch : int
    step : float
        Median seconds of a step that is not watched.
    launches : list of Launch
    flops : int
        Additions and multiplications of a step.
    peak : float
        The most of them in a second.
    speeds : dict of int to float
        Bytes a second by how many are moved.
    """

    batch: int
    step: float
    launches: list[Launch]
    flops: int
    peak: float
    speeds: dict[int, float]

    @property
    def kernels(self) -> float:
        """Seconds in kernels."""
        return sum(launch.seconds for launch in self.launches)

    @property
    def floor(self) -> float:
        """Seconds that the kernels would take if each ran at its floor."""
        return sum(launch.floor for launch in self.launches)

    @property
    def arithmetic(self) -> float:
        """Seconds that the arithmetic alone would take."""
        return self.flops / self.peak


def _launch(seen: Seen, most: float, speeds: dict[int, float]) -> Launch:
    arrays = [each for each in seen.arguments if isinstance(each, np.ndarray)]
    count = COSTS.get(seen.kernel)
    launch = Launch(seen.kernel, arrays[-1].shape if arrays else (), count(*seen.arguments) if count else None)
    if launch.cost:
        by_arithmetic = launch.cost.flops / most
        by_memory = launch.cost.bytes / bandwidth.fastest(speeds, launch.cost.bytes)
        launch.floor, launch.by_arithmetic = max(by_arithmetic, by_memory), by_arithmetic > by_memory
    return launch


def measure(batch: int = 128, seconds: float = 3.0) -> Roofline:
    """Watch LeNet-5's training step for so many seconds, every other step; the others say how long a step takes.

    Raises
    ------
    RuntimeError
        If no kernel was seen, as in the interpreter (NUMBA_DISABLE_JIT), or not the same kernels in all steps.
    """
    most, speeds = peak.flops_per_second(budget=seconds / 10), bandwidth.bytes_per_second(seconds / 30)
    step = timed.lenet5_step(batch)
    for _ in range(3):
        step()
    launches, steps = [], []
    end = perf_counter() + seconds
    while len(steps) < 5 or perf_counter() < end:
        steps.append(timing.once(step))
        seen: list[Seen] = []
        with watched(seen):
            step()
        launches = launches or [_launch(each, most, speeds) for each in seen]
        if not seen or [each.kernel for each in seen] != [each.kernel for each in launches]:
            raise RuntimeError(f"expected the same kernels in every step, got {[each.kernel for each in seen]}")
        for launch, each in zip(launches, seen, strict=True):
            launch.times.append(each.seconds)
    flops = training_flops(fc.models.lenet5(), (batch, 1, 28, 28))
    return Roofline(batch, statistics.median(steps), launches, flops, most, speeds)


# ----------------------------------------------------------------------------------------------------------- printing


def _row(launch: Launch) -> list[str]:
    writes, time = " x ".join(map(str, launch.writes)), f"{1e6 * launch.seconds:,.1f}"
    if launch.cost is None:
        return [launch.kernel, writes, machine.ABSENT, time, *[machine.ABSENT] * 4]
    limit = "arithmetic" if launch.by_arithmetic else "memory"
    work = [f"{launch.cost.flops / 1e6:,.2f}", f"{launch.cost.bytes / 1e6:,.3f}"]
    floor = [f"{1e6 * launch.floor:,.1f}", f"{launch.floor / launch.seconds:.0%}"]
    return [launch.kernel, writes, limit, time, *work, *floor]


def _total(name: str, seconds: float, floor: float | None = None) -> list[str]:
    least = [machine.ABSENT] * 2 if floor is None else [f"{1e6 * floor:,.1f}", f"{floor / seconds:.0%}"]
    return [name, "", "", f"{1e6 * seconds:,.1f}", "", "", *least]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it into the page if asked to."""
    parser = machine.parser("roofline", __doc__)
    parser.add_argument("--batch", type=int, default=128, help="images in a step (128)")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to repeat it (3)")
    options = parser.parse_args(arguments)

    found = measure(options.batch, options.seconds)
    header = ["kernel", "writes", "limit", "us", "MFLOP", "MB", "floor, us", "floor / us"]
    rows = [
        *map(_row, found.launches),
        _total("all kernels", found.kernels, found.floor),
        _total("Python, and between the kernels", found.step - found.kernels),
        _total("the step", found.step, found.floor),
        _total("the step, its arithmetic alone", found.step, found.arithmetic),
    ]
    moved = ", ".join(f"{size >> 10:,} KiB {speed / 1e9:,.0f}" for size, speed in found.speeds.items())
    block = f"""
{machine.table(header, rows, texts=3)}
LeNet-5, batch {found.batch}, {fc.get_num_threads()} threads; medians of {len(found.launches[0].times)} steps,
the step's own of as many that were not watched. A step has {found.flops / found.batch / 1e6:.3f} MFLOP an image. The
machine does {found.peak / 1e9:,.0f} GFLOP/s at most, and reads and writes, in GB/s, by how many bytes:
{moved}.
{machine.describe()}.
"""
    machine.publish("roofline", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
