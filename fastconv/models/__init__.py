"""Ready-made networks: functions that return a model, and a list of them by name."""

from collections.abc import Callable

from fastconv.models.lenet import lenet5 as lenet5
from fastconv.models.lenet import lenet_seed as lenet_seed
from fastconv.sequential import Sequential

_BY_NAME: dict[str, Callable[..., Sequential]] = {f.__name__: f for f in (lenet5, lenet_seed)}
NAMES = tuple(_BY_NAME)


def create(name: str, num_classes: int = 10, seed: int = 0, in_channels: int = 1) -> Sequential:
    """Return the model of that name; raises ValueError with the names there are."""
    if name not in _BY_NAME:
        raise ValueError(f"model: expected one of {', '.join(NAMES)}, got {name!r}")
    return _BY_NAME[name](num_classes=num_classes, seed=seed, in_channels=in_channels)
