"""Files that are made to do damage: to take all memory or time, to run code, or to be something other than a file."""

import gzip
import io
import json
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save as to_bytes

import fastconv as fc
from benchmarks.reliability.children import CannotTry
from fastconv import data
from fastconv.commands import model_file
from fastconv.commands.errors import UsageError
from fastconv.data import files
from fastconv.io import _digest

_TERA, _ZEROS = 2**40, 300 << 20
_MODEL = (fc.ModelFileError, OSError, UsageError)


class Bomb(NamedTuple):
    """A file, or what stands in its place."""

    name: str
    make: Callable[[Path], Path]
    """Writes it into a folder and returns its path; raises CannotTry where that cannot be done."""
    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...]
    is_good: bool = False
    """Whether it can be read all the same."""


def _file(content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "file").write_bytes(content())
        return folder / "file"

    return make


def _data(name: str, make: Callable[[Path], Path], is_good: bool = False) -> Bomb:
    return Bomb(f"data, {name}", make, data.load, (data.DataError,), is_good)


def _model(name: str, make: Callable[[Path], Path], is_good: bool = False) -> Bomb:
    return Bomb(f"model, {name}", make, fc.load, _MODEL, is_good)


# ---------------------------------------------------------------------------------------------------------------- data


def _npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + content


def _npz(member: bytes, name: str = "images.npy") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, member)
    return packed.getvalue()


class _Mark:
    """Leaves a file called mark beside itself when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "mark")

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self._path, "w")


def _pickle(folder: Path) -> Path:
    path = folder / "digits.npz"
    objects = np.empty((2, 3, 3), object)
    objects[:] = _Mark(folder)
    np.savez(path, images=objects, labels=objects[:, 0, 0])
    return path


def _bare_pickle(folder: Path) -> Path:
    (folder / "digits.npz").write_bytes(pickle.dumps(_Mark(folder)))
    return folder / "digits.npz"


def _good_csv(folder: Path) -> Path:
    (folder / "good.csv").write_text("label,pixel0\n1,7\n")
    return folder / "good.csv"


def _link(folder: Path) -> Path:
    (folder / "link").symlink_to(_good_csv(folder))
    return folder / "link"


def _dangling(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link"


def _loop(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "link")
    return folder / "link"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    files.PATIENCE = 1
    return folder / "pipe"


def _socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket"))
    return folder / "socket"


def _device(name: str) -> Callable[[Path], Path]:
    def find(folder: Path) -> Path:
        if not Path(name).exists():
            raise CannotTry(f"there is no {name} here")
        return Path(name)

    return find


def _folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def _forbidden(folder: Path) -> Path:
    if os.geteuid() == 0:
        raise CannotTry("root may read everything")
    path = _good_csv(folder)
    path.chmod(0)
    return path


def _picture(folder: Path) -> Path:
    """Write a PNG of 10^10 pixels."""
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    (folder / "a").mkdir()
    (folder / "a" / "0.png").write_bytes(content + chunk(b"IEND", b""))
    return folder


def _sparse(header: bytes, size: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with (folder / "file").open("wb") as file:
            file.write(header)
            file.truncate(len(header) + size)
        return folder / "file"

    return make


# --------------------------------------------------------------------------------------------------------------- models


def _stamped(description: Any, tensors: dict[str, np.ndarray] | None = None, text: str | None = None) -> bytes:
    """Return a model file of that architecture, with the SHA-256 that belongs to it."""
    text = json.dumps(description) if text is None else text
    tensors = {"0.weight": np.zeros((2, 2), np.float32)} if tensors is None else tensors
    return to_bytes(tensors, {"format": "pt", "fastconv": text, "sha256": _digest(text, tensors)})


def _architecture(*layers: Any, **others: Any) -> dict[str, Any]:
    normalization = {"mean": [0.0], "std": [1.0]}
    return {"layer": "Sequential", "layers": layers, "normalization": normalization, "dtype": "float32"} | others


def _linear(inputs: int, outputs: int) -> dict[str, Any]:
    return {"layer": "Linear", "in_features": inputs, "out_features": outputs, "bias": False}


def _nested(levels: int) -> str:
    inner = '{"layer": "Sequential", "layers": ['
    end = '], "normalization": {"mean": [0.0], "std": [1.0]}, "dtype": "float32"}'
    return inner * levels + "]}" * (levels - 1) + end


def _header(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content


def _normalized(mean: Any, std: Any) -> Callable[[Path], Path]:
    return _file(lambda: _stamped(_architecture(normalization={"mean": mean, "std": std}), {}))


_HUGE_TENSOR = json.dumps({"w": {"dtype": "F32", "shape": [_TERA // 4], "data_offsets": [0, _TERA]}}).encode()
_STATED = json.dumps(
    {
        "__metadata__": {"format": "pt", "fastconv": "{}", "sha256": "0"},
        "w": {"dtype": "F32", "shape": [_TERA // 4], "data_offsets": [0, _TERA]},
    }
).encode()


def _run_with(config: Callable[[Path], Any]) -> Callable[[Path], Path]:
    """Return what makes a run's folder with a hostile config.json."""

    def make(folder: Path) -> Path:
        fc.save(fc.Sequential(fc.Linear(2, 2)), folder / "model.safetensors")
        config(folder / "config.json")
        return folder

    return make


def _run(name: str, config: Callable[[Path], Any]) -> Bomb:
    return Bomb(f"run, {name}", _run_with(config), lambda path: model_file.find_run(str(path)), _MODEL, is_good=True)


