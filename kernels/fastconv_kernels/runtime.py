"""How kernels are compiled and launched: the ``kernel`` decorator, the thread layer, the thread count, forks.

A launch is safe from any Python thread and in a forked child, or ends in an error that names the remedy.  Under the
thread layer *workqueue*, which aborts the process when two Python threads enter it at once, launches take turns.  A
fork waits until no kernel runs and none is compiled (docs/adr/0029).
"""

import ctypes
import importlib.metadata
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any
from weakref import WeakSet

import numba
import numpy as np
from numba import config, njit
from numba.core import event
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel as numba_pool

from fastconv_kernels.cache import KernelCache, symbol
from fastconv_kernels.crew import call_crew
from fastconv_kernels.importing import others_import
from fastconv_kernels.limits import usable_cores
from fastconv_kernels.uninterrupted import uninterrupted

INTERPRETED = bool(config.DISABLE_JIT)


# ---------------------------------------------------------------------------------------------------- how many threads

_MOST = 256
_threads = min(usable_cores(), config.NUMBA_NUM_THREADS)
_pool = config.NUMBA_NUM_THREADS


def set_num_threads(n):
    """Use ``n`` threads for every later launch, from whatever Python thread it comes.

    Parameters
    ----------
    n : int
        From 1 to 256 before the first kernel runs.  From then on, at most the largest number that was asked for
        before, or the number of cores: the pool of threads cannot grow.

    Raises
    ------
    ValueError
        If ``n`` is outside that range.
    """
    global _threads, _pool
    with _start:  # another Python thread may just be starting as many as were asked for so far
        most = _MOST if _layer is None else _pool
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= most:
            raise ValueError(f"set_num_threads: expected a whole number from 1 to {most}, got {n!r}{_remedy()}")
        _threads = n
        _pool = max(_pool, n)


def _remedy():
    if _alone:
        return (
            "; several Python threads had run kernels when this process was forked, and it cannot use their pool: "
            'start processes with multiprocessing.get_context("spawn")'
        )
    return "" if _layer is None else "; set a larger number before the first kernel runs"


def get_num_threads():
    """Return the number of threads that the next launch uses."""
    return _threads


def most_threads():
    """Return the number that no launch will exceed; starts the thread layer, since before that it can grow."""
    thread_layer()
    return _pool


# -------------------------------------------------------------------------------------------------------- thread layer

_start = threading.RLock()
_layer = None
_forked = False
_alone = False
_unready = True
"""Whether a launch has to ask ``_prepare`` first."""


def _load_tbb():
    """Load the tbb wheel's library where pip put it: Numba looks in the system's folders only."""
    try:
        files = importlib.metadata.files("tbb") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name.startswith("libtbb.so.12") or file.name == "tbb12.dll":
            try:
                ctypes.CDLL(str(file.locate()), mode=getattr(ctypes, "RTLD_GLOBAL", 0))
            except OSError:
                continue  # a wheel for another C library: Numba falls back to omp or workqueue
            return


def thread_layer():
    """Name of the thread layer in use, 'tbb', 'omp' or 'workqueue'; starts it if nothing was launched yet."""
    global _layer, _own, _unready
    if _layer is None:
        with _start:
            if _layer is None:
                if config.THREADING_LAYER not in ("omp", "workqueue"):
                    _load_tbb()
                # Numba read both on import.  Under workqueue, a launch with more threads than its pool has never ends.
                config.NUMBA_NUM_THREADS = numba_pool.NUM_THREADS = _pool
                numba_pool._launch_threads()
                found = "interpreter" if INTERPRETED else numba.threading_layer()
                _own = _Own(threading.RLock() if found == "workqueue" else None)
                _layer = found
                _unready = False
    return _layer


def _prepare():
    """Start the thread layer, let a fork go first, or say why the thread layer cannot be used here."""
    thread_layer()
    # Not for ever: a signal's handler may launch while its thread is in a launch that the fork waits for.
    if _forking.acquire(timeout=1):
        _forking.release()
    if _forked and _layer == "omp" and _threads > 1:
        raise RuntimeError(
            "fastconv: kernels cannot share out work in a forked child under the OpenMP thread layer; start processes "
            'with multiprocessing.get_context("spawn"), install tbb, or call fastconv.set_num_threads(1)'
        )


