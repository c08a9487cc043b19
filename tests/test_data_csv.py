"""Kaggle CSV files: round trips, a table of bad files, damaged gzip, and memory."""

import gzip
import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from permissions import binding
from subprocesses import ROOT, succeed

from fastconv.data import DataError, Dataset, kaggle, load, read_csv

DIGITS = ROOT.parent / "shared" / "data" / "digits"
needs_digits = pytest.mark.skipif(not DIGITS.is_dir(), reason="the 70,000 digits are not here (../shared/data/digits)")

HEADER = b"label,pixel0,pixel1,pixel2,pixel3"
GOOD = b"7,0,9,10,255"


def csv(*lines, end=b"\n"):
    return b"".join(line + end for line in lines)


def write(folder, content, name="data.csv"):
    path = folder / name
    path.write_bytes(content)
    return path


def error_of(path, **options):
    """Return the message of the DataError that reading ``path`` raises, after checking its form."""
    with pytest.raises(DataError) as caught:
        read_csv(path, **options)
    message = str(caught.value)
    assert message.startswith(f"read_csv: {path}: ")
    assert len(message.splitlines()) == 1
    return message


def to_csv(images, labels, end=b"\n"):
    columns = images.shape[1] * images.shape[2]
    names = ["label"] * (labels is not None) + [f"pixel{i}" for i in range(columns)]
    rows = images.reshape(len(images), columns).tolist()
    if labels is not None:
        rows = [[label, *row] for label, row in zip(labels.tolist(), rows, strict=True)]
    return csv(",".join(names).encode(), *(",".join(map(str, row)).encode() for row in rows), end=end)


def test_written_out(tmp_path):
    data = read_csv(write(tmp_path, csv(HEADER, b"7,0,9,10,255", b"0,1,2,3,4")))
    assert isinstance(data, Dataset)
    np.testing.assert_array_equal(
        data.images, np.array([[[[0, 9], [10, 255]]], [[[1, 2], [3, 4]]]], np.uint8), strict=True
    )
    np.testing.assert_array_equal(data.labels, np.array([7, 0], np.int64), strict=True)
    assert data.images.flags.c_contiguous
    assert data.images.flags.writeable
    assert data.source == str(tmp_path / "data.csv")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    side=st.integers(1, 6),
    labelled=st.booleans(),
    end=st.sampled_from([b"\n", b"\r\n"]),
    packed=st.booleans(),
    last_line=st.sampled_from(["ended", "open", "blank lines"]),
    block=st.integers(1, 400),
)
def test_round_trip(tmp_path, seed, count, side, labelled, end, packed, last_line, block):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, side, side), np.uint8)
    labels = rng.integers(0, 256, count) if labelled else None
    content = to_csv(images, labels, end)
    if last_line == "open":
        content = content.removesuffix(end)
    elif last_line == "blank lines":
        content += 3 * end
    path = write(tmp_path, gzip.compress(content, 1) if packed else content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kaggle, "_BLOCK", block)
        data = read_csv(path)
    np.testing.assert_array_equal(data.images, images[:, np.newaxis], strict=True)
    if labelled:
        np.testing.assert_array_equal(data.labels, labels, strict=True)
    else:
        assert data.labels is None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xef\xbb\xbf" + csv(HEADER, GOOD), id="byte-order mark"),
        pytest.param(csv(HEADER) + csv(GOOD, end=b"\r\n"), id="mixed line ends"),
        pytest.param(csv(HEADER, b"007,00,009,0000000010,255"), id="leading zeros"),
        pytest.param(csv(b"label,pixel1,pixel2,pixel3,pixel4", GOOD), id="numbered from 1"),
        pytest.param(csv(HEADER, GOOD) + b"\r\n\n\n\r\n", id="blank lines at the end"),
    ],
)
def test_harmless_variants(tmp_path, content):
    data = read_csv(write(tmp_path, content))
    assert data.images.tolist() == [[[[0, 9], [10, 255]]]]
    assert data.labels.tolist() == [7]


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz", "data", "data.npz"])
@pytest.mark.parametrize("packed", [False, True])
def test_content_decides_whether_it_is_gzip(tmp_path, name, packed):
    content = csv(HEADER, GOOD)
    path = write(tmp_path, gzip.compress(content) if packed else content, name)
    assert len(read_csv(path)) == 1


