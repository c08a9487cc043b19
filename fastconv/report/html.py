"""HTML without scripts, in which nothing that came from a file is anything but text."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
body { margin: 0 auto; padding: 1rem; max-width: 70rem; background: #fff; color: #222; }
body { font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0 .75rem; max-width: 45rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e6e6e6; }
th { font-weight: 600; }
td { overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.number { text-align: right; }
figure { margin: 0; overflow-x: auto; }
img { max-width: 100%; height: auto; }
"""
_NARROWEST = 480
# Browsers are told to load nothing and to run nothing, whatever the page may contain.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, parts: Iterable[str]) -> str:
    """Return a page of parts that are HTML already."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            f"<h1>{escape(title)}</h1>",
            *parts,
            "</body>",
            "</html>",
            "",
        ]
    )


def heading(text: str) -> str:
    """Return the title of a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and what they are."""
    lines = [f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows]
    return _table(lines)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first columns are words, and whose columns with a header that ends in '#' are numbers."""
    kinds = [' class="number"' if name.endswith("#") else "" for name in header]
    head = "".join(f"<th{kind}>{escape(name.rstrip('#'))}</th>" for name, kind in zip(header, kinds, strict=True))
    lines = ["".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) for row in rows]
    return _table([f"<tr>{head}</tr>", *(f"<tr>{line}</tr>" for line in lines)])


def folded(summary: str, content: str) -> str:
    """Return HTML that is shown when its line is clicked."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def picture(png: bytes, description: str) -> str:
    """Return an image that is part of the page."""
    source = b64encode(png).decode("ascii")
    width, height = (int.from_bytes(png[start : start + 4]) for start in (16, 20))
    # On a narrow screen a picture is scrolled rather than made too small to be read.
    size = f'width="{width}" height="{height}" style="min-width: {min(width, _NARROWEST)}px"'
    return f'<figure><img src="data:image/png;base64,{source}" alt="{escape(description)}" {size}></figure>'


def _table(lines: Iterable[str]) -> str:
    return "\n".join(['<div class="wide"><table>', *lines, "</table></div>"])
