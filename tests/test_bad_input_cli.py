"""Bad input at the command line: one line that says what, where and how to mend it; exit 2; nothing lost."""

import gzip
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from permissions import binding
from subprocesses import ROOT

import fastconv as fc
from fastconv import data
from fastconv.cli import main

HEADER = ",".join(["label", *(f"pixel{n}" for n in range(784))])
ROW = ",".join(["3", *["0"] * 784])


def row(label="3", **cells):
    values = ["0"] * 784
    for name, value in cells.items():
        values[int(name.removeprefix("pixel"))] = value
    return ",".join([label, *values])


def images(n, side=28):
    return np.arange(n * side * side, dtype=np.uint32).reshape(n, 1, side, side).astype(np.uint8)


def write(name, *lines):
    with open(name, "w", newline="") as file:
        file.write("".join(f"{line}\n" for line in lines))


def npz(name, x, y=None):
    np.savez(name, images=x, **({} if y is None else {"labels": y}))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, threads):
    """A folder with a good run, good data, and the bad files of the table."""
    monkeypatch.chdir(tmp_path)
    digits = data.load()
    npz("good.npz", digits.images[::200], digits.labels[::200])
    npz("small.npz", images(40, 20), np.arange(40) % 10)
    npz("tiny.npz", images(40, 9), np.arange(40) % 10)
    npz("wide.npz", images(40, 28)[..., :20, :], np.arange(40) % 10)
    npz("unlabelled.npz", images(5))
    npz("one_class.npz", images(5), np.zeros(5, np.int64))
    npz("gap.npz", images(5), np.array([0, 1, 2, 3, 10**9]))
    npz("unknown_class.npz", images(5), np.array([0, 1, 2, 3, 12]))
    npz("floats.npz", np.zeros((5, 1, 28, 28)), np.arange(5))
    npz("one.npz", images(1), np.array([1]))
    write("empty.csv")
    write("header_only.csv", HEADER)
    write("no_header.csv", ROW, ROW)
    write("wrong_header.csv", HEADER.replace("pixel7,", "pixle7,"), ROW)
    write("short.csv", HEADER, ROW, ROW[:-2])
    write("long.csv", HEADER, ROW, ROW + ",5")
    write("text.csv", HEADER, ROW, row(pixel5="x"))
    write("nan.csv", HEADER, ROW, row(pixel5="nan"))
    write("large.csv", HEADER, ROW, row(pixel5="256"))
    write("negative.csv", HEADER, ROW, row(pixel5="-1"))
    write("label.csv", HEADER, ROW, row(label="three"))
    packed = gzip.compress("\n".join([HEADER, ROW, ROW]).encode())
    (tmp_path / "cut.csv.gz").write_bytes(packed[:-20])
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "run").mkdir()
    fc.save(fc.models.lenet5(), "run/model.safetensors")
    content = (tmp_path / "run" / "model.safetensors").read_bytes()
    (tmp_path / "damaged.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (tmp_path / "cut.safetensors").write_bytes(content[:1000])
    for name, members in (("few", [10]), ("mixed", [10, 9]), ("half", [None, 10])):
        for number, classes in enumerate(members, 1):
            if classes:
                (tmp_path / name / f"member-{number}").mkdir(parents=True)
                model = fc.Sequential(fc.Flatten(), fc.Linear(784, classes))
                fc.save(model, f"{name}/member-{number}/model.safetensors")
    for name in ("few", "mixed"):
        write(f"{name}/metrics.json", '{"members": [{"folder": "member-1"}, {"folder": "member-2"}]}')
    (tmp_path / "strange").mkdir()
    write("strange/metrics.json", '{"members": [1, 2]}')
    (tmp_path / "bare").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "submission.csv").write_text("precious")
    return tmp_path


