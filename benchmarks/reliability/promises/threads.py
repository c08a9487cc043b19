"""Eight Python threads at once, on different models and on one, under each thread layer."""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

import fastconv as fc
from benchmarks.reliability import jobs
from benchmarks.reliability.promise import Outcome, Promise

_THREADS = 8
_MAIN, _DYING = 50, 100  # numbers of the jobs of the main thread, and of the threads that die
_SECONDS = 400
_DISTURBED = 60
"""Seconds after the threads' work within which each kind of disturbance must have come about once."""


def measure(seed: int, cases: int) -> Outcome:
    """Make so many calls under each layer, in a fresh process; end another one while its threads work."""
    failures: list[str] = []
    latencies: list[str] = []
    calls = errors = deaths = interrupts = done = 0
    for layer in jobs.layers():
        changes = {"NUMBA_THREADING_LAYER": layer}
        said, wrong = jobs.run(__name__, ["crowd", str(seed), str(cases)], changes, _SECONDS)
        if wrong:
            failures.append(f"{layer}: {wrong}")
        else:
            found = json.loads(said)
            failures += [f"{layer}: {what}" for what in found["wrong"]]
            calls, errors = calls + found["calls"], errors + found["errors"]
            deaths, interrupts = deaths + found["deaths"], interrupts + found["interrupts"]
            done += found["done"]
            ratio = found["p99"] / found["median"]
            latencies.append(f"{layer} {found['p99']:.1f} ms ({ratio:.1f} times the median)")
        said, wrong = jobs.run(__name__, ["end", str(seed), "0"], changes, 60)
        if not wrong.startswith("ended by SIGINT") or "KeyboardInterrupt" not in wrong:
            failures.append(f"{layer}, Ctrl-C while daemon threads train: expected the end by SIGINT, got {wrong!r}")
    figure = (
        f"{calls:,} calls, {errors:,} errors, {deaths:,} threads that died, {interrupts:,} interrupts of the main "
        f"thread, {done:,} of its jobs that ended nevertheless, each under each layer: {len(failures)} aborts, hangs "
        f"or other bits; p99 of a call to a model that {_THREADS} threads share: {', '.join(latencies)}"
    )
    not_tried = [
        "Ctrl-C in the middle of an import, which may leave Python's lock of imports held",
        "an exception thrown into a thread that is starting another one, which CPython may hand to that one instead",
    ]
    return Outcome(figure, failures, not_tried)


# ------------------------------------------------------------------------------------------------------- in the child


