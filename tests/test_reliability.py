"""The short forms of the promises in docs/reliability.md, and the page itself."""

import pytest

from benchmarks.reliability import page, promise
from benchmarks.reliability.__main__ import main
from benchmarks.reliability.promise import Outcome, Promise
from benchmarks.reliability.promises import bits, steady

SEED = 1


@pytest.mark.parametrize("name", promise.names())
def test_the_promise_is_kept(name):
    found = promise.find(name)
    outcome = found.measure(SEED, found.short)
    assert not outcome.failures, f"python -m benchmarks.reliability {name} --runs {found.short} --seed {SEED}"


def test_the_page_says_what_was_measured():
    written = page.PAGE.read_text(encoding="utf-8")
    assert written == page.render(), "python -m benchmarks.reliability --write"
    assert "BROKEN" not in written


def test_a_broken_promise_is_shown_with_its_seed(tmp_path, monkeypatch, capsys):
    broken = Promise("p", "s", lambda seed, cases: Outcome(f"{cases} cases", ["case 1: wrong"], ["the moon"]), 2, 3)
    monkeypatch.setattr(promise, "find", lambda name: broken)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "reliability.md")
    assert main(["lost", "--seed", "7", "--write"]) == 1
    repeat = "python -m benchmarks.reliability lost --runs 2 --seed 7"
    shown = ["lost: 2 cases", "  not tried: the moon", f"  WRONG: case 1: wrong; {repeat} repeats it"]
    assert capsys.readouterr().out.splitlines() == shown
    written = (tmp_path / "reliability.md").read_text()
    assert "**BROKEN** 2 cases" in written
    assert repeat in written


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
    assert steady.judge(1000, flat).failures == []
    growing = [tenth._replace(**{what: 10 + number << 20}) for number, tenth in enumerate(flat)]
    (failure,) = steady.judge(1000, growing).failures
    assert failure.startswith(name)