TRAIN = ["train", "good.npz", "--epochs", "1", "--out", "new"]
TABLE = [
    # Options
    ([], "fastconv: the following arguments are required: COMMAND", "fastconv --help"),
    (["trian"], "invalid choice: 'trian'", "train"),
    ([*TRAIN, "--epoch", "3"], "fastconv train: '--epoch' is unknown, did you mean --epochs?", "train --help"),
    ([*TRAIN, "extra.csv"], "'extra.csv' is unknown"),
    (["predict", "run"], "fastconv predict: the following arguments are required: DATA"),
    ([*TRAIN, "--epochs", "0"], "--epochs: expected a whole number of at least 1, got '0'"),
    ([*TRAIN, "--epochs", "1.5"], "--epochs: expected a whole number of at least 1, got '1.5'"),
    ([*TRAIN, "--batch-size", "-3"], "--batch-size: expected a whole number of at least 1, got '-3'"),
    ([*TRAIN, "--lr", "0"], "--lr: expected a finite number above 0, got '0'"),
    ([*TRAIN, "--lr", "nan"], "--lr: expected a finite number above 0, got 'nan'"),
    ([*TRAIN, "--lr", "inf"], "--lr: expected a finite number above 0, got 'inf'"),
    ([*TRAIN, "--clip", "0"], "--clip: expected a finite number above 0, got '0'"),
    ([*TRAIN, "--time-budget", "-1"], "--time-budget: expected a finite number above 0, got '-1'"),
    ([*TRAIN, "--weight-decay", "-1"], "--weight-decay: expected a finite number of at least 0, got '-1'"),
    ([*TRAIN, "--ema", "1"], "--ema: expected a fraction from 0 to below 1", "got '1'"),
    ([*TRAIN, "--decay", "biases"], "--decay: invalid choice: 'biases'"),
    ([*TRAIN, "--early-stop", "3", "--val", "0"], "--early-stop: expected images to measure on, got --val 0"),
    ([*TRAIN, "--schedule", "plateau", "--val", "0"], "--schedule plateau: expected images to measure on"),
    ([*TRAIN, "--stratify", "--val", "0"], "--stratify: expected images to measure on, got --val 0"),
    ([*TRAIN, "--warmup", "1"], "--warmup: expected a fraction from 0 to below 1", "got '1'"),
    (
        [*TRAIN, "--schedule", "step", "--warmup", "0.1"],
        "schedule: expected one of cosine, one-cycle with a warmup of 0.1, got 'step'",
    ),
    ([*TRAIN, "--warmup", "0"], "--warmup 0: expected more than 0 with --schedule one-cycle", "--warmup 0.05, or"),
    ([*TRAIN, "--ensemble", "0"], "--ensemble: expected a whole number of at least 1, got '0'"),
    ([*TRAIN, "--tta", "0", "--augment"], "--tta: expected a whole number of at least 1, got '0'"),
    ([*TRAIN, "--tta", "4"], "--tta 4: expected --augment with it, whose milder form the views undergo"),
    ([*TRAIN, "--lr", "fast"], "--lr: expected a finite number above 0, got 'fast'"),
    ([*TRAIN, "--val", "1"], "--val: expected a fraction from 0 to below 1, such as 0.1", "got '1'"),
    ([*TRAIN, "--val", "-0.1"], "--val: expected a fraction from 0 to below 1", "got '-0.1'"),
    ([*TRAIN, "--val", "nan"], "--val: expected a fraction", "got 'nan'"),
    (
        [*TRAIN, "--augment", "letters"],
        "--augment: expected digits, fashion or cifar",
        "got 'letters'; a file goes before it",
    ),
    ([*TRAIN, "--size", "28x"], "--size: expected height x width, such as 28x28, got '28x'"),
    ([*TRAIN, "--size", "28x28"], "--size: expected a folder of PNG or JPEG files", "got good.npz"),
    (["train", "--size", "28x28"], "--size: expected a folder of PNG or JPEG files", "got no DATA"),
    (["train", "bare", "--size", "28x28"], "--size: expected a folder of PNG or JPEG files", "got bare"),
    (["lr-find", "good.npz", "--size", "28x28"], "--size: expected a folder of PNG or JPEG files", "got good.npz"),
    ([*TRAIN, "--seed", "-1"], "--seed: expected a whole number of at least 0, got '-1'"),
    ([*TRAIN, "--threads", "0"], "--threads: expected a whole number of at least 1, got '0'"),
    ([*TRAIN, "--threads", "100000"], "--threads: expected a whole number from 1 to", "got 100000"),
    ([*TRAIN, "--model", "vgg"], "--model: expected one of lenet5, lenet_seed", "got 'vgg'"),
    ([*TRAIN, "--optimizer", "sdg"], "optimizer: expected one of sgd, adam, adamw, rmsprop, lion, got 'sdg'"),
    (
        [*TRAIN, "--schedule", "up"],
        "schedule: expected one of constant, step, exponential, cosine, one-cycle, plateau, got 'up'",
    ),
    (["summary", "lenet5", "--input", "28x28"], "--input: expected channels x height x width", "got '28x28'"),
    # Data
    (["train", "nowhere.csv"], "nowhere.csv: there is no such file"),
    (["train", "bare"], "bare", "train-images-idx3-ubyte"),
    (["train", "empty.csv"], "empty.csv", "empty file"),
    (["train", "header_only.csv"], "header_only.csv: line 2: expected at least one row"),
    (["train", "no_header.csv"], "no_header.csv: line 1: expected the header", "add the header"),
    (["train", "wrong_header.csv"], "wrong_header.csv: line 1, column 9: expected the name pixel7, got 'pixle7'"),
    (["train", "short.csv"], "short.csv: line 3, column pixel783: expected 785 cells, got 784"),
    (["train", "long.csv"], "long.csv: line 3, behind column pixel783: expected 785 cells, got 786"),
    (["train", "text.csv"], "text.csv: line 3, column pixel5: expected a whole number from 0 to 255, got", "'x'"),
    (["train", "nan.csv"], "nan.csv: line 3, column pixel5: expected a whole number from 0 to 255, got", "nan"),
    (["train", "large.csv"], "large.csv: line 3, column pixel5: expected a whole number from 0 to 255, got", "256"),
    (
        ["train", "negative.csv"],
        "negative.csv: line 3, column pixel5: expected a whole number from 0 to 255, got",
        "-1",
    ),
    (["train", "label.csv"], "label.csv: line 3, column label: expected a whole number from 0 to 255, got", "three"),
    (["train", "cut.csv.gz"], "cut.csv.gz", "the file ends early", "copy or download it again"),
    (["train", "picture.png"], "picture.png: expected a CSV file"),
    (["train", "floats.npz"], "floats.npz: array images: expected dtype uint8, got float64"),
    (["train", "unlabelled.npz"], "unlabelled.npz: the images have no labels; give data with labels"),
    (["train", "one_class.npz"], "one_class.npz: expected at least two classes, got label 0 alone"),
    (["train", "gap.npz"], "gap.npz: expected labels from 0 upwards without gaps, got label 1000000000 in 5 images"),
    (["train", "one.npz", "--val", "0.5"], "one.npz"),
    (["train", "tiny.npz"], "tiny.npz: its images of 1x9x9 do not fit lenet5", "image_size of at least 12, got 9"),
    (["train", "wide.npz"], "wide.npz: its images of 1x20x28 do not fit lenet5", "expected square images, got 20x28"),
    ([*TRAIN, "--test", "nowhere.csv"], "nowhere.csv: there is no such file"),
    ([*TRAIN, "--test", "empty.csv"], "empty.csv", "empty file"),
    ([*TRAIN, "--test", "small.npz"], "small.npz: expected images of 1x28x28 as in good.npz, got 1x20x20"),
    # Where to write
    (["train", "good.npz", "--out", "run"], "run: already holds a run (model.safetensors)", "--out"),
    (["train", "good.npz", "--out", "file"], "file: expected a folder for the run, got a file", "--out"),
    (["train", "good.npz", "--out", "file/run"], "file", "the run's folder cannot be written (Not a directory)"),
    (["predict", "run", "good.npz", "-o", "no/where.csv"], "there is no folder no; create it"),
    (["predict", "run", "good.npz", "-o", "bare"], "bare: expected the name of a file to write, got a folder"),
    (["lr-find", "good.npz", "--plot", "no/lr.png"], "no/lr.png: there is no folder no; create it", "with --plot"),
    (["lr-find", "good.npz", "--plot", "bare"], "bare: expected the name of a file to write, got a folder", "--plot"),
    (["lr-find", "good.npz", "--plot", "lr"], "--plot: expected the name of a .png, .svg or .pdf file, got 'lr'; add"),
    (["lr-find", "good.npz", "--plot", "lr.xyz"], "--plot: expected the name of a .png, .svg or .pdf file", "lr.xyz"),
    # Models
    (["predict", "nowhere", "good.npz"], "nowhere: there is no such run", "runs/train-001"),
    (["predict", "bare", "good.npz"], "bare: the folder holds no model.safetensors"),
    (["predict", "file", "good.npz"], "file: no safetensors file, or damaged"),
    (["predict", "damaged.safetensors", "good.npz"], "damaged.safetensors: damaged", "use another copy"),
    (["predict", "cut.safetensors", "good.npz"], "cut.safetensors: no safetensors file, or damaged"),
    (["predict", "run", "small.npz"], "small.npz: its images of 1x20x20 do not fit", "model.safetensors", "layer 7"),
    (["predict", "run", "good.npz", "--tta", "4"], "--tta 4: nothing says what views undergo", "--augment digits"),
    (["evaluate", "run", "good.npz", "--augment", "digits"], "--augment digits: expected a number of views with it"),
    (["predict", "run", "good.npz", "--tta", "2", "--augment", "letters"], "--augment: expected digits, fashion or"),
    (["predict", "few", "good.npz"], "few: expected an ensemble of member-1, member-2", "member-2 holds no model."),
    (["predict", "strange", "good.npz"], "strange: the folder holds no model.safetensors"),
    (["evaluate", "mixed", "good.npz"], "good.npz: its images of 1x28x28 do not fit mixed", "model 1"),
    (["summary", "mixed"], "mixed: an ensemble of 2; name one of its models, such as mixed"),
    (["train", "good.npz", "--ensemble", "2", "--out", "half"], "member-2: already holds a run (model.safetensors)"),
    (["train", "good.npz", "--ensemble", "2", "--out", "mixed"], "already holds a run"),
    (["predict", "run", "nowhere.csv"], "nowhere.csv: there is no such file"),
    (["evaluate", "run", "unlabelled.npz"], "unlabelled.npz: the images have no labels"),
    (["evaluate", "run", "unknown_class.npz"], "unknown_class.npz: expected labels from 0 to 9", "got 12 for image 5"),
    (["summary", "resnet"], "resnet: no such run or model; expected", "lenet5"),
    (["summary", "run", "--input", "3x28x28"], "layer 0", "conv2d: expected x of shape (N, 1, H, W)"),
    (["gradcheck", "run", "--input", "1x8x8"], "layer"),
    (["gradcheck", "lenet5", "--input", "1x8x8"], "lenet5: expected image_size of at least 12, got 8"),
]