def test_labels_option(tmp_path):
    labelled = write(tmp_path, csv(HEADER, GOOD), "train.csv")
    plain = write(tmp_path, csv(b"pixel0", b"3"), "test.csv")
    assert read_csv(labelled, labels=True).labels.tolist() == [7]
    assert read_csv(plain, labels=False).labels is None
    assert "line 1, column 1: expected the name label, got 'pixel0'" in error_of(plain, labels=True)
    assert "line 1, column 1: expected the name pixel0, got 'label'" in error_of(labelled, labels=False)


# The row that stands in line 3 of a file, and the message.
BAD_ROWS = {
    "short": (b"7,0,9,10", r"line 3, column pixel3: expected 5 cells, got 4, the row is too short"),
    "one cell": (b"7", r"line 3, column pixel0: expected 5 cells, got 1"),
    "long": (b"7,0,9,10,255,1", r"line 3, behind column pixel3: expected 5 cells, got 6, the row is too long"),
    "trailing comma": (b"7,0,9,10,255,", r"line 3, behind column pixel3: expected 5 cells, got 6"),
    "empty cell": (b"7,0,,10,255", r"line 3, column pixel1: .* whole number from 0 to 255, got an empty cell; fill"),
    "empty label": (b",0,9,10,255", r"line 3, column label: .* got an empty cell"),
    "last cell empty": (b"7,0,9,10,", r"line 3, column pixel3: .* got an empty cell"),
    "all empty": (b",,,,", r"line 3, column label: .* got an empty cell"),
    "blank cell": (b"7,0, ,10,255", r"line 3, column pixel1: .* got an empty cell"),
    "blank line": (b"", r"line 3, column label: expected a row, got a blank line; remove it"),
    "text": (b"7,0,ink,10,255", r"line 3, column pixel1: .* got 'ink'; repair or remove the line"),
    "quoted text": (b'7,0,"a",10,255', r"line 3, column pixel1: .* got '\"a\"'"),
    "quoted number": (b'7,0,"9",10,255', r"line 3, column pixel1: .* got '\"9\"'; write the number without quotes"),
    "quoted comma": (b'7,"0,9",10,255', r"line 3, column pixel0: .* got '\"0'"),
    "blanks around": (b"7,0, 9,10,255", r"line 3, column pixel1: .* got ' 9'; write the number without"),
    "float": (b"7,0,1.5,10,255", r"line 3, column pixel1: .* got '1\.5'; store pixels as unsigned bytes"),
    "whole float": (b"7,0,2.0,10,255", r"line 3, column pixel1: .* got '2\.0'"),
    "exponent": (b"7,0,1e2,10,255", r"line 3, column pixel1: .* got '1e2'"),
    "negative": (b"7,0,-1,10,255", r"line 3, column pixel1: .* got '-1'"),
    "plus": (b"7,0,+1,10,255", r"line 3, column pixel1: .* got '\+1'"),
    "NaN": (b"7,0,NaN,10,255", r"line 3, column pixel1: .* got 'NaN'"),
    "NA": (b"7,0,NA,10,255", r"line 3, column pixel1: .* got 'NA'"),
    "truth value": (b"7,0,True,10,255", r"line 3, column pixel1: .* got 'True'"),
    "hexadecimal": (b"7,0,0x10,10,255", r"line 3, column pixel1: .* got '0x10'"),
    "underscore": (b"7,0,1_0,10,255", r"line 3, column pixel1: .* got '1_0'"),
    "256": (b"7,0,256,10,255", r"line 3, column pixel1: .* got '256'; values above 255 are no bytes"),
    "300": (b"7,0,9,10,300", r"line 3, column pixel3: .* got '300'"),
    "wraps 16 bits": (b"7,65536,9,10,255", r"line 3, column pixel0: .* got '65536'"),
    "wraps 32 bits": (b"7,4294967297,9,10,255", r"line 3, column pixel0: .* got '4294967297'"),
    "wraps 64 bits": (b"7,18446744073709551617,9,10,255", r"line 3, column pixel0: .* got '18446744073709551617'"),
    "5,000 digits": (b"7,0,9," + b"9" * 5000 + b",255", r"line 3, column pixel2: .* got '9{40}\.\.\.'"),
    "label above 255": (b"256,0,9,10,255", r"line 3, column label: .* got '256'"),
    "label negative": (b"-7,0,9,10,255", r"line 3, column label: .* got '-7'"),
    "label text": (b"seven,0,9,10,255", r"line 3, column label: .* got 'seven'"),
    "semicolons": (b"7;0;9;10;255", r"line 3, column pixel0: expected 5 cells, got 1"),
    "NUL": (b"7,0,9\0,10,255", r"line 3, column pixel1: .* got '9\\x00'"),
    "NUL alone": (b"\0", r"line 3, column pixel0: expected 5 cells, got 1"),
    "no UTF-8": (b"7,0,\xff\xfe,10,255", r"line 3, column pixel1: .* got '\\\\xff\\\\xfe'"),
    "other digits": ("7,0,\u0663,10,255".encode(), r"line 3, column pixel1: .* got '\u0663'"),
    "CR inside": (b"7,0,9\r1,10,255", r"line 3, column pixel1: .* got '9\\r1'"),
    "CR between rows": (b"7,0,9,10,255\r7,0,9,10,255", r"line 3, behind column pixel3: expected 5 cells, got 9"),
    "header again": (HEADER, r"line 3, column label: expected a row, got the header again; remove it"),
    "comment": (b"# 7,0,9,10,255", r"line 3, column label: .* got '# 7'"),
}


