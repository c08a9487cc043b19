"""Training goes on as it began: memory, and the time of a step."""

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from benchmarks import processes
from benchmarks.reliability.promise import Outcome, Promise

_TENTHS = 10
_ROUND = 100
"""Steps between two rounds of predictions, of which the last ``_FITTED`` are those of a ``fit``."""
_FITTED = 40
_MEGABYTE = 1 << 20
_GROWN = 4
"""Megabytes that the memory of the process may grow by: what is free in it goes up and down by one."""
_SLOWER = 1.25
"""How much slower a later tenth may be, since the machine does other things, too."""


class Tenth(NamedTuple):
    """What a tenth of the run ended with."""

    resident: int
    """Bytes of memory."""
    blocks: int
    """Of Numba's runtime: allocations minus frees."""
    objects: int
    """Of Python, that its collector knows."""
    files: int
    threads: int
    step: float
    """Milliseconds: the quickest tenth of a tenth's steps took no longer."""


def measure(seed: int, cases: int) -> Outcome:
    """Take so many steps, in rounds of a hundred, with predictions between them."""
    rounds = max(cases // (_ROUND * _TENTHS), 1)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", __name__, str(rounds), str(seed)]
        environment = processes.environment()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        return Outcome("did not end", [f"exit code {done.returncode}: {done.stderr[-500:]}"])
    tenths = [Tenth(*found) for found in json.loads(done.stdout)]
    return judge(rounds * _ROUND * _TENTHS, tenths, timed=cases > PROMISE.short)


def judge(steps: int, tenths: list[Tenth], timed: bool) -> Outcome:
    """Return what became of so many steps, whose time counts where nothing else runs beside them: not in tests."""
    # The first tenth fills what is kept from then on: workspaces, scratch, caches.
    _, second, *_, last = tenths
    failures = [
        f"{name}: {', '.join(map(str, found))} after each tenth"
        for name, found in (
            ("blocks of Numba's runtime", [tenth.blocks for tenth in tenths]),
            ("objects of Python", [tenth.objects for tenth in tenths]),
            ("open files", [tenth.files for tenth in tenths]),
            ("threads", [tenth.threads for tenth in tenths]),
        )
        if found[-1] > found[1]
    ]
    grown = (last.resident - second.resident) / _MEGABYTE
    if grown > _GROWN:
        sizes = ", ".join(f"{tenth.resident / _MEGABYTE:.1f}" for tenth in tenths)
        failures.append(f"resident memory: {sizes} MB after each tenth")
    times = [tenth.step for tenth in tenths]
    # The middle of the last three: no program that ran for a moment beside it is taken for a slower step.
    slower = statistics.median(times[-3:]) / statistics.median(times[:3])
    if timed and slower > _SLOWER:
        failures.append(f"step time: {', '.join(f'{time:.3f}' for time in times)} ms in each tenth")
    figure = (
        f"{steps:,} steps: resident memory {second.resident / _MEGABYTE:.1f} MB after two tenths, "
        f"{last.resident / _MEGABYTE:.1f} MB at the end; {last.blocks - second.blocks} blocks of Numba's runtime, "
        f"{last.objects - second.objects} objects of Python and {last.files - second.files} open files more; a step "
        f"takes {slower:.2f} times as long in the last three tenths as in the first three"
    )
    return Outcome(figure, failures, [] if timed else ["the time of a step: only with more cases"])


# ------------------------------------------------------------------------------------------------------ in the process


def _main(rounds: str, seed: str) -> None:
    from numba.core.runtime import _nrt_python, rtsys

    import fastconv as fc
    from fastconv.data import digits10k

    _nrt_python.memsys_enable_stats()  # NUMBA_NRT_STATS would be a flag of the compiler, to the cache
    digits = digits10k()
    x, y = digits.images, digits.labels
    *layers, last = fc.models.lenet5(seed=int(seed)).layers
    model = fc.Sequential(*layers, fc.Dropout(0.3), last, seed=int(seed))
    loss, optimizer = fc.CrossEntropyLoss(), fc.SGD(1e-3, momentum=0.9)
    checkpoint, tenths = Path("checkpoint.safetensors"), []
    for _ in range(_TENTHS):
        times = []
        for number in range(int(rounds)):
            for step in range(_ROUND - _FITTED):
                n = (16, 16, 15, 1)[step % 4]
                start = (number * _ROUND + step) % 9000
                began = perf_counter()
                fc.train_step(model, loss, optimizer, x[start : start + n], y[start : start + n])
                if n == 16:
                    times.append(perf_counter() - began)
            model.fit(
                x[: 16 * _FITTED],
                y[: 16 * _FITTED],
                epochs=1,
                batch_size=16,
                optimizer=fc.SGD(1e-3),
                validation_data=(x[-40:], y[-40:]),
                augment="digits",
                seed=number,
                checkpoint=checkpoint if number % 20 == 0 else None,
                verbose=False,
            )
            checkpoint.unlink(missing_ok=True)
            model.predict(x[:100])
            model.predict_proba(x[number % 9000 :][:1])
            model.evaluate(x[-50:], y[-50:])
        gc.collect()
        stats = rtsys.get_allocation_stats()
        assert stats.mi_alloc, "nothing is counted"
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        files, threads = (len(os.listdir(f"/proc/self/{name}")) for name in ("fd", "task"))
        step = statistics.quantiles(times, n=10)[0] * 1e3
        blocks = stats.alloc - stats.free + stats.mi_alloc - stats.mi_free
        tenths.append(Tenth(resident, blocks, len(gc.get_objects()) - len(tenths), files, threads, step))
    print(json.dumps(tenths))


PROMISE = Promise(
    "Training goes on as it began",
    "steps of LeNet-5 with dropout on 1, 15 and 16 real digits, every hundred of them with a `fit` that augments, "
    "validates and keeps checkpoints, and with predictions. After each tenth of the run: resident memory (at most 4 MB "
    "more than after the second), allocations minus frees of Numba's runtime, Python's objects, open files and threads "
    "(no more), and the time of a step, which the quickest tenth of steps took no longer than (at most 1.25 times)",
    measure,
    short=2000,
    long=200_000,
)

if __name__ == "__main__":
    _main(*sys.argv[1:])