def outcome(words, capsys):
    try:
        code = main(words)
    except SystemExit as done:
        code = done.code
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    "line", TABLE, ids=[re.sub(r"[^\w.-]+", " ", " ".join(line[0])) or "nothing" for line in TABLE]
)
def test_one_line_and_nothing_lost(line, folder, capsys):
    words, *fragments = line
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, errors = outcome(words, capsys)
    assert code == 2, errors
    assert errors.startswith("fastconv")
    assert errors.count("\n") == 1
    assert errors.endswith("\n")
    assert not [fragment for fragment in fragments if fragment not in errors], errors
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not (folder / "runs").exists()
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    "words", [["train", "nowhere.csv"], ["train", "--epoch"], ["predict", "damaged.safetensors", "x"]]
)
def test_so_it_is_in_a_process_of_its_own(words):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "kernels")]))
    done = subprocess.run(
        [sys.executable, "-m", "fastconv", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fastconv")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_name_with_a_line_end_is_still_one_line(capsys):
    code, errors = outcome(["train", "no\nwhere.csv"], capsys)
    assert (code, errors.count("\n")) == (2, 1)


def test_a_disk_that_fills_up_keeps_what_was_saved(folder, capsys, monkeypatch):
    from fastconv.training.run_folder import RunFolder

    append, epochs = RunFolder.append, []

    def full(self, record):
        epochs.append(record["epoch"])
        if len(epochs) == 2:
            raise OSError(28, "No space left on device", str(self.path / "results.csv"))
        append(self, record)

    monkeypatch.setattr(RunFolder, "append", full)
    code, errors = outcome(["train", "good.npz", "--epochs", "5", "--out", "new"], capsys)
    assert code == 2
    assert errors == f"fastconv: {os.path.join('new', 'results.csv')}: No space left on device\n"
    fc.load("new/model.safetensors")


def test_an_unwritable_folder_is_found_before_training(folder, capsys):
    (folder / "locked").mkdir(mode=0o500)
    with binding():
        code, errors = outcome(["train", "good.npz", "--out", "locked/run"], capsys)
    assert code == 2
    assert "the run's folder cannot be written (Permission denied)" in errors


@pytest.mark.parametrize("words", [["predict", "run", "good.npz", "-o"], ["lr-find", "good.npz", "--plot"]])
def test_a_folder_that_takes_no_file_is_found_before_the_work(words, folder, capsys):
    (folder / "locked").mkdir(mode=0o500)
    with binding():
        code, errors = outcome([*words, "locked/a.png"], capsys)
    name = os.path.join("locked", "a.png")
    message = f"{name}: the folder locked may not be written to; name another file with {words[-1]}"
    assert (code, errors) == (2, f"fastconv: {message}\n")


def test_debugging_shows_where_an_error_comes_from(monkeypatch):
    monkeypatch.setenv("FASTCONV_DEBUG", "1")
    with pytest.raises(data.DataError):
        main(["train", "nowhere.csv"])
