"""Documents: links that lead somewhere, indexes that leave nothing out, tables that say what the code says."""

import re

from test_house_rules import ARROWS, ARROWS_INSIDE_FUNCTIONS, EVERYTHING, GUESTS, KERNELS, ROOT, each

BACKPROP = ROOT / "docs/backprop.md"
DECISIONS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "kernels/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def text_of(path):
    return path.read_text(encoding="utf-8")


def prose_of(path):
    """Return a document without its blocks of code, in which '#' and brackets mean something else."""
    return re.sub(r"^```.*?^```$", "", text_of(path), flags=re.MULTILINE | re.DOTALL)


def headings(path, mark="#+"):
    return re.findall(rf"^{mark} (.+)$", prose_of(path), re.MULTILINE)


def anchor(heading):
    """Return what a heading is called in links, by GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(path):
    """Return the targets of all links that stay in this repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose_of(path)))
    return [target for target in targets if not re.match(r"https?://", target)]


def table_under(path, first):
    """Return the rows, as lists of cells, of the table whose first heading is ``first``."""
    lines = text_of(path).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first} |")) + 2
    end = next((n for n, line in enumerate(lines[start:], start) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:end]]


def names_in(cell):
    return set(re.findall(r"`(\w+)`", cell))


@each(DOCUMENTS)
def test_links_lead_to_something(path):
    for target in links(path):
        file, _, heading = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{target}: no such file"
        assert not heading or heading in map(anchor, headings(there)), f"{target}: no such heading"


def test_there_are_links_to_look_at():
    assert sum(len(links(path)) for path in DOCUMENTS) > 100
    assert len(links(ROOT / "README.md")) > 20


def with_equations(title, numbers):
    """Return a heading as the index of the mathematics shows it: "ReLU (15), (16)"."""
    if len(numbers) < 3:
        return title + ",".join(f" ({n})" for n in numbers)
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), title
    return f"{title} ({numbers[0]}) to ({numbers[-1]})"


def test_every_section_of_the_mathematics_is_in_its_index_in_order_with_its_equations():
    introduction, *sections = text_of(BACKPROP).split("\n## ")
    expected = []
    for section in sections:
        title, _, body = section.partition("\n")
        numbers = [int(n) for n in re.findall(r"\((\d+)\)$", body, re.MULTILINE)]
        expected.append((with_equations(title, numbers), anchor(title)))
    assert re.findall(r"\[([^\]]+)\]\(#([\w-]+)\)", introduction) == expected


def test_every_decision_is_in_their_index_in_order():
    rows = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| \S", text_of(ROOT / "docs/adr/README.md"), re.MULTILINE)
    assert rows == [(path.name[:4], path.name) for path in DECISIONS]


@each(DECISIONS)
def test_a_decision_has_its_number(path):
    assert headings(path)[0].startswith(f"{int(path.name[:4])}. ")


@each(KERNELS)
def test_every_file_of_kernels_is_described(path):
    described = " ".join(row[0] for row in table_under(ROOT / "kernels/README.md", "file"))
    assert f"`{path.name}`" in described


def test_the_decision_on_imports_has_the_arrows_of_the_house_rules():
    table, inside = {}, {}
    for parts, allowed in table_under(ROOT / "docs/adr/0011-import-order.md", "part"):
        top, _, later = allowed.partition("; inside functions ")
        for part in names_in(parts):
            table[part] = EVERYTHING if top == "everything" else names_in(top)
            if later:
                inside[part] = names_in(later)
    assert table == ARROWS
    assert inside == ARROWS_INSIDE_FUNCTIONS


def test_the_decision_on_imports_says_where_other_packages_belong():
    rows = table_under(ROOT / "docs/adr/0011-import-order.md", "package")
    assert {package.strip("`"): names_in(parts) for package, parts in rows} == GUESTS
