"""A process with limits: ``python -m benchmarks.reliability.limited LIMITS WHAT ...``.

LIMITS is JSON: ``root``, where /proc and /sys are to be read; ``group``, a control group to enter; ``cores`` to be
bound to; ``space``, bytes of address space beyond what there is when work begins.  WHAT is ``fastconv`` with words for
it, ``fit`` or ``predict`` with a number of images in a batch, or ``footprint``, which says what was estimated and what
was taken.
"""

import atexit
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.reliability import resident


def _enter(limits: dict[str, Any]) -> None:
    if "group" in limits:
        (Path(limits["group"]) / "cgroup.procs").write_text(str(os.getpid()))
    if "cores" in limits:
        os.sched_setaffinity(0, limits["cores"])


def _space(limits: dict[str, Any]) -> None:
    if "space" in limits:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + limits["space"]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _command(limits: dict[str, Any], words: list[str]) -> int:
    from fastconv import cli
    from fastconv_kernels import runtime

    _space(limits)
    code = cli.main(words)
    print(f"threads: {runtime.get_num_threads()}")
    if words == ["doctor"]:
        print(f"at work: {_at_work(runtime.get_num_threads())}")
    return code


def _at_work(expected: int) -> int:
    """Return how many of this process' threads work while a model predicts for half a second of processors' time.

    On a busy machine a thread may come too late for its tasks: so for longer, up to ten seconds, if fewer than expected
    did work.
    """
    import numpy as np

    import fastconv as fc

    model, x = fc.models.lenet5(), np.zeros((2048, 1, 28, 28), np.uint8)
    model.predict(x)  # compiled, or read from the cache
    before, began, at_work = _ticks(), time.process_time(), 0
    late = time.monotonic() + 10
    while time.process_time() - began < 0.5 or (at_work < expected and time.monotonic() < late):
        model.predict(x)
        at_work = sum(ticks > before.get(thread, 0) for thread, ticks in _ticks().items())
    return at_work


def _ticks() -> dict[str, int]:
    """Return the processors' time that each thread of this process has taken, in hundredths of a second."""
    found: dict[str, int] = {}
    for path in Path("/proc/self/task").glob("*/stat"):
        fields = path.read_text().rpartition(")")[2].split()
        found[path.parent.name] = int(fields[11]) + int(fields[12])
    return found


def _say_peak() -> None:
    """Print what was taken; the parent would count what it has itself, which a new process inherits for a moment."""
    print(f"peak: {resident.peak()}")


def _python(limits: dict[str, Any], what: str, batch: int) -> int:
    """Fit or predict; the exit code is 2 if that is refused."""
    import numpy as np

    import fastconv as fc

    model, x, y = fc.models.lenet5(), np.zeros((batch, 1, 28, 28), np.uint8), np.zeros(batch, np.int64)
    _space(limits)
    try:
        if what == "fit":
            model.fit(x, y, epochs=1, batch_size=batch, verbose=False)
        else:
            model.predict(x, batch_size=batch)
    except fc.NoRoomError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _footprint(what: str, name: str, batch: int) -> None:
    """Print what was estimated and what was taken, in bytes."""
    import numpy as np

    import fastconv as fc
    from fastconv import footprint
    from fastconv.training.evaluation import BATCH

    def made() -> tuple[fc.Sequential, tuple[int, ...]]:
        if name == "wide":
            return fc.Sequential(fc.Flatten(), fc.Linear(784, 6000), fc.ReLU(), fc.Linear(6000, 10)), (1, 28, 28)
        shape = (3, 32, 32) if name in ("resnet20", "mobilenet_small", "vgg_small") else (1, 28, 28)
        return fc.models.create_for(name, shape, 10), shape

    def images(n: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8), np.arange(n) % 10

    model, shape = made()
    made()[0].fit(*images(80, shape), epochs=1, batch_size=32, validation_split=0.2, optimizer="adam", verbose=False)
    x, y = images(batch, shape)
    held_out = images(BATCH, shape)
    before = resident.forget_peak()
    if what == "fit":
        adam = fc.Adam()
        needs = footprint.of_training(model, shape, batch, BATCH, batch, BATCH, adam.slots + 1)
        model.fit(x, y, epochs=1, batch_size=batch, optimizer=adam, validation_data=held_out, verbose=False)
    else:
        needs = {"all": footprint.of_batch(model, (batch, *shape)).forward + footprint.of_weights(model)}
        model.predict(x, batch_size=batch)
    print(json.dumps([sum(needs.values()), resident.peak() - before]))


def main() -> int:
    """Do what the command line says."""
    limits, what, *words = json.loads(sys.argv[1]), *sys.argv[2:]
    _enter(limits)
    if "root" in limits:
        from fastconv_kernels import limits as known

        known.ROOT = Path(limits["root"])
    atexit.register(_say_peak)
    if what == "fastconv":
        return _command(limits, words)
    if what == "footprint":
        _footprint(words[0], words[1], int(words[2]))
        return 0
    return _python(limits, what, int(words[0]))


if __name__ == "__main__":
    sys.exit(main())
