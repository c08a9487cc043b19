"""The layers of docs/own_layers.md: its code is run as it stands there."""

import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).resolve().parent.parent / "docs" / "own_layers.md"
_USE = "## Train, check, save, load"


def code():
    """Return the page's code: what defines the layers, and what uses them."""
    definitions, use = PAGE.read_text(encoding="utf-8").split(_USE)
    return tuple("\n".join(re.findall(r"```python\n(.*?)```", part, re.DOTALL)) for part in (definitions, use))


@cache
def own_layers():
    """Return a module with the page's definitions, made once."""
    module = sys.modules["own_layers_page"] = ModuleType("own_layers_page")
    exec(compile(code()[0], str(PAGE), "exec"), module.__dict__)
    return module
