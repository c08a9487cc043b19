"""Ctrl-C and the wish to terminate, at any moment: the run is kept, goes on, and the exit code says what happened."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.reliability import training
from benchmarks.reliability.promise import Outcome, Promise

_MOMENTS = ("training", "training twice", "saving", "compiling", "starting", "ending")
_KINDS = (signal.SIGINT, signal.SIGTERM)


class Ended(NamedTuple):
    """How a run ended that got signals."""

    code: int
    said: str
    sent: list[float]
    """When signals had been sent to it, by ``time.monotonic``."""
    seen: training.Watched
    done: bool
    """Whether it left what a complete run does."""


def measure(seed: int, cases: int) -> Outcome:
    """Send signals to so many runs, go on with them, and compare what they leave with an unbroken run."""
    rng, failures, kept, resumed, most = np.random.default_rng(seed), [], 0, 0, 0
    codes: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = training.data(folder)
        words = [str(train), "--test", str(test), *training.LENET]
        batches = training.completed([*words, "--out", "unbroken"], folder)
        for case in range(cases):
            moment, number = _MOMENTS[case % len(_MOMENTS)], _KINDS[(case + case // len(_MOMENTS)) % 2]
            run, watch = folder / f"run-{case}", folder / "watch"
            watch.unlink(missing_ok=True)
            cache = {"FASTCONV_CACHE_DIR": str(folder / "cold")} if moment == "compiling" else {}
            every = ["--checkpoint-every", "0"] if moment == "saving" else []
            process = training.start([*words, *every, "--out", run.name], folder, watch, cache)
            ended = _interrupt(process, rng, moment, number, run, watch, batches)
            wrong, more = judge(ended, moment, number)
            codes[ended.code] += 1
            most = max(most, more)
            began = (run / "config.json").exists()
            kept += began
            if not wrong and began:
                wrong, went_on = _go_on(run, folder)
                resumed += went_on
            elif not wrong and run.exists():
                wrong = f"left {sorted(os.listdir(run))} without a run in it"
            if wrong:
                failures.append(f"case {case}, {signal.Signals(number).name} while {moment}: {wrong}")
            shutil.rmtree(run, ignore_errors=True)
            shutil.rmtree(folder / "cold", ignore_errors=True)
    figure = (
        f"{cases - len(failures)} of {cases} runs ended as promised, at most {most} batches after the signal: "
        f"{', '.join(f'{count} with {_ending(code)}' for code, count in sorted(codes.items(), reverse=True))}; {kept} "
        f"had begun, {resumed} went on and ended with the bytes of an unbroken run"
    )
    return Outcome(figure, failures)


def _ending(code: int) -> str:
    if code < 0:
        return f"{signal.Signals(-code).name} itself, before or after fastconv had it in hand"
    return f"exit code {code}" if code else "exit code 0, which had ended before the signal"


def _interrupt(
    process: "subprocess.Popen[str]",
    rng: np.random.Generator,
    moment: str,
    number: signal.Signals,
    run: Path,
    watch: Path,
    batches: int,
) -> Ended:
    """Send a signal, or two, at a moment."""
    if moment == "starting":
        training.wait_for(process, watch, 0)
        time.sleep(rng.uniform(0, 1.0))
    elif moment == "compiling":
        while process.poll() is None and not (run / "config.json").exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 3.0))
    elif moment == "ending":
        training.wait_for(process, watch, batches)
        time.sleep(rng.uniform(0, 0.3))
    else:
        training.wait_for(process, watch, int(rng.integers(1, batches)))
    if moment == "saving":
        while process.poll() is None and not training.is_writing(run):
            pass
    process.send_signal(number)
    sent = [time.monotonic()]
    if moment == "training twice" or rng.random() < 0.2:
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(number)
        sent.append(time.monotonic())
    code, said = training.finish(process)
    return Ended(code, said, sent, training.watched(watch), (run / "metrics.json").exists())


def judge(ended: Ended, moment: str, number: int) -> tuple[str, int]:
    """Return what is wrong with the end of a run, and how many batches began after the first signal."""
    code, said, sent, seen, done = ended
    handled = [seen.since <= each < seen.until for each in sent]
    if moment != "starting" and not seen.since <= sent[0]:
        return f"no handler of fastconv's; exit code {code}: {said[-500:]}", 0
    if handled[0] and seen.at_signal < 0:
        return f"fastconv's handler was not called; exit code {code}: {said[-500:]}", 0
    # Before fastconv has signals in hand, and after, a process ends by the signal itself, which is the same to a shell.
    by_itself = code == -number and not all(handled)
    had_ended = code == 0 and done and seen.until <= sent[0]
    if not (code == 128 + number or by_itself or had_ended):
        return f"exit code {code}: {said[-500:]}", 0
    if "Traceback" in said and not by_itself:
        return f"a traceback: {said[-500:]}", 0
    more = seen.trained - seen.at_signal if seen.at_signal >= 0 else 0
    return (f"{more} batches after the signal" if more > 1 else ""), more


def _go_on(run: Path, folder: Path) -> tuple[str, bool]:
    """Load what there is, go on, and compare; return what was wrong, and whether there was anything left to do."""
    from fastconv import io

    if (run / "model.safetensors").exists():
        io.load(run / "model.safetensors")
    code, said = training.finish(training.start(["--resume", run.name], folder))
    if code:
        return f"--resume: exit code {code}: {said[-500:]}", False
    wrong = training.differences(run, folder / "unbroken")
    return ", ".join(wrong), "which goes on" in said


PROMISE = Promise(
    "A run that is interrupted is kept, and says so",
    "SIGINT and SIGTERM at random moments of `fastconv train`, also twice: while it starts, compiles, trains, saves "
    "and ends. Exit code 130 or 143 whenever fastconv has signals in hand, which the process notes; the signal's own "
    "only before and after that, and 0 only if the run had ended. Training ends within one batch, what model there is "
    "loads, and `--resume` ends with the bytes of an unbroken run",
    measure,
    short=len(_MOMENTS),
    long=60,
)
