"""NumPy archives: names, shapes, bad arrays, damage and bombs."""

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from subprocesses import ROOT

from fastconv.data import DataError, read_npz

FASHION = ROOT.parent / "shared" / "data" / "fashion" / "test.npz"
RNG = np.random.default_rng(21)
IMAGES = RNG.integers(0, 256, (8, 5, 4), np.uint8)
LABELS = RNG.integers(0, 10, 8).astype(np.uint8)


def write(folder, name="data.npz", packed=False, **arrays):
    path = folder / name
    with path.open("wb") as stream:
        (np.savez_compressed if packed else np.savez)(stream, **arrays)
    return path


def write_members(folder, members, compression=zipfile.ZIP_DEFLATED):
    path = folder / "data.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(values, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(values), **options)
    return stream.getvalue()


def npy_header(text, version=1):
    text = text.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


def error_of(path):
    with pytest.raises(DataError) as caught:
        read_npz(path)
    message = str(caught.value)
    assert message.startswith(f"read_npz: {path}: ")
    assert len(message.splitlines()) == 1
    return message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.one_of(
        st.tuples(*[st.integers(1, 6)] * 3),
        st.tuples(st.integers(1, 6), st.sampled_from([1, 3]), st.integers(1, 6), st.integers(1, 6)),
    ),
    names=st.sampled_from([("images", "labels"), ("x", "y"), ("x_train", "y_train")]),
    label_dtype=st.sampled_from([None, "u1", "i1", "<i4", ">i8", "u8"]),
    fortran=st.booleans(),
    packed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip(tmp_path, shape, names, label_dtype, fortran, packed, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, shape, np.uint8)
    arrays = {names[0]: np.asfortranarray(images) if fortran else images, "other": np.ones(3)}
    if label_dtype:
        arrays[names[1]] = labels = rng.integers(0, 100, shape[0]).astype(label_dtype)
    data = read_npz(write(tmp_path, packed=packed, **arrays))
    ref = images if images.ndim == 4 else images[:, np.newaxis]
    np.testing.assert_array_equal(data.images, ref, strict=True)
    assert data.images.flags.c_contiguous
    if label_dtype:
        np.testing.assert_array_equal(data.labels, labels.astype(np.int64), strict=True)
    else:
        assert data.labels is None


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions_of_the_header(tmp_path, version):
    data = read_npz(write_members(tmp_path, {"images.npy": npy(IMAGES, version=version)}))
    np.testing.assert_array_equal(data.images[:, 0], IMAGES, strict=True)