@pytest.mark.parametrize("block", [1 << 19, 1])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("bad", BAD_ROWS)
def test_bad_row(tmp_path, monkeypatch, bad, end, block):
    monkeypatch.setattr(kaggle, "_BLOCK", block)
    row, match = BAD_ROWS[bad]
    path = write(tmp_path, csv(HEADER, GOOD, row, GOOD, end=end))
    with pytest.raises(DataError, match=rf"^read_csv: \S*data\.csv: {match}"):
        read_csv(path)
    error_of(path)


@pytest.mark.parametrize("bad", [bad for bad in BAD_ROWS if bad != "blank line"])
def test_bad_last_row_without_line_end(tmp_path, bad):
    row, match = BAD_ROWS[bad]
    with pytest.raises(DataError, match=match):
        read_csv(write(tmp_path, csv(HEADER, GOOD) + row))


def test_blank_line_of_one_pixel(tmp_path):
    # With one column a blank line has the right number of commas.
    assert "line 3, column pixel0: expected a row, got a blank line" in error_of(
        write(tmp_path, csv(b"pixel0", b"1", b"", b"2"))
    )


def test_bad_row_far_down(tmp_path):
    # Behind several blocks; and of two errors the first is named.
    rows = [b"7," + b",".join([b"250"] * 784)] * 1000
    rows[900] = b"7," + b",".join([b"250"] * 783) + b",256"
    rows[901] = b"seven"
    header = b"label," + b",".join(b"pixel%d" % i for i in range(784))
    assert "line 902, column pixel783: " in error_of(write(tmp_path, gzip.compress(csv(header, *rows), 1)))


