"""``fastconv train --resume``: options, refusals, and a run that ends as if it had never been interrupted."""

import json
import os
import shutil
import signal
import warnings

import numpy as np
import pytest

from benchmarks.reliability import training
from benchmarks.reliability.promises import resume
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


def read(path):
    return json.loads(path.read_text())


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


# ------------------------------------------------------------------------------------------------------------ ensembles

BOTH = [*WORDS, "--test", "train.npz", "--ensemble", "3", "--checkpoint-every", "0"]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A finished ensemble of three."""
    folder = tmp_path_factory.mktemp("three")
    images = np.random.default_rng(0).integers(0, 256, (120, 28, 28)).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.savez("train.npz", images=images, labels=np.arange(120) % 10)
        assert main([*BOTH, "--out", "whole"]) == 0
    return folder


@pytest.mark.parametrize("batches", [3, 21, 25, 42])  # of 21 a model: the first epoch's, the last, the next model's
def test_an_ensemble_goes_on_and_ends_with_the_same_bytes(three, batches, capsys, monkeypatch, threads):
    monkeypatch.chdir(three)
    name = f"run-{batches}"
    assert interrupted([*BOTH, "--out", name], monkeypatch, batches) == 130
    assert f"go on  fastconv train --resume {name}" in capsys.readouterr().out
    assert read(three / name / "metrics.json")["interrupted"] is True
    code, said = outcome(["train", "--resume", name, "--threads", "1"], capsys)
    assert (code, said.err) == (0, "")
    assert training.differences(three / name, three / "whole") == []
    code, said = outcome(["train", "--resume", name], capsys)
    assert (code, said.out) == (0, f"{name}: its training has ended, nothing is left to do\n")


def test_an_ensemble_that_was_killed_between_files_goes_on(three, tmp_path, monkeypatch, threads):
    """What a kill may leave: tables without a configuration, half a file, a submission that is not there yet."""
    monkeypatch.chdir(three)
    whole = three / "whole"

    def last_is_gone(run):
        shutil.rmtree(run / "member-3")
        (run / "member-3").mkdir()
        for name in ("results.csv", "timing.csv"):
            (run / "member-3" / name).write_bytes((whole / "member-3" / name).read_bytes()[:5])
        (run / "member-3" / ".config.json.0123abcd.tmp").write_text("{")

    def nothing_is_written_about_it(run):
        (run / "results.csv").write_text("member,se")
        (run / "metrics.json").unlink()

    def no_submission(run):
        (run / "submission.csv").unlink()

    for number, spoil in enumerate((last_is_gone, nothing_is_written_about_it, no_submission)):
        run = tmp_path / f"spoilt-{number}"
        shutil.copytree(whole, run)
        spoil(run)
        assert main(["train", "--resume", str(run)]) == 0
        assert training.differences(run, whole) == []


def test_an_ensemble_that_is_killed_at_random_goes_on(tmp_path):
    train, test = training.data(tmp_path)
    words = [str(train), "--test", str(test), "--epochs", "2", "--no-report", "--ensemble", "2"]
    batches = training.completed([*words, "--out", "whole"], tmp_path)
    every = ["--checkpoint-every", "0.01"]
    resume._until_done(np.random.default_rng(3), [*words, *every, "--out", "run"], tmp_path / "run", batches)
    assert training.differences(tmp_path / "run", tmp_path / "whole") == []


def test_a_part_of_an_ensemble_does_not_go_on_alone(three, capsys, monkeypatch):
    monkeypatch.chdir(three)
    code, said = outcome(["train", "--resume", "whole/member-2"], capsys)
    assert code == 2
    assert said.err.startswith("fastconv: whole/member-2: expected the run of a model or of an ensemble, got a part of")


def test_figures_of_a_model_that_are_damaged(three, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(three)
    for content, message in (("{", "the file is damaged"), ("{}", "the file is damaged, or no run's metrics.json")):
        run = tmp_path / f"run-{len(content)}"
        shutil.copytree(three / "whole", run)
        (run / "submission.csv").unlink()
        (run / "member-2" / "metrics.json").write_text(content)
        code, said = outcome(["train", "--resume", str(run)], capsys)
        assert code == 2
        assert message in said.err
        assert said.err.count("\n") == 1