BAD_ARRAYS = {
    "no images": ({"labels": LABELS}, r"expected an array called images, x or x_train, got labels\.npy; rename"),
    "nothing": ({}, r"expected an array called images, x or x_train, got an empty archive"),
    "many": (
        {f"a{i}": LABELS for i in range(9)},
        r"expected .* got a0\.npy, a1\.npy, .*a5\.npy, \.\.\.; rename the arrays",
    ),
    "float images": (
        {"images": IMAGES / 255},
        r"array images: expected dtype uint8, got float64; convert it, with np\.r",
    ),
    "int images": ({"images": IMAGES.astype(int)}, r"array images: expected dtype uint8, got int64"),
    "truth images": ({"x": IMAGES > 9}, r"array x: expected dtype uint8, got bool"),
    "complex images": ({"x": IMAGES * 1j}, r"array x: expected dtype uint8, got complex128"),
    "text images": ({"x": np.array(["a"])}, r"array x: expected dtype uint8, got <U1"),
    "structured": ({"x": np.zeros(3, "u1,u1")}, r"array x: expected dtype uint8, got "),
    "objects": ({"images": np.array([IMAGES, None], object)}, r"array images: expected numbers, got dtype object"),
    "object labels": (
        {"images": IMAGES, "labels": np.array([None] * 8)},
        r"array labels: expected numbers, got dtype object; Python objects are never loaded",
    ),
    "scalar": ({"images": np.uint8(3)}, r"array images: expected shape \(N, H, W\) or \(N, C, H, W\).*, got \(\)"),
    "flat": ({"images": IMAGES.reshape(8, 20)}, r"array images: expected shape .* got \(8, 20\); reshape it"),
    "five axes": ({"images": IMAGES[None, None]}, r"array images: expected shape .* got \(1, 1, 8, 5, 4\)"),
    "none": ({"images": IMAGES[:0]}, r"array images: expected shape .* without a zero, got \(0, 5, 4\)"),
    "channels last": (
        {"x_train": np.zeros((8, 5, 4, 3), np.uint8)},
        r"array x_train: expected shape \(N, C, H, W\), got \(8, 5, 4, 3\), which looks like .* apply \.transpose",
    ),
    "float labels": (
        {"images": IMAGES, "labels": LABELS / 1},
        r"array labels: expected an integer dtype, got float64; apply \.astype\(np\.int64\)",
    ),
    "truth labels": ({"images": IMAGES, "labels": LABELS > 5}, r"array labels: expected an integer dtype, got bool"),
    "few labels": ({"images": IMAGES, "labels": LABELS[:7]}, r"array labels: expected shape \(8,\), .* got \(7,\)"),
    "column of labels": ({"x": IMAGES, "y": LABELS[:, None]}, r"array y: expected shape \(8,\), .* got \(8, 1\)"),
    "one-hot": ({"x": IMAGES, "y": np.eye(8, dtype=int)}, r"array y: expected shape \(8,\), .* got \(8, 8\)"),
    "negative labels": (
        {"x": IMAGES, "y": LABELS.astype(int) - 20},
        r"array y: expected labels from 0 upwards, got -20? ?.* to -\d+; number classes from 0",
    ),
    "huge labels": (
        {"x": IMAGES, "y": LABELS + np.uint64(2**63)},
        r"array y: expected labels from 0 upwards, got \d{19} to \d{19}",
    ),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bad", BAD_ARRAYS)
def test_bad_array(tmp_path, bad, packed):
    arrays, match = BAD_ARRAYS[bad]
    path = write(tmp_path, packed=packed, **arrays)
    with pytest.raises(DataError, match=rf"^read_npz: \S*data\.npz: {match}"):
        read_npz(path)
    error_of(path)


def described(shape, dtype="|u1", data=b"", version=1):
    return npy_header(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}", version) + data


BAD_MEMBERS = {
    "empty": (b"", r"array images: its header is damaged"),
    "no npy": (b"hello, world, this is no array", r"array images: its header is damaged"),
    "terabytes": (described("(1000000, 1000, 1000)"), r"expected 1,000,000,000,000 bytes for shape .* got 0"),
    "beyond 64 bits": (described(f"({2**62}, {2**62}, 9)"), r"array images: expected [\d,]+ bytes for shape"),
    "short": (described("(2, 2, 2)", data=bytes(7)), r"expected 8 bytes for shape \(2, 2, 2\) and dtype uint8, got 7"),
    "long": (described("(2, 2, 2)", data=bytes(9)), r"expected 8 bytes for shape \(2, 2, 2\) and dtype uint8, got 9"),
    "negative": (described("(-2, -2, 2)", data=bytes(8)), r"array images: "),
    "float shape": (described("(2.0, 2, 2)", data=bytes(8)), r"array images: its header is damaged"),
    "zero bytes each": (described("(2, 2, 2)", "|V0"), r"array images: expected numbers, got dtype \|V0"),
    "objects": (described("(2, 2, 2)", "|O", bytes(64)), r"array images: expected numbers, got dtype object"),
    "code": (npy_header("__import__('os').system('true')"), r"array images: its header is damaged"),
    "deep": (npy_header("(" * 5000), r"array images: its header is damaged"),
    "half a string": (npy_header("{'descr': '''"), r"array images: its header is damaged"),
    "long header": (npy_header(" " * 20000 + "{}", version=2), r"array images: its header is damaged"),
    "future version": (b"\x93NUMPY\x09\0" + bytes(100), r"array images: its header is damaged"),
}


@pytest.mark.parametrize("bad", BAD_MEMBERS)
def test_bad_member(tmp_path, bad):
    content, match = BAD_MEMBERS[bad]
    path = write_members(tmp_path, {"images.npy": content})
    with pytest.raises(DataError, match=match):
        read_npz(path)
    error_of(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    text=st.one_of(st.text(max_size=80), st.text("{}()[]'\": ,desrfotanhp0123456789L|u1TrueFalse_\n\\", max_size=80))
)
def test_any_header(tmp_path, text):
    content = npy_header(text.encode("ascii", "replace").decode())
    error_of(write_members(tmp_path, {"images.npy": content}, zipfile.ZIP_STORED))


class TestArchive:
    def test_not_a_zip(self, tmp_path):
        path = tmp_path / "data.npz"
        path.write_bytes(b"hello")
        assert "the archive is damaged (File is not a zip file); copy, download or save it again" in error_of(path)

    def test_absent(self, tmp_path):
        assert "there is no such file" in error_of(tmp_path / "absent.npz")

    def test_folder(self, tmp_path):
        assert "expected a file, got a folder" in error_of(tmp_path)

    def test_zip_of_csv_files(self, tmp_path):
        # What Kaggle's download button gives.
        path = write_members(tmp_path, {"train.csv": b"label,pixel0\n1,1\n", "test.csv": b"pixel0\n1\n"})
        assert "got train.csv, test.csv; unpack it and give one of its files" in error_of(path)

    def test_member_without_suffix(self, tmp_path):
        assert "got images; unpack it" in error_of(write_members(tmp_path, {"images": npy(IMAGES)}))

    @pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_other_compression(self, tmp_path, compression):
        path = write_members(tmp_path, {"images.npy": npy(IMAGES)}, compression)
        message = error_of(path)
        assert f"images.npy: expected a stored or deflated member (0 or 8), got compression {compression}" in message

    def test_bomb(self, tmp_path):
        path = tmp_path / "data.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("images.npy", "w") as stream:
                stream.write(described("(300, 1024, 1024)"))
                for _ in range(300):
                    stream.write(bytes(1 << 20))
        assert "array images: expected images, got 1," in error_of(path)

    @pytest.mark.parametrize("packed", [False, True])
    def test_damaged(self, tmp_path, packed):
        content = write(tmp_path, packed=packed, images=IMAGES, labels=LABELS).read_bytes()
        path = tmp_path / "damaged.npz"
        rng = np.random.default_rng(22)
        damaged = [content[:length] for length in range(0, len(content), 11)]
        for position in rng.permutation(8 * len(content))[:800].tolist():
            flipped = bytearray(content)
            flipped[position // 8] ^= 1 << position % 8
            damaged.append(bytes(flipped))
        refused = 0
        for case in damaged:
            path.write_bytes(case)
            try:
                data = read_npz(path)
            except DataError:
                refused += 1
            else:
                np.testing.assert_array_equal(data.images[:, 0], IMAGES, strict=True)
                np.testing.assert_array_equal(data.labels, LABELS.astype(np.int64), strict=True)
        assert refused > 0.7 * len(damaged)


@pytest.mark.skipif(not FASHION.exists(), reason="Fashion-MNIST is not here (../shared/data/fashion)")
def test_real_fashion():
    data = read_npz(FASHION)
    assert data.images.shape == (28_000, 1, 28, 28)
    assert data.labels is None
