"""The built-in digits, the Dataset they come in, and what importing them costs."""

import hashlib
import re
from importlib import resources

import numpy as np
import pytest
from subprocesses import ROOT, succeed

from fastconv.data import DataError, Dataset, digits10k, load, read_npz

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4)
LABELS = np.array([3, 0])


def test_digits():
    data = digits10k()
    assert data.images.shape == (10_000, 1, 28, 28)
    assert data.images.dtype == np.uint8
    assert data.images.min() == 0
    assert data.images.max() == 255
    assert np.bincount(data.labels).tolist() == [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
    assert (np.diff(data.labels) >= 0).all()
    assert data.num_classes == 10
    assert data.source == "built-in digits"
    assert load().sha256() == data.sha256()


def test_licence_and_credit_beside_the_digits():
    folder = resources.files("fastconv.data")
    licence = (folder / "digits10k.LICENSE.md").read_text("utf-8")
    for words in ("MIT License", "Copyright (c) 2015 Juan Cazala", "Yann LeCun", "Corinna Cortes", "Burges"):
        assert words in licence
    stated = re.search(r"SHA-256: `([0-9a-f]{64})`", licence)
    assert stated
    assert hashlib.sha256((folder / "digits10k.npz").read_bytes()).hexdigest() == stated[1]


def test_digits_are_the_shared_ones():
    path = ROOT.parent / "shared" / "data" / "digits10k" / "digits10k.npz"
    if not path.exists():
        pytest.skip("the original of the digits is not here (../shared/data/digits10k)")
    assert read_npz(path).sha256() == digits10k().sha256()


def test_import_is_light():
    loaded = succeed("import sys, fastconv.data; print(*sorted({'pandas', 'numba', 'llvmlite'} & set(sys.modules)))")
    assert loaded == ""


class TestDataset:
    def test_properties(self):
        data = Dataset(IMAGES, LABELS, "here")
        assert len(data) == 2
        assert data.num_classes == 4
        assert repr(data) == "<Dataset: 2 images of 1x3x4, 4 classes, from here>"
        assert repr(Dataset(IMAGES, None, "here")) == "<Dataset: 2 images of 1x3x4, no labels, from here>"

    def test_is_frozen(self):
        with pytest.raises(AttributeError):
            Dataset(IMAGES, LABELS, "here").labels = None

    def test_sha256_written_out(self):
        content = b"(2, 1, 3, 4) True\n" + bytes(range(24)) + b"\3" + bytes(15)
        assert Dataset(IMAGES, LABELS, "here").sha256() == hashlib.sha256(content).hexdigest()

    def test_sha256_tells_data_apart(self):
        other = IMAGES.copy()
        other[1, 0, 2, 3] ^= 1
        same = {Dataset(IMAGES, LABELS, source).sha256() for source in ("here", "there")}
        different = {
            Dataset(*arrays, "here").sha256()
            for arrays in (
                (IMAGES, LABELS),
                (IMAGES, None),
                (IMAGES, LABELS[::-1].copy()),
                (IMAGES.reshape(2, 1, 4, 3), LABELS),
                (other, LABELS),
            )
        }
        assert len(same) == 1
        assert len(different) == 5

    def test_labels_of_any_stride(self):
        strided = np.array([3, 9, 0, 9])[::2]
        assert Dataset(IMAGES, strided, "here").sha256() == Dataset(IMAGES, LABELS, "here").sha256()

    @pytest.mark.parametrize(
        ("images", "labels", "match"),
        [
            (IMAGES.astype(np.float32), None, r"expected C-contiguous images of dtype uint8 .* got dtype float32"),
            (IMAGES[0], None, r"expected C-contiguous images .* got dtype uint8, shape \(1, 3, 4\)"),
            (IMAGES[:0], None, r"expected .* without a zero, got dtype uint8, shape \(0, 1, 3, 4\)"),
            (IMAGES.transpose(0, 1, 3, 2), None, r"expected C-contiguous .* strides \(12, 12, 1, 4\)"),
            (IMAGES, LABELS.astype(np.int32), r"expected labels of dtype int64 and shape \(2,\), .* got dtype int32"),
            (IMAGES, LABELS[:1], r"expected labels of dtype int64 and shape \(2,\), .* shape \(1,\)"),
            (IMAGES, np.array([3, -2]), r"expected labels from 0 upwards, got -2 for image 2 of 2"),
        ],
    )
    def test_bad_arrays(self, images, labels, match):
        with pytest.raises(DataError, match=rf"^Dataset: here: {match}"):
            Dataset(images, labels, "here")

    def test_classes_without_labels(self):
        with pytest.raises(DataError, match=r"^Dataset: here: expected labels, got none"):
            _ = Dataset(IMAGES, None, "here").num_classes
