"""Work whose result is known to the bit: a small network that is trained and asked, in any thread or process."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np

import fastconv as fc
from benchmarks import processes

KINDS = 4
"""Kinds of networks: of the job numbers, the rest by this says which, and all of it which weights and images."""


def layers() -> list[str]:
    """Return the thread layers that there are here."""
    try:
        version("tbb")
    except PackageNotFoundError:
        return ["omp", "workqueue"]
    return ["tbb", "omp", "workqueue"]


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return some of the built-in digits, uint8[512, 1, 28, 28], and their labels."""
    found = fc.data.digits10k()
    return found.images[:512], found.labels[:512]


def network(number: int) -> fc.Sequential:
    """Return the network of a job."""
    kind = number % KINDS
    if kind == 0:
        return fc.models.lenet_seed(seed=number)
    if kind == 1:
        return fc.models.lenet5(seed=number)
    if kind == 2:
        return fc.Sequential(fc.Flatten(), fc.Linear(784, 32), fc.ReLU(), fc.Linear(32, 10), seed=number)
    first = [fc.Conv2d(1, 8, 3), fc.BatchNorm2d(8), fc.ReLU(), fc.MaxPool2d(2), fc.Dropout(0.3)]
    return fc.Sequential(*first, fc.Flatten(), fc.Linear(8 * 13 * 13, 10), seed=number)


class Job:
    """A network that is trained on some digits and asked about others, a call at a time.

    Parameters
    ----------
    number : int
        What everything follows from.
    """

    def __init__(self, number: int) -> None:
        self.model = network(number)
        self._optimizer = fc.SGD(0.01, momentum=0.9) if number % 2 else fc.Adam(0.001)
        self._rng = np.random.default_rng(number)
        self._seen = hashlib.sha256()

    def call(self) -> None:
        """Train a batch, or ask about one."""
        x, y = digits()
        chosen = self._rng.integers(0, len(x), self._rng.integers(1, 40))
        if self._rng.random() < 0.5:
            value = fc.train_step(self.model, fc.CrossEntropyLoss(), self._optimizer, x[chosen], y[chosen])
            self._seen.update(np.float64(value).tobytes())
        else:
            self._seen.update(self.model.predict_proba(x[chosen]).tobytes())

    def digest(self) -> str:
        """Return the SHA-256 of all results so far and of the weights."""
        whole = self._seen.copy()
        for array in self.model.state_dict().values():
            whole.update(array.tobytes())
        return whole.hexdigest()


def digest(number: int, calls: int = 6) -> str:
    """Do a new job of so many calls, and return its digest."""
    job = Job(number)
    for _ in range(calls):
        job.call()
    return job.digest()


def attempt(number: int) -> str:
    """Return the digest of a job, or the error of ours that names what cannot be done here, or what went wrong."""
    try:
        return digest(number)
    except RuntimeError as error:
        return named(error)


def named(error: RuntimeError) -> str:
    """Return an error that is ours and names a remedy as 'refused: ...'; raises what is not."""
    message = str(error)
    if message.startswith(("fastconv: ", "Sequential: ")) and "fork" in message:
        return f"refused: {message}"
    raise error


def run(module: str, words: Sequence[str], changes: Mapping[str, str], seconds: float) -> tuple[str, str]:
    """Run ``python -m MODULE WORDS`` in a fresh process, with whatever it starts, for so many seconds at most.

    Returns
    -------
    said : str
        The last line that it printed.
    wrong : str
        How it ended if not with exit code 0; else empty.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        env=processes.environment(changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, errors = process.communicate()
        return "", f"a hang, stopped after {seconds:g} s: {(out + errors)[-500:]}"
    said = (out.strip().splitlines() or [""])[-1]
    if process.returncode < 0:
        return said, f"ended by {signal.Signals(-process.returncode).name}: {errors[-500:]}"
    return said, f"exit code {process.returncode}: {errors[-1000:]}" if process.returncode else ""
