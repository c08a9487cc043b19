"""Packages whose names are imported from their files when they are first used.

So that a process loads what it uses, and no more: the kernels of all layers take longer to import than LeNet-5's first
step takes to compute.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazily(
    package: str, names: Mapping[str, Sequence[str]], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Parameters
    ----------
    package : str
        Its name.
    names : dict
        What it offers of each file, by the file's full name.  None may be called like a file of the package itself,
        which takes that place as soon as somebody imports it.
    modules : sequence of str
        Files that it offers as they are.
    """
    home = {name: file for file, offered in names.items() for name in offered}

    def find(name: str) -> Any:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home[name]), name)
        setattr(sys.modules[package], name, value)  # so that it is looked for once
        return value

    offered = [*modules, *home]
    return find, lambda: sorted(offered), offered