BOMBS = (
    _data("IDX of 2^31 images", _file(lambda: struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 28, 28) + bytes(1000))),
    _data("IDX of 2^96 bytes", _file(lambda: struct.pack(">4B3I", 0, 0, 8, 3, *[2**32 - 1] * 3))),
    _data(
        "IDX of terabytes in gzip",
        _file(lambda: gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 28, 28) + bytes(10**7))),
    ),
    _data("gzip bomb", _file(lambda: gzip.compress(b"label,pixel0\n" + b"0,0\n" * (_ZEROS // 4), 6))),
    _data("gzip bomb without a line end", _file(lambda: gzip.compress(bytes(_ZEROS), 6))),
    _data("gzip bomb of gzip bombs", _file(lambda: gzip.compress(gzip.compress(bytes(_ZEROS), 6)))),
    _data("CSV line of 100 MB", _file(lambda: b"label,pixel0\n" + b"1" * 10**8)),
    _data("CSV header of 100 MB", _file(lambda: b"label," + b"pixel0," * 14_000_000)),
    _data("CSV number of a megabyte", _file(lambda: b"label,pixel0\n1," + b"9" * 2**20 + b"\n")),
    _data(
        "npz of a huge shape",
        _file(lambda: _npz(_npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776, 28, 28), }"))),
    ),
    _data("npz of a deep header", _file(lambda: _npz(_npy("(" * 100)))),
    _data("npz of zeros", _file(lambda: _npz(_npy("{'descr': '|u1', 'fortran_order': False, 'shape': (314572800, "
                                                  "1, 1), }", bytes(_ZEROS))))),
    _data("npz with a pickle", _pickle),
    _data("a bare pickle", _bare_pickle),
    _data("PNG of 10^10 pixels", _picture),
    _data("sparse file of a terabyte", _sparse(b"label,pixel0\n", _TERA)),
    _data("an empty file", _file(bytes)),
    _data("an empty folder", _folder),
    _data("a link to a file", _link, is_good=True),
    _data("a link to nothing", _dangling),
    _data("a link to itself", _loop),
    _data("a pipe that nobody writes to", _pipe),
    _data("a socket", _socket),
    _data("/dev/zero", _device("/dev/zero")),
    _data("/dev/urandom", _device("/dev/urandom")),
    _data("/dev/null", _device("/dev/null")),
    _data("/dev/full", _device("/dev/full")),
    _data("/proc/self/mem", _device("/proc/self/mem")),
    _data("a folder of devices", _device("/dev")),
    _data("no permission", _forbidden),
    _data("a name of 5000 letters", lambda folder: folder / ("x" * 5000)),
    _data("a name with a NUL", lambda folder: folder / "x\0y"),
    Bomb("npz in a pipe", _pipe, data.read_npz, (data.DataError,)),
    Bomb("IDX in a pipe", _pipe, data.read_idx, (data.DataError,)),
    Bomb("a device as npz", _device("/dev/zero"), data.read_npz, (data.DataError,)),
    _model("header of 2^63 bytes", _file(lambda: _header(b"{}", 2**63 - 1))),
    _model("header of a terabyte", _file(lambda: _header(b"{}", _TERA))),
    _model("tensor of a terabyte", _file(lambda: _header(_HUGE_TENSOR))),
    _model("sparse tensor of a terabyte", _sparse(_header(_HUGE_TENSOR), _TERA)),
    _model("sparse model of a terabyte", _sparse(_header(_STATED), _TERA)),
    _model("deep JSON in the header", _file(lambda: _header(b"[" * 10**6))),
    _model("deep JSON as architecture", _file(lambda: _stamped(None, text="[" * 10**6))),
    _model("5,000 models in one another", _file(lambda: _stamped(None, {}, text=_nested(5000)))),
    _model("300 models in one another", _file(lambda: _stamped(None, {}, text=_nested(300))), is_good=True),
    _model("layer of a terabyte", _file(lambda: _stamped(_architecture(_linear(2**20, 2**20))))),
    _model("layer of 2^100 weights", _file(lambda: _stamped(_architecture(_linear(2**50, 2**50))))),
    _model("layer of gigabytes", _file(lambda: _stamped(_architecture(_linear(2**15, 2**14))))),
    _model(
        "statistics of a terabyte",
        _file(lambda: _stamped(_architecture({"layer": "BatchNorm2d", "num_features": _TERA}), {})),
    ),
    _model("normalisation by zero", _normalized([0], [0])),
    _model("normalisation by text", _normalized("a", "b")),
    _model("numbers beyond floats", _normalized([10**400], [1])),
    _model("a layer that is no layer", _file(lambda: _stamped(_architecture({"layer": "__import__"}), {}))),
    _model("a layer that is a list", _file(lambda: _stamped(_architecture({"layer": ["ReLU"]}), {}))),
    _model("a pickle", _bare_pickle),
    _model("a pipe", _pipe),
    _model("/dev/zero", _device("/dev/zero")),
    _model("a folder", _folder),
    _model("a link to itself", _loop),
    _model("an empty file", _file(bytes)),
    _run("config.json a pipe", os.mkfifo),
    _run("config.json /dev/zero", lambda path: path.symlink_to("/dev/zero")),
    _run("config.json a terabyte", lambda path: path.write_bytes(b"{") and os.truncate(path, _TERA)),
    _run("config.json deep", lambda path: path.write_text("[" * 10**6)),
    _run("config.json beyond floats", lambda path: path.write_text('{"data": {"image_shape": [1e999, 1, 1]}}')),
    _run("config.json of long numbers", lambda path: path.write_text('{"data": ' + "9" * 10**5 + "}")),
    _run("config.json a folder", Path.mkdir),
)  # fmt: skip
