"""CSV files in the format of Kaggle's Digit Recognizer: ``label,pixel0,...,pixel783``, or without ``label``.

pandas parses, but it never sees a line that was not checked: by itself it takes a surplus column for an index, skips
blank lines, and accepts quotes, signs, blanks, ``2.0`` and ``True``. A block of lines, stripped of its digits, must be
exactly the commas and line ends of that many good rows, which is one comparison of bytes and costs a fifth of the
parsing. Only a block that fails is searched line by line, for the message.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from fastconv.data.dataset import Dataset
from fastconv.data.errors import DataError, shown
from fastconv.data.files import CHECKED, InputFile, StrPath

_BLOCK = 1 << 19
_LONGEST_LINE = 1 << 24
_DIGITS = b"0123456789"
_COMMA_TO_LF = bytes.maketrans(b",", b"\n")


def read_csv(path: StrPath, *, labels: bool | None = None) -> Dataset:
    """Read square grey images from a CSV file, plain or gzip, with LF or CRLF.

    Colour, and other shapes, come as a folder of files (``read_images``) or an archive (``read_npz``).

    Parameters
    ----------
    path : str or path
    labels : bool, optional
        True demands a ``label`` column, False forbids one; by default the header decides.

    Returns
    -------
    Dataset
        images uint8[N, 1, H, H] where H * H is the number of pixel columns; labels int64[N], 0 to 255, or None.

    Raises
    ------
    DataError
        If the file cannot be read, or anything in it is not as it must be; names the line and the column.

    Notes
    -----
    A byte-order mark, leading zeros, blank lines at the end of the file, and pixels numbered from 1 instead of 0 (as
    Kaggle's Fashion-MNIST has them) are accepted. Peak memory is the images' own and about 20 MB above pandas' import.
    """
    with InputFile("read_csv", path) as file:
        blocks = _blocks(file)
        first = next(blocks, None)
        if first is None:
            raise file.error("expected a header and rows, got an empty file")
        line_1 = first.split(b"\n", 1)[0].rstrip(b"\r")
        header = _header(file, line_1, labels)

        # A bytearray grows in place: no second copy of the images at the end, as joined chunks would need.
        pixels, checked = bytearray(), CHECKED
        label_blocks: list[NDArray[np.uint8]] = []
        line = 2
        for block in _with_first(first[len(line_1) :], blocks):
            values = _parse(block, header.columns)
            if values is None:
                raise _diagnosis(file, block, line, header)
            line += len(values)
            if len(pixels) >= checked:
                file.check_room(CHECKED)
                checked += CHECKED
            pixels += values[:, header.has_label :].tobytes()
            label_blocks.append(values[:, 0].copy())

    if not pixels:
        raise file.error("line 2: expected at least one row below the header, got none; is the download complete?")
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 1, header.side, header.side)
    return Dataset(images, np.concatenate(label_blocks).astype(np.int64) if header.has_label else None, str(path))


@dataclass(frozen=True)
class _Header:
    names: list[str]
    has_label: bool
    side: int

    @property
    def columns(self) -> int:
        return len(self.names)


def _with_first(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from blocks


def _blocks(file: InputFile) -> Iterator[bytes]:
    """Yield whole lines in blocks of about half a megabyte, each line but the file's first *behind* its line end.

    A line end is thus part of the following line, so that those at the end of the file need no special care: no line
    follows them.
    """
    pending = b""
    while piece := file.read(_BLOCK):
        pending += piece
        block = pending[: max(pending.rfind(b"\n"), 0)].rstrip(b"\r\n")
        if block:
            yield block
        pending = pending[len(block) :]
        if len(pending) > _LONGEST_LINE:
            raise file.error(
                f"expected lines of text, got {len(pending):,} bytes in one line, {shown(pending[:20])}; is this a CSV?"
            )
    block = pending.rstrip(b"\r\n")
    if block:
        yield block


def _header(file: InputFile, line: bytes, labels: bool | None) -> _Header:
    """Return what the first line says; raises DataError if it is no header of this format."""
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise file.error("line 1: expected UTF-8 text, got UTF-16; save the file as CSV UTF-8")
    line = line.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in line:
        raise file.error("line 1: expected LF or CRLF at the end of a line, got CR alone; convert the line ends")
    cells = [cell.decode("utf-8", "backslashreplace") for cell in line.split(b",")]
    if all(_is_number(cell) for cell in cells):
        raise file.error(
            f"line 1: expected the header label,pixel0,pixel1,... or pixel0,pixel1,..., got {len(cells)} numbers, "
            f"{shown(line)}; add the header"
        )
    has_label = cells[0] == "label"
    pixels = cells[has_label:]
    start = 1 if pixels[:1] == ["pixel1"] else 0
    for number, name in enumerate(pixels):
        if name != f"pixel{number + start}":
            expected = f"pixel{number + start}" if number or has_label else "label or pixel0"
            raise file.error(
                f"line 1, column {number + 1 + has_label}: expected the name {expected}, got {shown(name)}; "
                "the header must be label,pixel0,pixel1,... or pixel0,pixel1,..., separated by commas"
            )
    side = isqrt(len(pixels))
    if not pixels or side * side != len(pixels):
        raise file.error(
            f"line 1: expected a square number of pixel columns, such as 784 for 28x28, got {len(pixels)}; the last "
            f"column is {shown(cells[-1])}; CSV is for square grey images, give others as a folder of files or an .npz"
        )
    if labels is not None and labels != has_label:
        expected, mend = ("label", "give a file with labels") if labels else ("pixel0", "give a file without labels")
        raise file.error(f"line 1, column 1: expected the name {expected}, got {shown(cells[0])}; {mend}")
    return _Header(cells, has_label, side)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parse(block: bytes, columns: int) -> NDArray[np.uint8] | None:
    """Return the values, uint8[rows, columns], or None if anything in the block is not as it must be."""
    # 0.2 s and 40 MB, which `import fastconv` must not cost.
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

    rows = block.count(b"\n")
    if block.translate(None, _DIGITS + b"\r") != (b"\n" + b"," * (columns - 1)) * rows:
        return None
    if block.count(b"\r") != block.count(b"\r\n"):
        return None
    # As one long column: pandas spends 20 microseconds on each column of each block, here more than on the numbers.
    cells = io.BytesIO(block.translate(_COMMA_TO_LF, b"\r")[1:])
    try:
        # Not uint8, to which pandas 2 turns 256 into 0 without a word. Its parser computes in int64 in any case.
        frame = pd.read_csv(cells, header=None, dtype=np.int64, engine="c")
    except (ValueError, OverflowError):  # a value beyond 64 bits, or no value at all
        return None
    values = frame.to_numpy()
    if values.shape != (rows * columns, 1) or values.max() > 255:  # pandas leaves empty cells out
        return None
    return values.astype(np.uint8).reshape(rows, columns)


def _diagnosis(file: InputFile, block: bytes, line: int, header: _Header) -> DataError:
    """Return the error of the first bad cell in ``block``, whose first row is line number ``line`` of the file."""
    before, *rows = block.split(b"\n")
    if before not in (b"", b"\r"):
        return file.error(f"line {line - 1}: expected LF or CRLF at its end, got {shown(before)} as well; remove it")
    names = header.names
    for number, row in enumerate(rows, line):
        row = row.removesuffix(b"\r")
        if not row:
            return file.error(f"line {number}, column {names[0]}: expected a row, got a blank line; remove it")
        if row == ",".join(names).encode():
            return file.error(
                f"line {number}, column {names[0]}: expected a row, got the header again; remove it (joined files?)"
            )
        cells = row.split(b",")
        if len(cells) < len(names):
            return file.error(
                f"line {number}, column {names[len(cells)]}: expected {len(names)} cells, got {len(cells)}, the row is "
                f"too short and ends with {shown(row[-20:])}; repair or remove the line"
            )
        if len(cells) > len(names):
            return file.error(
                f"line {number}, behind column {names[-1]}: expected {len(names)} cells, got {len(cells)}, the row is "
                f"too long and ends with {shown(row[-20:])}; repair or remove the line"
            )
        for name, cell in zip(names, cells, strict=True):
            if problem := _problem(cell, name == "label"):
                return file.error(f"line {number}, column {name}: expected a whole number from 0 to 255, got {problem}")
    return file.error(
        f"lines {line} to {line + len(rows) - 1}: expected {len(names)} whole numbers from 0 to 255 a line, but pandas "
        "could not read them; please report this with the file"
    )


def _problem(cell: bytes, is_label: bool) -> str:
    """Return what came instead of a whole number from 0 to 255 and how to mend it, or nothing if the cell is good."""
    digits = cell.lstrip(b"0") or cell
    if cell and not cell.strip(_DIGITS) and (len(digits) < 3 or (len(digits) == 3 and digits <= b"255")):
        return ""
    if not cell.strip():
        return "an empty cell; fill it or remove the line"
    if is_label and _is_number(cell.decode("latin-1")):
        return f"{shown(cell)}; number the classes from 0, or remove the line"
    if not cell.strip(_DIGITS):
        return f"{shown(cell)}; values above 255 are no bytes, rescale the column or remove the line"
    if cell.strip(b'" ').isdigit():
        return f"{shown(cell)}; write the number without quotes and blanks"
    if _is_number(cell.decode("latin-1")):
        return f"{shown(cell)}; store pixels as unsigned bytes (multiply by 255 and round if they were scaled to 0..1)"
    return f"{shown(cell)}; repair or remove the line"
