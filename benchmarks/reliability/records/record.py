"""What is known of an operation: PyTorch's OpInfo, for fastconv."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastconv.layers import Layer
from fastconv.losses import Loss

Arrays = Mapping[str, np.ndarray]
Options = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]
Refusal = tuple[Callable[[], object], type[Exception], str]
"""A call that must fail, with what, and a piece of the message."""


@dataclass(frozen=True)
class Sample:
    """Shapes of an operation's arrays by name, the input first, and its other arguments."""

    shapes: Shapes
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Expected:
    """What must come out, within ``units`` * eps * ``magnitude``.

    Each of ``units`` roundings moves a sum by at most eps/2 of its terms' absolute values, whose sum is ``magnitude``
    (Higham 2002, section 3.1); the oracle, which is float64, rounds as often.  0 units stand for equality.
    """

    value: np.ndarray
    magnitude: np.ndarray
    units: float
    eps: float | None = None
    """By default that of the arrays' dtype."""


@dataclass(frozen=True)
class Record:
    """An operation.

    Parameters
    ----------
    name : str
        In ``fastconv.functional``, or the layer's, if there is no function.
    covers : sequence of str
        Which other functions and layers the record stands for.
    draw : function of a generator
        A sample at random, small, of any batch size.
    by_hand : sequence of Sample
        What random samples seldom are.
    forward : function of arrays and options
        The oracle's output.
    backward : function of dy, arrays and options
        The oracle's gradients by the arrays' names; those that are missing have none.
    function : function of arrays and options, or None
        The functional form.
    layer : function of arrays and options, or None
        The layer, with its parameters set.  Its input is the first array, its parameters are called as the others.
    loss : function of options, or None
        The loss, whose target is the second array.
    torch : function of torch, tensors and options, or None
        PyTorch's counterpart; None where there is none.
    fill : dict of functions of a generator, a shape and the shapes of all arrays
        How arrays are filled that are not standard normal; whole numbers stay whole numbers.
    linear : sequence of str
        In which arrays the operation is linear while the others are held, without its bias.
    adjoint : sequence of str
        For which arrays a <y, dy> = <a, da> holds.
    exact : bool
        Whether small integers give integers, so that these identities hold with ==.
    apart : bool
        Whether each image has an output of its own, so that another order of images is another order of outputs.
    moved : function of a sample, or None
        The sample without padding on a larger image, and the stride, if the operation moves with the image.
    refusals : sequence of Refusal
    """

    name: str
    draw: Callable[[np.random.Generator], Sample]
    by_hand: Sequence[Sample]
    forward: Callable[[Arrays, Options], Expected]
    backward: Callable[[np.ndarray, Arrays, Options], dict[str, Expected]]
    covers: Sequence[str] = ()
    function: Callable[[Arrays, Options], np.ndarray] | None = None
    layer: Callable[[Arrays, Options], Layer] | None = None
    loss: Callable[[Options], Loss] | None = None
    torch: Callable[[Any, Mapping[str, Any], Options], Any] | None = None
    fill: Mapping[str, Callable[[np.random.Generator, tuple[int, ...], Shapes], np.ndarray]] = field(
        default_factory=dict
    )
    linear: Sequence[str] = ()
    adjoint: Sequence[str] = ()
    exact: bool = False
    apart: bool = True
    moved: Callable[[Sample], tuple[Sample, tuple[int, int]]] | None = None
    refusals: Sequence[Refusal] = ()


def absolute(arrays: Arrays) -> dict[str, np.ndarray]:
    """Return the absolute values of all arrays."""
    return {name: np.abs(array) for name, array in arrays.items()}


def batch(rng: np.random.Generator) -> int:
    """Draw a number of images: one, a few, or a little less or more than the lanes."""
    return int(rng.choice([1, 1, 2, 3, 5, 15, 16, 17, 33]))


def numbers(rng: np.random.Generator, low: int, high: int, count: int = 2) -> tuple[int, ...]:
    """Draw whole numbers from low to high."""
    return tuple(rng.integers(low, high + 1, count).tolist())