# --------------------------------------------------------------------------------------------------------------- forks

_forking = threading.RLock()
_turns = WeakSet()
_held = []
_launchers = 0
_TRIES, _PAUSE = 1000, 0.005
"""How often a fork waits, and how many seconds, for imports of other threads."""


class _Own(threading.local):
    """The lock that a Python thread holds while it launches: ``shared`` by all, or its own."""

    def __init__(self, shared):
        global _launchers
        self.turn = shared or threading.RLock()
        with _forking:
            _turns.add(self.turn)
            _launchers += 1


_own = None


def _before_fork():
    """Wait until no other thread launches, compiles or imports, and let none begin to."""
    for _ in range(_TRIES):
        _hold_all()
        if not others_import():
            return
        _after_fork()
        time.sleep(_PAUSE)
    _hold_all()  # perhaps the import waits for this thread, which forks in the middle of another


def _hold_all():
    global _unready
    _hold(_forking)
    _hold(_start)
    _unready = True
    if _own is not None:
        _hold(_own.turn)  # so that this thread counts, if it launched nothing itself
    for turn in list(_turns):
        _hold(turn)
    _hold(global_compiler_lock)  # which other users of Numba take without our turns


def _hold(lock):
    _held.append(lock)  # first: Ctrl-C may come in between
    lock.acquire()


def _after_fork():
    global _unready
    _unready = _layer is None or (_forked and _layer == "omp")
    while _held:
        with suppress(RuntimeError):  # if Ctrl-C came before it was acquired
            _held.pop().release()


def _after_fork_in_child():
    global _alone, _forked, _pool, _threads
    _forked = _layer is not None
    if _layer == "tbb" and _launchers > 1:
        # While other Python threads have used its own, tbb cannot stop them for a fork, and here would wait for them.
        _alone, _threads, _pool = True, 1, 1
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


# ------------------------------------------------------------------------------------------------------------- kernels


def kernel(parallel=True):
    """Compile a function on its first call for each dtype, from the cache on disk if it is of this package and there.

    The rules of arithmetic are IEEE's (no fastmath), division by zero gives inf or NaN as in NumPy, and the GIL is
    released.  The function's first parameter is its ``crew.Crew``, which the caller leaves out.  ``parallel=False`` is
    for functions that are too small to share out, or that other kernels call; these become a part of the caller, since
    a tile that is handed over would leave its registers.
    """

    def compile_lazily(function) -> Callable[..., Any]:
        if INTERPRETED:
            function = _without_warnings(function)
        if not parallel:
            return function if INTERPRETED else _compiled(function, function, forceinline=True)

        body = function if INTERPRETED else _compiled(function, function, cached=False, no_cpython_wrapper=True)

        def with_crew(workers, *arguments):
            call_crew(body, workers, arguments)

        dispatcher = with_crew if INTERPRETED else _compiled(with_crew, function)

        @wraps(function)
        def launch(*arguments):
            if _unready:
                _prepare()
            with _own.turn:
                return dispatcher(_threads, *arguments)

        launch.dispatcher = dispatcher
        return launch

    return compile_lazily


def _compiled(function, source, cached=True, **flags):
    """Compile ``function``, whose code follows from the function ``source``, when it is called."""
    flags |= {"error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}
    # Machine code is found by its name, and a process may load what different processes have compiled.
    function.__qualname__ = symbol(source)
    dispatcher = njit(**flags)(function)
    dispatcher.__name__ = source.__name__
    dispatcher._compile_for_args = uninterrupted(dispatcher._compile_for_args)
    # Only of kernels here does the cache's folder know whether the source has changed.
    if cached and source.__module__.startswith("fastconv_kernels."):
        dispatcher._cache = KernelCache(source, repr(flags), inlined="forceinline" in flags)
    return dispatcher


def _without_warnings(function):
    return np.errstate(all="ignore")(function)  # compiled arithmetic does not warn either


class _FirstCompile(event.Listener):
    """Tells once that a kernel has to be compiled, rather than read from the cache."""

    def __init__(self, tell):
        self._tell = tell

    def on_start(self, event):
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()

    def on_end(self, event):
        """Only the start is news."""


def tell_before_compiling(tell):
    """Return a context in which ``tell()`` is called once, before a kernel is compiled; not if all are cached."""
    return event.install_listener("numba:compile", _FirstCompile(tell))
