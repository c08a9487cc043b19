"""``fastconv train --resume``: options, refusals, and a run that ends as if it had never been interrupted."""

import json
import os
import signal
import warnings

import numpy as np
import pytest

from benchmarks.reliability import training
from fastconv.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch, rng, threads):
    monkeypatch.chdir(tmp_path)
    images = rng.integers(0, 256, (120, 28, 28)).astype(np.uint8)
    np.savez("train.npz", images=images, labels=np.arange(120) % 10)
    return tmp_path


WORDS = ["train", "train.npz", "--epochs", "3", "--batch-size", "16", "--no-report"]


def interrupted(words, monkeypatch, batches=8):
    """Run a command to which a signal comes after so many batches; return its exit code."""
    from fastconv.optim import SGD

    step, done = SGD.step, []

    def counted(self, *arguments):
        step(self, *arguments)
        if self.steps:
            done.append(1)
            if len(done) == batches:
                signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(SGD, "step", counted)
        return main(words)


def outcome(words, capsys):
    capsys.readouterr()
    try:
        code = main(words)
    except SystemExit as error:
        code = error.code
    return code, capsys.readouterr()


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(folder, capsys, monkeypatch):
    assert main([*WORDS, "--out", "whole"]) == 0
    assert interrupted([*WORDS, "--out", "run"], monkeypatch) == 130
    shown = capsys.readouterr().out
    assert "go on  fastconv train --resume run" in shown
    assert json.loads((folder / "run" / "metrics.json").read_text())["interrupted"] is True
    configuration = (folder / "run" / "config.json").read_bytes()
    code, said = outcome(["train", "--resume", "run", "--threads", "1"], capsys)
    assert (code, said.err) == (0, "")
    assert "run    run, which goes on" in said.out
    assert training.differences(folder / "run", folder / "whole") == []
    assert (folder / "run" / "config.json").read_bytes() == configuration
    # And once more: there is nothing left to do.
    code, said = outcome(["train", "--resume", "run"], capsys)
    assert (code, said.out) == (0, "run: its training has ended, nothing is left to do\n")


def test_a_run_without_a_checkpoint_begins_anew(folder, capsys):
    assert main([*WORDS, "--out", "whole"]) == 0
    os.makedirs("run")
    (folder / "run" / "config.json").write_bytes((folder / "whole" / "config.json").read_bytes())
    assert main(["train", "--resume", "run"]) == 0
    assert training.differences(folder / "run", folder / "whole") == []


@pytest.mark.parametrize(
    ("words", "option"),
    [(["--epochs", "20"], "--epochs"), (["train.npz"], "DATA"), (["--early-stop=3"], "--early-stop")],
)
def test_other_options_are_refused(folder, capsys, words, option):
    code, said = outcome(["train", "--resume", "run", *words], capsys)
    assert code == 2
    assert said.err.startswith(f"fastconv train: --resume takes {option} from the run, so it cannot be given with it")


def test_other_data_are_refused(folder, capsys, monkeypatch, rng):
    assert interrupted([*WORDS, "--out", "run"], monkeypatch) == 130
    images = rng.integers(0, 256, (120, 28, 28)).astype(np.uint8)
    np.savez("train.npz", images=images, labels=np.arange(120) % 10)
    code, said = outcome(["train", "--resume", "run"], capsys)
    assert code == 2
    assert "train.npz: expected the images that run began with, SHA-256 " in said.err


def test_a_damaged_configuration_is_refused(folder, capsys):
    os.makedirs("run")
    for content in ("", "[]", '{"options": 3}'):
        (folder / "run" / "config.json").write_text(content)
        code, said = outcome(["train", "--resume", "run"], capsys)
        assert code == 2
        assert "config.json: " + ("expected a run's configuration" if content else "the file is damaged") in said.err
        assert said.err.count("\n") == 1


def test_another_version_is_told(folder, capsys, monkeypatch):
    assert interrupted([*WORDS, "--out", "run"], monkeypatch) == 130
    path = folder / "run" / "config.json"
    config = json.loads(path.read_text())
    config["versions"]["numba"] = "0.1"
    path.write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # as for a user: here they would be errors
        code, said = outcome(["train", "--resume", "run"], capsys)
    assert code == 0
    assert said.err.startswith("fastconv: warning: run began with numba 0.1 and goes on with ")


def test_an_ensemble_cannot_go_on(folder, capsys):
    assert main([*WORDS, "--epochs", "1", "--ensemble", "2", "--out", "both"]) == 0
    for run in ("both", "both/member-2"):
        code, said = outcome(["train", "--resume", run], capsys)
        assert code == 2
        assert said.err.startswith(f"fastconv: {run}: expected the run of one model, got an ensemble or a part of one")
    code, said = outcome([*WORDS, "--ensemble", "2", "--checkpoint-every", "3", "--out", "new"], capsys)
    assert code == 2
    assert "--checkpoint-every: expected one model, got --ensemble 2" in said.err
