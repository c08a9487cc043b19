"""report.html and the folder plots: what stands in them, that they cost nothing that is saved, and the command."""

import base64
import json
import os
import re
import shutil
import signal
from html.parser import HTMLParser

import numpy as np
import pytest
from subprocesses import succeed

import fastconv as fc
from fastconv import data, plots, report, terminal
from fastconv.cli import main
from fastconv.report import html
from fastconv.training.run_folder import RunFolderError, read_results

pytest.importorskip("matplotlib")
NAMES = ("<script>alert(1)</script>", "a \"quoted\" & 'odd' $name_", "plain")
ALONE = {"meta", "img"}  # elements without an end


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what a page holds."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.cells, self.links, self.shown = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        self.shown += [value for name, value in attributes if name == "alt"]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += text

    def after(self, name):
        """The cell behind the one that says ``name``."""
        return self.cells[self.cells.index(name) + 1]


def read(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch, threads):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """An archive of 240 small colour images, of two classes that are easily told apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 2
    pixels = rng.integers(0, 120, (240, 3, 12, 12)) + 40 * labels[:, None, None, None]
    path = tmp_path_factory.mktemp("images") / "small.npz"
    np.savez(path, images=pixels.astype(np.uint8), labels=labels)
    return path


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """A finished run with a report, and what it printed."""
    out = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr(terminal, "say", lambda text="", **_: said.append(text))
        assert main(["train", str(images), "--epochs", "2", "--augment", "--val", "0.5", "--out", str(out)]) == 0
    return out, said


# ---------------------------------------------------------------------------------------------------------- after train


def test_training_leaves_pictures_and_a_page(trained):
    folder, said = trained
    pictures = ["augmentation.png", "confusion.png", "curves.png", "errors.png", "filters.png"]
    assert sorted(os.listdir(folder / "plots")) == pictures
    assert f"report {folder / 'report.html'}" in said
    page, metrics = Page(read(folder)), json.loads((folder / "metrics.json").read_text())
    assert page.after("accuracy").startswith(f"{metrics['val_accuracy']:.4f}, 95 % interval ")
    assert page.after("images") == "120 to train, 120 held out, 3 x 12 x 12, 2 classes"
    assert page.after("SHA-256") == json.loads((folder / "config.json").read_text())["data"]["sha256"]
    history = read_results(folder / "results.csv")
    assert page.after("time") == f"{history.seconds:.1f} s"
    assert page.after("images per second") == f"{history.images_per_second:,.0f}"
    assert page.shown == ["Training", "Confusion matrix", "Worst errors", "First filters", "Augmentation"]
    inlined = {base64.b64decode(link.removeprefix("data:image/png;base64,"), validate=True) for link in page.links}
    assert inlined == {(folder / "plots" / name).read_bytes() for name in pictures}


def test_the_page_needs_nothing_from_elsewhere(trained):
    text = read(trained[0])
    page = Page(text)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[^\"]*", "", text))
    assert "width=device-width" in text
    assert html.picture((trained[0] / "plots" / "curves.png").read_bytes(), "Training") in text


@pytest.fixture
def odd(trained, images, tmp_path):
    """A run's folder with an odd name, and data whose classes have such names."""
    folder = tmp_path / "<b>run & co"
    shutil.copytree(trained[0], folder, ignore=shutil.ignore_patterns("plots", "report.html"))
    small = data.load(images)
    return folder, data.Dataset(small.images, small.labels, "<img src=x onerror=alert(1)>", NAMES[:2])


def test_what_comes_from_files_is_text(odd):
    folder, dataset = odd
    train, held_out = data.split(len(dataset), 0.5, 0)
    model = fc.load(folder / "model.safetensors")
    model.layers[-1].bias.value[:] = (100, 0)  # everything is taken for one class
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["confusion_matrix"], metrics["stopped"] = [[60, 0], [60, 0]], "<i>stopped"
    config = json.loads((folder / "config.json").read_text())
    config["data"]["source"] = dataset.source
    report.write(folder, config, metrics, model, dataset, train, held_out)
    text = read(folder)
    page = Page(text)
    assert set(page.tags) <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table", "tr", "th", "td"),
        *("figure", "img"),
    }
    assert not set(NAMES[:1]) & set(re.findall("<[^>]*>", text))
    assert [cell for cell in page.cells if cell in NAMES] == [*NAMES[:2], NAMES[1], NAMES[0]]
    assert page.after("data") == "<img src=x onerror=alert(1)>"
    assert page.after("ended") == "<i>stopped"
    assert "&lt;b&gt;run &amp; co" in text


