"""docs/reliability.md: written from the promises and from what was measured last."""

import json
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.reliability import promise
from benchmarks.reliability.promise import Outcome

PAGE = machine.ROOT / "docs" / "reliability.md"
RESULTS = Path(__file__).parent / "results"
_HEAD = """# Reliability

What fastconv promises, and what was found when it was tried. `python -m benchmarks.reliability NAME --long --write`
repeats a row and writes it; short forms run with the tests. A failure names the seed that repeats it. This page is
written by `python -m benchmarks.reliability --write`.
"""


def record(name: str, outcome: Outcome, command: str) -> None:
    """Keep what was measured."""
    result = {
        "figure": outcome.figure,
        "kept": not outcome.failures,
        "failures": outcome.failures,
        "notes": outcome.notes,
        "command": command,
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
        lines.append(f"`{name}`: `{result['command']}`, {result['machine']}.")
        lines += [f"Not tried: {note}." for note in result["notes"]]
        lines += [f"- {failure}" for failure in result["failures"]] + [""]
    return "\n".join(lines).rstrip("\n") + "\n"


def write() -> None:
    """Replace the page."""
    PAGE.write_text(render(), encoding="utf-8")
