"""Time LeNet-5's training step by threads and by batch size, and a convolution by image size; print tables.

Run ``python -m benchmarks.scaling``; ``--write`` puts them into docs/benchmarks.md.  Every figure comes from a process
of its own; this one imports nothing big: on Linux a new process starts with its parent's peak memory as its own.
"""

import statistics
import sys
from collections.abc import Sequence

from benchmarks import machine, memory, processes

BATCH = 128
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SIZES = (8, 12, 16, 24, 32, 48, 64)
FLOPS = "from benchmarks import timed; print(timed.convolution_flops({size}))"


def seconds(work: str, size: int, budget: float, threads: int | None = None) -> float:
    """Return the median seconds of one run of a work of ``benchmarks.timed``, in a process with so many threads."""
    changes = {} if threads is None else {"FASTCONV_NUM_THREADS": str(threads)}
    answer = processes.run(["-m", "benchmarks.timed", work, str(size), "--seconds", str(budget)], changes=changes)
    return float(answer)


def by_threads(counts: Sequence[int], rounds: int, budget: float) -> dict[int, list[float]]:
    """Return LeNet-5's seconds a step at ``BATCH`` for each number of threads, one value a round, in turn."""
    times: dict[int, list[float]] = {count: [] for count in counts}
    for number in range(rounds):
        print(f"threads, round {number + 1} of {rounds} ...", file=sys.stderr)
        for count, found in times.items():
            found.append(seconds("lenet5", BATCH, budget, count))
    return times


def by_batch(sizes: Sequence[int], budget: float) -> dict[int, tuple[float, int | None]]:
    """Return LeNet-5's seconds a step and the peak memory in kilobytes, where the system tells it, for each batch."""
    found: dict[int, tuple[float, int | None]] = {}
    for size in sizes:
        print(f"batch {size} ...", file=sys.stderr)
        spent = seconds("lenet5", size, budget)
        # A second process: the first may have compiled kernels, which takes memory too.
        command = ["-m", "benchmarks.timed", "lenet5", str(size), "--seconds", "0"]
        found[size] = spent, memory.peak(command) if memory.TOLD else None
    return found


def by_image_size(sizes: Sequence[int], budget: float) -> dict[int, tuple[float, int]]:
    """Return the seconds and the additions and multiplications of the convolution for each image size."""
    found: dict[int, tuple[float, int]] = {}
    for size in sizes:
        print(f"image size {size} ...", file=sys.stderr)
        flops = int(processes.run(["-c", FLOPS.format(size=size)]))
        found[size] = seconds("convolution", size, budget), flops
    return found


def _threads_table(times: dict[int, list[float]]) -> str:
    alone = next(iter(times.values()))
    rows = []
    for count, found in times.items():
        speeds, ratios = [BATCH / each for each in found], [a / b for a, b in zip(alone, found, strict=True)]
        spread = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
        ratio = [f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"]
        rows.append([str(count), f"{statistics.median(speeds):,.0f}", spread, *ratio])
    return machine.table(["threads", "images/s", "range", f"times {next(iter(times))}", "range"], rows)


def _batch_table(found: dict[int, tuple[float, int | None]]) -> str:
    rows = []
    for size, (spent, kilobytes) in found.items():
        peak = machine.ABSENT if kilobytes is None else f"{kilobytes * 1024 / 1e6:.0f}"
        rows.append([str(size), f"{1e6 * spent:,.0f}", f"{1e6 * spent / size:,.1f}", f"{size / spent:,.0f}", peak])
    return machine.table(["batch", "step, us", "an image, us", "images/s", "peak memory, MB"], rows)


def _size_table(found: dict[int, tuple[float, int]]) -> str:
    rows = []
    for size, (spent, flops) in found.items():
        pixels = 1e9 * spent / (BATCH * size**2)
        rows.append([f"{size} x {size}", f"{1e3 * spent:,.2f}", f"{pixels:.1f}", f"{flops / spent / 1e9:,.0f}"])
    return machine.table(["image", "ms", "a pixel, ns", "GFLOP/s"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write them into the page if asked to."""
    parser = machine.parser("scaling", __doc__)
    every = sorted({1, min(2, machine.cores()), machine.cores()})
    parser.add_argument("--threads", type=int, nargs="+", default=every, help="how many (1, 2 and all cores)")
    parser.add_argument("--rounds", type=int, default=7, help="processes for each number of threads (7)")
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES, help="batch sizes (1 to 512)")
    parser.add_argument("--size", type=int, nargs="+", default=SIZES, help="image sizes (8 to 64)")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each process repeats its work (0.5)")
    options = parser.parse_args(arguments)

    threads = by_threads(options.threads, options.rounds, options.seconds)
    batches = by_batch(options.batch, options.seconds)
    sizes = by_image_size(options.size, options.seconds)
    block = f"""
**Threads**: LeNet-5's training step at batch {BATCH}, {options.rounds} rounds in turn.

{_threads_table(threads)}
**Batch size**: LeNet-5's training step on all cores, and the peak memory of a process that takes a few of them.

{_batch_table(batches)}
**Image size**: a 3x3 convolution of 16 to 16 channels, padding 1, batch {BATCH}: forward and all gradients.

{_size_table(sizes)}
{machine.describe()}.
"""
    machine.publish("scaling", block, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
