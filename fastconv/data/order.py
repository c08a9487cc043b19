"""Which images are trained on, and in which order: pure functions of the seed."""

from operator import index

import numpy as np
from numpy.typing import NDArray

from fastconv.data.errors import DataError

# One stream of random numbers a purpose, so that the split never resembles an epoch's order.
_PERMUTATION = 0x0EDE12
_SPLIT = 0x5B117


def permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which ``epoch`` visits ``n`` images.

    Parameters
    ----------
    n, seed, epoch : int
        Not negative.

    Returns
    -------
    int64[n]
        Each of 0 .. n-1 once; the same for the same three numbers on every machine and with every release of NumPy.

    Raises
    ------
    DataError
        If a number is negative or not whole.
    """
    return _shuffled("permutation", n, seed, _PERMUTATION, _whole("permutation", "epoch", epoch))


def split(
    n: int, held_out: float, seed: int, stratify: NDArray[np.integer] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part ``n`` images at random into those to train on and those to validate with.

    Parameters
    ----------
    n, seed : int
        Not negative.
    held_out : float or int
        A fraction, 0 <= held_out < 1, or a whole number of images, 0 <= held_out < n. A fraction above 0 holds out at
        least one image.
    stratify : int[n], optional
        The images' classes: each is held out in proportion, to within an image, and the last of a class only where
        there is no other left.

    Returns
    -------
    train, validation : int64[n - k], int64[k]
        Both ascending, for reading in the order of memory; together each of 0 .. n-1 once.

    Raises
    ------
    DataError
        If a number is out of range, no image would be left to train on, or there is not one class an image.
    """
    count = _held_out(_whole("split", "n", n), held_out)
    order = _shuffled("split", n, seed, _SPLIT)
    if stratify is not None:
        order = _interleaved(order, _classes(stratify, n), count)
    return np.sort(order[count:]), np.sort(order[:count])


def _classes(stratify: object, n: int) -> NDArray[np.int64]:
    try:
        classes = np.asarray(stratify)
    except ValueError:  # lists of different lengths
        classes = np.empty(0, object)
    if isinstance(stratify, np.ma.MaskedArray):
        raise DataError("split: expected stratify as a plain array, got a masked array: fill it first")
    if classes.shape != (n,) or classes.dtype.kind not in "iu":
        raise DataError(
            f"split: expected stratify as {n} whole numbers, one an image, got {classes.dtype} of shape {classes.shape}"
        )
    return np.unique(classes, return_inverse=True)[1]


def _interleaved(order: NDArray[np.int64], classes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return ``order`` with the same share of each class among the first ``count``, in whole numbers (Hamilton's)."""
    n = order.shape[0]
    sizes = np.bincount(classes, minlength=1)
    taken = count * sizes // max(n, 1)
    rest = count * sizes - taken * n
    # Remainders first go to the classes with the largest, then to those that they would leave empty.
    for c in np.lexsort((np.arange(len(sizes)), -rest, taken + 1 >= sizes))[: count - int(taken.sum())]:
        taken[c] += 1
    of_class = classes[order]
    place = np.empty(n, np.int64)  # of each image of the order among its class
    for c in range(len(sizes)):
        place[of_class == c] = np.arange(sizes[c])
    first = place < taken[of_class]
    return np.concatenate([order[first], order[~first]])


def _held_out(n: int, held_out: float) -> int:
    if isinstance(held_out, float | np.floating):
        if not 0 <= held_out < 1:  # also refuses NaN
            raise DataError(
                f"split: expected a fraction from 0 to below 1, or a whole number of images, got {held_out}; "
                "for 10 % write 0.1"
            )
        count = max(1, round(n * float(held_out))) if held_out else 0
    else:
        count = _whole("split", "held_out", held_out)
    if count and count >= n:
        raise DataError(
            f"split: expected fewer than the {n} images there are, got {count} to hold out ({held_out}), which leaves "
            "none to train on; hold out fewer"
        )
    return count


def _shuffled(operation: str, n: int, seed: int, *stream: int) -> NDArray[np.int64]:
    """Return 0 .. n-1 sorted by random numbers.

    Not ``Generator.permutation``: NumPy promises the bits of its bit generators for all releases, but not those of
    Generator's methods (NEP 19), and a resumed run must find its order again.
    """
    count = _whole(operation, "n", n)
    sequence = np.random.SeedSequence(_whole(operation, "seed", seed), spawn_key=stream)
    keys = np.random.PCG64(sequence).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def _whole(operation: str, name: str, value: object) -> int:
    try:
        number = -1 if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 0:
        raise DataError(f"{operation}: expected {name} as a whole number from 0 upwards, got {value!r}")
    return number
