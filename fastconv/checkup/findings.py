"""What a check returns, and the report that the findings make."""

import json
import textwrap
from collections import Counter
from typing import Literal, NamedTuple

from fastconv import terminal

Severity = Literal["ok", "note", "fault"]
_BESIDE = 64
"""From so many columns on, the evidence stands beside the name, else under it."""


class Finding(NamedTuple):
    """What one check found."""

    name: str
    """Of the check."""
    severity: Severity
    """'fault' if training or its figures will be wrong, 'note' if it is slower than it need be or worth a look."""
    evidence: str
    """What was measured, with its numbers."""
    remedy: str = ""
    """What to do, in a line; empty if nothing need be done."""


class Report(list[Finding]):
    """All findings, in the order in which they were made; shown as a table by ``str``, ``print`` and notebooks."""

    @property
    def faults(self) -> list[Finding]:
        """The findings that are faults."""
        return [finding for finding in self if finding.severity == "fault"]

    @property
    def notes(self) -> list[Finding]:
        """The findings that are notes."""
        return [finding for finding in self if finding.severity == "note"]

    def named(self, name: str) -> Finding:
        """Return the finding of one check; raises KeyError if that check was not made."""
        for finding in self:
            if finding.name == name:
                return finding
        raise KeyError(f"no finding {name!r}; there are {', '.join(finding.name for finding in self)}")

    def to_json(self) -> str:
        """Return the findings as a JSON array of objects with name, severity, evidence and remedy."""
        return json.dumps([finding._asdict() for finding in self], indent=2)

    def table(self, width: int) -> str:
        """Return the table for so many columns: severity, check, evidence, and a remedy behind an arrow."""
        names = max((len(finding.name) for finding in self), default=0)
        lines: list[str] = []
        for name, severity, evidence, remedy in self:
            head = f"{severity:<5}  {name}"
            start, indent = (f"{severity:<5}  {name:<{names}}  ", " " * (names + 9)) if width >= _BESIDE else ("", "  ")
            if not start:
                lines.append(head)
            lines += _wrapped(evidence, width, start or indent, indent)
            if remedy:
                lines += _wrapped(remedy, width, f"{indent}-> ", f"{indent}   ")
        counts = Counter(finding.severity for finding in self)
        parts = (("fault", None), ("note", None), ("ok", "ok"))
        lines.append(", ".join(terminal.count(counts[name], name, many) for name, many in parts))
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the table for this terminal."""
        return self.table(terminal.width())

    def __repr__(self) -> str:
        return str(self)


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, len(rest) + 12),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
