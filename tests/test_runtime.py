"""The launch guard: thread layers, thread counts, forks, container quotas.  Each trap of Numba's in its own process."""

import importlib.metadata
import os
import sys
import threading
from textwrap import dedent

import numpy as np
import pytest
from subprocesses import run, succeed

import fastconv as fc
from fastconv_kernels import limits

HAS_TBB = any(d.metadata["Name"] == "tbb" for d in importlib.metadata.distributions())
LAYERS = ["omp", "workqueue", *(["tbb"] if HAS_TBB else [])]

PRELUDE = """
import os, sys, threading
import numpy as np
import fastconv as fc
from fastconv_kernels.bias import sum_shares
from fastconv_kernels.many import Many

shares = np.arange(60_000, dtype=np.float32).reshape(2, 30_000)

def work():
    total = np.empty(30_000, np.float32)
    sum_shares(*Many([(shares, total)]).table, 2)
    assert (total == shares[0] + shares[1]).all()
"""


@pytest.mark.skipif(not HAS_TBB, reason="no tbb wheel for this platform")
def test_tbb_is_found_in_a_virtual_environment():
    assert succeed(PRELUDE + "work(); print(fc.thread_layer())", NUMBA_THREADING_LAYER=None) == "tbb"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_the_user_chose_is_kept(layer):
    assert succeed(PRELUDE + "work(); print(fc.thread_layer())", NUMBA_THREADING_LAYER=layer) == layer


@pytest.mark.parametrize("layer", LAYERS)
def test_four_python_threads_may_launch_at_once(layer):
    code = """
    failures = []
    def many():
        try:
            for _ in range(200):
                work()
        except BaseException as error:
            failures.append(error)
    threads = [threading.Thread(target=many) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    print(len(failures))
    """
    assert succeed(PRELUDE + dedent(code), NUMBA_THREADING_LAYER=layer) == "0"


@pytest.mark.parametrize("layer", LAYERS)
def test_there_may_be_more_threads_than_cores(layer):
    """Four cores' worth of pool on a machine that, for Numba, has two."""
    code = "fc.set_num_threads(4)\nfor count in (4, 1, 3):\n    fc.set_num_threads(count)\n    work()\nprint(count)"
    assert succeed(PRELUDE + code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2", timeout=120) == "3"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_forked_child_works_or_says_why_not(layer):
    code = """
    work()
    child = os.fork()
    if child == 0:
        try:
            work()
        except RuntimeError as error:
            os._exit(7 if "spawn" in str(error) and "OpenMP" in str(error) else 8)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("signal" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
    work()
    """
    ended = succeed(PRELUDE + dedent(code), NUMBA_THREADING_LAYER=layer, timeout=120)
    assert ended == ("7" if layer == "omp" else "0")


@pytest.mark.skipif(sys.platform != "linux", reason="multiprocessing forks by default on Linux only")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_fork_pool_works_or_says_why_not(layer):
    code = """
    import multiprocessing
    def task(_):
        try:
            work()
        except RuntimeError as error:
            return "spawn" if "spawn" in str(error) else repr(error)
        return "worked"
    work()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(*sorted(set(pool.map_async(task, range(4)).get(timeout=60))))
    """
    said = succeed(PRELUDE + dedent(code), NUMBA_THREADING_LAYER=layer, timeout=120)
    assert said == ("spawn" if layer == "omp" else "worked")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_forked_child_needs_no_pool_for_one_thread(layer):
    code = """
    work()
    child = os.fork()
    if child == 0:
        fc.set_num_threads(1)
        work()
        os._exit(0)
    print(os.waitpid(child, 0)[1])
    """
    assert succeed(PRELUDE + dedent(code), NUMBA_THREADING_LAYER=layer, timeout=120) == "0"


COUNT = """
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel

@kernel()
def count_workers(crew, workers, n):
    for task in prange(crew, n):
        workers[task] = crew.workers

def look():
    workers = np.zeros(1000)
    count_workers(workers, 1000)
    assert (workers == workers[0]).all()
    seen.append(int(workers[0]))

seen = []
"""


def test_the_thread_count_holds_for_every_python_thread():
    code = """
    fc.set_num_threads(3)
    fc.set_num_threads(1)
    thread = threading.Thread(target=look); thread.start(); thread.join()
    fc.set_num_threads(3)
    look()
    thread = threading.Thread(target=look); thread.start(); thread.join()
    print(*seen, fc.get_num_threads())
    """
    assert succeed(PRELUDE + COUNT + dedent(code)) == "1 3 3 3"


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_task_reaches_the_caller(threads):
    """Kernels raise nothing, but Numba's check of bounds does."""
    code = f"""
    fc.set_num_threads({threads})
    look()
    try:
        count_workers(np.zeros(10), 11)
    except IndexError as error:
        print(error)
    """
    said = succeed(PRELUDE + COUNT + dedent(code), NUMBA_BOUNDSCHECK="1")
    assert said == "index is out of bounds"


@pytest.mark.parametrize("count", [0, -1, 10_000, 1.5, True, "2", None])
def test_a_wrong_thread_count_is_refused(count):
    before = fc.get_num_threads()
    with pytest.raises(ValueError, match=r"set_num_threads: expected a whole number from 1 to \d+, got"):
        fc.set_num_threads(count)
    assert fc.get_num_threads() == before


def test_the_pool_cannot_grow_once_it_runs():
    code = """
    fc.set_num_threads(5)
    work()
    fc.set_num_threads(2)
    fc.set_num_threads(5)
    try:
        fc.set_num_threads(6)
    except ValueError as error:
        print(error)
    """
    assert succeed(PRELUDE + dedent(code), NUMBA_NUM_THREADS="2") == (
        "set_num_threads: expected a whole number from 1 to 5, got 6; set a larger number before the first kernel runs"
    )


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "1000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"sys/fs/cgroup/cpu.max": "nonsense\n"}, None),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        ({}, None),
    ],
)
def test_a_containers_quota_is_read(tmp_path, monkeypatch, files, cores):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    quotas = [limit for limit in limits.core_limits({}, tmp_path) if "CPU quota" in limit.by]
    assert bool(quotas) == (cores is not None)
    monkeypatch.setattr(limits.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda pid: range(16), raising=False)
    for name in limits.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert limits.usable_cores(tmp_path) == (cores or 16)


