"""Models on disk: safetensors with the architecture in its metadata.  Nothing is ever pickled or executed.

The file's metadata holds ``format`` ("pt", so that PyTorch's tools read the tensors), ``fastconv`` (layers, their
arguments, normalisation) and ``sha256`` (of all tensors and of the architecture), which is verified on load.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from fastconv import atomic, layers
from fastconv.blocks import FLOATS
from fastconv.layers import Layer
from fastconv.layers.base import is_ours
from fastconv.normalization import Normalization
from fastconv.regular import check_regular
from fastconv.sequential import Sequential

# All that a stranger's description may raise: SyntaxError is NumPy's, of a name that is no dtype.
_UNBUILDABLE = (
    *(ValueError, TypeError, KeyError, AttributeError, SyntaxError),
    *(OverflowError, MemoryError, RecursionError),
)


_OWN = "own layer"
"""Says in a description that a class is not fastconv's, even if one of fastconv's has its name."""


class ModelFileError(ValueError):
    """A file is no model, is damaged, or holds layers that are not known here."""


def describe(layer: Layer) -> dict[str, Any]:
    """Return what JSON needs to build a layer again, without its weights."""
    if isinstance(layer, Sequential):
        return {"layer": "Sequential", "layers": [describe(child) for child in layer]}
    description: dict[str, Any] = {"layer": type(layer).__name__}
    if not is_ours(layer):
        description[_OWN] = True
    return description | {name: _plain(value) for name, value in layer.config().items()}


def _check_computes_as_ours(model: Sequential) -> None:
    """Raise TypeError if it is of a subclass that does more than to choose the layers: a file holds these alone."""
    for name in ("plan", "forward", "backward", "forward_blocks", "backward_blocks"):
        if getattr(type(model), name) is not getattr(Sequential, name):
            raise TypeError(
                f"save: expected a Sequential, or a subclass that computes as it does, got {type(model).__name__}, "
                f"which overrides {name}; make a Layer of what it does, and put that into a Sequential"
            )


def _plain(value: Any) -> Any:
    """Return an argument as JSON holds it: layers inside a layer are described like it."""
    if isinstance(value, Layer):
        return describe(value)
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value


def _build(description: Any, known: Mapping[str, type[Layer]]) -> Layer:
    arguments = dict(description)
    name, is_own = arguments.pop("layer"), arguments.pop(_OWN, False)
    if name == "Sequential":
        return Sequential(*(_build(child, known) for child in arguments["layers"]))
    found = known.get(name, getattr(layers, name) if name in layers.__all__ and not is_own else None)
    if found is None or not issubclass(found, Layer) or found is Layer:
        raise ModelFileError(
            f"its layer {name!r} is not known; pass load(..., layers=[{name}]), or --layers MODULE:{name}"
        )
    named = {key: _argument(value, known) for key, value in arguments.items()}
    positional = [part for key in list(named) if key.startswith("*") for part in named.pop(key)]
    return found(*positional, **named)


def _argument(value: Any, known: Mapping[str, type[Layer]]) -> Any:
    if isinstance(value, dict) and "layer" in value:
        return _build(value, known)
    return tuple(_argument(part, known) for part in value) if isinstance(value, list) else value


def _digest(architecture: str, tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(architecture.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode() + tensor.tobytes())
    return digest.hexdigest()


def save(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write a model to a safetensors file; the file is either the old one or the whole new one, never a part.

    Parameters
    ----------
    model : Sequential
    path : path

    Raises
    ------
    TypeError
        If ``model`` is not a Sequential, or it or one inside computes otherwise.
    OSError
        If the file cannot be written; what was there before still is.
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"save: expected a Sequential model, got {type(model).__name__}")
    for module in model.modules():
        if isinstance(module, Sequential):
            _check_computes_as_ours(module)
    description = describe(model) | {
        "normalization": model.normalization.checked()._asdict(),
        "dtype": str(model.dtype),
    }
    architecture = json.dumps(description, sort_keys=True)
    write_tensors(path, "fastconv", architecture, model.state_dict())


def write_tensors(path: str | os.PathLike[str], kind: str, text: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Write arrays and a text about them, under the name of their ``kind``; raises OSError as ``save`` does."""
    # In the order and the byte order in which a file holds them: safetensors writes memory as it lies.
    lying = {name: np.asarray(each, each.dtype.newbyteorder("="), order="C") for name, each in tensors.items()}
    metadata = {"format": "pt", kind: text, "sha256": _digest(text, lying)}
    atomic.write(path, _with_sorted_header(to_bytes(lying, metadata)))


def _with_sorted_header(content: bytes) -> bytes:
    """Return the same file with its header in one order: safetensors writes metadata in a random one.

    The format: eight bytes with the header's length, the header as JSON padded with spaces, the tensors.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def load(path: str | os.PathLike[str], layers: "list[type[Layer]] | tuple[type[Layer], ...]" = ()) -> Sequential:
    """Read a model that ``save`` wrote.

    Parameters
    ----------
    path : path
    layers : classes
        Your own layer classes that the model uses.

    Raises
    ------
    ModelFileError
        If the file is no fastconv model, is damaged, or uses unknown layers.
    OSError
        If it cannot be read.
    """
    architecture, tensors = read_tensors(path, "fastconv", "fastconv model")
    try:
        description = json.loads(architecture)
        normalization, dtype = description.pop("normalization"), np.dtype(description.pop("dtype"))
        if dtype not in FLOATS:
            raise ValueError(f"dtype {dtype}")
        model = _build(description, {layer.__name__: layer for layer in layers})
        if not isinstance(model, Sequential):
            raise ValueError(f"a single {type(model).__name__}")
        # Before weights are drawn: a stranger's layer may ask for terabytes that are not in the file.
        for name, parameter in model.named_parameters():
            if name not in tensors or tensors[name].shape != parameter.shape:
                got = tensors[name].shape if name in tensors else "none"
                raise ValueError(f"expected {name} of shape {parameter.shape}, got {got}")
        model.normalization = Normalization(normalization["mean"], normalization["std"]).checked()
        model.to(dtype)
        model.load_state_dict(tensors)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except _UNBUILDABLE as error:
        raise ModelFileError(f"{path}: its architecture cannot be built ({type(error).__name__}: {error})") from error
    return model


def read_tensors(path: str | os.PathLike[str], kind: str, what: str) -> tuple[str, dict[str, np.ndarray]]:
    """Return the text and the arrays that ``write_tensors`` wrote, if they are whole.

    Parameters
    ----------
    path : path
    kind : str
    what : str
        The kind in words, for errors.

    Raises
    ------
    ModelFileError
        If the file is of another kind, or is damaged.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    check_regular(path)  # a missing or unreadable file is an OSError with its name
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if kind not in metadata or "sha256" not in metadata:
                raise ModelFileError(f"{path}: no {what}: its metadata does not describe one")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except ModelFileError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
        raise ModelFileError(f"{path}: no safetensors file, or damaged ({error})") from error
    if _digest(metadata[kind], tensors) != metadata["sha256"]:
        raise ModelFileError(f"{path}: damaged: its SHA-256 does not match its content; use another copy")
    return metadata[kind], tensors
