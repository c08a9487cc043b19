"""Kinds of files that strangers may send: how each is made, read, and what a reading of a damaged one may give.

A format with a checksum gives what was written, or an error.  Where there is none, a damaged file may be another good
one: then what is read must be what an independent reading by the format's rules gives.
"""

import contextlib
import csv
import gzip
import hashlib
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

import fastconv as fc
from fastconv import data, schedules
from fastconv.commands import model_file
from fastconv.commands.errors import UsageError
from fastconv.commands.resume import options_of
from fastconv.training.callbacks import Run
from fastconv.training.checkpoint import Checkpoint, Keeper, Totals
from fastconv.training.run_folder import EPOCHS, RunFolder, RunFolderError, read_results

Content = Any
"""What was read, in a form that == compares."""


class Kind(NamedTuple):
    """A kind of file."""

    name: str
    """Of the file, or of the file in the folder that is damaged."""
    make: Callable[[Path], None]
    """Writes what is good, into a folder."""
    read: Callable[[Path], Content]
    """Reads from the folder."""
    errors: tuple[type[Exception], ...]
    """Of ours."""
    otherwise: Callable[[bytes], Content] | None = None
    """The independent reading of a format without checksum; raises if there is none."""
    restamp: Callable[[bytes, np.random.Generator], bytes] | None = None
    """Damages what a checksum covers, and writes the checksum anew, as a stranger would."""


_RNG = np.random.default_rng(7)
_PIXELS = _RNG.integers(0, 256, (6, 1, 4, 4)).astype(np.uint8)
_CLASSES = np.arange(6) % 3


def _array(array: np.ndarray | None) -> Content:
    return None if array is None else (array.dtype.str, array.shape, array.tobytes())


def _dataset(found: data.Dataset) -> Content:
    return _array(found.images), _array(found.labels)


# ------------------------------------------------------------------------------------------------------------- models


def _model() -> fc.Sequential:
    return fc.Sequential(fc.Conv2d(1, 2, 3), fc.BatchNorm2d(2), fc.ReLU(), fc.Flatten(), fc.Linear(8, 3), seed=3)


def _state(model: fc.Sequential) -> Content:
    return repr(model), model.normalization, {name: _array(array) for name, array in model.state_dict().items()}


def _restamped(kind: str) -> Callable[[bytes, np.random.Generator], bytes]:
    """Return what damages the text in a model's metadata, and makes its SHA-256 anew."""
    from fastconv.io import _digest

    def restamp(content: bytes, rng: np.random.Generator) -> bytes:
        from benchmarks.reliability.file_damage import damaged

        size = int.from_bytes(content[:8], "little")
        text = json.loads(content[8 : 8 + size])["__metadata__"][kind]
        tensors = from_bytes(content)
        changed = damaged(text.encode(), rng).decode("utf-8", "replace")
        return to_bytes(tensors, {"format": "pt", kind: changed, "sha256": _digest(changed, tensors)})

    return restamp


def _keeper(path: Path) -> tuple[Keeper, Run]:
    run = Run(fc.Sequential(fc.Linear(3, 2), seed=5), fc.SGD(), 1, 1, 1)
    return Keeper(Checkpoint(path), {}, run, schedules.followed("constant"), []), run


def _read_checkpoint(folder: Path) -> Content:
    keeper, run = _keeper(folder / "checkpoint.safetensors")
    totals = keeper.begin(resume=True)
    return totals, _state(run.model)


# --------------------------------------------------------------------------------------------------------------- data


def _csv() -> bytes:
    rows = np.concatenate([_CLASSES[:, None], _PIXELS.reshape(6, -1)], axis=1)
    header = ",".join(["label", *(f"pixel{number}" for number in range(16))])
    return "\n".join([header, *(",".join(map(str, row)) for row in rows.tolist()), ""]).encode()


def _csv_otherwise(content: bytes) -> Content:
    """Read CSV by splitting it: a header, and rows of as many numbers from 0 to 255."""
    lines = content.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n").replace(b"\r\n", b"\n").split(b"\n")
    names = lines[0].split(b",")
    has_label = names[0] == b"label"
    rows = []
    for line in lines[1:]:
        cells = line.split(b",")
        if len(cells) != len(names) or not all(cell.isdigit() for cell in cells):
            raise ValueError
        rows.append([int(cell) for cell in cells])
    table = np.array(rows)
    side = round((len(names) - has_label) ** 0.5)
    if table.max() > 255:
        raise ValueError
    images = table[:, has_label:].astype(np.uint8).reshape(-1, 1, side, side)
    return _array(images), _array(table[:, 0].astype(np.int64)) if has_label else None


def _idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def _idx_otherwise(content: bytes) -> Content:
    axes = content[3]
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    if len(content) != 4 + 4 * axes + int(np.prod([int(size) for size in shape], dtype=object)):
        raise ValueError
    images = np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)[:, None]
    return _array(images), None


def _npz(folder: Path) -> None:
    np.savez(folder / "digits.npz", images=_PIXELS, labels=_CLASSES)


