"""Processes started in every way that Python has, before and after kernels ran, under each thread layer."""

import importlib
import importlib.util
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np

import fastconv as fc
from benchmarks.reliability import jobs
from benchmarks.reliability.promise import Outcome, Promise

_STARTS = ("fork", "spawn", "forkserver")
_MODELS = (0, 1)  # numbers of the jobs that are done in other processes
_BUSY = 11  # that of what other threads do meanwhile
_FORKS = 12
_SECONDS, _AT_ONCE = 120, 3


def measure(seed: int, cases: int) -> Outcome:
    """Try so many of the ways, drawn from the seed, or all if there are no more; each in a fresh process."""
    ways = list(_WAYS)
    notes: list[str] = []
    if importlib.util.find_spec("joblib") is None:
        ways = [way for way in ways if not way.startswith("joblib")]
        notes.append("joblib, which is not installed")
    notes.append("a fork while another library's OpenMP or tbb threads are at work")
    everything = list(product(ways, ("before", "after"), jobs.layers()))
    order = np.random.default_rng(seed).permutation(len(everything))
    drawn = [everything[number] for number in order[:cases]]
    failures: list[str] = []
    worked = refused = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(_AT_ONCE) as pool:
        runs = [pool.submit(_run, case, seed, os.path.join(folder, str(n))) for n, case in enumerate(drawn)]
        for (way, when, layer), run in zip(drawn, runs, strict=True):
            said, wrong = run.result()
            found = {"wrong": [wrong], "worked": 0, "refused": 0} if wrong else json.loads(said)
            failures += [f"{way}, {when} kernels ran, {layer}: {what}" for what in found["wrong"]]
            worked, refused = worked + found["worked"], refused + found["refused"]
    figure = (
        f"{len(drawn)} of {len(everything)} combinations of way, moment and layer; {worked} children gave the bits of "
        f"their parent, {refused} rejected with a clear error: {len(failures)} hangs, signals or other bits"
    )
    return Outcome(figure, failures, notes)


def _run(case: tuple[str, str, str], seed: int, cold: str) -> tuple[str, str]:
    way, _, layer = case
    changes = {"NUMBA_THREADING_LAYER": layer}
    if "compiles" in way:
        changes["FASTCONV_CACHE_DIR"] = cold
    return jobs.run(__name__, [*case, str(seed)], changes, _SECONDS)


def may_refuse(way: str, when: str, layer: str) -> set[str]:
    """Return what the errors of ours that may be met say; where there is none, every child must work."""
    found: set[str] = set()
    if way == "os.fork while another trains the model":
        found.add("half a step")
    if layer == "omp" and (way in _LAUNCHED_FIRST or (when == "after" and way in _COPIES)):
        found.add("OpenMP thread layer")
    return found


def judge(case: tuple[str, str, str], said: list[str], right: set[str]) -> dict[str, Any]:
    """Return what was wrong of what children and parent said, and how many worked or were refused."""
    refused = [what for what in said if what.startswith("refused: ")]
    allowed = may_refuse(*case)
    known = [what for what in refused if any(piece in what for piece in allowed)]
    wrong = sorted(set(said) - right - set(known)) or ([] if said else ["no child said anything"])
    return {"wrong": wrong, "worked": sum(what in right for what in said), "refused": len(known)}


# ------------------------------------------------------------------------------------------------------- in the child


def _forked(work: Callable[[], list[str]], ends: str = "_exit", seconds: int = 30) -> list[str]:
    """Return what ``work`` says in a forked child, and how that ended if not well."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        code = 1
        try:
            os.write(writing, json.dumps(work()).encode())
            code = 0
        except BaseException as error:
            os.write(writing, json.dumps([f"{type(error).__name__}: {error}"]).encode())
        finally:
            if ends == "_exit" or code:
                os._exit(code)
        sys.exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return ["a hang" if -code == signal.SIGALRM else f"ended by {signal.Signals(-code).name}"]
    return json.loads(said or b"[]") + ([f"exit code {code}"] if code else [])


def _attempts() -> list[str]:
    return [jobs.attempt(number) for number in _MODELS]


def _fork() -> list[str]:
    return _forked(_attempts)


def _fork_that_exits() -> list[str]:
    """Let the child end as programs do, with what they do at their end."""
    return _forked(_attempts, ends="exit")


def _fork_of_a_fork() -> list[str]:
    return _forked(lambda: [*_attempts(), *_forked(_attempts)])


def _fork_with_one_thread() -> list[str]:
    """Which needs no pool, and works under every layer."""

    def alone() -> list[str]:
        fc.set_num_threads(1)
        return [jobs.digest(number) for number in _MODELS]

    return _forked(alone)


@contextmanager
def _meanwhile(work: Callable[[], object], threads: int = 1) -> Iterator[None]:
    """Let other threads repeat some work."""
    stop, errors = threading.Event(), []

    def repeat() -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=repeat) for _ in range(threads)]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in started:
            thread.join()
    if errors:
        raise errors[0]


def _forks(work: Callable[[], list[str]], seed: int) -> list[str]:
    """Fork at random moments."""
    rng, said = np.random.default_rng(seed), []
    for _ in range(_FORKS):
        time.sleep(rng.uniform(0, 0.01))
        said += _forked(work)
    return said


def _while_others_compute(seed: int) -> list[str]:
    with _meanwhile(lambda: jobs.digest(_BUSY), threads=2):
        return _forks(_attempts, seed)


def _while_others_import(seed: int) -> list[str]:
    """Another thread imports slow modules, which the child imports, too."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"slow_to_import_{number}" for number in range(3)]
        for name in names:
            Path(folder, f"{name}.py").write_text("import time\ntime.sleep(0.02)\n", encoding="utf-8")
        sys.path.insert(0, folder)
        importlib.invalidate_caches()

        def imports() -> None:
            for name in names:
                sys.modules.pop(name, None)
                importlib.import_module(name)
                time.sleep(0.02)  # a fork waits for a moment without imports

        def ask() -> list[str]:
            for name in names:
                importlib.import_module(name)
            return _attempts()

        with _meanwhile(imports):
            return _forks(ask, seed)


