"""Ctrl-C and the wish to terminate, at any moment: the run is kept, goes on, and the exit code says what happened."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.reliability import training
from benchmarks.reliability.promise import Outcome, Promise

_MOMENTS = ("training", "training twice", "saving", "compiling", "starting", "ending")
_KINDS = (signal.SIGINT, signal.SIGTERM)


def measure(seed: int, cases: int) -> Outcome:
    """Send signals to so many runs, go on with them, and compare what they leave with an unbroken run."""
    rng, failures, kept, resumed, most = np.random.default_rng(seed), [], 0, 0, 0
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
            wrong, more = _interrupt(process, rng, moment, number, run, watch, batches)
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
        f"{cases - len(failures)} of {cases} runs ended as promised, at most {most} batches after the signal; {kept} "
        f"had begun, {resumed} went on and ended with the bytes of an unbroken run"
    )
    return Outcome(figure, failures)


def _interrupt(
    process: "subprocess.Popen[str]",
    rng: np.random.Generator,
    moment: str,
    number: signal.Signals,
    run: Path,
    watch: Path,
    batches: int,
) -> tuple[str, int]:
    """Send a signal, or two, at a moment; return what was wrong, and how many batches began after the first."""
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
    if moment == "training twice" or rng.random() < 0.2:
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(number)
    code, said = training.finish(process)
    # A process that ends by the signal itself, before or after fastconv had it in hand, is that to a shell, too.
    if code not in (128 + number, -number) and not (code == 0 and (run / "metrics.json").exists()):
        return f"exit code {code}: {said[-500:]}", 0
    if "Traceback" in said and code != -number:
        return f"a traceback: {said[-500:]}", 0
    trained, at_signal = training.counts(watch)
    more = trained - at_signal if at_signal >= 0 else 0
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
    "and ends. Exit code 130 or 143, training ends within one batch, the model loads, and `--resume` ends with the "
    "bytes of an unbroken run",
    measure,
    short=2,
    long=60,
)
