"""Every notebook runs from top to bottom, on tiny sizes and in a folder of its own, and is stored without outputs."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def texts(cell):
    return "".join(output["text"] for output in cell.outputs if output.output_type == "stream")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Run a notebook once for all tests that look at it."""
    done = {}

    def run(path):
        if path not in done:
            folder = tmp_path_factory.mktemp("elsewhere")
            done[path] = NotebookClient(
                read(path), timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
            ).execute()
        return done[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTCONV_NOTEBOOK_QUICK", "1")
        patch.delenv("NUMBA_DISABLE_JIT", raising=False)
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")])
        )
        yield run


def test_there_are_notebooks():
    assert NOTEBOOKS


@each_notebook
def test_a_notebook_is_stored_without_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert re.fullmatch(r"[a-z0-9-]+", cell.id), f"give the cell {cell.id!r} a name that lasts"
        assert not cell.metadata
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@each_notebook
def test_a_notebook_links_to_what_is_there(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(((?!https?://)[^)#]+)", cell.source):
                assert (path.parent / target).exists(), target


@each_notebook
def test_a_notebook_runs_from_any_folder(path, executed):
    notebook = executed(path)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


def test_one_convolution_says_what_its_text_promises(executed):
    notebook = executed(ROOT / "notebooks" / "01_one_convolution.ipynb")
    cells = {cell.id: cell for cell in notebook.cells}
    assert "y = [17 31 20 46 75 38]" in texts(cells["one-row-forward"])
    assert "dk = [28 16 35]\ndx = [ 2  7 -1 -3 13  8 21  3]" in texts(cells["backwards-row"])
    assert "elements agree" in texts(cells["backwards-gradcheck"])
    assert "by backward and" in texts(cells["backwards-mistake"])
    assert "outer_fma(" in texts(cells["ladder-source"])
    table = cells["ladder-table"].outputs[0].data["text/markdown"]
    for rung in ("Python loops", "njit", "njit parallel", "along the row", "register tiles", "*peak*"):
        assert f"| {rung} |" in table
    assert "(Pdb) p (c, u, v)\n(0, 0, 1)" in texts(cells["slow-debugger"])
    assert "response" in texts(cells["slow-debugger"])
    for name in ("slow-tiles", "slow-training"):
        hashes = re.findall(r"\b[0-9a-f]{32}\b", texts(cells[name]))
        assert len(hashes) >= 2
        assert len(set(hashes)) == 1


def rows(notebook, name):
    """The rows of the table that a cell returns, without its header."""
    (cell,) = [cell for cell in notebook.cells if cell.get("id") == name]
    (table,) = [output.data["text/markdown"] for output in cell.outputs if "text/markdown" in output.get("data", {})]
    return [[text.strip() for text in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_how_fast_says_what_its_text_promises(executed):
    notebook = executed(ROOT / "notebooks" / "02_how_fast.ipynb")
    cells = {cell.id: cell for cell in notebook.cells}
    for name in ("limits-plot", "roofline-plot", "step-plot", "gains-plot"):
        assert "image/png" in cells[name].outputs[0].data
    assert [row[0] for row in rows(notebook, "limits-measure")][::5] == ["64 KiB", "64 MiB"]
    assert {row[0] for row in rows(notebook, "left-table")} >= {"arithmetic sets the floor", "memory sets the floor"}

    counts = {name: count for name, count, _ in rows(notebook, "winograd-count")}
    assert counts == {"direct": f"{64 * 64 * 14 * 14 * 9:,}", "Winograd": f"{64 * 64 * 7 * 7 * 16:,}", "ratio": "2.25"}
    errors = [float(error) for _, _, error in rows(notebook, "winograd-count")]
    assert 0 < max(errors[:2]) < 3e-6

    measured = "tiles lines winograd filters pointwise depthwise relu gate many threads".split()
    agree = {name: result for cell in measured for name, _, _, _, result in rows(notebook, cell)}
    other_sums = {"Winograd, 64 to 64 channels", "ReLU's gradient inside pooling's"}
    for name, result in agree.items():
        assert (name in other_sums and float(result) < 1e-5) or result == "same bits", name
    assert len(agree) == 13

    first, second = re.findall(r"\b[0-9a-f]{32}\b", texts(cells["threads"]))
    assert first == second
