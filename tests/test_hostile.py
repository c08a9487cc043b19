"""What the promises about hostile files and arrays found; their short forms run in test_reliability.py."""

import argparse
import json
import os
import threading

import numpy as np
import pytest

import fastconv as fc
from benchmarks.reliability import array_calls, file_damage
from fastconv import data
from fastconv.augment import Augment
from fastconv.commands import model_file
from fastconv.commands.errors import UsageError
from fastconv.commands.resume import options_of
from fastconv.data import files
from fastconv.regular import read_small
from fastconv.training.metrics import confusion_matrix
from fastconv.training.run_folder import EPOCHS, RunFolder, RunFolderError, read_results


def test_every_public_name_is_called_or_left_out_by_name():
    assert array_calls.uncovered() == []
    assert not {call.name for call in array_calls.calls()} & set(array_calls.LEFT_OUT)


def test_damage_follows_from_its_seed():
    content = bytes(range(256)) * 20
    once, again = ([file_damage.damaged(content, np.random.default_rng(n)) for n in range(200)] for _ in range(2))
    assert once == again
    assert sum(changed != content for changed in once) > 180


# ------------------------------------------------------------------------------------------------- found in arrays


RAGGED = [[1.0, 2.0], [3.0]]


@pytest.mark.parametrize(
    ("call", "operation"),
    [
        (lambda: fc.functional.relu(RAGGED), "relu"),
        (lambda: fc.Linear(2, 2)(RAGGED), "Linear"),
        (lambda: fc.MSELoss()(np.ones((2, 2)), RAGGED), "MSELoss"),
        (lambda: fc.CrossEntropyLoss()(np.ones((2, 2)), [[0], [0, 1]]), "CrossEntropyLoss"),
        (lambda: Augment().apply(np.zeros((2, 1, 4, 4), np.uint8), RAGGED, 1), "Augment.apply"),
        (lambda: data.split(3, 1, 0, stratify=RAGGED), "split"),
        (lambda: data.write_submission("never", RAGGED), "write_submission"),
        (lambda: confusion_matrix(RAGGED, [1, 2], 3), "confusion_matrix"),
    ],
)
def test_lists_of_different_lengths_are_refused_by_name(call, operation):
    with pytest.raises((TypeError, ValueError), match=operation):
        call()


def test_a_view_that_seems_to_hold_terabytes():
    huge = np.broadcast_to(np.float64(1), (2**40, 2, 5, 5))
    with pytest.raises(MemoryError, match=r"ReLU: not enough memory: about 209,715,200 MB are needed \(.* copy of x"):
        fc.ReLU()(huge)
    with pytest.raises(
        MemoryError, match=r"Conv2d: not enough memory: .* one image of shape \(2, 1099511627776, 5\) takes"
    ):
        fc.Conv2d(2, 2, 3).forward(np.empty((0, 2, 2**40, 5)))
    with pytest.raises(data.DataError, match="write_submission: never"):
        data.write_submission("never", np.broadcast_to(np.int64(1), 2**40))
    with pytest.raises(MemoryError, match="EMA: not enough memory"):
        fc.EMA().load_state_dict({"updates": 1, "swapped": False, "a": np.broadcast_to(1.0, 2**40)})


def test_confusion_of_labels_out_of_range():
    """A 3 of 3 classes was counted as a 0 of the next row."""
    with pytest.raises(ValueError, match="confusion_matrix: expected labels from 0 to 2, got 3 at position 1"):
        confusion_matrix(np.array([0, 0]), np.array([1, 3]), 3)


@pytest.mark.parametrize(
    ("index", "error", "match"),
    [
        ([[0, 1]], fc.ShapeError, "one axis"),
        ([0.5], TypeError, "float64"),
        ([True, False], TypeError, "bool"),
        ([5], IndexError, "Augment.apply: expected index among 2"),
    ],
)
def test_places_to_augment(index, error, match):
    with pytest.raises(error, match=match):
        Augment().apply(np.zeros((2, 1, 4, 4), np.uint8), index, 1)


MASKED = np.ma.masked_array(np.zeros((2, 1, 4, 4), np.uint8), True)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Augment().apply(MASKED, 0, 1),
        lambda: data.Dataset(MASKED, None, "here"),
        lambda: data.split(2, 1, 0, stratify=np.ma.masked_array([0, 1])),
        lambda: data.write_submission("never", np.ma.masked_array([0, 1])),
    ],
)
def test_masked_arrays_are_refused(call):
    with pytest.raises((TypeError, ValueError), match=r"masked|MaskedArray"):
        call()