def test_a_quota_caps_the_thread_count(tmp_path, monkeypatch):
    monkeypatch.setattr(limits.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda pid: range(16), raising=False)
    for name in limits.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("400000 100000")
    assert limits.usable_cores(tmp_path) == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert limits.usable_cores(tmp_path) == 3
    monkeypatch.setenv("FASTCONV_NUM_THREADS", "garbage")
    assert limits.usable_cores(tmp_path) == 3


def test_import_loads_neither_numba_nor_pandas_nor_numpy():
    code = "import sys, fastconv; print(sorted({'numba', 'pandas', 'numpy', 'rich'} & set(sys.modules)))"
    assert succeed(code) == "[]"


def test_kernels_allocate_nothing_that_is_not_freed():
    from numba.core.runtime import _nrt_python, rtsys

    _nrt_python.memsys_enable_stats()
    model = fc.models.lenet_seed()
    x = np.zeros((3, 1, 28, 28), np.float32)
    for _ in range(3):
        model.forward(x, training=True)
        model.backward(np.ones((3, 10), np.float32))
    before = rtsys.get_allocation_stats()
    for _ in range(1000):
        model.forward(x, training=True)
        model.backward(np.ones((3, 10), np.float32))
    after = rtsys.get_allocation_stats()
    _nrt_python.memsys_disable_stats()
    assert after.alloc - before.alloc == after.free - before.free