def test_many_classes_are_folded():
    figures = [{"label": n, "precision": None, "recall": 0.5, "support": 1} for n in range(21)]
    text = report.writing.tables.classes({"per_class": figures}, [f"c{n}" for n in range(21)])
    assert Page(text).tags[:2] == ["details", "summary"]
    assert Page(text).after("c20") == "-"


def test_a_run_without_validation(images, capsys, tmp_path):
    assert main(["train", str(images), "--epochs", "1", "--val", "0", "--out", "run"]) == 0
    assert f"report {os.path.join('run', 'report.html')}\n" in capsys.readouterr().out
    page = Page(read(tmp_path / "run"))
    assert page.after("validation").startswith("none")
    assert page.after("augmentation") == "none"
    assert sorted(os.listdir("run/plots")) == ["curves.png", "filters.png"]


# ------------------------------------------------------------------------------------------- when there is no drawing


def test_matplotlib_is_loaded_after_training_or_not_at_all(images, tmp_path):
    code = f"""
        import sys
        from fastconv import cli
        from fastconv.commands import train
        words = ["train", {str(images)!r}, "--epochs", "1"]
        assert cli.main([*words, "--no-report"]) == 0
        assert "matplotlib" not in sys.modules
        finish = train._finish
        def checked(*arguments):
            done = finish(*arguments)
            assert "matplotlib" not in sys.modules
            return done
        train._finish = checked
        assert cli.main(words) == 0
        assert "matplotlib" in sys.modules
    """
    shown = succeed(code)
    assert shown.count("report ") == 1
    assert not os.path.exists("runs/train-001/report.html")
    assert os.path.exists("runs/train-002/report.html")


TRAIN = ["--epochs", "1", "--out", "run"]
SAVED = ["config.json", "metrics.json", "model.safetensors", "results.csv", "timing.csv"]


def test_without_matplotlib_a_line_says_what_to_install(images, capsys, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["train", str(images), *TRAIN]) == 0
    done = capsys.readouterr()
    line = (
        'no report: plots need matplotlib, which comes with: pip install "fastconv[plot]"; then: fastconv report run\n'
    )
    assert line in done.out
    assert done.err == ""
    assert sorted(os.listdir("run")) == SAVED
    assert main(["report", "run"]) == 2
    message = 'fastconv: report: plots need matplotlib, which comes with: pip install "fastconv[plot]"\n'
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_while_drawing_loses_nothing(images, tmp_path, capsys, monkeypatch, number, code):
    monkeypatch.setattr(plots, "png", lambda figure: signal.raise_signal(number))
    assert main(["train", str(images), *TRAIN]) == code
    done = capsys.readouterr()
    assert "interrupted while drawing the report; to draw it: fastconv report run\n" in done.out
    assert done.out.splitlines()[-1].startswith("next   fastconv predict run ")
    assert done.err == ""
    assert sorted(os.listdir("run")) == SAVED
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["interrupted"] is False  # training was not


def test_training_that_was_interrupted_ends_without_drawing(images, capsys, monkeypatch):
    from fastconv.training.run_folder import RunFolder

    append = RunFolder.append

    def interrupted(self, record):
        append(self, record)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunFolder, "append", interrupted)
    assert main(["train", str(images), *TRAIN]) == 130
    assert "no report, since training was interrupted; to draw it: fastconv report run\n" in capsys.readouterr().out
    assert sorted(os.listdir("run")) == ["checkpoint.safetensors", *SAVED]


def test_a_picture_that_fails_is_no_failure_of_training(images, capsys, monkeypatch):
    def full(figure):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "png", full)
    assert main(["train", str(images), *TRAIN]) == 0
    line = "no report: [Errno 28] No space left on device; to try again: fastconv report run\n"
    assert line in capsys.readouterr().out
    monkeypatch.setenv("FASTCONV_DEBUG", "1")
    with pytest.raises(OSError, match="No space left"):
        main(["train", str(images), *TRAIN[:-1], "other"])
    assert sorted(os.listdir("other")) == SAVED


