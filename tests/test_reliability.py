"""The short forms of the promises in docs/reliability.md, and the page itself."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reliability import __main__ as command
from benchmarks.reliability import jobs, page, promise
from benchmarks.reliability.promise import Outcome, Promise
from benchmarks.reliability.promises import bits, operations, processes, steady

SEED = 1

# ------------------------------------------------------------------------------------------------------ what is tried


def refuses(*words):
    """Return whether a command cannot be had here."""
    return subprocess.run(words, capture_output=True, check=False).returncode != 0


def has_no(*features):
    """Return whether this is no processor with these features."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return flags is None or not set(features) <= set(flags[1].split())


def cannot_make_a_group():
    """Return whether this is not root in a topmost control group below which processors' time can be shared."""
    top, groups = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup").read_text().splitlines()
    if (top / "cpu").exists():
        place, is_shared = top / "cpu", True
        mine = [group for group in groups if "cpu" in group.split(":")[1].split(",")]
    else:
        place, mine = top, [group for group in groups if group.startswith("0::")]
        is_shared = (top / "cgroup.subtree_control").exists() and "cpu" in (top / "cgroup.subtree_control").read_text()
    is_topmost = mine != [] and mine[0].endswith(":/")
    return os.geteuid() != 0 or not (is_shared and is_topmost and os.access(place, os.W_OK))


def has_no_disk():
    """Return whether a disk of a process' own cannot be had here."""
    return refuses("unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt")


def has_no_user():
    """Return whether a user without an entry cannot be had here."""
    return refuses("unshare", "--map-user=54321", "--map-group=54321", "true")


# What a short form leaves out, on any machine.
LEFT_OUT = {
    "limits": ["a real limit to a group's memory: it is read from files"],
    "numerics": ["the time of steps with denormal activations: only with more cases"],
    "onnx": [  # test_standard.py knows how many
        r"\d+ cases: .*",
        r"outputs beyond the first of \d+ passed cases: masks, places and statistics",
        r"\d+ cases of nodes that fastconv does not have, or of several nodes",
    ],
    "operations": ["PyTorch beside Dropout", "PyTorch beside Dropout2d"],
    "processes": ["a fork while another library's OpenMP or tbb threads are at work"],
    "steady": ["the time of a step: only with more cases"],
    "threads": [
        "Ctrl-C in the middle of an import, .*",
        "an exception thrown into a thread that is starting another .*",
    ],
}
# And what else where something is lacking, by a look of its own at whether it is.
LACKING = {
    "bits": [
        (r"code for haswell: .*", lambda: has_no("avx2", "fma")),
        (r"code for skylake-avx512: .*", lambda: has_no("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")),
    ],
    "cache": [(r".*: a disk or user of its own cannot be had here .*", lambda: has_no_disk() or has_no_user())],
    "files": [("data, no permission: root may read everything", lambda: os.geteuid() == 0)],
    "limits": [(r"a real CPU quota: .*", cannot_make_a_group)],
    "lost": [(r"a full disk: a small tmpfs cannot be mounted here .*", has_no_disk)],
}


def surprising(name, notes):
    """Return those of a promise's notes that nothing here explains."""
    known = [*LEFT_OUT.get(name, ()), *(note for note, lacks in LACKING.get(name, ()) if lacks())]
    return [note for note in notes if not any(re.fullmatch(each, note) for each in known)]


@pytest.mark.parametrize("name", promise.names())
def test_the_promise_is_kept(name):
    """CI has all that is needed to try it."""
    found = promise.find(name)
    outcome = found.measure(SEED, found.short)
    assert not outcome.failures, f"python -m benchmarks.reliability {name} --runs {found.short} --seed {SEED}"
    if os.environ.get("CI"):
        assert not surprising(name, outcome.notes)


