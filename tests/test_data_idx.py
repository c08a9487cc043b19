"""IDX files and folders: round trips, bad headers, damage; and ``load``, which tells the kinds apart."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastconv.data import DataError, load, read_idx, read_idx_folder

RNG = np.random.default_rng(11)
IMAGES = RNG.integers(0, 256, (20, 6, 5), np.uint8)
LABELS = RNG.integers(0, 10, 20).astype(np.uint8)


def idx(values):
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def header(*shape, kind=8):
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def write_folder(folder, images=IMAGES, labels=LABELS, prefix="train", packed=False, separator="-"):
    for name, values in ((f"images{separator}idx3", images), (f"labels{separator}idx1", labels)):
        path = folder / f"{prefix}-{name}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    return folder


def one_line(call, *arguments, **options):
    with pytest.raises(DataError) as caught:
        call(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.one_of(st.tuples(st.integers(1, 300)), st.tuples(*[st.integers(1, 9)] * 3)),
    seed=st.integers(0, 2**32 - 1),
    packed=st.booleans(),
)
def test_round_trip(tmp_path, shape, seed, packed):
    values = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(idx(values), 1) if packed else idx(values))
    comp = read_idx(path)
    np.testing.assert_array_equal(comp, values, strict=True)
    assert comp.flags.c_contiguous


BAD = {
    "empty": (b"", r"expected an IDX file, which begins with the bytes 00 00 08 01 .* got an empty file"),
    "short magic": (b"\0\0\x08", r"expected an IDX file.* got 00 00 08"),
    "text": (b"label,pixel0\n", r"expected an IDX file.* got 6c 61 62 65"),
    "little endian": (b"\x03\x08\0\0" + bytes(20), r"expected an IDX file.* got 03 08 00 00"),
    "unknown type": (header(2, kind=7) + bytes(2), r"expected an IDX file.* got 00 00 07 01"),
    "float32": (header(2, kind=13) + bytes(8), r"expected values of type uint8 \(08\), got float32 \(0d\)"),
    "int8": (header(2, kind=9) + bytes(2), r"expected values of type uint8 \(08\), got int8 \(09\)"),
    "no axes": (header(), r"expected 1 axis \(labels\) or 3 \(images\), got 0"),
    "two axes": (header(2, 2) + bytes(4), r"expected 1 axis \(labels\) or 3 \(images\), got 2"),
    "colour": (header(2, 3, 4, 4) + bytes(96), r"expected 1 axis \(labels\) or 3 \(images\), got 4"),
    "header cut": (header(2, 2, 2)[:-1], r"expected a header of 16 bytes, got 15"),
    "no images": (header(0, 28, 28), r"expected at least one value, got the shape \(0, 28, 28\)"),
    "empty images": (header(3, 28, 0), r"expected at least one value, got the shape \(3, 28, 0\)"),
    "too short": (header(2, 2, 2) + bytes(7), r"expected 8 bytes behind the header for the shape \(2, 2, 2\), got "),
    "too long": (header(2, 2, 2) + bytes(9), r"expected 8 bytes behind the header for the shape \(2, 2, 2\), got "),
    "terabytes": (
        header(1 << 30, 1 << 10, 1 << 10) + bytes(100),
        r"expected 1,125,899,906,842,624 bytes behind the header .* got (at most )?",
    ),
    "beyond 64 bits": (header(*[2**32 - 1] * 3) + bytes(100), r"expected 79,228,162,458,924,105,385,300,197,375 bytes"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bad", BAD)
def test_bad_file(tmp_path, bad, packed):
    content, match = BAD[bad]
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=rf"^read_idx: \S*values: {match}"):
        read_idx(path)
    one_line(read_idx, path)


def test_gigabytes_in_a_gzip_that_could_hold_them(tmp_path):
    # 10 MB of gzip might unpack to 10 GB; memory may only grow with what really comes.
    path = tmp_path / "values.gz"
    path.write_bytes(gzip.compress(header(10_000_000, 10, 10) + RNG.bytes(1_000_000), 1))
    assert "expected 1,000,000,000 bytes behind the header" in one_line(read_idx, path)


@pytest.mark.parametrize("packed", [False, True])
def test_damaged(tmp_path, packed):
    content = gzip.compress(idx(IMAGES)) if packed else idx(IMAGES)
    path = tmp_path / "values"
    rng = np.random.default_rng(12)
    # Without gzip there is no checksum: only the header's bits can be known to be wrong.
    flippable = 8 * (len(content) if packed else 16)
    damaged = [content[:length] for length in range(0, len(content), 3)]
    for position in [*range(min(160, flippable)), *rng.integers(0, flippable, 200).tolist()]:
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        damaged.append(bytes(flipped))
    refused = 0
    for case in damaged:
        path.write_bytes(case)
        try:
            np.testing.assert_array_equal(read_idx(path), IMAGES, strict=True)
        except DataError:
            refused += 1
    assert refused > 0.9 * len(damaged)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("separator", ["-", "."])
def test_folder(tmp_path, packed, separator):
    write_folder(tmp_path, packed=packed, separator=separator)
    write_folder(tmp_path, IMAGES[:3], LABELS[:3], "t10k", packed=packed, separator=separator)
    train, test = read_idx_folder(tmp_path), read_idx_folder(tmp_path, part="test")
    np.testing.assert_array_equal(train.images, IMAGES[:, np.newaxis], strict=True)
    np.testing.assert_array_equal(train.labels, LABELS.astype(np.int64), strict=True)
    np.testing.assert_array_equal(test.images, IMAGES[:3, np.newaxis], strict=True)
    end = ".gz" if packed else ""
    assert train.source == str(tmp_path / f"train-images{separator}idx3-ubyte{end}")
    assert test.source == str(tmp_path / f"t10k-images{separator}idx3-ubyte{end}")
    assert load(tmp_path).sha256() == train.sha256()
    assert load(tmp_path, part="test").sha256() == test.sha256()


class TestBadFolder:
    def test_absent(self, tmp_path):
        assert "absent: expected a folder; check the name" in one_line(read_idx_folder, tmp_path / "absent")

    def test_empty(self, tmp_path):
        message = one_line(read_idx_folder, tmp_path)
        assert "expected the file train-images-idx3-ubyte or train-images-idx3-ubyte.gz, found neither" in message

    def test_no_labels(self, tmp_path):
        (write_folder(tmp_path) / "train-labels-idx1-ubyte").unlink()
        assert "expected the file train-labels-idx1-ubyte or" in one_line(read_idx_folder, tmp_path)

    def test_no_test_part(self, tmp_path):
        write_folder(tmp_path)
        assert "expected the file t10k-images-idx3-ubyte or" in one_line(read_idx_folder, tmp_path, part="test")

    def test_counts(self, tmp_path):
        write_folder(tmp_path, labels=LABELS[:19])
        message = one_line(read_idx_folder, tmp_path)
        assert "got 20 images in train-images-idx3-ubyte and 19 labels in train-labels-idx1-ubyte" in message

    def test_exchanged(self, tmp_path):
        write_folder(tmp_path, images=LABELS)
        message = one_line(read_idx_folder, tmp_path)
        assert "train-images-idx3-ubyte: expected images, got 20 labels; name the folder, or the file" in message
        write_folder(tmp_path, labels=IMAGES)
        message = one_line(read_idx_folder, tmp_path)
        assert "train-labels-idx1-ubyte: expected labels, got 20 images; " in message
        assert message.endswith("(were files renamed?)")

    def test_part(self, tmp_path):
        assert "expected part 'train' or 'test', got 'both'" in one_line(read_idx_folder, tmp_path, part="both")


class TestLoad:
    def test_images_alone(self, tmp_path):
        for name, content in (("a", idx(IMAGES)), ("b.gz", gzip.compress(idx(IMAGES))), ("c.csv", idx(IMAGES))):
            (tmp_path / name).write_bytes(content)
            data = load(tmp_path / name)
            np.testing.assert_array_equal(data.images, IMAGES[:, np.newaxis], strict=True)
            assert data.labels is None

    def test_labels_alone(self, tmp_path):
        (tmp_path / "a").write_bytes(idx(LABELS))
        assert "a: expected images, got 20 labels; name the folder, or the file of the images" in one_line(
            load, tmp_path / "a"
        )

    @pytest.mark.parametrize("prefix", ["train", "t10k", "emnist-letters-test", "my-images"])
    def test_labels_beside_images(self, tmp_path, prefix):
        write_folder(tmp_path, prefix=prefix, packed=True)
        images = tmp_path / f"{prefix}-images-idx3-ubyte.gz"
        labels = tmp_path / f"{prefix}-labels-idx1-ubyte.gz"
        dataset = load(images)
        np.testing.assert_array_equal(dataset.images, IMAGES[:, np.newaxis], strict=True)
        np.testing.assert_array_equal(dataset.labels, LABELS.astype(np.int64), strict=True)
        assert dataset.source == str(images)
        labels.with_suffix("").write_bytes(gzip.decompress(labels.read_bytes()))
        labels.unlink()
        assert load(images).labels.tolist() == LABELS.tolist()
        labels.with_suffix("").write_bytes(idx(LABELS[:7]))
        message = one_line(load, images)
        assert f"got 20 images in {images.name} and 7 labels in {labels.stem}; do the two belong" in message
        labels.with_suffix("").unlink()
        assert load(images).labels is None

    def test_the_part_of_a_folder(self, tmp_path):
        write_folder(tmp_path)
        assert len(load(tmp_path, part="test")) == 20  # there is no other
        write_folder(tmp_path, IMAGES[:3], LABELS[:3], "t10k", packed=True)
        assert (len(load(tmp_path)), len(load(tmp_path, part="test"))) == (20, 3)
        (tmp_path / "train-images-idx3-ubyte").unlink()
        assert len(load(tmp_path, part="test")) == 3
        message = one_line(load, tmp_path)  # nobody trains on the test by an oversight
        assert "expected the file train-images-idx3-ubyte or train-images-idx3-ubyte.gz, found neither; " in message
        assert message.endswith("or name a file of images instead of the folder")

    @pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.gz", "a", "a.npz"])
    def test_csv(self, tmp_path, name):
        content = b"label,pixel0\n3,4\n"
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        assert load(tmp_path / name).labels.tolist() == [3]

    @pytest.mark.parametrize("name", ["a.npz", "a.csv", "a"])
    def test_npz(self, tmp_path, name):
        with (tmp_path / name).open("wb") as stream:
            np.savez(stream, images=IMAGES, labels=LABELS)
        assert load(tmp_path / name).labels.tolist() == LABELS.tolist()

    @pytest.mark.parametrize(
        ("name", "content", "match"),
        [
            (
                "a",
                b"",
                r"^load: .*expected a CSV file, an IDX file .*, a folder .* or an \.npz archive, got an empty file",
            ),
            (
                "a",
                b"\x89PNG\r\n\x1a\n" + bytes(40),
                r"^load: .*expected a CSV file.*a file that begins with '\\\\x89PNG",
            ),
            ("a.npy", b"\x93NUMPY\x01\0v\0{'descr'", r"^load: .*a file that begins with"),
            ("a.npz", b"\x93NUMPY\x01\0v\0{'descr'", r"^read_npz: .*the archive is damaged"),
            ("a.csv.gz", b"\xff" * 40, r"^read_csv: .*line 1, column 1: expected the name label or pixel0"),
            ("a.csv", "label".encode("utf-16"), r"^read_csv: .*UTF-16"),
            ("a", b"hello", r"^read_csv: .*line 1, column 1: expected the name label or pixel0, got 'hello'"),
            ("a.gz", b"\x1f\x8b\x08", r"^load: .*the file ends early"),
        ],
    )
    def test_bad(self, tmp_path, name, content, match):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=match):
            load(tmp_path / name)
        one_line(load, tmp_path / name)

    def test_absent(self, tmp_path):
        assert "there is no such file" in one_line(load, tmp_path / "absent")
