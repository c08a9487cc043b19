"""docs/reliability.md: written from the promises and from what was measured last."""

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.reliability import promise
from benchmarks.reliability.promise import Outcome
from fastconv_kernels import cache

PAGE = machine.ROOT / "docs" / "reliability.md"
RESULTS = Path(__file__).parent / "results"
_WRITTEN = tuple(f":!{path.relative_to(machine.ROOT)}" for path in (RESULTS, PAGE))
_HEAD = """# Reliability

What fastconv promises, and what was found when it was tried. `python -m benchmarks.reliability NAME --long --write`
repeats a row and writes it, with `all` as NAME every row; short forms run with the tests. A failure names the seed that
its case was drawn from, which draws the same case again. Not the same moment, where threads or processes run side by
side or are interrupted, so that such a failure may take several tries to be met again: in
{by_timing}.
This page is written by `python -m benchmarks.reliability --write`.
""".format(by_timing=", ".join(f"`{name}`" for name in promise.BY_TIMING))


def source() -> dict[str, str]:
    """Return what is measured: the hash of the kernels, and the commit, where git can tell.

    '-dirty' is added to the commit if files that git knows are others than its, beside results and their page.
    """
    found = {"kernels": cache.source_hash()}
    try:
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN)
        commit = _git("rev-parse", "--short", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return found
    return found | {"commit": commit + ("-dirty" if changed else "")}


def _git(*words: str) -> str:
    # Its own folder is named, since this may be an archive that lies in a checkout of something else.
    command = ["git", "--git-dir", str(machine.ROOT / ".git"), "--work-tree", str(machine.ROOT), *words]
    done = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def record(name: str, outcome: Outcome, command: str, runs: int, measured: dict[str, str]) -> None:
    """Keep what was found in so many cases of what ``source`` said before they began."""
    result = {
        "figure": outcome.figure,
        "kept": not outcome.failures,
        "failures": outcome.failures,
        "notes": outcome.notes,
        "command": command,
        "runs": runs,
        **measured,
        "machine": machine.describe(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def render() -> str:
    """Return the page."""
    results: dict[str, dict[str, Any]] = {}
    for name in promise.names():
        path = RESULTS / f"{name}.json"
        if path.exists():
            results[name] = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for name in promise.names():
        made, result = promise.find(name), results.get(name)
        figure = "not measured yet" if result is None else ("" if result["kept"] else "**BROKEN** ") + result["figure"]
        rows.append([f"`{name}`", made.promise, made.shown, figure])
    lines = [_HEAD, machine.table(["name", "promise", "how it is shown", "figure"], rows, texts=4)]
    for name, result in results.items():
        commit = f"commit {result['commit']}, " if "commit" in result else ""  # results of before have none
        lines.append(f"`{name}`: `{result['command']}`, {commit}{result['machine']}.")
        lines += [f"Not tried: {note}." for note in result["notes"]]
        lines += [f"- {failure}" for failure in result["failures"]] + [""]
    return "\n".join(lines).rstrip("\n") + "\n"


def write() -> None:
    """Replace the page."""
    PAGE.write_text(render(), encoding="utf-8")