def _small_npz(folder: Path) -> None:
    np.savez_compressed(folder / "packed.npz", images=_PIXELS, labels=_CLASSES)


def _pictures(folder: Path) -> None:
    from PIL import Image

    for number, (image, label) in enumerate(zip(_PIXELS, _CLASSES, strict=True)):
        (folder / f"class {label}").mkdir(exist_ok=True)
        Image.fromarray(image[0]).save(folder / f"class {label}" / f"{number}.png")


def _bytes(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def _data(name: str, content: bytes | Callable[[Path], None], otherwise: Any = None) -> Kind:
    make = _bytes(name, content) if isinstance(content, bytes) else content
    return Kind(name, make, lambda folder: _dataset(data.load(folder / name)), (data.DataError,), otherwise)


# --------------------------------------------------------------------------------------------------------- run folders

_CONFIG = {
    "options": {"model": "lenet5", "epochs": 2, "seed": 1, "size": [28, 28], "threads": 2, "lr": None},
    "data": {"image_shape": [1, 4, 4], "sha256": "abc", "split_seed": 1},
    "versions": {"fastconv": "0.1.0", "numpy": "2.0.0", "numba": "0.61.0"},
}


def _run(folder: Path) -> None:
    fc.save(_model(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(_CONFIG))


def _shape_otherwise(content: bytes) -> Content:
    """Read what images a run had; where that cannot be read, digits are supposed."""
    with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
        shape = tuple(int(size) for size in json.loads(content)["data"]["image_shape"])
        if len(shape) == 3 and min(shape) > 0:
            return shape
    return 1, 28, 28


def _read_options(folder: Path) -> Content:
    import argparse
    import warnings

    run = RunFolder.reopen(folder)
    with warnings.catch_warnings(action="ignore"):
        found = options_of(run, argparse.Namespace(threads=1))
    return {name: value for name, value in vars(found).items() if name not in ("resume", "threads")}


def _options_otherwise(content: bytes) -> Content:
    options = dict(json.loads(content)["options"])
    options.pop("threads", None)
    options.pop("resume", None)
    if options.get("size") is not None:
        options["size"] = tuple(options["size"])
    return options


def _results(folder: Path) -> None:
    (folder / "results.csv").write_text(",".join(EPOCHS) + "\n1,0.7,0.9,0.6,0.91,0.1\n2,0.5,,0.4,0.93,1e-05\n")
    (folder / "timing.csv").write_text("epoch,time,images_per_s\n1,0.2,5000\n2,0.2,5100\n")


def _results_otherwise(content: bytes) -> Content:
    lines = list(csv.reader(io.StringIO(content.decode("ascii", "replace"), newline="")))
    return [_numbers(dict(zip(lines[0], row, strict=True))) for row in lines[1:3]]


def _numbers(record: Any) -> Content:
    values = {name: None if record[name] in ("", None) else float(record[name]) for name in EPOCHS}
    return repr(values)


_ERRORS = (fc.ModelFileError, OSError)
KINDS = (
    Kind(
        "model.safetensors",
        lambda folder: fc.save(_model(), folder / "model.safetensors"),
        lambda folder: _state(fc.load(folder / "model.safetensors")),
        _ERRORS,
        restamp=_restamped("fastconv"),
    ),
    Kind(
        "checkpoint.safetensors",
        lambda folder: _keeper(folder / "checkpoint.safetensors")[0].write(Totals(seen=3)),
        _read_checkpoint,
        (*_ERRORS, ValueError),
        restamp=_restamped("fastconv_checkpoint"),
    ),
    Kind("config.json", _run, lambda folder: model_file.find_run(str(folder)).image_shape, _ERRORS, _shape_otherwise),
    Kind("config.json", _run, _read_options, (UsageError, RunFolderError, OSError), _options_otherwise),
    Kind(
        "results.csv",
        _results,
        lambda folder: [_numbers(record) for record in read_results(folder / "results.csv")],
        (RunFolderError, OSError),
        _results_otherwise,
    ),
    _data("digits.csv", _csv(), _csv_otherwise),
    _data("digits.csv.gz", gzip.compress(_csv(), mtime=0)),
    _data("digits-idx3-ubyte", _idx(_PIXELS[:, 0]), _idx_otherwise),
    _data("digits-idx3-ubyte.gz", gzip.compress(_idx(_PIXELS[:, 0]), mtime=0)),
    _data("digits.npz", _npz),
    _data("packed.npz", _small_npz),
    Kind(
        "class 1/4.png",
        _pictures,
        lambda folder: _dataset(data.load(folder)),
        (data.DataError,),
    ),
)


def good(kind: Kind, folder: Path) -> tuple[bytes, Content]:
    """Write the good file and return its bytes, and what is read from it."""
    kind.make(folder)
    return (folder / kind.name).read_bytes(), kind.read(folder)


def digest(content: Content) -> str:
    """Return a name for what was read, for messages."""
    return hashlib.sha256(io.StringIO(repr(content)).getvalue().encode()).hexdigest()[:12]