def test_a_narrow_terminal_breaks_the_lines_of_a_report(images, monkeypatch, capsys):
    import io
    import sys

    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, name, None)
    shown = io.StringIO()
    shown.isatty = lambda: True
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(terminal, "width", lambda: 40)
    assert main(["train", str(images), *TRAIN]) == 0
    lines = shown.getvalue().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("no report"))
    assert lines[start : start + 4] == [
        "no report: plots need matplotlib, which",
        "       comes with: pip install",
        '       "fastconv[plot]"; then: fastconv',
        "       report run",
    ]


# ------------------------------------------------------------------------------------------------------ fastconv report


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "run")


def test_the_command_draws_the_same_again(run, trained, capsys):
    shutil.rmtree(run / "plots")
    (run / "report.html").unlink()
    assert main(["report", "run"]) == 0
    assert capsys.readouterr().out == f"report {os.path.join('run', 'report.html')}\n"
    for name in os.listdir(trained[0] / "plots"):
        assert (run / "plots" / name).read_bytes() == (trained[0] / "plots" / name).read_bytes()
    assert read(run).replace("<p>run</p>", f"<p>{trained[0]}</p>") == read(trained[0])


def test_the_data_may_have_moved_but_not_changed(run, images, tmp_path, capsys):
    config = json.loads((run / "config.json").read_text())
    config["options"]["data"] = "gone.npz"
    (run / "config.json").write_text(json.dumps(config))
    assert main(["report", "run"]) == 2
    message = "fastconv: gone.npz: the run's data are not here; name them: fastconv report run DATA\n"
    assert capsys.readouterr().err == message
    assert main(["report", "run", str(images)]) == 0
    small = data.load(images)
    np.savez(tmp_path / "other.npz", images=small.images[::-1], labels=small.labels)
    capsys.readouterr()
    assert main(["report", "run", "other.npz"]) == 2
    error = capsys.readouterr().err
    assert f"other.npz: expected the data of the run, SHA-256 {small.sha256()[:12]}..., got " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "metrics.json").unlink(), "run: expected the folder of a run that has ended"),
        (lambda run: (run / "metrics.json").write_text("{"), "metrics.json: the file is damaged"),
        (lambda run: (run / "metrics.json").write_text("{}"), "is not of this version of fastconv ('best_epoch')"),
        (lambda run: (run / "config.json").write_text("[]"), "config.json: expected a run's configuration, got list"),
        (lambda run: (run / "results.csv").write_text("a,b\n1,2\n"), "results.csv: the file is damaged, or no run's"),
    ],
)
def test_a_folder_that_is_no_finished_run(run, spoil, message, capsys):
    spoil(run)
    assert main(["report", "run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_no_folder_at_all(capsys):
    assert main(["report", "nowhere"]) == 2
    assert "nowhere: expected the folder of a run" in capsys.readouterr().err


def test_results_are_read_as_they_were_written(trained, tmp_path):
    history = read_results(trained[0] / "results.csv")
    assert [record["epoch"] for record in history] == [1, 2]
    assert f"{history.best['val_acc']:.4f}" == Page(read(trained[0])).after("accuracy").partition(",")[0]
    header = (trained[0] / "results.csv").read_text().splitlines()[0]
    (tmp_path / "results.csv").write_text(f"{header}\n1,0.5,,,,0.1\n")
    # Killed between two rows: there is one that nobody asks for.
    (tmp_path / "timing.csv").write_text("epoch,time,images_per_s\n1,1.5,10\n2,3.0,10\n")
    (record,) = read_results(tmp_path / "results.csv")
    assert (record["epoch"], record["train_acc"], record["val_loss"], record["lr"]) == (1, None, None, 0.1)
    assert (record["time"], record["images_per_s"]) == (1.5, 10)
    for row in ("1,2", "1,x,,,,0.1", "one,0.5,,,,0.1"):
        (tmp_path / "results.csv").write_text(f"{header}\n{row}\n")
        with pytest.raises(RunFolderError, match="the file is damaged"):
            read_results(tmp_path / "results.csv")
