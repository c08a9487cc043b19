"""Training that is killed at any moment, and goes on, ends with the same bytes."""

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.reliability import training
from benchmarks.reliability.promise import Outcome, Promise

_KILLS = 3
"""The most that a run suffers."""
_TRIES = 20
"""Of a run that ends before a kill left something to go on with: it is done again."""


def measure(seed: int, cases: int) -> Outcome:
    """Kill so many runs, each up to a few times, and compare what they leave with that of runs that were not."""
    rng, failures, kills, torn = np.random.default_rng(seed), [], 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = training.data(folder)
        kinds = {
            "lenet5": (str(train), "--test", str(test), *training.LENET),
            "everything": (str(train), "--test", str(test), *training.WHOLE),
            "ensemble": (str(train), "--test", str(test), *training.WHOLE, "--ensemble", "2", "--tta", "2"),
        }
        used = list(kinds)[:cases]
        batches = {kind: training.completed([*kinds[kind], "--out", kind], folder) for kind in used}
        for case in range(cases):
            kind = used[case % len(used)]
            # A checkpoint each batch, every few batches, or as seldom as by default.
            every = (["--checkpoint-every", "0"], ["--checkpoint-every", "0.02"], [])[(case + case // len(kinds)) % 3]
            run = folder / f"run-{case}"
            killed, caught = _until_done(rng, [*kinds[kind], *every, "--out", run.name], run, batches[kind])
            kills, torn = kills + killed, torn + caught
            wrong = training.differences(run, folder / kind)
            if wrong:
                failures.append(f"case {case}, {kind}, killed {killed} times: {', '.join(wrong)}")
            shutil.rmtree(run)
    equal = cases - len(failures)
    figure = (
        f"{equal} of {cases} runs equal to the byte after {kills} kills, at least one of each run, {torn} of them "
        "while a file was written"
    )
    return Outcome(figure, failures)


def _until_done(rng: np.random.Generator, words: list[str], run: Path, batches: int) -> tuple[int, int]:
    """Start a run, kill it, and go on until it is complete.

    Returns
    -------
    killed : int
        Kills, of which at least one left something to go on with.
    caught : int
        Those that left a file half done.
    """
    killed = caught = spared = 0
    allowed = int(rng.integers(1, _KILLS + 1))
    while True:
        begun = (run / "config.json").exists()
        if not begun and run.exists():  # killed before there was anything to go on with
            shutil.rmtree(run)
        watch = run.parent / "watch"
        watch.unlink(missing_ok=True)
        process = training.start(["--resume", run.name] if begun else words, run.parent, watch)
        if killed < allowed or not begun:
            _kill(process, rng, run, watch, batches)
        code, said = training.finish(process)
        if code == 0 and begun:
            return killed, caught
        if code == 0:
            spared += 1
            if spared == _TRIES:
                raise RuntimeError(f"{run}: ended {_TRIES} times before it was killed")
            shutil.rmtree(run)
            continue
        if code != -signal.SIGKILL:
            raise RuntimeError(f"{run}: exit code {code}\n{said}")
        killed += 1
        caught += training.is_writing(run)


def _kill(process: "subprocess.Popen[str]", rng: np.random.Generator, run: Path, watch: Path, batches: int) -> None:
    """Kill a process after some of its batches, or as soon as it then writes a file, or while it starts."""
    if rng.random() < 0.1:
        time.sleep(rng.uniform(0, 2))
    else:
        training.wait_for(process, watch, int(rng.integers(0, batches + 1)))
        if rng.random() < 0.5:
            while process.poll() is None and not training.is_writing(run):
                pass
        else:
            time.sleep(rng.uniform(0, 0.05))
    process.kill()


PROMISE = Promise(
    "Training that was killed goes on with the same bits",
    "`kill -9` at random moments of `fastconv train`, also within epochs and checkpoints, of each run at least once "
    "when there is something to go on with; `--resume`, as often as it takes; weights, results.csv, metrics.json and "
    "submission.csv compared with those of an unbroken run. LeNet-5, and a network with batch normalisation, dropout, "
    "augmentation, averaged weights, Adam, clipping and plateaus, alone and as an ensemble of two",
    measure,
    short=2,
    long=50,
)