def _while_others_ask(seed: int) -> list[str]:
    """Other threads ask the model that the child asks, too."""
    x, job = jobs.digits()[0][:64], jobs.Job(0)
    expected = job.model.predict_proba(x)

    def ask() -> list[str]:
        try:
            return ["right" if np.array_equal(job.model.predict_proba(x), expected) else "other bits"]
        except RuntimeError as error:
            return [jobs.named(error)]

    with _meanwhile(ask, threads=2):
        return _forks(ask, seed)


def _while_others_train(seed: int) -> list[str]:
    """Another thread trains the model that the child uses: a step is whole there, or refused."""
    x, y = jobs.digits()
    model, optimizer = jobs.network(0), fc.SGD(0.01)

    def train() -> None:
        fc.train_step(model, fc.CrossEntropyLoss(), optimizer, x[:64], y[:64])

    def ask() -> list[str]:
        same = jobs.network(0)
        same.load_state_dict(model.state_dict())
        try:
            found = model.predict_proba(x[:64])
            return ["right" if np.array_equal(found, same.predict_proba(x[:64])) else "other bits"]
        except RuntimeError as error:
            return [jobs.named(error)]

    train()
    with _meanwhile(train):
        said = _forks(ask, seed)
        with model.lock:  # the remedy that the error names
            held = _forked(ask)
    return said + ["refused although model.lock was held" if "half a step" in what else what for what in held]


def _while_another_compiles(seed: int) -> list[str]:
    """With an empty cache."""
    del seed
    done = threading.Event()
    thread = threading.Thread(target=lambda: (jobs.digest(2, 3), done.set()))
    thread.start()
    said: list[str] = []
    while not done.is_set() and len(said) < 4:
        time.sleep(0.3)
        said += _forked(lambda: [jobs.attempt(2)], seconds=60)
    thread.join()
    return said or _forked(lambda: [jobs.attempt(2)])


def _process(start: str) -> list[str]:
    context = multiprocessing.get_context(start)
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(writing,))
    process.start()
    writing.close()
    said = reading.recv()
    process.join()
    return said if process.exitcode == 0 else [f"exit code {process.exitcode}"]


def _send(pipe: Any) -> None:
    pipe.send(_attempts())


def _pool(start: str) -> list[str]:
    with multiprocessing.get_context(start).Pool(2) as pool:
        return pool.map(jobs.attempt, _MODELS * 2)


def _executor(start: str) -> list[str]:
    return _mapped(ProcessPoolExecutor(2, multiprocessing.get_context(start)))


def _mapped(pool: Executor) -> list[str]:
    with pool:
        return list(pool.map(jobs.attempt, _MODELS * 2))


def _thread_pool() -> list[str]:
    with ThreadPool(4) as pool:
        return pool.map(jobs.attempt, _MODELS * 2)


def _joblib(backend: str) -> list[str]:
    joblib: Any = importlib.import_module("joblib")
    return joblib.Parallel(2, backend=backend)(joblib.delayed(jobs.attempt)(number) for number in _MODELS * 2)


def _load(number: int) -> np.ndarray:
    """Do what a loader does: return some digits, each turned by a quarter."""
    return np.ascontiguousarray(np.rot90(jobs.digits()[0][number::8], axes=(2, 3)))