class _Crowd:
    """Threads at work, and what was found wrong."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.wrong: list[str] = []
        self.errors = self.deaths = self.interrupts = self.calls = self.done = 0
        self._armed = False
        self._stop = threading.Event()

    # ---------------------------------------------------------------------------------------------- different models

    def different(self, calls: int) -> None:
        """Do a job on each thread, first from a cold start, then while others disturb; then each again alone."""
        done: dict[int, str] = {}

        def work(number: int, calls: int) -> None:
            done[number] = jobs.digest(number, calls)

        def start(calls: int) -> list[threading.Thread]:
            return [self._start(lambda number=number: work(number, calls)) for number in range(_THREADS)]

        for worker in start(1):
            worker.join()
        jobs.digest(_MAIN)
        # Until nothing is left to compile, for that starts a thread, and in the middle of that CPython may hand what is
        # thrown into a thread to the one that it starts; who then waits for it waits for ever.
        for kind in range(jobs.KINDS):
            jobs.digest(_DYING + kind, 40)
        with self._disturbed():
            workers = start(calls // _THREADS)
            mine = self._interrupted_until(lambda: not any(worker.is_alive() for worker in workers))
            last = time.monotonic() + _DISTURBED
            mine |= self._interrupted_until(lambda: not self._missing() or time.monotonic() > last)
        self.wrong += [f"no {what} in {_DISTURBED} s" for what in self._missing()]
        self.calls += _THREADS * (calls // _THREADS)

        fc.set_num_threads(1)
        for number in range(_THREADS):
            if done.get(number) != jobs.digest(number, calls // _THREADS):
                self.wrong.append(f"job {number} has other bits than alone")
        if mine - {jobs.digest(_MAIN)}:
            self.wrong.append("a job of the main thread has other bits than alone")

    def _missing(self) -> list[str]:
        """Return the kinds of disturbance that have not come about yet."""
        counts = {
            "error": self.errors,
            "death of a thread": self.deaths,
            "interrupt of the main thread": self.interrupts,
            "end of a job of the main thread": self.done,
        }
        return [what for what, count in counts.items() if not count]

    def _start(self, work: Callable[[], None]) -> threading.Thread:
        def noted() -> None:
            try:
                work()
            except BaseException as error:
                self.wrong.append(f"{type(error).__name__}: {str(error)[:300]}")

        thread = threading.Thread(target=noted)
        thread.start()
        return thread

    @contextmanager
    def _disturbed(self) -> Iterator[None]:
        self._stop.clear()
        signal.signal(signal.SIGINT, self._interrupt)
        disturbers = (self._change_threads, self._change_threads, self._err, self._die, self._send_interrupts)
        threads = [self._start(disturb) for disturb in disturbers]
        yield
        self._stop.set()
        for thread in threads:
            thread.join()

    def _change_threads(self) -> None:
        rng = np.random.default_rng((1, self._seed))
        while not self._stop.wait(0.001):
            fc.set_num_threads(int(rng.integers(1, 5)))

    def _err(self) -> None:
        """Make calls that must fail, and one that must not."""
        x = jobs.digits()[0]
        model, optimizer, loss = jobs.network(0), fc.SGD(0.01), fc.CrossEntropyLoss()
        before = model.predict_proba(x[:9])

        def fails_within() -> None:
            with model.lock:
                model.run_batch(x[:5], training=True)
                raise ZeroDivisionError

        def train(images: np.ndarray, labels: np.ndarray) -> None:
            fc.train_step(model, loss, optimizer, images, labels)

        errors: list[tuple[type[Exception], Callable[[], object]]] = [
            (fc.ShapeError, lambda: model.predict(x[:3, :, :5, :5])),
            (ValueError, lambda: train(x[:3], np.array([0, 1, 10]))),
            (TypeError, lambda: model.predict("digits")),  # pyright: ignore
            (ValueError, lambda: fc.set_num_threads(0)),
            (ZeroDivisionError, fails_within),
        ]
        while not self._stop.wait(0.005):
            for expected, call in errors:
                try:
                    call()
                    self.wrong.append(f"expected {expected.__name__}, got a result")
                except expected:
                    self.errors += 1
            if not np.array_equal(model.predict_proba(x[:9]), before):
                self.wrong.append("after an error, other bits")

    def _die(self) -> None:
        """Start threads, kill each in the middle of its job, and use its model."""
        x, rng = jobs.digits()[0], np.random.default_rng((2, self._seed))
        while not self._stop.is_set():
            number = _DYING + int(rng.integers(jobs.KINDS))
            job = jobs.Job(number)
            thread = threading.Thread(target=_work_for_ever, args=(job,))
            thread.start()
            time.sleep(rng.uniform(0, 0.05))
            while thread.is_alive():
                assert thread.ident is not None
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
                thread.join(0.2)
            self.deaths += 1
            same = jobs.network(number)
            same.load_state_dict(job.model.state_dict())
            if not np.array_equal(same.predict_proba(x[:17]), job.model.predict_proba(x[:17])):
                self.wrong.append(f"job {number}: after its thread died, other bits")

    def _send_interrupts(self) -> None:
        rng = np.random.default_rng((3, self._seed))
        while not self._stop.wait(rng.uniform(0, 0.1)):
            os.kill(os.getpid(), signal.SIGINT)

    def _interrupt(self, *_: object) -> None:
        if self._armed:
            self._armed = False
            raise KeyboardInterrupt

    def _interrupted_until(self, is_over: Callable[[], bool]) -> set[str]:
        """Do jobs in the main thread, some of which Ctrl-C ends; return the others' digests."""
        done: set[str] = set()
        while not is_over():
            try:
                self._armed = True
                found = jobs.digest(_MAIN)
                self._armed = False
                done.add(found)
                self.done += 1
            except KeyboardInterrupt:
                self.interrupts += 1
        return done

    # ------------------------------------------------------------------------------------------------------ one model

    def same(self, calls: int) -> list[float]:
        """Ask one model from all threads; return how many milliseconds each call took."""
        x = jobs.digits()[0]
        model = jobs.network(0)
        fc.set_num_threads(1)
        expected = model.predict_proba(x[:64])
        fc.set_num_threads(2)
        took: list[float] = []

        def ask(number: int) -> None:
            rng = np.random.default_rng((number, self._seed))
            for _ in range(calls // _THREADS):
                size = int(rng.choice((1, 7, 16, 33, 64)))
                began = time.perf_counter()
                found = model.predict_proba(x[:size])
                took.append(1000 * (time.perf_counter() - began))
                if not np.array_equal(found, expected[:size]):
                    self.wrong.append(f"{size} images: other bits than alone")

        workers = [self._start(lambda number=number: ask(number)) for number in range(_THREADS)]
        for worker in workers:
            worker.join()
        self.calls += len(took)
        return took


def _work_for_ever(job: jobs.Job) -> None:
    while True:
        job.call()


def _crowd(seed: int, calls: int) -> None:
    fc.set_num_threads(4)  # before the first kernel, so that there is something to change
    crowd = _Crowd(seed)
    crowd.different(calls // 2)
    took = crowd.same(calls // 2)
    found = {
        "wrong": sorted(set(crowd.wrong)),
        "calls": crowd.calls,
        "errors": crowd.errors,
        "deaths": crowd.deaths,
        "interrupts": crowd.interrupts,
        "done": crowd.done,
        "median": float(np.median(took)),
        "p99": float(np.percentile(took, 99)),
    }
    print(json.dumps(found))


def _end(seed: int) -> None:
    """Let daemon threads train, and end by Ctrl-C in the main thread."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    works = [jobs.Job(number) for number in range(_THREADS)]
    for job in works:
        job.call()
        threading.Thread(target=_work_for_ever, args=(job,), daemon=True).start()
    time.sleep(np.random.default_rng(seed).uniform(0, 0.3))
    signal.raise_signal(signal.SIGINT)


PROMISE = Promise(
    "Any Python thread may train and predict",
    "8 threads, each with a model of its own, and 8 that ask one model, under each thread layer in a fresh process. "
    "While the first train, the thread count changes, calls fail, threads die in the middle of a job, Ctrl-C "
    "interrupts the main thread at work, and some of its jobs end: all of it at least once. Results equal to the bit "
    "to those of one thread alone; then Ctrl-C ends a process whose daemon threads train",
    measure,
    short=320,
    long=10_000,
)

if __name__ == "__main__":
    if sys.argv[1] == "crowd":
        _crowd(*map(int, sys.argv[2:]))
    else:
        _end(int(sys.argv[2]))
