"""What a process may use: cores by all that limits them, and memory, which is asked for before it is taken."""

import gzip

import numpy as np
import pytest
from subprocesses import run, succeed

import fastconv as fc
from fastconv import cli, data, footprint, room
from fastconv.data import kaggle
from fastconv.layers import Workspace
from fastconv_kernels import limits, memory

MB = 2**20


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


V1 = {
    "proc/self/cgroup": "5:cpuacct,cpu:/a/b\n4:memory:/a/b\n0::/\n",
    "proc/self/mountinfo": (
        "30 1 0:1 / /sys/fs/cgroup/cpu,cpuacct rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n"
        "31 1 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 1 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    ),
    "sys/fs/cgroup/unified/cgroup.procs": "",
}
V2 = {
    "proc/self/cgroup": "0::/a/b\n",
    "proc/self/mountinfo": "30 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
}
CONTAINER = {
    "proc/self/cgroup": "0::/docker/x y\n",
    "proc/self/mountinfo": "broken\n30 1 0:1 /docker/x\\040y /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
}


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "200000 100000\n"}, 2),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "250000 100000\n", "sys/fs/cgroup/a/cpu.max": "600000 100000\n"}, 3),
        (V2 | {"sys/fs/cgroup/other/cpu.max": "100000 100000\n"}, 16),
        (CONTAINER | {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        (
            V1
            | {
                "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "10000\n",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
    ],
)
def test_quotas_of_all_groups_above_count(tmp_path, monkeypatch, files, cores):
    """A process's own group was not looked for: only the top, where systemd and batch systems put nothing."""
    write(tmp_path, files)
    monkeypatch.setattr(limits.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda pid: range(16), raising=False)
    for name in limits.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert limits.usable_cores(tmp_path) == cores
    found = limits.core_limits({"OMP_NUM_THREADS": "7"}, tmp_path)
    assert found[0] == limits.Limit(16, "the machine")
    assert found[-1] == limits.Limit(7, "OMP_NUM_THREADS=7")
    assert len(found) == 2 or "CPU quota of /sys/fs/cgroup" in found[1].by


@pytest.mark.parametrize(
    ("files", "most", "by"),
    [
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 5000 kB\nSwapFree: 24 kB\n"}, 5024 * 1024, "the machine's"),
        (
            V2
            | {
                "proc/meminfo": "MemAvailable: 5000000 kB\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/b/memory.current": "5000\n",
                "sys/fs/cgroup/a/memory.max": f"{500 * MB}\n",
                "sys/fs/cgroup/a/memory.current": f"{200 * MB}\n",
                "sys/fs/cgroup/a/memory.stat": f"anon 7\ninactive_file {10 * MB}\nactive_file {20 * MB}\n",
            },
            330 * MB,
            "the memory limit of /sys/fs/cgroup/a, 500 MB",
        ),
        (
            V2
            | {
                "proc/meminfo": f"SwapFree: {50 * 1024} kB\n",
                "sys/fs/cgroup/memory.max": f"{500 * MB}\n",
                "sys/fs/cgroup/memory.current": f"{600 * MB}\n",
                "sys/fs/cgroup/memory.swap.max": f"{300 * MB}\n",
                "sys/fs/cgroup/memory.swap.current": f"{100 * MB}\n",
            },
            0,
            "the memory limit of /sys/fs/cgroup, 500 MB",
        ),
        (
            V1
            | {
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1\n",
                "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": f"{64 * MB}\n",
                "sys/fs/cgroup/memory/a/b/memory.usage_in_bytes": f"{60 * MB}\n",
                "sys/fs/cgroup/memory/a/b/memory.stat": f"inactive_file 3\ntotal_inactive_file {MB}\n",
            },
            5 * MB,
            "the memory limit of /sys/fs/cgroup/memory/a/b, 64 MB",
        ),
    ],
)
def test_free_memory_is_the_least_of_all_limits(tmp_path, files, most, by):
    write(tmp_path, files)
    found = limits.free_memory(tmp_path)
    assert found is not None
    assert found.most == most
    assert found.by.startswith(by)


def test_nothing_says_how_much_memory_is_free(tmp_path):
    assert limits.free_memory(tmp_path) is None


@pytest.mark.parametrize("number", ["0", "-3"])
def test_a_number_of_threads_that_numba_refuses_is_named(number):
    """It said 'Number of threads specified must be > 0.'"""
    done = run("from fastconv_kernels import runtime", NUMBA_NUM_THREADS=number)
    assert f"NUMBA_NUM_THREADS: expected a whole number of at least 1, got {number}; unset it" in done.stderr


def test_an_address_space_is_looked_at():
    code = """
    import resource
    from fastconv_kernels import limits
    before = limits.free_memory()
    resource.setrlimit(resource.RLIMIT_AS, (500 << 20, 500 << 20))
    after = limits.free_memory()
    print(after.most < 500 << 20, after.by)
    """
    assert succeed(code) == "True the limit of this process to an address space (ulimit -v), 500 MB"


# -------------------------------------------------------------------------------------------------------------- memory


@pytest.fixture
def little(monkeypatch):
    """There are 30 MB."""
    monkeypatch.setattr(limits, "free_memory", lambda root=None: limits.Limit(30 * MB, "a test"))


def wide():
    return fc.Sequential(fc.Conv2d(1, 64, 3, padding=1), fc.ReLU(), fc.Flatten(), fc.Linear(50176, 3))


@pytest.mark.usefixtures("little")
def test_what_cannot_fit_is_refused_before_it_is_begun(monkeypatch):
    asked, empty = [], memory.empty

    def spied(shape, dtype):
        array = empty(shape, dtype)
        asked.append(array.nbytes)
        return array

    monkeypatch.setattr(memory, "empty", spied)
    x, y, model = np.zeros((600, 1, 28, 28), np.uint8), np.zeros(600, np.int64), wide()
    with pytest.raises(fc.NoRoomError) as caught:
        model.fit(x, y, batch_size=600, verbose=False)
    message = r"fit: not enough memory: about [\d,]+ MB are needed \([\d,]+ for training batches of 600 images, "
    assert caught.match(message + r".* and 30 MB are free by a test; train with a smaller batch size")
    assert max(asked) < 16 * MB, "more was planned than two lane blocks"
    with pytest.raises(fc.NoRoomError, match=r"Sequential: .* for a batch of 600 images of 1x28x28\), and 30 MB"):
        model.predict(x, batch_size=600)
    assert not model.is_planned((600, 1, 28, 28))
    assert model.predict(x, batch_size=16).shape == (600,)
    with pytest.raises(fc.NoRoomError, match=r"fit: .* for a copy of x, float32"):
        model.fit(np.zeros((20000, 1, 28, 28)), np.zeros(20000, np.int64), verbose=False)


@pytest.mark.usefixtures("little")
def test_weights_that_cannot_fit_are_refused():
    with pytest.raises(fc.NoRoomError, match=r"parameter 1.weight: .* values of shape \(4000, 784\), drawn in float64"):
        fc.Sequential(fc.Flatten(), fc.Linear(784, 4000)).parameters()[0].value.sum()
    with pytest.raises(fc.NoRoomError, match=r"Parameter: .* the gradient of a parameter of shape \(1000000000, 784"):
        fc.Linear(784, 10**9)
    fc.Sequential(fc.Flatten(), fc.Linear(784, 100)).predict(np.zeros((1, 1, 28, 28), np.uint8))


def test_without_a_word_of_how_much_is_free_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda root=None: None)
    room.check("test", {"everything": 2**60}, "no remedy")
    with pytest.raises(room.NoRoomError, match="and no more is free"):
        fc.Linear(784, 10**9)


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenet_small"])
@pytest.mark.parametrize("n", [1, 20, 50, 160])
def test_an_estimate_is_what_a_plan_takes(name, n):
    shape = (n, 1 if name == "lenet5" else 3, 28, 28) if name == "lenet5" else (n, 3, 32, 32)
    model = fc.models.create(name)
    work = Workspace(model.dtype)
    with memory.counted() as asked:
        model.plan(shape, work)
    estimated, planned = footprint.of_batch(model, shape), footprint.of_plan(work)
    assert sum(planned) == pytest.approx(sum(asked), rel=0.03, abs=MB / 2)
    packed = -(-n // 16) * 16 * np.prod(shape[1:]) * 4
    assert estimated.forward - packed == pytest.approx(planned.forward, rel=0.05, abs=MB / 2)
    assert estimated.backward == pytest.approx(planned.backward, rel=0.05, abs=MB / 2)
    assert planned.forward < 0.75 * sum(planned)


def test_the_threads_own_memory_counts(threads):
    """A channel's gradient waits there, of the whole batch."""
    model, shape = fc.models.create("mobilenet_small"), (1600, 3, 32, 32)
    threads(1)
    one = footprint.of_batch(model, shape)
    threads(2)
    two = footprint.of_batch(model, shape)
    assert two.forward == one.forward
    assert two.backward - one.backward == pytest.approx(100 * 32 * 32 * 64, rel=0.05)


@pytest.fixture
def files(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (700, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=np.arange(700) % 10)
    fc.save(wide(), tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.usefixtures("little")
def test_commands_refuse_in_one_line(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    assert cli.main(["train", "train.npz", "--batch-size", "600", "--out", "run"]) == 2
    assert not (files / "run").exists()
    assert cli.main(["predict", "model.safetensors", "train.npz", "-o", "out.csv"]) == 2
    assert not (files / "out.csv").exists()
    said = capsys.readouterr().err.splitlines()
    assert [line.partition("about")[0] for line in said] == [
        "fastconv: train: not enough memory: ",
        "fastconv: Sequential: not enough memory: ",
    ]


def test_memory_that_ends_in_the_middle_is_a_failure_in_one_line(files, capsys, monkeypatch):
    """It was a traceback."""
    monkeypatch.chdir(files)

    def full(*arguments, **options):
        raise MemoryError("Unable to allocate 3 GiB")

    monkeypatch.setattr(fc.Sequential, "predict", full)
    assert cli.main(["predict", "model.safetensors", "train.npz", "-o", "out.csv"]) == 1
    assert capsys.readouterr().err.startswith("fastconv: not enough memory (Unable to allocate 3 GiB); take smaller")


def test_data_that_cannot_fit_are_refused(tmp_path, monkeypatch):
    images = np.zeros((30_000, 28, 28), np.uint8)
    np.savez(tmp_path / "a.npz", images=images)
    (tmp_path / "a.idx.gz").write_bytes(
        gzip.compress(b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in images.shape) + images.tobytes(), 1)
    )
    header = ",".join(f"pixel{k}" for k in range(784))
    (tmp_path / "a.csv").write_text(header + "\n" + (",".join(["0"] * 784) + "\n") * 800)
    from PIL import Image

    (tmp_path / "folder").mkdir()
    for n in range(40):
        Image.fromarray(np.zeros((400, 500), np.uint8)).save(tmp_path / f"folder/{n}.png")
    monkeypatch.setattr(limits, "free_memory", lambda root=None: limits.Limit(16 * MB, "a test"))
    monkeypatch.setattr(kaggle, "CHECKED", 17 * MB)
    with monkeypatch.context() as patched:
        patched.setattr(kaggle, "bytearray", lambda: bytearray(17 * MB), raising=False)  # as if so much had come
        with pytest.raises(fc.NoRoomError, match=r"^read_csv: .*a.csv: not enough memory: .* 16 MB are free by a test"):
            data.load(tmp_path / "a.csv")
    assert len(data.load(tmp_path / "a.csv")) == 800
    for name in ("a.npz", "a.idx.gz", "folder"):
        with pytest.raises(
            fc.NoRoomError, match=rf"^read_\w+: .*{name}: not enough memory: .* 16 MB are free by a test"
        ):
            data.load(tmp_path / name)