def test_what_is_not_tried_for_lack_of_something_is_a_surprise():
    lacking = {
        "operations": operations.WITHOUT_TORCH,
        "onnx": "the cases, which come with the onnx package",
        "processes": "joblib, which is not installed",
        "bits": "thread layer tbb: it cannot be loaded here",
    }
    assert [name for name, note in lacking.items() if surprising(name, [note])] == list(lacking)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="there are wheels of tbb for these"
)
def test_all_thread_layers_are_tried():
    assert jobs.layers() == ["tbb", "omp", "workqueue"]


# ----------------------------------------------------------------------------------------------- the page, the command


def test_the_page_says_what_was_measured():
    written = page.PAGE.read_text(encoding="utf-8")
    assert written == page.render(), "python -m benchmarks.reliability --write"
    assert "BROKEN" not in written
    assert "not measured yet" not in written


@pytest.mark.parametrize("name", promise.names())
def test_what_was_measured_is_the_long_form(name):
    """Results that do not say how many cases they are of are older than this test."""
    result = json.loads((page.RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    long = promise.find(name).long
    assert result.get("runs", long) >= long, f"python -m benchmarks.reliability {name} --long --write"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The folder to which results and their page are written."""
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "reliability.md")
    return tmp_path


def test_a_broken_promise_is_shown_with_its_seed(written, monkeypatch, capsys):
    broken = Promise("p", "s", lambda seed, cases: Outcome(f"{cases} cases", ["case 1: wrong"], ["the moon"]), 2, 3)
    monkeypatch.setattr(promise, "find", lambda name: broken)
    monkeypatch.setattr(page, "source", lambda: {"kernels": "abc", "commit": "1234567-dirty"})
    assert command.main(["lost", "--seed", "7", "--write"]) == 1
    repeat = "python -m benchmarks.reliability lost --runs 2 --seed 7"
    shown = ["lost: 2 cases", "  not tried: the moon", f"  WRONG: case 1: wrong; {repeat} repeats it"]
    assert capsys.readouterr().out.splitlines() == shown
    assert "**BROKEN** 2 cases" in page.PAGE.read_text()
    assert f"`lost`: `{repeat}`, commit 1234567-dirty, " in page.PAGE.read_text()
    result = json.loads((written / "lost.json").read_text())
    assert (result["runs"], result["kernels"], result["commit"]) == (2, "abc", "1234567-dirty")
    assert command.main(["threads", "--seed", "7"]) == 1
    assert capsys.readouterr().out.endswith("--runs 2 --seed 7 tries the same cases, at other moments\n")


def test_what_ends_a_measurement_does_not_take_the_seed_along(monkeypatch, capsys):
    def measure(seed, cases):
        raise OSError("no room")

    monkeypatch.setattr(promise, "find", lambda name: Promise("p", "s", measure, 2, 3))
    with pytest.raises(OSError, match="no room"):
        command.main(["lost", "--long"])
    assert re.fullmatch(r"python -m benchmarks.reliability lost --runs 3 --seed \d+\n", capsys.readouterr().err)


def test_all_go_on_after_one_that_is_broken(monkeypatch, capsys):
    ran = []

    def run(words, **how):
        ran.append(words[3:])
        return subprocess.CompletedProcess(words, {"bits": 1, "lost": -9}.get(words[3], 0))

    monkeypatch.setattr(subprocess, "run", run)
    assert command.main(["all", "--long", "--write"]) == 1
    assert ran == [[name, "--long", "--write"] for name in promise.names()]
    kept = f"all: {len(ran) - 2} of {len(ran)} promises kept"
    assert capsys.readouterr().out.splitlines() == [kept, "  WRONG: bits", "  WRONG: lost"]


def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=b", *words], cwd=tmp_path, check=True)

    monkeypatch.setattr(page.machine, "ROOT", tmp_path)
    assert list(page.source()) == ["kernels"]
    git("init", "-q")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "reliability.md").write_text("a page")
    (tmp_path / "source.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "docs" / "reliability.md").write_text("another page")
    clean = page.source()["commit"]
    assert re.fullmatch("[0-9a-f]{7,}", clean)
    (tmp_path / "source.py").write_text("2")
    assert page.source()["commit"] == f"{clean}-dirty"


# ------------------------------------------------------------------------------------------- and faults would be found


OPENMP = "refused: fastconv: kernels cannot share out work in a forked child under the OpenMP thread layer; start ..."
HALF = "refused: Sequential: another thread was training this model when the process forked, so ... half a step; ..."


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (("os.fork", "before", "omp"), OPENMP),
        (("os.fork", "after", "tbb"), OPENMP),
        (("os.fork", "after", "omp"), HALF),
        (("os.fork and one thread", "after", "omp"), OPENMP),
        (("multiprocessing.Pool by spawn", "after", "omp"), OPENMP),
        (("joblib loky", "after", "omp"), OPENMP),
        (("os.fork while another trains the model", "after", "workqueue"), OPENMP),
        (("os.fork while others ask the model", "before", "tbb"), HALF),
    ],
)
def test_a_refusal_where_a_child_must_work_is_told(case, said):
    assert processes.judge(case, ["right", said], {"right"}) == {"wrong": [said], "worked": 1, "refused": 0}


def test_refusals_with_a_reason_are_counted_and_silence_is_told():
    forked = ("os.fork", "after", "omp")
    assert processes.judge(forked, ["right", OPENMP], {"right"}) == {"wrong": [], "worked": 1, "refused": 1}
    training = ("os.fork while another trains the model", "before", "omp")
    assert processes.judge(training, [HALF, OPENMP], set()) == {"wrong": [], "worked": 0, "refused": 2}
    assert processes.judge(forked, [], {"right"})["wrong"] == ["no child said anything"]


def test_every_way_that_may_refuse_is_a_way():
    assert set(processes._WAYS) >= processes._COPIES | processes._LAUNCHED_FIRST


def test_bits_that_differ_are_told(monkeypatch):
    """As is code that is not for the processor that it should be for."""
    said = {"codes": ["fused on zmm"], "instructions": "avx512"}

    def train(net, threads, changes):
        processor, layer = changes.get("NUMBA_CPU_NAME"), changes["NUMBA_THREADING_LAYER"]
        target = processor or bits.llvm.get_host_cpu_name()
        return said | {"sha256": str(threads == 8), "layer": layer, "threads": threads, "target": target}

    monkeypatch.setattr(bits, "_train", train)
    monkeypatch.setattr(bits, "_NEEDS", {})
    monkeypatch.setattr(bits.platform, "machine", lambda: "x86_64")
    assert bits.measure(0, 3).failures == []
    (failure,) = bits.measure(0, 4).failures
    assert failure.startswith(
        "lenet5: 2 hashes: False: case 0, lenet5, 1 threads of tbb, code for native and 2 more; Tr"
    )
    said |= {"codes": ["none fused"]}
    assert bits.measure(0, 1).failures == [
        "case 0, lenet5, 1 threads of tbb, code for native: avx512, and in a convolution's code: none fused"
    ]


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("resident", "resident memory: 10.0, 11.0, 12.0"),
        ("blocks", "blocks of Numba's runtime: 10485760, 11534336"),
        ("objects", "objects of Python"),
        ("files", "open files"),
        ("threads", "threads"),
        ("step", "step time"),
    ],
)
def test_what_grows_is_told(what, name):
    flat = [steady.Tenth(1, 2, 3, 4, 5, 6.0)] * 10
    assert steady.judge(1000, flat, timed=True).failures == []
    growing = [tenth._replace(**{what: 10 + number << 20}) for number, tenth in enumerate(flat)]
    (failure,) = steady.judge(1000, growing, timed=True).failures
    assert failure.startswith(name)
    assert len(steady.judge(1000, growing, timed=False).failures) == (what != "step")
