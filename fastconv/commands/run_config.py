"""What a run says of itself in its config.json: read again, and compared with the data that are there now."""

import json
from pathlib import Path
from typing import Any

from fastconv import data
from fastconv.commands.errors import UsageError
from fastconv.data import Dataset
from fastconv.regular import read_small
from fastconv.training.run_folder import CONFIG


def read_json(path: Path) -> Any:
    """Return the content of a run's file; raises UsageError if it is damaged, OSError if it cannot be read."""
    try:
        return json.loads(read_small(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: the file is damaged ({error})") from error


def read_config(path: Path, *sections: str) -> dict[str, Any]:
    """Return a config.json; raises UsageError if it is damaged, or has no object under the name of a section."""
    config = read_json(path)
    if not isinstance(config, dict):
        raise UsageError(f"{path}: expected a run's configuration, got {type(config).__name__}")
    for name in sections:
        if not isinstance(config.get(name), dict):
            raise UsageError(f"{path}: expected a run's configuration with {name!r}, got {config.get(name)!r}")
    return config


def load_again(config: dict[str, Any], path: str | None) -> Dataset:
    """Read data as a run did, from where they are now; UsageError for a size that is none, else as ``data.load``."""
    size = config["options"].get("size")
    if size is not None and not (isinstance(size, list) and len(size) == 2):
        raise UsageError(f"{CONFIG}: expected size as a list of two numbers or null, got {size!r}")
    return data.load(path, size=None if size is None else (size[0], size[1]))


def difference(recorded: Any, dataset: Dataset) -> str | None:
    """Return how data differ from those that a run recorded, ``config["data"]`` or ``["test"]``; None if they do not.

    A sentence's end: that SHA-256 was expected, this one was found.
    """
    expected, now = recorded.get("sha256") if isinstance(recorded, dict) else None, dataset.sha256()
    return None if expected == now else f"SHA-256 {str(expected)[:12]}..., got {now[:12]}..."
