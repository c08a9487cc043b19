"""``fastconv doctor``: the machine, a run, data with a model; exit codes, JSON, narrow terminals."""

import json
import re
import shutil

import numpy as np
import pytest
from subprocesses import run

from fastconv import data, terminal
from fastconv.cli import main

MACHINE = ["versions", "threads", "thread layer", "instructions", "kernel cache", "thread pools", "environment"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with labelled images, test images, and a run that was trained on the first."""
    folder = tmp_path_factory.mktemp("files")
    digits = data.digits10k()
    np.savez(folder / "train.npz", images=digits.images[::10], labels=digits.labels[::10])
    np.savez(folder / "test.npz", images=digits.images[5::100])
    np.savez(folder / "inverted.npz", images=255 - digits.images[5::100])
    train = [
        "train",
        "--no-report",
        str(folder / "train.npz"),
        "--test",
        str(folder / "test.npz"),
        "--epochs",
        "8",
        "--seed",
        "1",
    ]
    assert main([*train, "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch, threads):
    monkeypatch.chdir(tmp_path)


def found(capsys, *words):
    """Run the command with --json; return its exit code and what it found, by name."""
    capsys.readouterr()
    code = main(["doctor", *map(str, words), "--json"])
    shown = capsys.readouterr()
    assert shown.err == ""
    return code, {finding["name"]: finding for finding in json.loads(shown.out)}


def faults(findings):
    return {name for name, finding in findings.items() if finding["severity"] == "fault"}


def test_the_machine_alone(capsys):
    code, findings = found(capsys)
    assert code == 0
    assert list(findings) == MACHINE


def test_a_healthy_run(files, capsys):
    before = {path.name: path.read_bytes() for path in (files / "run").iterdir() if path.is_file()}
    code, findings = found(capsys, files / "run")
    assert (code, faults(findings)) == (0, set())
    assert findings["data"]["evidence"].startswith(f"{files / 'train.npz'}: what the run was made with, SHA-256 ")
    assert findings["history"]["evidence"].startswith("8 epochs, training loss ")
    assert {"labels and images", "test preprocessing", "leakage", "accuracy", "numeric gradients"} <= set(findings)
    assert {path.name: path.read_bytes() for path in (files / "run").iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("words", "rate"),
    [([], "SGD at 0.04"), (["--optimizer", "adam"], "Adam at 0.002"), (["--lr", "2"], "SGD at 2")],
)
def test_the_optimizer_is_the_runs_or_the_one_asked_for(words, rate, files, capsys):
    _, findings = found(capsys, files / "run", *words)
    assert rate in findings["learning rate"]["evidence"]


def test_a_run_and_another_test(files, capsys):
    code, findings = found(capsys, files / "run", "--test", files / "inverted.npz")
    assert (code, faults(findings)) == (1, {"test preprocessing"})
    assert "ink is inverted" in findings["test preprocessing"]["evidence"]
    code, findings = found(capsys, files / "run" / "model.safetensors", "--test", files / "train.npz")
    assert (code, faults(findings)) == (1, {"leakage"})


def test_a_run_whose_files_are_gone_or_changed(files, tmp_path, capsys):
    shutil.copytree(files / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["options"]["test"] = "gone.npz"
    config["data"]["sha256"] = "0" * 64
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    code, findings = found(capsys, "run")
    assert (code, faults(findings)) == (1, {"data"})
    assert "that the run was made with, SHA-256 000000000000..., got " in findings["data"]["evidence"]
    assert findings["test"]["severity"] == "note"
    assert "gone.npz" in findings["test"]["evidence"]
    config["options"]["data"] = "gone.csv"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    code, findings = found(capsys, "run")
    assert (code, list(findings)) == (0, [*MACHINE, "data"])
    assert "gone.csv" in findings["data"]["evidence"]
    (tmp_path / "run" / "config.json").unlink()
    (tmp_path / "run" / "results.csv").unlink()
    code, findings = found(capsys, "run")
    assert "no config.json beside the model" in findings["data"]["evidence"]


def test_a_run_that_went_wrong(files, tmp_path, capsys):
    shutil.copytree(files / "run", tmp_path / "run")
    lines = (tmp_path / "run" / "results.csv").read_text().splitlines()
    (tmp_path / "run" / "results.csv").write_text("\n".join([lines[0], "1,2.303,0.1,2.31,0.1,0.04", ""]))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["options"]["lr"] = 7.0
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    code, findings = found(capsys, "run")
    assert (code, faults(findings)) == (1, {"history", "learning rate"})
    assert "SGD at 7 with new weights" in findings["learning rate"]["evidence"]


def test_data_and_a_model(files, capsys):
    code, findings = found(capsys, files / "train.npz", "--model", "lenet_seed", "--test", files / "test.npz")
    assert (code, faults(findings)) == (0, set())
    code, findings = found(capsys, files / "train.npz", "--model", "lenet_seed", "--lr", "9")
    assert (code, faults(findings)) == (1, {"learning rate"})


def test_the_table_on_a_narrow_terminal(files, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "width", lambda: 40)
    assert main(["doctor", str(files / "train.npz"), "--model", "lenet_seed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok     initial loss" in lines
    assert re.fullmatch(r"0 faults, \d notes?, \d+ ok, in \d+\.\d s", lines[-1])
    paths = [line for line in lines if "/" in line]  # a path is never broken
    assert all(len(line) <= 40 for line in lines if line not in paths)


def test_exit_codes_in_a_process_of_its_own(files):
    code = f"""
        import sys
        from fastconv.cli import main
        sys.exit(main(["doctor", {str(files / "train.npz")!r}, "--model", "lenet_seed", "--lr", "1e-9"]))
        """
    done = run(code)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "fault  learning rate" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 fault, ")
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "/" not in line)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}", "--model", "lenet5"], "--model: expected none beside {run}, which is a run and holds its own"),
        (["{train}"], "{train}: no run; to look at data, say with --model what is to be trained on them"),
        (["--test", "{test}"], "--test: expected a run, or data and --model, to compare it with"),
        (["{train}", "--model", "lenet6"], "--model: expected one of lenet5, "),
        (["{test}", "--model", "lenet5"], "{test}: the images have no labels"),
        (["{run}", "--test", "gone.npz"], "gone.npz: there is no such file"),
        (["gone.npz", "--model", "lenet5"], "gone.npz: there is no such file"),
    ],
)
def test_what_is_refused(words, message, files, capsys):
    names = {"run": files / "run", "train": files / "train.npz", "test": files / "test.npz"}
    assert main(["doctor", *(word.format(**names) for word in words)]) == 2
    assert message.format(**names) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "config.json: the file is damaged"),
        ("config.json", "[]", "config.json: expected a run's configuration, got list; give"),
        ("results.csv", "epoch,train_loss\n1,x\n", "results.csv: the file is damaged"),
    ],
)
def test_damaged_runs(name, content, message, files, tmp_path, capsys):
    shutil.copytree(files / "run", tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    assert main(["doctor", "run"]) == 2
    assert message in capsys.readouterr().err