def test_a_dataset_of_no_arrays():
    with pytest.raises(data.DataError, match="Dataset: here: expected images as a plain NumPy array, got list"):
        data.Dataset([[1]], None, "here")


def test_averages_of_the_other_byte_order():
    model, first, second = fc.Linear(2, 2), fc.EMA(), fc.EMA()
    first.begin(model)
    second.load_state_dict(
        {name: array.astype(array.dtype.newbyteorder()) for name, array in first.state_dict().items()}
    )
    second.begin(model)
    assert second.state_dict()["weight"].tobytes() == first.state_dict()["weight"].tobytes()


def test_a_gradient_check_of_a_number():
    with pytest.raises(fc.ShapeError, match="gradcheck: expected x"):
        fc.gradcheck(fc.ReLU(), 3.0)


# -------------------------------------------------------------------------------------------------- found in files


def test_a_pipe_is_read_when_something_comes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Timer(0.2, lambda: (tmp_path / "pipe").write_text("label,pixel0\n1,7\n"))
    writer.start()
    assert data.load(tmp_path / "pipe").images.item() == 7
    writer.join()


@pytest.mark.parametrize("read", [data.load, data.read_npz, data.read_idx, data.read_csv])
def test_a_pipe_that_nobody_writes_to(tmp_path, monkeypatch, read):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    with pytest.raises(data.DataError, match=r"pipe: nothing came from the pipe for 0.1 seconds"):
        read(tmp_path / "pipe")


def test_an_archive_is_no_device():
    with pytest.raises(data.DataError, match="got a pipe or a device"):
        data.read_npz("/dev/null")


def test_a_model_is_no_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="expected a file, got a pipe or a device"):
        fc.load(tmp_path / "pipe")


def test_a_name_that_is_too_long():
    with pytest.raises(data.DataError, match="cannot be opened"):
        data.load("x" * 5000)


def test_a_configuration_is_read_to_its_limit(tmp_path):
    (tmp_path / "large").write_bytes(bytes(11))
    assert len(read_small(tmp_path / "large", 11)) == 11
    with pytest.raises(OSError, match="at most 10 bytes"):
        read_small(tmp_path / "large", 10)


@pytest.mark.parametrize("shape", ["[1e999, 1, 1]", "[0, 28, 28]", "[-1, 28, 28]", "[" * 10**5, "3"])
def test_a_configuration_with_a_shape_that_is_none(tmp_path, shape):
    fc.save(fc.Sequential(fc.Linear(2, 2)), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(f'{{"data": {{"image_shape": {shape}}}}}')
    assert model_file.find_run(str(tmp_path)).image_shape == (1, 28, 28)


def test_every_bomb_has_a_name_of_its_own():
    from benchmarks.reliability.bombs import BOMBS

    names = [bomb.name for bomb in BOMBS]
    assert len(set(names)) == len(names) > 60
    assert json.dumps(names)


def test_pixels_of_a_png_whose_checksum_does_not_match(tmp_path):
    """Pillow shows them: Adler's sum stands behind the last pixel, where it no longer looks."""
    from PIL import Image

    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "0.png", compress_level=0)
    content = bytearray((tmp_path / "0.png").read_bytes())
    assert data.load(tmp_path).images[0, 0, 0, 5] == 5
    content[content.index(b"IDAT") + 40] ^= 1
    (tmp_path / "0.png").write_bytes(content)
    with pytest.raises(data.DataError, match=r"0\.png: the image is damaged"):
        data.load(tmp_path)


def test_a_dtype_that_is_a_syntax_error(tmp_path):
    from benchmarks.reliability import bombs

    (tmp_path / "m").write_bytes(bombs._stamped(bombs._architecture(dtype="(2,"), {}))
    with pytest.raises(fc.ModelFileError, match="cannot be built"):
        fc.load(tmp_path / "m")


@pytest.mark.parametrize(
    "options", [{"size": 28.5}, {"size": "abc"}, {"threads": "2"}, {"threads": None}, {"ensemble": []}]
)
def test_options_of_another_type_in_a_configuration(tmp_path, options):
    config = {"options": options, "versions": {}, "data": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="expected threads and ensemble as numbers and size"):
        options_of(RunFolder.reopen(tmp_path), argparse.Namespace(threads=None))


def test_a_table_with_a_field_without_end(tmp_path):
    """The csv module has an error of its own for it."""
    header = ",".join(EPOCHS)
    (tmp_path / "timing.csv").write_text("epoch,time,images_per_s\n")
    (tmp_path / "results.csv").write_text(f"{header}\n" + "1" * 200_000)
    with pytest.raises(RunFolderError, match="damaged"):
        read_results(tmp_path / "results.csv")
