"""The short forms of the promises in docs/reliability.md, and the page itself."""

import pytest

from benchmarks.reliability import page, promise
from benchmarks.reliability.__main__ import main
from benchmarks.reliability.promise import Outcome, Promise

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
