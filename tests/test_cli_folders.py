"""Folders at the command line: classes are known by their names, and of MNIST's files each command reads its part."""

import json
import struct

import numpy as np
import pytest

import fastconv as fc
from fastconv import data
from fastconv.checkup import Report
from fastconv.cli import main
from fastconv.commands import doctor
from fastconv.commands.errors import UsageError
from fastconv.commands.labels import numbered_as_in

NAMES = ["blue", "green", "red", "white"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch, threads):
    monkeypatch.chdir(tmp_path)


def lines_of(capsys):
    return capsys.readouterr().out.splitlines()


# -------------------------------------------------------------------------------------------------- classes have names


def net():
    """A model of images of 2x2, whose brightest pixel is the class."""
    model = fc.Sequential(fc.Flatten(), fc.Linear(4, 4))
    model.layers[1].weight.value[:] = np.eye(4)
    model.layers[1].bias.value[:] = 0
    return model


def write_run(folder, names=NAMES, **more):
    """A run as ``fastconv train`` leaves it, as far as is needed."""
    folder.mkdir()
    fc.save(net(), folder / "model.safetensors")
    write_config(folder, names, **more)


def write_config(folder, names, **more):
    config = {"data": {"image_shape": [1, 2, 2], "class_names": names, "sha256": "0" * 64}, **more}
    (folder / "config.json").write_text(json.dumps(config))


def write_images(folder, **pixels):
    """Sub-folders of images, for each name the brightest pixels of its images."""
    image = pytest.importorskip("PIL.Image")
    for name, brightest in pixels.items():
        (folder / name).mkdir(parents=True)
        for number, pixel in enumerate(brightest):
            values = np.zeros(4, np.uint8)
            values[pixel] = 255
            image.fromarray(values.reshape(2, 2)).save(folder / name / f"{number}.png")


