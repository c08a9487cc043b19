"""The submission file: its bytes, and that it is written wholly or not at all."""

import os
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from permissions import binding

from fastconv.data import DataError, write_submission


def test_written_out(tmp_path):
    path = tmp_path / "submission.csv"
    write_submission(path, np.array([2, 0, 9]))
    assert path.read_bytes() == b"ImageId,Label\n1,2\n2,0\n3,9\n"
    assert [p.name for p in tmp_path.iterdir()] == ["submission.csv"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=st.lists(st.integers(0, 127), min_size=1, max_size=200),
    dtype=st.sampled_from([np.uint8, np.int8, np.int32, np.int64, np.uint64, None]),
)
def test_round_trip(tmp_path, labels, dtype):
    path = tmp_path / "submission.csv"
    write_submission(str(path), labels if dtype is None else np.array(labels, dtype))
    read = np.loadtxt(path, np.int64, delimiter=",", skiprows=1, ndmin=2)
    np.testing.assert_array_equal(read, np.column_stack([np.arange(1, len(labels) + 1), labels]), strict=True)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([], r"expected labels as integers of shape \(N,\), N at least 1, got dtype float64 and shape \(0,\)"),
        ([1.0, 2.0], r"got dtype float64 and shape \(2,\)"),
        ([True, False], r"got dtype bool and shape \(2,\)"),
        (["1"], r"got dtype <U1 and shape \(1,\)"),
        (3, r"got dtype int64 and shape \(\)"),
        (np.zeros((2, 10), int), r"got dtype int64 and shape \(2, 10\)"),
        ([1, -1], r"expected labels from 0 upwards, got -1"),
    ],
)
def test_bad_labels(tmp_path, labels, match):
    path = tmp_path / "submission.csv"
    path.write_text("precious")
    with pytest.raises(DataError, match=rf"^write_submission: \S*submission\.csv: .*{match}"):
        write_submission(path, labels)
    assert path.read_text() == "precious"


def refuse(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (os, "replace")])
def test_full_disk_leaves_what_was_there(tmp_path, monkeypatch, owner, name):
    path = tmp_path / "submission.csv"
    path.write_text("precious")
    monkeypatch.setattr(owner, name, refuse)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); check that the folder exists"):
        write_submission(path, [1, 2])
    assert path.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["submission.csv"]


def test_interrupted_leaves_what_was_there(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    path = tmp_path / "submission.csv"
    path.write_text("precious")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_submission(path, [1, 2])
    assert path.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["submission.csv"]


def test_flushed_before_the_name_changes(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append("replace"), replace(old, new))[1])
    write_submission(tmp_path / "submission.csv", [1])
    assert done == (["fsync", "replace", "fsync"] if os.name == "posix" else ["fsync", "replace"])


def test_what_a_killed_process_left_is_swept_after_an_hour(tmp_path):
    names = [f".{name}.{number}.tmp" for name in ("a.csv", "b.csv") for number in ("01234567", "89abcdef")]
    for name in names:
        (tmp_path / name).write_text("half")
        age = 4000 if "0123" in name else 0
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    write_submission(tmp_path / "a.csv", [1])
    assert sorted(os.listdir(tmp_path)) == sorted([*names[1:], "a.csv"])


class TestPlaces:
    def test_no_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"cannot be written \(No such file or directory\)"):
            write_submission(tmp_path / "absent" / "submission.csv", [1])
        assert list(tmp_path.iterdir()) == []

    def test_a_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"cannot be written \(Is a folder or a device, not a file\)"):
            write_submission(tmp_path, [1])

    @pytest.mark.skipif(not Path(os.devnull).is_char_device(), reason="no device files here")
    def test_a_device_is_not_replaced(self):
        with pytest.raises(DataError, match=r"cannot be written \(Is a folder or a device, not a file\)"):
            write_submission(os.devnull, [1])
        assert Path(os.devnull).is_char_device()

    @pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
    def test_through_a_link(self, tmp_path):
        (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
        write_submission(tmp_path / "link.csv", [4])
        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / "target.csv").read_text() == "ImageId,Label\n1,4\n"

    @pytest.mark.skipif(os.name != "posix", reason="no such permissions elsewhere")
    def test_permissions_are_those_of_any_new_file(self, tmp_path):
        (tmp_path / "plain").touch()
        write_submission(tmp_path / "submission.csv", [4])
        modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "submission.csv")}
        assert len(modes) == 1

    def test_unwritable_folder(self, tmp_path):
        tmp_path.chmod(0o500)
        with binding(), pytest.raises(DataError, match=r"cannot be written \(Permission denied\)"):
            write_submission(tmp_path / "submission.csv", [1])
        tmp_path.chmod(0o700)
        assert not list(tmp_path.iterdir())
