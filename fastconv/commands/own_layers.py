"""Layer classes of the user's, which ``--layers`` names: the only code that a command runs and fastconv has not."""

import os
import sys
from importlib import import_module

from fastconv.commands.errors import UsageError
from fastconv.layers import Layer


def own_layers(named: str | None) -> tuple[type[Layer], ...]:
    """Import ``module:Class,Class``, from the current folder too, as Python itself would.

    Raises
    ------
    UsageError
        If there is no such module or class, or a class is no layer.
    """
    if named is None:
        return ()
    module_name, _, names = named.partition(":")
    if not module_name or not names:
        raise UsageError(f"--layers: expected MODULE:CLASS[,CLASS...], such as mine:ChannelScale, got {named!r}")
    sys.path.insert(0, os.getcwd())
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise UsageError(f"--layers: {module_name} cannot be imported ({error})") from error
    found: list[type[Layer]] = []
    for name in names.split(","):
        one = getattr(module, name, None)
        if not isinstance(one, type) or not issubclass(one, Layer):
            raise UsageError(f"--layers: expected {name} of {module_name} to be a class of layers, got {one!r}")
        found.append(one)
    return tuple(found)