@pytest.fixture
def run(tmp_path):
    write_run(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def ensemble(tmp_path):
    (tmp_path / "both").mkdir()
    for number in (1, 2):
        write_run(tmp_path / "both" / f"member-{number}")
    write_config(tmp_path / "both", NAMES)
    members = [{"folder": "member-1"}, {"folder": "member-2"}]
    (tmp_path / "both" / "metrics.json").write_text(json.dumps({"members": members}))


@pytest.mark.parametrize("named", ["run", "run/model.safetensors", "both"])
def test_classes_are_matched_by_name(named, run, ensemble, tmp_path, capsys):
    write_images(tmp_path / "some", green=[1, 1, 1], red=[2, 2, 1])
    assert main(["evaluate", named, "some"]) == 0
    lines = [line for line in lines_of(capsys) if not line.startswith("compiling")]
    assert lines[0] == "data   some: 6 images"
    assert lines[1].startswith("accuracy 0.8333 ")
    assert lines[2] == "most confused: red as green (1)"
    assert lines[-5:] == [
        "class  precision  recall  images",
        " blue          -       -       0",
        "green     0.7500  1.0000       3",
        "  red     1.0000  0.6667       3",
        "white          -       -       0",
    ]


@pytest.mark.parametrize("named", ["run", "both"])
def test_a_class_that_the_run_does_not_know_is_refused(named, run, ensemble, tmp_path, capsys):
    write_images(tmp_path / "more", blue=[0], brown=[0], red=[2])
    assert main(["evaluate", named, "more"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("fastconv: more: expected classes that " + named)
    assert " knows, 'blue', 'green', 'red', 'white', got 'brown'; rename the sub-folder, or leave it out" in shown.err
    assert shown.err.count("\n") == 1


def test_a_message_lists_no_thousand_names(tmp_path):
    write_images(tmp_path / "photos", strange=[0])
    with pytest.raises(UsageError, match="'class 19' and 980 more, got 'strange'; "):
        numbered_as_in("run", tuple(f"class {n}" for n in range(1000)), data.load("photos"))


def test_data_without_names_go_by_number_and_are_told_by_name(run, capsys):
    images = np.zeros((4, 1, 2, 2), np.uint8)
    images[np.arange(4), 0, [0, 0, 1, 1], [0, 1, 0, 1]] = 255
    np.savez("data.npz", images=images, labels=[0, 1, 2, 0])
    assert main(["evaluate", "run", "data.npz"]) == 0
    lines = lines_of(capsys)
    assert "most confused: blue as white (1)" in lines
    assert [line.split()[0] for line in lines[-4:]] == NAMES


def test_a_run_without_names_knows_its_classes_by_number(tmp_path, capsys):
    write_run(tmp_path / "run", None)
    write_images(tmp_path / "numbers", **{"1": [1, 1], "3": [3, 2]})
    assert main(["evaluate", "run", "numbers"]) == 0
    assert "most confused: 3 as 2 (1)" in lines_of(capsys)
    write_images(tmp_path / "names", a=[0], b=[1])  # nothing says which they are: as they are sorted
    assert main(["evaluate", "run", "names"]) == 0
    assert any(line.startswith("accuracy 1.0000 ") for line in lines_of(capsys))


def test_long_names_are_shortened_and_as_many_as_the_model_has(tmp_path, capsys):
    write_images(tmp_path / "photos", **{"a" * 100: [0], "b": [0], "c": [0], "d": [0]})
    write_run(tmp_path / "run", ["a" * 100, "b", "c", "d"])
    assert main(["evaluate", "run", "photos"]) == 0
    lines = lines_of(capsys)
    assert {len(line) for line in lines[-5:]} == {len(lines[-1])}
    assert len(lines[-1]) < 60
    write_config(tmp_path / "run", NAMES[:3])
    assert main(["evaluate", "run", "photos"]) == 2
    assert "model.safetensors: expected 4 names of classes, got 3" in capsys.readouterr().err


def test_training_tells_classes_by_name(tmp_path, capsys, rng):
    image = pytest.importorskip("PIL.Image")
    for number in range(40):
        folder = tmp_path / "noise" / ["cat", "dog"][number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(rng.integers(0, 256, (28, 28)).astype(np.uint8)).save(folder / f"{number}.png")
    words = ["train", "noise", "--model", "lenet_seed", "--epochs", "1", "--val", "0.5", "--no-report"]
    for more in ([], ["--ensemble", "2"]):
        assert main([*words, *more]) == 0
        (line,) = [line for line in lines_of(capsys) if line.startswith("most confused: ")]
        assert "cat as dog (" in line or "dog as cat (" in line


def test_doctor_numbers_changed_data_as_the_run_does(tmp_path, capsys, monkeypatch):
    write_run(tmp_path / "run", options={"data": "photos"})
    write_images(tmp_path / "photos", green=[1, 1], white=[3])
    seen = []
    monkeypatch.setattr(doctor, "doctor", lambda model, x, y, **_: seen.append(y) or Report([]))
    assert main(["doctor", "run"]) == 1  # the data are not those of the run
    assert seen[0].tolist() == [1, 1, 3]
    write_images(tmp_path / "photos", brown=[1])
    capsys.readouterr()
    assert main(["doctor", "run", "--json"]) == 1
    assert seen[1] is None
    findings = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert findings["data"]["severity"] == findings["classes"]["severity"] == "fault"
    assert "'white', got 'brown'; rename the sub-folder" in findings["classes"]["evidence"]


def test_answers_for_a_folder_say_their_order(run, tmp_path, capsys):
    write_images(tmp_path, flat=range(4))
    (tmp_path / "flat" / "2.png").rename(tmp_path / "flat" / "10.png")
    assert main(["predict", "run", "flat"]) == 0
    assert lines_of(capsys)[0] == "data   flat: 4 images, in the order of their names (10.png before 2.png)"
    assert (tmp_path / "submission.csv").read_text() == "ImageId,Label\n1,0\n2,1\n3,2\n4,3\n"


# -------------------------------------------------------------------------------------------------------- MNIST's files


def write_idx(path, values):
    path.parent.mkdir(exist_ok=True)
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


def write_part(folder, prefix, index):
    digits = data.load()
    write_idx(folder / f"{prefix}-images-idx3-ubyte", digits.images[index, 0])
    write_idx(folder / f"{prefix}-labels-idx1-ubyte", digits.labels[index])


def test_each_command_reads_its_part_of_a_folder(tmp_path, capsys):
    write_part(tmp_path / "idx", "train", slice(0, None, 50))
    write_part(tmp_path / "idx", "t10k", slice(7, None, 340))
    write_part(tmp_path / "test", "t10k", slice(7, None, 340))
    train, test = (str(tmp_path / "idx" / f"{part}-images-idx3-ubyte") for part in ("train", "t10k"))
    folder = str(tmp_path / "idx")
    words = ["train", folder, "--test", folder, "--model", "lenet_seed", "--epochs", "1", "--no-report", "--out", "run"]
    assert main(words) == 0
    lines = lines_of(capsys)
    assert lines[1] == f"data   {train}: 180 train / 20 validation, 10 classes"
    assert lines[2] == f"test   {test}: 30 images"
    assert lines[-1].endswith("submission.csv: 30 rows")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["data"]["source"], config["test"]["source"]) == (train, test)
    for named in (folder, test, str(tmp_path / "test")):
        for command in (["predict", "run", named], ["evaluate", "run", named]):
            assert main(command) == 0
            assert any(
                line.startswith("data   ") and line.endswith("t10k-images-idx3-ubyte: 30 images")
                for line in lines_of(capsys)
            )
        assert (tmp_path / "submission.csv").read_text() == (tmp_path / "run" / "submission.csv").read_text()
    assert main(["evaluate", "run", train]) == 0
    assert f"data   {train}: 200 images" in lines_of(capsys)
    assert main(["doctor", folder, "--model", "lenet_seed", "--test", folder, "--json"]) == 0
    findings = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert findings["data"]["evidence"] == f"{train}: 200 images"
    assert findings["test"]["evidence"] == f"{test}: 30 images"
    assert main(["train", str(tmp_path / "test")]) == 2
    assert "expected the file train-images-idx3-ubyte or " in capsys.readouterr().err
