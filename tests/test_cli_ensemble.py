"""``--ensemble`` and ``--tta`` at the command line: what is written, what is kept after Ctrl-C, who answers."""

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from subprocesses import ROOT

import fastconv as fc
from fastconv import data
from fastconv.cli import main

OPTIONS = ["--no-report", "--model", "lenet_seed", "--epochs", "1", "--batch-size", "32"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch, threads):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with train.npz and test.npz: 200 and 30 of the built-in digits."""
    folder = tmp_path_factory.mktemp("files")
    digits = data.load()
    np.savez(folder / "train.npz", images=digits.images[::50], labels=digits.labels[::50])
    np.savez(folder / "test.npz", images=digits.images[7::340])
    return folder


@pytest.fixture(scope="module")
def ensemble(files, tmp_path_factory):
    """A finished ensemble of three."""
    out = tmp_path_factory.mktemp("ensemble") / "run"
    words = ["train", str(files / "train.npz"), "--test", str(files / "test.npz"), *OPTIONS]
    assert main([*words, "--seed", "4", "--val", "0.3", "--ensemble", "3", "--out", str(out)]) == 0
    return out


def read(path):
    return json.loads(path.read_text())


def models_of(folder, count=3):
    return [fc.load(folder / f"member-{number}" / "model.safetensors") for number in range(1, count + 1)]


def held_out(files, seed=4, fraction=0.3):
    train = data.load(files / "train.npz")
    index = data.split(len(train), fraction, seed)[1]
    return train.images[index], train.labels[index]


def answers(path):
    return [int(row["Label"]) for row in csv.DictReader(path.read_text().splitlines())]


# ------------------------------------------------------------------------------------------------------------ ensembles


def test_every_model_has_a_folder_of_its_own(ensemble):
    files = ["config.json", "metrics.json", "results.csv", "submission.csv"]
    assert sorted(os.listdir(ensemble)) == sorted([*files, "member-1", "member-2", "member-3"])
    for number in (1, 2, 3):
        folder = ensemble / f"member-{number}"
        assert sorted(os.listdir(folder)) == [
            "config.json",
            "metrics.json",
            "model.safetensors",
            "results.csv",
            "timing.csv",
        ]
        config = read(folder / "config.json")
        assert (config["options"]["seed"], config["data"]["split_seed"]) == (3 + number, 4)
        assert read(folder / "metrics.json")["interrupted"] is False
    assert read(ensemble / "config.json")["options"]["ensemble"] == 3
    weights = [model.state_dict()["0.weight"] for model in models_of(ensemble)]
    assert (weights[0] != weights[1]).any()
    assert (weights[1] != weights[2]).any()


def test_its_figures_are_those_of_the_mean_on_the_same_images(ensemble, files):
    images, labels = held_out(files)
    models, metrics = models_of(ensemble), read(ensemble / "metrics.json")
    found = fc.Ensemble(models).evaluate(images, labels)
    assert metrics["val_accuracy"] == found["accuracy"]
    assert metrics["val_loss"] == pytest.approx(found["loss"])
    assert np.sum(metrics["confusion_matrix"]) == len(labels) == 60
    assert [each["folder"] for each in metrics["members"]] == ["member-1", "member-2", "member-3"]
    for each, model in zip(metrics["members"], models, strict=True):
        alone = model.evaluate(images, labels)
        assert each["val_acc"] == alone["accuracy"] == read(ensemble / each["folder"] / "metrics.json")["val_accuracy"]
        assert each["val_loss"] == pytest.approx(alone["loss"])
    rows = list(csv.DictReader((ensemble / "results.csv").read_text().splitlines()))
    assert [row["seed"] for row in rows] == ["4", "5", "6"]
    assert float(rows[-1]["together_val_acc"]) == pytest.approx(metrics["val_accuracy"], abs=1e-5)


def test_the_first_model_is_what_its_seed_alone_makes(ensemble, files, tmp_path):
    words = ["train", str(files / "train.npz"), *OPTIONS, "--seed", "4", "--val", "0.3", "--out", "alone"]
    assert main([*words, "--ensemble", "1"]) == 0
    assert not (tmp_path / "alone" / "member-1").exists()
    alone, first = fc.load("alone/model.safetensors"), models_of(ensemble)[0]
    for name, value in alone.state_dict().items():
        np.testing.assert_array_equal(first.state_dict()[name], value)


def test_all_of_them_answer(ensemble, files, tmp_path, capsys):
    test = data.load(files / "test.npz").images
    p = fc.Ensemble(models_of(ensemble)).predict_proba(test)
    assert answers(ensemble / "submission.csv") == p.argmax(axis=1).tolist()
    assert main(["predict", str(ensemble), str(files / "test.npz")]) == 0
    assert (tmp_path / "submission.csv").read_text() == (ensemble / "submission.csv").read_text()
    assert main(["predict", str(ensemble), str(files / "test.npz"), "--proba", "-o", "p.csv"]) == 0
    written = np.loadtxt(tmp_path / "p.csv", delimiter=",", skiprows=1)[:, 1:]
    np.testing.assert_allclose(written, p, rtol=1e-5)
    assert main(["predict", str(ensemble / "member-2"), str(files / "test.npz"), "-o", "second.csv"]) == 0
    assert answers(tmp_path / "second.csv") == models_of(ensemble)[1].predict(test).tolist()
    train = data.load(files / "train.npz")
    capsys.readouterr()
    assert main(["evaluate", str(ensemble), str(files / "train.npz")]) == 0
    found = fc.Ensemble(models_of(ensemble)).evaluate(train.images, train.labels)
    assert f"accuracy {found['accuracy']:.4f} (95% CI " in capsys.readouterr().out


def test_a_report_is_of_one_of_its_models(ensemble, capsys):
    assert main(["report", str(ensemble)]) == 2
    said = f"fastconv: {ensemble}: an ensemble of 3; name one of its models, such as {ensemble / 'member-1'}\n"
    assert capsys.readouterr().err == said


def test_what_an_ensemble_prints(files, tmp_path, capsys):
    words = ["train", str(files / "train.npz"), *OPTIONS, "--ensemble", "2", "--time-budget", "1000"]
    assert main([*words, "--val", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("member ")] == ["member 1 of 2, seed 0", "member 2 of 2, seed 1"]
    assert "no validation (--val 0): the last weights are kept" in lines
    folder = os.path.join("runs", "train-001")
    assert lines[-1] == f"next   fastconv predict {folder} test.csv -o submission.csv"
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("member 2: val accuracy ") and line.endswith(" together") for line in lines)
    assert any(line.startswith("val accuracy of 2 models 0.") for line in lines)
    options = [read(path)["options"] for path in tmp_path.glob("runs/train-002/member-*/config.json")]
    assert [each["time_budget"] for each in options] == [500.0, 500.0]


# ----------------------------------------------------------------------------------------------------------- interrupts


def start(words, cwd):
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"from fastconv.cli import main\nsys.exit(main({words!r}))"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "kernels")]))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], cwd=cwd, env=environment, **pipes)


def interrupt(process, after):
    """Send SIGINT once a line that starts so has come; return the exit code, the rest of the output, and the errors."""
    try:
        assert any(line.startswith(after) for line in process.stdout)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, output, errors


def test_an_interrupt_keeps_the_models_that_are_finished(files, tmp_path):
    words = ["train", str(files / "train.npz"), "--test", str(files / "test.npz"), *OPTIONS]
    words[words.index("--epochs") + 1] = "30"
    process = start([*words, "--ensemble", "1000", "--out", "run"], tmp_path)
    code, output, errors = interrupt(process, "member 3 of 1000")
    assert (code, errors) == (130, "")
    metrics = read(tmp_path / "run" / "metrics.json")
    count = len(metrics["members"])
    assert metrics["interrupted"] is True
    assert 2 <= count < 1000
    assert f"interrupted: {count} models of 1000 kept in run" in output
    assert not (tmp_path / "run" / "submission.csv").exists()
    assert main(["predict", "run", str(files / "test.npz")]) == 0
    images, labels = held_out(files, 0, 0.1)
    found = fc.Ensemble(models_of(tmp_path / "run", count)).evaluate(images, labels)
    assert found["accuracy"] == metrics["val_accuracy"]
    assert all(each["epochs"] == 30 for each in metrics["members"])


def test_an_interrupt_in_the_first_model_keeps_what_was_best(files, tmp_path):
    words = ["train", str(files / "train.npz"), *OPTIONS, "--ensemble", "2", "--out", "run"]
    words[words.index("--epochs") + 1] = "100000"
    code, output, errors = interrupt(start(words, tmp_path), "    1 ")
    assert (code, errors) == (130, "")
    assert "interrupted: 1 model of 2 kept in run" in output
    assert sorted(os.listdir(tmp_path / "run")) == ["config.json", "member-1", "metrics.json", "results.csv"]
    assert read(tmp_path / "run" / "member-1" / "metrics.json")["interrupted"] is True
    assert main(["evaluate", "run", str(files / "train.npz")]) == 0


def test_an_interrupt_before_training_leaves_nothing(files, tmp_path, monkeypatch):
    from fastconv.commands import train_ensemble
    from fastconv.commands.interrupts import Interrupted

    def interrupted(*_):
        raise Interrupted(signal.SIGINT)

    for name in ("compile_job", "fit_job"):
        with monkeypatch.context() as patch:
            patch.setattr(train_ensemble, name, interrupted)
            assert main(["train", str(files / "train.npz"), *OPTIONS, "--ensemble", "2", "--out", "run"]) == 130
        assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------------------------------- views


def test_views_in_training_evaluation_and_prediction(files, tmp_path, capsys):
    words = ["train", str(files / "train.npz"), "--test", str(files / "test.npz"), *OPTIONS, "--augment", "digits"]
    words += ["--loss-smoothing", "0"]
    assert main([*words, "--tta", "3", "--out", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("val accuracy with 3 views 0.") for line in lines)
    model, test = fc.load("run/model.safetensors"), data.load(files / "test.npz").images
    images, labels = held_out(files, 0, 0.1)
    found = model.evaluate(images, labels, tta=3, augment="digits")
    metrics = read(tmp_path / "run" / "metrics.json")
    assert metrics["val_accuracy"] == found["accuracy"]
    assert metrics["val_loss"] == pytest.approx(found["loss"])
    expected = model.predict(test, tta=3, augment="digits").tolist()
    assert answers(tmp_path / "run" / "submission.csv") == expected
    for more in ([], ["--augment", "digits"]):
        assert main(["predict", "run", str(files / "test.npz"), "--tta", "3", *more]) == 0
        assert answers(tmp_path / "submission.csv") == expected
    p = model.predict_proba(test, tta=2, augment="fashion")
    assert main(["predict", "run", str(files / "test.npz"), "--tta", "2", "--augment", "fashion", "--proba"]) == 0
    written = np.loadtxt(tmp_path / "submission.csv", delimiter=",", skiprows=1)[:, 1:]
    np.testing.assert_allclose(written, p, rtol=1e-5)
    train = data.load(files / "train.npz")
    assert main(["evaluate", "run", str(files / "train.npz"), "--tta", "2"]) == 0
    found = model.evaluate(train.images, train.labels, tta=2, augment="digits")
    shown = capsys.readouterr().out
    assert f"accuracy {found['accuracy']:.4f} (95% CI " in shown
    assert f"loss {found['loss']:.4f}" in shown


def test_views_of_an_ensemble(files, tmp_path, capsys):
    words = ["train", str(files / "train.npz"), "--test", str(files / "test.npz"), *OPTIONS, "--augment"]
    assert main([*words, "--ensemble", "2", "--tta", "3", "--out", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("val accuracy of 2 models with 3 views 0.") for line in lines)
    together = fc.Ensemble(models_of(tmp_path / "run", 2))
    expected = together.predict(data.load(files / "test.npz").images, tta=3, augment="digits").tolist()
    assert answers(tmp_path / "run" / "submission.csv") == expected
    assert main(["predict", "run", str(files / "test.npz"), "--tta", "3"]) == 0
    assert answers(tmp_path / "submission.csv") == expected