BAD_HEADERS = {
    "missing": (csv(GOOD, GOOD), r"line 1: expected the header label,pixel0.*got 5 numbers, '7,0,9,10,255'; add the"),
    "floats instead": (csv(b"7,0.5,0,0,1"), r"line 1: expected the header .* got 5 numbers"),
    "swapped": (csv(b"label,pixel1,pixel0", GOOD), r"line 1, column 3: expected the name pixel2, got 'pixel0'"),
    "swapped later": (
        csv(b"label,pixel0,pixel2,pixel1,pixel3"),
        r"line 1, column 3: expected the name pixel1, got 'pixel2'",
    ),
    "twice the same": (
        csv(b"label,pixel0,pixel1,pixel1,pixel3", GOOD),
        r"line 1, column 4: expected the name pixel2, got 'pixel1'",
    ),
    "two labels": (csv(b"label,label,pixel0", b"1,1,1"), r"line 1, column 2: expected the name pixel0, got 'label'"),
    "label last": (csv(b"pixel0,label", b"1,1"), r"line 1, column 2: expected the name pixel1, got 'label'"),
    "label alone": (csv(b"label", b"1"), r"line 1: expected a square number of pixel columns.*, got 0"),
    "capital": (csv(b"Label,pixel0", b"1,1"), r"line 1, column 1: expected the name label or pixel0, got 'Label'"),
    "submission": (csv(b"ImageId,Label", b"1,0"), r"line 1, column 1: .* got 'ImageId'"),
    "quoted": (csv(b'"label","pixel0"', b"1,1"), r"line 1, column 1: .* got '\"label\"'"),
    "blank": (csv(b"label, pixel0", b"1,1"), r"line 1, column 2: expected the name pixel0, got ' pixel0'"),
    "semicolons": (csv(b"label;pixel0", b"1;1"), r"line 1, column 1: .* got 'label;pixel0'; .*separated by commas"),
    "trailing comma": (csv(b"label,pixel0,", b"1,1,"), r"line 1, column 3: expected the name pixel1, got ''"),
    "not square": (
        csv(b"label,pixel0,pixel1", b"1,1,1"),
        r"line 1: expected a square number of pixel columns.*, got 2",
    ),
    "three channels": (
        csv(b",".join(b"pixel%d" % i for i in range(3072))),
        r"line 1: expected a square number of pixel columns.*, got 3072; the last column is 'pixel3071'; CSV is for "
        r"square grey images, give others as a folder of files or an \.npz$",
    ),
    "first line blank": (csv(b"", HEADER, GOOD), r"line 1, column 1: expected the name label or pixel0, got ''"),
    "UTF-16": ("label,pixel0\n1,1\n".encode("utf-16"), r"line 1: expected UTF-8 text, got UTF-16; save the file as"),
    "CR alone": (csv(HEADER, GOOD, end=b"\r"), r"line 1: expected LF or CRLF at the end of a line, got CR alone"),
    "CR twice": (csv(HEADER, GOOD, end=b"\r\r\n"), r"line 1: expected LF or CRLF at its end, got '\\r\\r' as well"),
    "garbage": (bytes(range(128, 256)) * 20, r"line 1, column 1: expected the name label or pixel0, got '\\\\x80"),
    "NUL bytes": (bytes(1000), r"line 1, column 1: expected the name label or pixel0, got '\\x00"),
    "NUL in a name": (csv(b"label,pixel0\0", b"1,1"), r"line 1, column 2: expected the name pixel0, got 'pixel0\\x00'"),
    "empty": (b"", r"expected a header and rows, got an empty file"),
    "only line ends": (b"\r\n\n\n", r"expected a header and rows, got an empty file"),
    "only a byte-order mark": (b"\xef\xbb\xbf", r"line 1, column 1: expected the name label or pixel0, got ''"),
    "header only": (csv(HEADER), r"line 2: expected at least one row below the header, got none"),
    "header only, open": (HEADER, r"line 2: expected at least one row below the header, got none"),
    "header and blank lines": (csv(HEADER, b"", b""), r"line 2: expected at least one row below the header, got none"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bad", BAD_HEADERS)
def test_bad_header(tmp_path, bad, packed):
    content, match = BAD_HEADERS[bad]
    path = write(tmp_path, gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=rf"^read_csv: \S*data\.csv: {match}"):
        read_csv(path)
    error_of(path)


def test_one_endless_line(tmp_path, monkeypatch):
    monkeypatch.setattr(kaggle, "_LONGEST_LINE", 1 << 20)
    message = error_of(write(tmp_path, b"label,pixel0\n" + b"1" * (2 << 20)))
    assert "expected lines of text, got 1," in message
    assert "is this a CSV?" in message


def test_error_that_only_pandas_sees(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no reason")

    monkeypatch.setattr(pd, "read_csv", fail)
    assert "lines 2 to 3: expected 5 whole numbers" in error_of(write(tmp_path, csv(HEADER, GOOD, GOOD)))


class TestFiles:
    def test_absent(self, tmp_path):
        assert "there is no such file; check the name" in error_of(tmp_path / "absent.csv")

    def test_folder(self, tmp_path):
        assert "expected a file, got a folder" in error_of(tmp_path)

    def test_below_a_file(self, tmp_path):
        assert "cannot be opened" in error_of(write(tmp_path, b"") / "data.csv")

    def test_nul_in_the_name(self, tmp_path):
        assert "cannot be opened" in error_of(tmp_path / "a\0b")

    def test_line_end_in_the_name(self, tmp_path):
        with pytest.raises(DataError, match=r"^read_csv: .*two lines.csv: there is no such file"):
            read_csv(tmp_path / "two\nlines.csv")

    def test_unreadable(self, tmp_path):
        path = write(tmp_path, csv(HEADER, GOOD))
        path.chmod(0)
        with binding():
            assert "no permission to read the file" in error_of(path)

    def test_no_permission(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        (tmp_path / "data.csv").touch()
        assert "no permission to read the file; change its permissions" in error_of(tmp_path / "data.csv")

    @pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no file here that fails when it is read")
    def test_disk_error(self):
        assert "the file cannot be read (Input/output error)" in error_of("/proc/self/mem")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
    def test_pipe(self, tmp_path):
        pipe = tmp_path / "pipe"
        for read in (read_csv, load):
            os.mkfifo(pipe)
            writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(csv(HEADER, GOOD)),))
            writer.start()
            try:
                assert read(pipe).labels.tolist() == [7]
            finally:
                writer.join()
                pipe.unlink()


class TestDamagedGzip:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (30, 5, 5), np.uint8)
    labels = rng.integers(0, 10, 30)
    packed = gzip.compress(to_csv(images, labels, b"\r\n"))

    def read(self, path, content):
        """Return True if ``content`` reads as the original, False if it is refused; anything else fails."""
        path.write_bytes(content)
        try:
            data = read_csv(path)
        except DataError:
            return False
        np.testing.assert_array_equal(data.images[:, 0], self.images, strict=True)
        np.testing.assert_array_equal(data.labels, self.labels, strict=True)
        return True

    def test_truncated(self, tmp_path):
        path = tmp_path / "data.csv.gz"
        assert self.read(path, self.packed)
        for length in range(0, len(self.packed), 7):
            assert not self.read(path, self.packed[:length]), length

    def test_flipped_bits(self, tmp_path):
        rng = np.random.default_rng(6)
        path = tmp_path / "data.csv.gz"
        refused = 0
        for position in [*range(20 * 8), *rng.integers(0, 8 * len(self.packed), 300).tolist()]:
            content = bytearray(self.packed)
            content[position // 8] ^= 1 << position % 8
            refused += not self.read(path, content)
        assert refused > 300

    def test_messages(self, tmp_path):
        path = tmp_path / "data.csv.gz"
        path.write_bytes(self.packed[:-20])
        assert "the file ends early, after 0 unpacked bytes or a little more; copy or download" in error_of(path)
        path.write_bytes(self.packed[:-8] + bytes(4) + self.packed[-4:])
        assert "the gzip data is damaged after 0 unpacked bytes or a little more (CRC check failed" in error_of(path)
        path.write_bytes(self.packed + b"more")
        assert "the gzip data is damaged" in error_of(path)

    def test_bomb(self, tmp_path):
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
            stream.write(b"label,pixel0\n")
            for _ in range(300):
                stream.write(b"0,0\n" * (1 << 18))
        path = write(tmp_path, packed.getvalue())
        with pytest.MonkeyPatch.context() as patch:
            # The rows of a quarter of a gigabyte are not what is tested.
            patch.setattr(kaggle, "_parse", lambda block, columns: np.zeros((1, columns), np.uint8))
            assert "expected images, got a gzip file of 1," in error_of(path)


@needs_digits
@pytest.mark.parametrize(("name", "count", "labelled"), [("train", 42_000, True), ("test", 28_000, False)])
def test_real_digits(name, count, labelled):
    data = read_csv(DIGITS / f"{name}.csv.gz", labels=labelled)
    assert data.images.shape == (count, 1, 28, 28)
    if labelled:
        assert data.num_classes == 10
        assert np.bincount(data.labels).tolist() == [4129, 4736, 4212, 4307, 4063, 3838, 4061, 4361, 4072, 4221]
    with gzip.open(DIGITS / f"{name}.csv.gz") as stream:
        stream.readline()
        first = [int(cell) for cell in stream.readline().split(b",")]
    assert data.images[0].ravel().tolist() == first[labelled:]


@needs_digits
def test_a_submission_is_no_data():
    assert "line 1, column 1: expected the name label or pixel0, got 'ImageId'" in error_of(
        DIGITS / "sample_submission.csv.gz"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of its memory from /proc")
def test_peak_memory_of_42000_rows(tmp_path):
    path = DIGITS / "train.csv.gz"
    if not path.exists():
        images = np.random.default_rng(0).integers(0, 256, (100, 28, 28), np.uint8)
        header, rows = to_csv(images, np.arange(100) % 10, b"\r\n").split(b"\n", 1)
        path = write(tmp_path, gzip.compress(header + b"\n" + rows * 420, 1))
    # Not resource.getrusage: its maximum outlives exec, so that the child would count the memory of these tests.
    kilobytes = succeed(
        f"""
        from pathlib import Path
        from fastconv.data import read_csv
        data = read_csv({str(path)!r})
        assert len(data) == 42_000
        print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
        """
    )
    assert int(kilobytes) < 150_000
