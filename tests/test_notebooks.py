"""Every notebook runs from top to bottom, on tiny sizes and in a folder of its own; what is stored of its outputs."""

import os
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import fastconv as fc

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# What it shows is as good on any machine, so whoever only reads it shall see it; what the others measure is not.
WITH_OUTPUTS = {"03_train_a_digit_recognizer"}
LARGEST = 600_000  # bytes

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
def test_a_notebook_is_stored_without_what_changes(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}
    for cell in notebook.cells:
        assert re.fullmatch(r"[a-z0-9-]+", cell.id), f"give the cell {cell.id!r} a name that lasts"
        assert not cell.metadata
        if cell.cell_type == "code" and path.stem not in WITH_OUTPUTS:
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("name", WITH_OUTPUTS)
def test_stored_outputs_are_those_of_one_run_and_small(name):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    assert path.stat().st_size < LARGEST
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type in ("stream", "execute_result")
            assert output.get("name") != "stderr"
            assert not re.search(r"/(home|root|tmp|Users)/", output.get("text", ""))


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
    assert counts == {"direct": f"{64 * 64 * 14 * 14 * 9:,}", "Winograd": f"{64 * 64 * 4 * 4 * 36:,}", "ratio": "3.06"}
    errors = [float(error) for _, _, error in rows(notebook, "winograd-count")]
    assert 0 < max(errors[:2]) < 3e-5

    measured = "tiles lines winograd filters pointwise depthwise relu gate many threads".split()
    agree = {name: result for cell in measured for name, _, _, _, result in rows(notebook, cell)}
    other_sums = {"Winograd, 64 to 64 channels": 3e-5, "ReLU's gradient inside pooling's": 1e-5}
    for name, result in agree.items():
        assert (name in other_sums and float(result) < other_sums[name]) or result == "same bits", name
    assert len(agree) == 13

    first, second = re.findall(r"\b[0-9a-f]{32}\b", texts(cells["threads"]))
    assert first == second


def test_training_a_recognizer_ends_in_a_submission(executed):
    notebook = executed(ROOT / "notebooks" / "03_train_a_digit_recognizer.ipynb")
    cells = {cell.id: cell for cell in notebook.cells}
    pictures = ["augment-preview", "training-curves", "mistakes-matrix", "mistakes-gallery", "filters-first"]
    for name in pictures:
        assert "image/png" in cells[name].outputs[0].data, name
    assert "1,440 to train on, 160 held out" in texts(cells["data-split"])
    assert len(re.findall("95 % interval", texts(cells["test-vote"]))) == 2
    assert "submission.csv: 200 rows, ready to upload\nit would score 0." in texts(cells["submission-write"])
    drawn = [int(n) for n in re.findall(r"\d+", texts(cells["test-predict"]))]
    assert len(drawn) == 10
    assert sum(drawn) == 200


def test_training_a_recognizer_reads_kaggles_files(tmp_path, monkeypatch):
    """The cells before training alone, in this process: the rest is the same for any data."""
    digits = fc.data.digits10k()
    table = np.column_stack([digits.labels, digits.images.reshape(len(digits), -1)])[::100]
    pixels = ",".join(f"pixel{n}" for n in range(784))
    np.savetxt(tmp_path / "train.csv", table, "%d", ",", header=f"label,{pixels}", comments="")
    np.savetxt(tmp_path / "test.csv.gz", table[:7, 1:], "%d", ",", header=pixels, comments="")
    monkeypatch.setenv("FASTCONV_DIGITS", str(tmp_path))
    cells = {cell.id: cell for cell in read(ROOT / "notebooks" / "03_train_a_digit_recognizer.ipynb").cells}
    names = {}
    for cell in ("setup", "data-load", "data-split"):
        exec(cells[cell].source, names)
    assert names["x"].shape == (100, 1, 28, 28)
    assert names["x_test"].shape == (7, 1, 28, 28)
    assert names["y_test"] is None
    np.testing.assert_array_equal(names["y"], digits.labels[::100])
    assert len(names["held_out"]) == 10