def _augment(number: int) -> np.ndarray | str:
    """Do it with kernels of ours."""
    try:
        return fc.augment.Augment(rotate=10).apply(jobs.digits()[0], np.arange(number, 512, 8), epoch=1)
    except RuntimeError as error:
        return jobs.named(error)


def _loader(start: str, load: Callable[[int], Any]) -> list[str]:
    """Workers load while the parent trains."""
    said: list[str] = []
    with multiprocessing.get_context(start).Pool(2) as pool:
        loaded = pool.imap(load, range(8))
        said.append(jobs.digest(0))
        for number, found in enumerate(loaded):
            said.append(jobs.digest(1))
            if isinstance(found, str):
                said.append(found)
            else:
                said.append("right" if np.array_equal(found, load(number)) else "other images")
    return said


def _sent(start: str) -> list[str]:
    """Send a model to a process, from which it comes back trained."""
    model = jobs.network(0)
    with multiprocessing.get_context(start).Pool(1) as pool:
        found = pool.apply(_trained, (model,))
    if isinstance(found, str):
        return [found]
    here = _trained(model)
    assert isinstance(here, fc.Sequential)
    same = all(np.array_equal(array, here.state_dict()[name]) for name, array in found.state_dict().items())
    return ["right" if same else "other bits"]


def _trained(model: fc.Sequential) -> fc.Sequential | str:
    x, y = jobs.digits()
    try:
        fc.train_step(model, fc.CrossEntropyLoss(), fc.SGD(0.1), x[:48], y[:48])
    except RuntimeError as error:
        return jobs.named(error)
    return model


_WAYS: dict[str, Callable[[int], list[str]]] = {
    "os.fork": lambda seed: _fork(),
    "os.fork and sys.exit": lambda seed: _fork_that_exits(),
    "os.fork in a fork": lambda seed: _fork_of_a_fork(),
    "os.fork and one thread": lambda seed: _fork_with_one_thread(),
    "os.fork while others import": _while_others_import,
    "os.fork while others compute": _while_others_compute,
    "os.fork while others ask the model": _while_others_ask,
    "os.fork while another trains the model": _while_others_train,
    "os.fork while another compiles": _while_another_compiles,
    "concurrent.futures threads": lambda seed: _mapped(ThreadPoolExecutor(4)),
    "multiprocessing threads": lambda seed: _thread_pool(),
}
for _start in _STARTS:
    _WAYS |= {
        f"multiprocessing.Process by {_start}": lambda seed, start=_start: _process(start),
        f"multiprocessing.Pool by {_start}": lambda seed, start=_start: _pool(start),
        f"concurrent.futures by {_start}": lambda seed, start=_start: _executor(start),
        f"loaders by {_start}": lambda seed, start=_start: _loader(start, _load),
        f"loaders that augment by {_start}": lambda seed, start=_start: _loader(start, _augment),
        f"a model sent by {_start}": lambda seed, start=_start: _sent(start),
    }
for _backend in ("loky", "threading", "multiprocessing"):
    _WAYS[f"joblib {_backend}"] = lambda seed, backend=_backend: _joblib(backend)


_COPIES = {
    "os.fork",
    "os.fork and sys.exit",
    "os.fork while others import",
    "multiprocessing.Process by fork",
    "multiprocessing.Pool by fork",
    "concurrent.futures by fork",
    "loaders that augment by fork",
    "a model sent by fork",
    "joblib multiprocessing",
}
"""Ways that launch kernels, with several threads, in copies of the process, which itself may have run some before."""
_LAUNCHED_FIRST = {
    "os.fork in a fork",
    "os.fork while others compute",
    "os.fork while others ask the model",
    "os.fork while another trains the model",
    "os.fork while another compiles",
}
"""Ways that launch kernels themselves before they fork."""


def _main(way: str, when: str, layer: str, seed: int) -> None:
    fc.set_num_threads(2)
    if when == "after":
        jobs.digest(0)
    said = _WAYS[way](seed)
    right = {"right", *(jobs.digest(number) for number in (*_MODELS, 2))}  # the parent still works, too
    print(json.dumps(judge((way, when, layer), said, right)))


PROMISE = Promise(
    "A process started in any way works, or says why not",
    "os.fork, also in a fork, and while other threads import, compute, compile, ask or train the model in question; "
    "multiprocessing and concurrent.futures by fork, spawn and forkserver; joblib; pools that load images while their "
    "parent trains; a model that is sent. Before and after kernels ran, under each thread layer. Children and parent "
    "give the same bits. An error that names the remedy is right only in a copy of a process that ran kernels under "
    "OpenMP, and about a model in the middle of a step; none hangs or ends by a signal",
    measure,
    short=3,
    long=2 * 3 * len(_WAYS),
)

if __name__ == "__main__":
    _main(*sys.argv[1:4], int(sys.argv[4]))