def test_one_model_predicts_from_many_threads():
    model = fc.models.lenet_seed()
    x = np.random.default_rng(0).integers(0, 256, (40, 1, 28, 28), np.uint8)
    expected = model.predict_proba(x)
    wrong = []

    def look(size):
        for _ in range(20):
            if not np.array_equal(model.predict_proba(x[:size]), expected[:size]):
                wrong.append(size)

    threads = [threading.Thread(target=look, args=(size,)) for size in (1, 16, 17, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nothing_is_done_by_a_fork_before_the_first_launch():
    code = PRELUDE + "\nchild = os.fork()\nif child == 0:\n    work()\n    os._exit(0)\nprint(os.waitpid(child, 0)[1])"
    assert run(code, NUMBA_THREADING_LAYER="omp", timeout=120).stdout.strip() == "0"


# ------------------------------------------------------------------------------------- other threads, forks and Ctrl-C


def test_the_thread_count_waits_for_a_pool_that_is_being_started():
    """Under workqueue, a launch with more threads than the pool has never ends."""
    code = """
    from fastconv_kernels import runtime
    launch, refused = runtime.numba_pool._launch_threads, []
    def set_more():
        try:
            fc.set_num_threads(8)
        except ValueError:
            refused.append(True)
    other = threading.Thread(target=set_more)
    def slow():
        other.start()
        other.join(0.2)
        launch()
    runtime.numba_pool._launch_threads = slow
    work()
    other.join()
    work()
    print(refused, fc.get_num_threads())
    """
    said = succeed(PRELUDE + dedent(code), NUMBA_THREADING_LAYER="workqueue", NUMBA_NUM_THREADS="2", timeout=60)
    assert said == "[True] 2"


FORK = """
def forked(work):
    child = os.fork()
    if child == 0:
        import signal
        signal.alarm(20)
        code = 1
        try:
            work()
            code = 0
        except (RuntimeError, ValueError) as error:
            print(error, flush=True)
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_fork_waits_until_another_thread_has_launched(layer):
    code = """
    from fastconv_kernels import runtime
    fc.set_num_threads(1)
    work()
    entered = threading.Event()
    def hold():
        with runtime._own.turn:
            entered.set()
            threading.Event().wait(0.2)
            left.append(True)
    left, thread = [], threading.Thread(target=hold)
    thread.start()
    entered.wait()
    status = forked(work)
    thread.join()
    print(status, left)
    """
    assert succeed(PRELUDE + FORK + dedent(code), NUMBA_THREADING_LAYER=layer, timeout=60).endswith("0 [True]")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_fork_waits_for_the_compiler():
    code = """
    from numba.core.compiler_lock import global_compiler_lock
    entered = threading.Event()
    def compile_something():
        with global_compiler_lock:
            entered.set()
            threading.Event().wait(0.2)
    thread = threading.Thread(target=compile_something)
    thread.start()
    entered.wait()
    print(forked(work))
    thread.join()
    """
    assert succeed(PRELUDE + FORK + dedent(code), timeout=60) == "0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_fork_waits_for_another_thread_that_imports(tmp_path):
    """A child would wait for ever for a module whose import it interrupted; one that imports itself may fork."""
    (tmp_path / "slow.py").write_text("import entered, threading; threading.Event().wait(0.3); value = 3")
    (tmp_path / "entered.py").write_text("import threading; event = threading.Event()")
    (tmp_path / "forks.py").write_text("import __main__; status = __main__.forked(__main__.work)")
    code = f"""
    sys.path.insert(0, {str(tmp_path)!r})
    import entered
    def imports():
        entered.event.set()
        import slow
    thread = threading.Thread(target=imports)
    thread.start()
    entered.event.wait()
    threading.Event().wait(0.1)
    def child():
        import slow
        assert slow.value == 3
    print(forked(child))
    thread.join()
    import forks
    print(forks.status)
    """
    assert succeed(PRELUDE + FORK + dedent(code), timeout=60).split() == ["0", "0"]


@pytest.mark.skipif(not HAS_TBB or not hasattr(os, "fork"), reason="no tbb, or no fork")
def test_under_tbb_a_child_of_several_threads_is_alone():
    code = """
    fc.set_num_threads(2)
    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    def child():
        work()
        print(fc.get_num_threads(), flush=True)
        fc.set_num_threads(2)
    forked(child)
    work()
    print(fc.get_num_threads())
    """
    said = succeed(PRELUDE + FORK + dedent(code), NUMBA_THREADING_LAYER="tbb", NUMBA_NUM_THREADS="2", timeout=60)
    *_, alone, refused, parents = said.splitlines()
    assert (alone, parents) == ("1", "2")
    assert refused.startswith("set_num_threads: expected a whole number from 1 to 1, got 2; several Python threads")
    assert "spawn" in refused


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("training", [False, True])
def test_a_model_that_another_thread_uses_is_new_in_a_fork_or_refused(training):
    code = f"""
    model = fc.Sequential(fc.Linear(4, 3), seed=0)
    x = np.ones((5, 4), np.float32)
    fc.set_num_threads(1)
    expected = model.predict_proba(x)
    entered, over = threading.Event(), threading.Event()
    def use():
        with model.lock:
            model.run_batch(x, training={training})
            entered.set()
            over.wait()
    def child():
        assert (model.predict_proba(x) == expected).all()
        print("right", flush=True)
    thread = threading.Thread(target=use)
    thread.start()
    entered.wait()
    first = forked(lambda: forked(child) and os._exit(3))
    over.set()
    thread.join()
    with model.lock:
        print(first, forked(child))
    """
    said = succeed(PRELUDE + FORK + dedent(code), NUMBA_THREADING_LAYER="workqueue", timeout=60).splitlines()
    if training:
        assert "another thread was training this model" in said[0]
        assert "fork while holding model.lock, or load the model from a file" in said[0]
        assert said[1:] == ["right", "768 0"]
    else:
        assert said == ["right", "right", "0 0"]


def test_ctrl_c_leaves_the_compiler_to_finish(tmp_path):
    code = """
    import signal
    from numba.core import event
    signal.signal(signal.SIGINT, signal.default_int_handler)
    compiled = []
    class Interrupt(event.Listener):
        def on_start(self, event):
            compiled.append(threading.current_thread() is threading.main_thread())
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.1)
        def on_end(self, event):
            pass
    with event.install_listener("numba:compile", Interrupt()):
        for _ in range(50):
            try:
                look()
                break
            except KeyboardInterrupt:
                print("interrupted")
    thread = threading.Thread(target=look); thread.start(); thread.join(30)
    print(any(compiled), thread.is_alive(), len(set(seen)))
    """
    said = succeed(PRELUDE + COUNT + dedent(code), FASTCONV_CACHE_DIR=tmp_path, timeout=60).splitlines()
    assert said[0] == "interrupted"
    assert said[-1] == "False False 1"
