"""The command line, end to end: what each command prints, writes and returns."""

import contextlib
import csv
import errno
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from subprocesses import ROOT, succeed

import fastconv as fc
from fastconv import cli, data, models, optim, schedules, terminal
from fastconv import io as io_of_models
from fastconv.commands import common, train, train_ensemble
from fastconv.commands.interrupts import Interrupted, Interrupts
from fastconv.training.metrics import balanced_accuracy, confusion_matrix, macro_f1
from fastconv.training.run_folder import RunFolder

COMMANDS = ["train", "lr-find", "predict", "evaluate", "report", "summary", "gradcheck", "doctor", "bench", "warmup"]


def without_report(words):
    """Drawing takes a second, and has tests of its own in test_report.py."""
    return [*words, "--no-report"] if "train" in words[:1] and "--help" not in words else words


def main(words):
    return cli.main(without_report(words))


def write_csv(path, images, labels=None):
    names = ["label"] * (labels is not None) + [f"pixel{n}" for n in range(images[0].size)]
    rows = images.reshape(len(images), -1)
    rows = rows if labels is None else np.column_stack([labels, rows])
    np.savetxt(path, rows, "%d", ",", header=",".join(names), comments="")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with train.csv and test.csv: 200 and 30 of the built-in digits."""
    folder = tmp_path_factory.mktemp("files")
    digits = data.load()
    write_csv(folder / "train.csv", digits.images[::50], digits.labels[::50])
    write_csv(folder / "test.csv", digits.images[7::340])
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch, threads):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert (
        main(["train", str(files / "train.csv"), "--test", str(files / "test.csv"), "--epochs", "2", "--out", str(out)])
        == 0
    )
    return out


def text_of(path):
    return path.read_text()


# ---------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_loads_nothing_heavy(words):
    loaded = succeed(
        f"""
        import sys
        from fastconv.cli import main
        sys.stdout, stdout = sys.stderr, sys.stdout
        try:
            main({words!r})
        except SystemExit as done:
            assert done.code == 0
        print([name for name in ("numba", "llvmlite", "pandas", "numpy", "rich", "safetensors") if name in sys.modules],
              file=stdout)
        """
    )
    assert loaded == "[]"


def test_help_lists_the_commands_and_what_there_is(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown for name in COMMANDS if name != "gradcheck")
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = "".join(capsys.readouterr().out.split())
    for names in (models.NAMES, optim.NAMES, schedules.NAMES):
        assert f"{','.join(names[:-1])}or{names[-1]}" in shown


@pytest.mark.parametrize("columns", [50, 80])
@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_fits_the_terminal(words, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        main(words)
    assert not [line for line in capsys.readouterr().out.splitlines() if len(line) > columns]


def test_help_says_which_variables_and_exit_codes_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    source = "\n".join(path.read_text() for top in ("fastconv", "kernels") for path in (ROOT / top).rglob("*.py"))
    variables = set(re.findall(r'"(FASTCONV_[A-Z_]+)"', source))
    assert variables == set(re.findall(r"FASTCONV_[A-Z_]+", shown))
    assert re.findall(r"^  (\d+)  ", shown, re.MULTILINE) == ["0", "1", "2", "130", "143"]


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "fastconv", "--version"]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "kernels")]))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fastconv {fc.__version__}\n", "")


# --------------------------------------------------------------------------------------------------------------- train


def test_a_run_leaves_everything_behind(trained):
    assert sorted(os.listdir(trained)) == [
        "config.json",
        "metrics.json",
        "model.safetensors",
        "results.csv",
        "submission.csv",
        "timing.csv",
    ]
    rows = list(csv.DictReader(io.StringIO(text_of(trained / "results.csv"))))
    metrics = json.loads(text_of(trained / "metrics.json"))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert metrics["val_accuracy"] == max(float(row["val_acc"]) for row in rows)
    assert metrics["epochs"] == 2
    times = list(csv.DictReader(io.StringIO(text_of(trained / "timing.csv"))))
    assert all(float(row["time"]) > 0 < float(row["images_per_s"]) for row in times)
    assert metrics["interrupted"] is False
    assert np.sum(metrics["confusion_matrix"]) == 20
    assert sum(figures["support"] for figures in metrics["per_class"]) == 20
    assert metrics["interval95"][0] < metrics["val_accuracy"] < metrics["interval95"][1]
    assert metrics["val_loss"] > 0


def test_the_configuration_says_what_another_needs_to_repeat_it(trained, files):
    config = json.loads(text_of(trained / "config.json"))
    assert config["options"]["epochs"] == 2
    assert config["options"]["seed"] == 0
    assert config["options"]["lr"] == optim.by_name("sgd").lr
    assert set(config["versions"]) == {"fastconv", "python", "numpy", "numba"}
    assert config["machine"]["threads"] == fc.get_num_threads()
    assert config["machine"]["thread_layer"] == fc.thread_layer()
    assert config["machine"]["cpu"]
    assert config["data"]["sha256"] == data.load(files / "train.csv").sha256()
    assert config["data"]["train"] + config["data"]["validation"] == 200
    assert config["test"]["images"] == 30
    assert config["parameters"] == 61_706


def test_what_training_prints(files, capsys):
    assert main(["train", str(files / "train.csv"), "--epochs", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"fastconv {fc.__version__} | ")
    assert lines[1].endswith("train.csv: 180 train / 20 validation, 10 classes")
    assert lines[2] == "model  lenet5, 61,706 parameters (241 KB)"
    assert lines[3] == f"run    {os.path.join('runs', 'train-001')}"
    table = next(n for n, line in enumerate(lines) if line.startswith("epoch"))
    assert lines[table + 1].split()[0] == "1"
    assert lines[table + 2].startswith("val accuracy 0.")
    assert "(95% CI 0." in lines[table + 2]
    assert lines[table + 2].endswith(" of 20 wrong")
    assert lines[table + 3].startswith("most confused: ")
    assert lines[-1] == f"next   fastconv predict {os.path.join('runs', 'train-001')} test.csv -o submission.csv"


def test_the_next_command_works(files, capsys, tmp_path, monkeypatch):
    (tmp_path / "a b").mkdir()
    monkeypatch.chdir(tmp_path / "a b")
    (tmp_path / "a b" / "test.csv").write_bytes((files / "test.csv").read_bytes())
    assert main(["train", str(files / "train.csv"), "--epochs", "1", "--out", "my run"]) == 0
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("next   fastconv ")
    assert main(shlex.split(command)) == 0
    assert text_of(tmp_path / "a b" / "submission.csv").startswith("ImageId,Label\n1,")


def test_the_same_seed_gives_the_same_model_at_any_thread_count(files, tmp_path):
    for name, options in (("a", []), ("b", ["--threads", "1"]), ("c", ["--threads", "3"]), ("d", ["--seed", "1"])):
        assert main(["train", str(files / "train.csv"), "--epochs", "1", "--out", name, *options]) == 0
    a, b, c, d = (fc.load(tmp_path / name / "model.safetensors").state_dict() for name in "abcd")
    assert all((a[name] == b[name]).all() and (a[name] == c[name]).all() for name in a)
    assert any((a[name] != d[name]).any() for name in a)


def test_options_reach_training(files, tmp_path):
    options = ["--model", "lenet_seed", "--optimizer", "adamw", "--schedule", "cosine", "--lr", "0.003"]
    options += ["--batch-size", "32", "--val", "0.25", "--epochs", "1", "--out", "run", "--warmup", "0.5"]
    assert main(["train", str(files / "train.csv"), *options]) == 0
    (row,) = csv.DictReader(io.StringIO(text_of(tmp_path / "run" / "results.csv")))
    last = fc.schedules.cosine(warmup=0.5)(4 / 5)  # of 150 images in 5 batches
    assert float(row["lr"]) == pytest.approx(0.003 * last, rel=1e-4)
    config = json.loads(text_of(tmp_path / "run" / "config.json"))
    assert config["optimizer"]["lr"] == 0.003
    assert config["optimizer"]["betas"] == [0.9, 0.999]
    assert config["parameters"] == 5_120
    assert config["data"]["validation"] == 50
    assert config["augment"] is None


def test_augmentation_is_asked_for_and_recorded(files, tmp_path, capsys):
    for name, words in (("a", []), ("b", ["--augment"]), ("c", ["--augment", "fashion"]), ("d", ["--augment"])):
        command = ["train", str(files / "train.csv"), "--epochs", "1", "--out", name, *words]
        assert main(command) == 0
    configs = [json.loads(text_of(tmp_path / name / "config.json")) for name in "abcd"]
    assert [config["options"]["augment"] for config in configs] == [None, "digits", "fashion", "digits"]
    assert configs[1]["augment"]["rotate"] == fc.augment.PRESETS["digits"].rotate
    assert ", 10 classes, augmented as digits\n" in capsys.readouterr().out
    a, b, c, d = (fc.load(tmp_path / name / "model.safetensors").state_dict()["0.weight"] for name in "abcd")
    assert (a != b).any()
    assert (b != c).any()
    np.testing.assert_array_equal(b, d)


def test_colour_images_from_folders(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for folder, name, colour in (("photos", "red", 0), ("photos", "blue", 2)):
        (tmp_path / folder / name).mkdir(parents=True)
        for n in range(20):
            pixels = rng.integers(0, 60, (28, 28, 3)).astype(np.uint8)
            pixels[..., colour] += 150
            image.fromarray(pixels).save(tmp_path / folder / name / f"{n:02}.png")
    command = ["train", "photos", "--augment", "--stratify", "--val", "0.25", "--epochs", "4", "--batch-size", "8"]
    assert main([*command, "--out", "run"]) == 0
    assert "30 train / 10 validation, 2 classes, augmented as cifar" in capsys.readouterr().out
    config = json.loads(text_of(tmp_path / "run" / "config.json"))
    assert config["data"]["class_names"] == ["blue", "red"]
    assert config["data"]["image_shape"] == [3, 28, 28]
    assert len(config["normalization"]["mean"]) == 3
    metrics = json.loads(text_of(tmp_path / "run" / "metrics.json"))
    assert [figures["support"] for figures in metrics["per_class"]] == [5, 5]
    assert metrics["val_accuracy"] == 1
    (tmp_path / "new").mkdir()
    image.new("RGB", (56, 40), (200, 10, 10)).save(tmp_path / "new" / "a.png")
    image.new("L", (28, 28), 100).save(tmp_path / "new" / "b.jpg")
    assert main(["predict", "run", "new"]) == 0
    assert text_of(tmp_path / "submission.csv").startswith("ImageId,Label\n1,1\n2,")
    assert main(["evaluate", "run", "photos"]) == 0


def test_more_options_reach_training(files, tmp_path):
    options = ["--optimizer", "lion", "--weight-decay", "0.5", "--decay", "weights", "--clip", "0.7", "--ema", "0.9"]
    options += ["--loss-smoothing", "0.1", "--schedule", "plateau", "--epochs", "2", "--val", "0.5", "--out", "run"]
    assert main(["train", str(files / "train.csv"), *options, "--time-budget", "1000", "--early-stop", "5"]) == 0
    config, metrics = (json.loads(text_of(tmp_path / "run" / name)) for name in ("config.json", "metrics.json"))
    assert config["optimizer"] == {
        "lr": 1e-3,
        "weight_decay": 0.5,
        "decay": "weights",
        "clip_norm": 0.7,
        "betas": [0.9, 0.99],
    }
    given = {
        "optimizer": "lion", "weight_decay": 0.5, "decay": "weights", "clip": 0.7, "ema": 0.9, "loss_smoothing": 0.1,
        "schedule": "plateau", "time_budget": 1000.0, "early_stop": 5,
    }  # fmt: skip
    assert given.items() <= config["options"].items()
    assert metrics["stopped"] is None
    assert 0 < metrics["macro_f1"] <= 1
    assert 0 < metrics["balanced_accuracy"] <= 1
    rows = list(csv.DictReader(io.StringIO(text_of(tmp_path / "run" / "results.csv"))))
    assert metrics["val_loss"] in [pytest.approx(float(row["val_loss"]), rel=1e-4) for row in rows]


def test_the_average_is_what_is_kept(files, tmp_path):
    options = ["train", str(files / "train.csv"), "--epochs", "2", "--val", "0.5"]
    assert main([*options, "--out", "plain"]) == main([*options, "--ema", "0.5", "--out", "averaged"]) == 0
    plain, averaged = (fc.load(tmp_path / name / "model.safetensors").state_dict() for name in ("plain", "averaged"))
    assert (plain["0.weight"] != averaged["0.weight"]).any()


def test_training_may_end_by_itself(files, tmp_path, capsys):
    options = ["train", str(files / "train.csv"), "--epochs", "50", "--out", "run"]
    assert main([*options, "--lr", "1e-12", "--early-stop", "2"]) == 0
    metrics = json.loads(text_of(tmp_path / "run" / "metrics.json"))
    assert (metrics["epochs"], metrics["best_epoch"]) == (3, 1)
    assert metrics["stopped"].startswith(
        "stopped early: no better val_acc in 2 epochs, the weights of epoch 1 are kept"
    )
    assert metrics["stopped"] in capsys.readouterr().out
    options[3], options[-1] = "100000", "budget"
    assert main([*options, "--time-budget", "0.5"]) == 0
    metrics = json.loads(text_of(tmp_path / "budget" / "metrics.json"))
    assert 1 <= metrics["epochs"] < 1000
    assert metrics["stopped"] == f"stopped in epoch {metrics['epochs']}: the 0.5 s for training are over"


def test_a_search_for_the_rate_among_photographs_of_different_sizes(tmp_path, capsys, rng):
    image = pytest.importorskip("PIL.Image")
    for number in range(20):
        size = (12 + number % 3, 14)
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(rng.integers(0, 256, size).astype(np.uint8)).save(folder / f"{number}.png")
    assert main(["lr-find", "photos"]) == 2
    assert "--size" in capsys.readouterr().err
    assert main(["lr-find", "photos", "--size", "20x20", "--model", "lenet_seed"]) == 0
    assert "the loss falls most steeply at --lr" in capsys.readouterr().out


def test_a_search_for_the_rate(files, tmp_path, capsys, monkeypatch):
    command = ["lr-find", str(files / "train.csv"), "--plot", "rates.PNG", "--optimizer", "adam"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("train.csv: 200 images")
    assert lines[-1] == "wrote  rates.PNG"
    assert 1e-5 < float(lines[-2].removeprefix("the loss falls most steeply at --lr ")) < 10
    assert (tmp_path / "rates.PNG").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(command) == 2
    message = 'fastconv: --plot: plots need matplotlib, which comes with: pip install "fastconv[plot]"\n'
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", message)


def test_without_validation_the_last_weights_are_kept(files, tmp_path, capsys):
    assert main(["train", str(files / "train.csv"), "--epochs", "2", "--val", "0", "--out", "run"]) == 0
    metrics = json.loads(text_of(tmp_path / "run" / "metrics.json"))
    for name in ("val_accuracy", "val_loss", "interval95", "per_class", "confusion_matrix", "best_epoch"):
        assert metrics[name] is None
    assert metrics["epochs"] == 2
    assert "the last weights are kept" in capsys.readouterr().out
    fc.load(tmp_path / "run" / "model.safetensors")


def test_the_built_in_digits_are_the_default(capsys, tmp_path):
    assert main(["train", "--epochs", "1", "--batch-size", "256"]) == 0
    assert "data   built-in digits: 9,000 train / 1,000 validation, 10 classes" in capsys.readouterr().out
    assert json.loads(text_of(tmp_path / "runs/train-001/metrics.json"))["val_accuracy"] > 0.5


def test_a_loss_that_is_not_a_number_is_a_failure(files, capsys, tmp_path):
    assert main(["train", str(files / "train.csv"), "--lr", "1e30", "--schedule", "constant", "--out", "run"]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("fastconv: fit: the loss is ")
    assert "A smaller learning rate usually helps" in errors
    assert errors.count("\n") == 1


# ---------------------------------------------------------------------------------------------------- predict, evaluate


def test_predicting_gives_the_submission_again(trained, files, tmp_path, capsys):
    for model in (trained, trained / "model.safetensors"):
        assert main(["predict", str(model), str(files / "test.csv"), "-o", "answers.csv"]) == 0
        assert text_of(tmp_path / "answers.csv") == text_of(trained / "submission.csv")
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if "answers" in line] == [
        "wrote answers.csv: 30 rows",
        "wrote answers.csv: 30 rows, replaced",
    ]
    assert f"data   {files / 'test.csv'}: 30 images" in shown
    rows = list(csv.reader(io.StringIO(text_of(tmp_path / "answers.csv"))))
    assert rows[0] == ["ImageId", "Label"]
    assert [row[0] for row in rows[1:]] == [str(n) for n in range(1, 31)]


def test_probabilities(trained, files, tmp_path):
    assert main(["predict", str(trained), str(files / "test.csv"), "--proba"]) == 0
    rows = list(csv.reader(io.StringIO(text_of(tmp_path / "submission.csv"))))
    assert rows[0] == ["ImageId", *"0123456789"]
    values = np.array(rows[1:], float)[:, 1:]
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-4)
    labels = [int(row[1]) for row in csv.reader(io.StringIO(text_of(trained / "submission.csv"))) if row[1] != "Label"]
    np.testing.assert_array_equal(values.argmax(axis=1), labels)


def test_evaluating(trained, files, capsys):
    assert main(["evaluate", str(trained), str(files / "train.csv")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("compiling")]
    digits = data.load(files / "train.csv")
    expected = fc.load(trained / "model.safetensors").evaluate(digits.images, digits.labels)
    assert lines[0] == f"data   {files / 'train.csv'}: 200 images"
    assert lines[1].startswith(
        "note   the run was trained on 180 of these images, so expect less of others; metrics.json "
    )
    assert lines[2].startswith(f"accuracy {expected['accuracy']:.4f} (95% CI ")
    assert lines[2].endswith(" of 200 wrong")
    assert f"loss {expected['loss']:.4f}" in lines
    matrix = confusion_matrix(digits.labels, fc.load(trained / "model.safetensors").predict(digits.images), 10)
    assert f"balanced accuracy {balanced_accuracy(matrix):.4f}, macro F1 {macro_f1(matrix):.4f}" in lines
    assert lines[-11] == "class  precision  recall  images"
    assert [line.split()[0] for line in lines[-10:]] == list("0123456789")


# ------------------------------------------------------------------------------------------------------- other commands


def test_summary_of_a_name_and_of_a_run(trained, capsys):
    assert main(["summary", "lenet5"]) == 0
    by_name = capsys.readouterr().out
    assert main(["summary", str(trained)]) == 0
    assert capsys.readouterr().out == by_name
    assert "61,706" in by_name
    assert by_name.rstrip("\n") == models.create("lenet5").summary((1, 28, 28))


@pytest.mark.parametrize(
    ("words", "shape"),
    [
        (["resnet20"], (3, 32, 32)),
        (["digitnet"], (1, 28, 28)),
        (["lenet5", "--input", "3x32x32"], (3, 32, 32)),
        (["mobilenet_small", "--input", "1x28x28"], (1, 28, 28)),
    ],
)
def test_a_name_stands_for_a_model_of_the_images_it_is_made_for_or_of_those_asked_for(words, shape, capsys):
    assert main(["summary", *words]) == 0
    expected = models.create_for(words[0], shape, 10).summary(shape)
    assert capsys.readouterr().out.rstrip("\n") == expected


@pytest.fixture
def tiny(tmp_path):
    """A model file whose images are no digits."""
    path = tmp_path / "tiny.safetensors"
    fc.save(fc.Sequential(fc.Flatten(), fc.Linear(32, 3)), path)
    return str(path)


def test_the_size_of_an_image_can_be_said(tiny, capsys):
    assert main(["summary", tiny, "--input", "2x4x4"]) == 0
    assert "input 2 x 4 x 4" in capsys.readouterr().out


def test_gradcheck(tiny, capsys, monkeypatch):
    assert main(["gradcheck", tiny, "--input", "2x4x4"]) == 0
    assert "elements agree" in capsys.readouterr().out.splitlines()[-1]

    def wrong(self, dy, work, need_dx):
        return work.dx if need_dx else None

    monkeypatch.setattr(fc.Linear, "backward_blocks", wrong)
    assert main(["gradcheck", tiny, "--input", "2x4x4"]) == 1
    assert "by central differences" in capsys.readouterr().out


def test_bench_compares_before_it_times(capsys, monkeypatch):
    from fastconv.commands import bench

    monkeypatch.setattr(bench, "_SECONDS", 0.0)
    monkeypatch.setattr(bench, "_QUICK", 3)
    assert main(["bench", "--quick"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    table = rows[next(n for n, row in enumerate(rows) if row[0] == "kernel") + 1 :]
    assert len(table) == 14
    assert all(float(row[-2].replace(",", "")) > 0 for row in table)
    monkeypatch.setattr(fc.reference, "conv2d", lambda x, weight: np.zeros((3, 16, 10, 10)))
    assert main(["bench", "--quick"]) == 1
    assert "conv2d forward: differs from the naive loops" in capsys.readouterr().out


def test_warmup_says_how_long_it_took(capsys, monkeypatch):
    from fastconv.commands import warmup

    monkeypatch.setattr(warmup, "_LARGEST", 32)
    assert main(["warmup"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("ready: every kernel of lenet5 in ")
    monkeypatch.setattr(warmup.optim, "NAMES", ("sgd",))
    assert main(["warmup", "lenet_seed", "mobilenet_small"]) == 0
    assert "every kernel of lenet_seed and mobilenet_small in " in capsys.readouterr().out


def test_warmup_of_an_unknown_model_names_those_there_are(capsys):
    assert main(["warmup", "lenet5", "lenet6"]) == 2
    assert "MODEL: expected some of lenet5, lenet_seed" in capsys.readouterr().err


def test_warming_up_changes_neither_model_nor_optimizer():
    from fastconv.commands.warmup import compile_kernels

    model, optimizer = models.create("lenet5"), optim.by_name("sgd")
    before = model.state_dict()
    compile_kernels(model, (1, 28, 28), optimizer, (16, 0), (3,))
    assert all((before[name] == value).all() for name, value in model.state_dict().items())
    assert optimizer.steps == 0


@pytest.mark.parametrize("options", [{"rotate": 9}, {"mixup": 0.4}])
def test_augmentation_is_compiled_before_training(options):
    from fastconv.commands.warmup import compile_kernels

    model, optimizer, augment = fc.Sequential(fc.Flatten(), fc.Linear(30, 3)), fc.SGD(), fc.augment.Augment(**options)
    compile_kernels(model, (1, 5, 6), optimizer, [8, 4], [], augment=augment)
    images, late = np.zeros((20, 1, 5, 6), np.uint8), []
    with common.runtime.tell_before_compiling(lambda: late.append("compiled")):
        model.fit(images, np.arange(20) % 3, 1, 8, optimizer=optimizer, verbose=False, augment=augment)
    assert not late


# ------------------------------------------------------------------------------------------------------------- notices


def test_compiling_is_announced_once_and_only_if_it_happens(capsys, monkeypatch):
    tell = []

    def listening(start):
        tell.append(start)
        return contextlib.nullcontext()

    monkeypatch.setattr(common.runtime, "tell_before_compiling", listening)
    with common.CompilingNotice():
        pass
    assert capsys.readouterr().out == ""
    with common.CompilingNotice():
        tell[-1]()
        assert capsys.readouterr().out == "compiling kernels ..."
    assert capsys.readouterr().out in (" 0.0 s (cached for next time)\n", " 0.0 s\n")

    def interrupted():
        with common.CompilingNotice():
            tell[-1]()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().out == "compiling kernels ...\n"


def test_what_is_compiled_after_the_notice_says_nothing(capsys):
    with common.CompilingNotice():
        pass
    numba.njit(lambda x: x + 1)(1)
    assert capsys.readouterr().out == ""
    with common.CompilingNotice():
        numba.njit(lambda x: x + 2)(1)
    assert capsys.readouterr().out.startswith("compiling kernels ...")


def test_a_narrow_terminal_breaks_lines_between_words(monkeypatch):
    shown = io.StringIO()
    shown.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(terminal, "width", lambda: 30)
    terminal.say("data   built-in digits: 9,000 train / 1,000 validation")
    terminal.say("next   fastconv predict runs/train-001 test.csv", wrap=False)
    assert shown.getvalue().splitlines() == [
        "data   built-in digits: 9,000",
        "       train / 1,000",
        "       validation",
        "next   fastconv predict runs/train-001 test.csv",
    ]


def test_what_a_terminal_cannot_show_is_no_error(monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    terminal.say("most confused: käse as \udcff (2)")
    assert shown.buffer.getvalue() == b"most confused: k?se as ? (2)\n"


# ---------------------------------------------------------------------------------------------------- signals and pipes


def start(words, cwd):
    """Start the command in a process that heeds Ctrl-C, even where this one was started without it."""
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"from fastconv.cli import main\nsys.exit(main({without_report(words)!r}))"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "kernels")]))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process, timeout=60):
    """Return the exit code, the rest of the output, and the errors."""
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, output, errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_training_in_order(files, tmp_path, number, code):
    process = start(["train", str(files / "train.csv"), "--epochs", "100000", "--out", "run"], tmp_path)
    assert any(line.startswith("    1 ") for line in process.stdout)  # the first epoch has ended
    process.send_signal(number)
    returned, output, errors = end(process)
    assert (returned, errors) == (code, "")
    assert "interrupted: what was best so far is kept in run" in output
    metrics = json.loads(text_of(tmp_path / "run" / "metrics.json"))
    assert metrics["interrupted"] is True
    assert 1 <= metrics["epochs"] < 100000
    train = data.load(files / "train.csv")
    held_out = data.split(len(train), 0.1, 0)[1]
    model = fc.load(tmp_path / "run" / "model.safetensors")
    assert model.evaluate(train.images[held_out], train.labels[held_out])["accuracy"] == metrics["val_accuracy"]
    assert not [name for name in os.listdir(tmp_path / "run") if name.endswith(".tmp")]


def test_a_signal_before_training_leaves_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    process = start(["train", "pipe.csv", "--out", "run"], tmp_path)
    assert process.stdout.readline().startswith("fastconv ")
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "", "fastconv: interrupted\n")
    assert os.listdir(tmp_path) == ["pipe.csv"]


def test_the_first_signal_stops_in_order_and_the_second_at_once():
    before = signal.getsignal(signal.SIGTERM)
    calls = []
    with Interrupts() as interrupts:
        interrupts.stop_with(lambda: calls.append(1))
        signal.raise_signal(signal.SIGTERM)
        assert (calls, interrupts.exit_code) == ([1], 143)
        with pytest.raises(Interrupted) as raised:
            signal.raise_signal(signal.SIGTERM)
        assert raised.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("words", [[], ["--ensemble", "2"]])
def test_a_signal_while_a_runs_folder_is_made_leaves_nothing(files, tmp_path, monkeypatch, words):
    lock = RunFolder._lock

    def interrupted(self):
        signal.raise_signal(signal.SIGTERM)
        lock(self)

    monkeypatch.setattr(RunFolder, "_lock", interrupted)
    assert main(["train", str(files / "train.csv"), "--out", "run", *words]) == 143
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("words", [[], ["--ensemble", "2"]])
def test_a_second_signal_while_a_run_is_discarded_leaves_nothing(files, tmp_path, monkeypatch, words):
    unlink = Path.unlink

    def interrupted(*_):
        signal.raise_signal(signal.SIGINT)

    def interrupted_again(self, missing_ok=False):
        unlink(self, missing_ok)
        signal.raise_signal(signal.SIGTERM)

    for module in (train, train_ensemble):
        monkeypatch.setattr(module, "compile_job", interrupted)
    monkeypatch.setattr(Path, "unlink", interrupted_again)
    assert main(["train", str(files / "train.csv"), "--out", "run", *words]) == 143
    assert os.listdir(tmp_path) == []


def test_a_signal_waits_until_what_is_done_is_whole():
    done = []

    def interrupted(interrupts):
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            done.append("whole")

    with Interrupts() as interrupts:
        with pytest.raises(Interrupted, match=f"signal {int(signal.SIGINT)}$"):
            interrupted(interrupts)
        assert done == ["whole"]
        with interrupts.held():
            done.append("more")
        assert done == ["whole", "more"]
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_while_llvm_calls_python_is_put_off():
    def _raw_object_cache_notify():
        signal.raise_signal(signal.SIGTERM)
        return "compiled"

    answers = []

    def wait():
        with Interrupts():
            answers.append(_raw_object_cache_notify())
            for _ in range(10_000):
                time.sleep(0.001)

    with pytest.raises(Interrupted):
        wait()
    assert answers == ["compiled"]


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interrupts():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_commands_work_in_another_thread(trained, files):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["predict", str(trained), str(files / "test.csv")])))
    thread.start()
    thread.join(60)
    assert codes == [0]


def test_a_reader_that_goes_away_disturbs_nothing(files, tmp_path):
    process = start(["train", str(files / "train.csv"), "--epochs", "2", "--out", "run"], tmp_path)
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    assert (process.wait(60), errors) == (0, "")
    process.stderr.close()
    assert json.loads(text_of(tmp_path / "run" / "metrics.json"))["epochs"] == 2


# ---------------------------------------------------------------------------------------------------- slips of the user


def test_predict_replaces_answers_and_nothing_else(trained, files, tmp_path, capsys):
    shutil.copy(files / "test.csv", tmp_path / "test.csv")
    kept = (tmp_path / "test.csv").read_bytes(), (trained / "model.safetensors").read_bytes()
    for output in ("test.csv", trained / "model.safetensors", "/dev/null"):
        assert main(["predict", str(trained), "test.csv", "-o", str(output)]) == 2
        assert f"{output}: is there already, and holds no answers to replace, which begin with ImageId," in said(capsys)
    for output in ("answers.csv.gz", "-"):
        assert main(["predict", str(trained), "test.csv", "-o", output]) == 2
        assert f"{output}: answers are written as text, into a file; name one such as submission.csv" in said(capsys)
    assert kept == ((tmp_path / "test.csv").read_bytes(), (trained / "model.safetensors").read_bytes())
    for _ in range(2):
        assert main(["predict", str(trained), "test.csv", "-o", "answers.csv"]) == 0
    assert "answers.csv: 30 rows, replaced" in capsys.readouterr().out


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_evaluating_other_images_says_nothing_of_training(trained, files, tmp_path, capsys):
    digits = data.load(files / "train.csv")
    write_csv(tmp_path / "other.csv", digits.images[:50], digits.labels[:50])
    assert main(["evaluate", str(trained), "other.csv"]) == 0
    assert "note" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(40, 3), "expected at least two classes, got label 3 alone in 40 images; add images of others"),
        (np.zeros(40, int), "expected at least two classes, got label 0 alone in 40 images; add images of others"),
    ],
)
def test_one_class_is_none_to_tell_apart(labels, message, tmp_path, capsys):
    write_csv(tmp_path / "one.csv", data.load().images[:40], labels)
    assert main(["train", "one.csv", "--epochs", "1"]) == 2
    assert message in said(capsys)


def test_classes_without_an_image_are_named(tmp_path, capsys):
    labels = np.arange(60) % 3
    labels[7] = 30
    write_csv(tmp_path / "typed.csv", data.load().images[:60], labels)
    assert main(["train", "typed.csv", "--epochs", "1", "--no-report"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "note no image of 27 classes below 31: 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 ..." in out


def test_an_empty_name_is_no_folder(files, capsys):
    assert main(["train", str(files / "train.csv"), "--epochs", "1", "--out", ""]) == 2
    assert "--out: expected a folder's name, got ''" in said(capsys)


def test_a_run_whose_data_are_elsewhere_says_where_it_looked(files, tmp_path, monkeypatch, capsys):
    shutil.copy(files / "train.csv", tmp_path / "here.csv")
    assert main(["train", "here.csv", "--epochs", "2", "--out", "run", "--no-report"]) == 0
    for name in ("metrics.json", "model.safetensors"):
        (tmp_path / "run" / name).unlink()
    monkeypatch.chdir(tmp_path / "run")
    assert cli.main(["train", "--resume", "."]) == 2
    assert "config.json names it as seen from the folder where the run began: go there, or put it" in said(capsys)


@pytest.mark.parametrize("command", ["train {train} --epochs 1", "predict {run} {test} -o a.csv"])
def test_nobody_has_to_listen(command, trained, files, tmp_path):
    """Standard output that was closed before the process began."""
    named = {"train": files / "train.csv", "test": files / "test.csv", "run": trained}
    words = [sys.executable, "-m", "fastconv", *(word.format(**named) for word in command.split())]
    ended = subprocess.run(["sh", "-c", f"{shlex.join(words)} >&-"], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.filterwarnings("always")
def test_a_checkpoint_that_cannot_be_written_ends_no_training(files, monkeypatch, capsys):
    whole = io_of_models.write_tensors

    def full(path, *arguments):
        if path.name == "checkpoint.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        whole(path, *arguments)

    monkeypatch.setattr(io_of_models, "write_tensors", full)
    options = ["--epochs", "3", "--checkpoint-every", "0", "--out", "run"]
    assert main(["train", str(files / "train.csv"), *options]) == 0
    told = said(capsys)
    assert told.count("No space left on device: training goes on, and cannot be resumed from here on") == 1
    assert len(fc.load("run/model.safetensors").layers) > 3
