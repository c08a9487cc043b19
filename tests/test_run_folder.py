"""The run folder: never overwritten, written whole, readable by machines."""

import csv
import json
import os

import numpy as np
import pytest
from permissions import binding

import fastconv as fc
from fastconv.training import KeepBest, fit
from fastconv.training.run_folder import Recorder, RunFolder, RunFolderError, check_free


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def record(epoch, val_acc=0.5):
    return {
        "epoch": epoch,
        "time": 1.23456,
        "train_loss": 0.1,
        "train_acc": 0.75,
        "val_loss": None if val_acc is None else 0.25,
        "val_acc": val_acc,
        "lr": 0.10000000149011612,
        "images_per_s": 1234.5,
    }


def test_runs_are_numbered_from_one(tmp_path):
    names = [str(RunFolder().path) for _ in range(3)]
    assert names == [os.path.join("runs", f"train-00{n}") for n in (1, 2, 3)]


def test_a_gap_is_not_filled_and_strangers_do_not_disturb(tmp_path):
    for name in ("train-007", "train-old", "other"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert RunFolder().path.name == "train-008"


def test_numbers_grow_past_three_digits(tmp_path):
    (tmp_path / "runs" / "train-999").mkdir(parents=True)
    assert RunFolder().path.name == "train-1000"


def test_out_is_created_with_its_parents_or_used_if_it_is_free(tmp_path):
    assert RunFolder("a/b").path.is_dir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("stays")
    RunFolder("mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "stays"


@pytest.mark.parametrize(
    "name", ["config.json", "results.csv", "metrics.json", "checkpoint.safetensors", "submission.csv"]
)
def test_a_folder_with_a_run_is_refused_and_left_alone(tmp_path, name):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / name).write_text("precious")
    for attempt in (check_free, RunFolder):
        with pytest.raises(RunFolderError, match=rf"old: already holds a run \({name}\).*--out"):
            attempt("old")
    assert (tmp_path / "old" / name).read_text() == "precious"
    assert os.listdir("old") == [name]


def test_two_runs_started_at_once_into_one_folder(tmp_path, monkeypatch):
    # Both looked before either wrote.
    monkeypatch.setattr("fastconv.training.run_folder.check_free", lambda folder: None)
    RunFolder("out")
    with pytest.raises(FileExistsError):
        RunFolder("out")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="file: expected a folder for the run, got a file"):
        RunFolder("file")
    with pytest.raises(RunFolderError, match=r"the run's folder cannot be written \(Not a directory\)"):
        RunFolder("file/below")


def test_a_folder_without_permission(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with (
        binding(),
        pytest.raises(RunFolderError, match=r"the run's folder cannot be written \(Permission denied\).*--out"),
    ):
        RunFolder("locked/run")


def test_results_grow_by_a_row_an_epoch():
    folder = RunFolder()
    folder.append(record(1))
    folder.append(record(2, val_acc=None))
    lines = folder.file("results.csv").read_text().splitlines()
    assert lines == [
        "epoch,train_loss,train_acc,val_loss,val_acc,lr",
        "1,0.1,0.75,0.25,0.5,0.1",
        "2,0.1,0.75,,,0.1",
    ]
    times = ["epoch,time,images_per_s", "1,1.235,1234", "2,1.235,1234"]
    assert folder.file("timing.csv").read_text().splitlines() == times
    folder.rewrite([record(1)])
    assert folder.file("results.csv").read_text().splitlines() == lines[:2]
    assert folder.file("timing.csv").read_text().splitlines() == times[:2]


def test_a_row_is_written_wholly_or_not_at_all(monkeypatch):
    folder = RunFolder()
    folder.append(record(1))
    before = folder.file("results.csv").read_text()

    def full(descriptor, content, write=os.write):
        content = bytes(content)
        if content == b".1\n":
            raise OSError(28, "No space left on device")
        return write(descriptor, content[:-3] if content.count(b",") == 5 else content)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*results\.csv'"):
        folder.append(record(2))
    assert folder.file("results.csv").read_text() == before


def test_a_run_is_reopened_without_what_was_left_half_written(tmp_path):
    folder = RunFolder("out")
    folder.write_json("config.json", {})
    for name in (".model.safetensors.0123abcd.tmp", ".notes.tmp"):
        (tmp_path / "out" / name).write_text("half")
    del folder
    again = RunFolder.reopen("out")
    assert again.resumed
    assert sorted(os.listdir("out")) == [".notes.tmp", "config.json", "results.csv", "timing.csv"]


def test_two_processes_do_not_go_on_with_one_run():
    pytest.importorskip("fcntl")
    folder = RunFolder("out")
    folder.write_json("config.json", {})
    with pytest.raises(RunFolderError, match="out: another process is at work on this run"):
        RunFolder.reopen("out")


def test_what_is_no_run_cannot_be_reopened(tmp_path):
    with pytest.raises(RunFolderError, match="nowhere: there is no such run"):
        RunFolder.reopen("nowhere")
    with pytest.raises(RunFolderError, match=r"expected the folder of a run, got one without config\.json"):
        RunFolder.reopen(tmp_path)


def test_json_is_replaced_whole(monkeypatch):
    folder = RunFolder()
    folder.write_json("metrics.json", {"val_accuracy": 0.5})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        folder.write_json("metrics.json", {"val_accuracy": 0.6})
    assert json.loads(folder.file("metrics.json").read_text()) == {"val_accuracy": 0.5}
    assert sorted(os.listdir(folder.path)) == ["metrics.json", "results.csv", "timing.csv"]


def test_discard_removes_what_the_run_made_and_no_more(tmp_path):
    new = RunFolder()
    new.write_json("config.json", {})
    new.discard()
    assert not new.path.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("stays")
    RunFolder("mine").discard()
    assert os.listdir("mine") == ["notes.txt"]


class Remember(fc.Callback):
    """Keeps the weights that the file on disk had after each epoch."""

    def __init__(self, folder):
        self.folder, self.saved = folder, []

    def on_epoch_end(self, run, record):
        self.saved.append(fc.load(self.folder.file("model.safetensors")).state_dict()["1.weight"])


@pytest.mark.parametrize("validated", [True, False])
def test_the_best_model_so_far_is_on_disk_after_every_epoch(rng, validated):
    x, y = rng.integers(0, 256, (60, 1, 4, 4)).astype(np.uint8), rng.integers(0, 3, 60)
    folder, best = RunFolder(), KeepBest()
    remember = Remember(folder)
    model = fc.Sequential(fc.Flatten(), fc.Linear(16, 3))
    history = fit(
        model,
        x,
        y,
        epochs=8,
        batch_size=16,
        validation_split=0.3 if validated else 0.0,
        callbacks=[best, Recorder(folder, best), remember],
        verbose=False,
    )
    rows = list(csv.DictReader(folder.file("results.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    new_best = [True] * 8
    if validated:
        accuracies = [r["val_acc"] for r in history]
        new_best = [value > max([-1, *accuracies[:n]]) for n, value in enumerate(accuracies)]
        assert not all(new_best)  # or this test would show nothing
    changed = [not np.array_equal(a, b) for a, b in zip(remember.saved, remember.saved[1:], strict=False)]
    assert changed == new_best[1:]
    np.testing.assert_array_equal(remember.saved[-1], model.state_dict()["1.weight"])
