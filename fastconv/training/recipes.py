"""What ``fastconv train`` takes where its options leave it open: docs/adr/0012 says how each recipe was found."""

from typing import Literal, NamedTuple


class Recipe(NamedTuple):
    """How to train; fields are named as the options.

    Attributes
    ----------
    lr, weight_decay : float
        Of SGD; other optimisers have their own.
    ema : float
        What each step keeps of the weights' average; 0 for no average.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    decay: Literal["all", "weights"]
    loss_smoothing: float
    ema: float


_PLAIN = Recipe(20, 64, 0.04, 1e-3, "all", 0.0, 0.0)
_AUGMENTED = Recipe(60, 128, 0.05, 5e-4, "weights", 0.1, 0.998)
_AUGMENTED_DEEP = _AUGMENTED._replace(epochs=40, lr=0.15, weight_decay=1e-3)
_AUGMENTED_TINY = _AUGMENTED._replace(batch_size=64, lr=0.2, weight_decay=1e-5, loss_smoothing=0.0)
_OF = {"lenet5": _AUGMENTED, "lenet_seed": _AUGMENTED, "tiny": _AUGMENTED_TINY}


def recipe_for(model: str, augmented: bool) -> Recipe:
    """Return the recipe for a model of ``fastconv.models``, on images as they are or augmented."""
    if not augmented:
        return _PLAIN
    return _OF.get(model, _AUGMENTED_DEEP)
