"""Checks of what became of the pixels: their range, and whether those of the test came the same way."""

from collections.abc import Callable

import numpy as np

from fastconv.checkup.findings import Finding
from fastconv.checkup.sampling import evenly

_MOST = 4000
_FAR = 0.5
"""By how much of the pixels' standard deviation two means may differ."""
_SCALE = 1.6
"""By what factor two standard deviations may differ."""
_ENOUGH = 30
"""Images from which a mean image says how they lie."""

Picture = np.ndarray

# A square image can also be transposed; the others keep height and width.
_TURNS: dict[str, Callable[[Picture], Picture]] = {
    "upside down": lambda picture: picture[:, ::-1],
    "mirrored": lambda picture: picture[:, :, ::-1],
    "turned by 180 degrees": lambda picture: picture[:, ::-1, ::-1],
}
_TURNS_OF_SQUARES: dict[str, Callable[[Picture], Picture]] = {
    "transposed (rows and columns swapped)": lambda picture: picture.transpose(0, 2, 1),
    "turned by 90 degrees": lambda picture: picture.transpose(0, 2, 1)[:, ::-1],
    "turned by 270 degrees": lambda picture: picture.transpose(0, 2, 1)[:, :, ::-1],
    "transposed along the other diagonal": lambda picture: picture.transpose(0, 2, 1)[:, ::-1, ::-1],
}


def check_range(x: np.ndarray) -> Finding:
    """Look at the range of what the first layer gets; uint8 images are normalised on their way in."""
    part = x[evenly(len(x), _MOST)]
    values = part.astype(np.float64)
    low, high, mean, std = float(values.min()), float(values.max()), float(values.mean()), float(values.std())
    sample = "" if len(part) == len(x) else f" ({len(part):,} of {len(x):,} images, evenly spread)"
    shown = f"{x.dtype} from {low:.4g} to {high:.4g}, mean {mean:.3g}, standard deviation {std:.3g}{sample}"
    if std == 0:
        return Finding("input range", "fault", f"{shown}: all values are the same", "look at what reads the images")
    if x.dtype == np.uint8:
        if high <= 1:
            remedy = "multiply by 255: uint8 images are divided by 255 on their way in"
            return Finding("input range", "fault", f"{shown}: as uint8, these are 0 to 1/255", remedy)
        return Finding("input range", "ok", shown)
    if std > 10 or abs(mean) > 20 * std:
        remedy = "pass uint8 images, which are normalised, or subtract the mean and divide by the standard deviation"
        return Finding("input range", "fault", f"{shown}; floats are taken as they are", remedy)
    if std < 0.02:
        remedy = "divide by the standard deviation; were the images divided by 255 twice?"
        return Finding("input range", "fault", f"{shown}: almost nothing", remedy)
    return Finding("input range", "ok", shown)


def check_test_preprocessing(x: np.ndarray, x_test: np.ndarray) -> Finding:
    """Compare shape, dtype, range, mean, ink and layout of test images with those of training."""
    name = "test preprocessing"
    if x.shape[1:] != x_test.shape[1:]:
        remedy = "cut or resize them as those of training"
        if x_test.ndim == 4 and x.shape[1:] == (x_test.shape[3], *x_test.shape[1:3]):
            remedy = "x_test.transpose(0, 3, 1, 2): channels come first"
        evidence = f"images of {_size(x)} in training, of {_size(x_test)} in the test"
        return Finding(name, "fault", evidence, remedy)
    if (x.dtype == np.uint8) != (x_test.dtype == np.uint8):
        evidence = (
            f"{x.dtype} in training, {x_test.dtype} in the test; uint8 is normalised, floats are taken as they are"
        )
        return Finding(name, "fault", evidence, "pass both as uint8")
    train, test = (part[evenly(len(part), _MOST)].astype(np.float64) for part in (x, x_test))
    (mean, std), (mean_test, std_test) = ((float(part.mean()), float(part.std())) for part in (train, test))
    shown = (
        f"mean {mean:.3g} and standard deviation {std:.3g} in training, {mean_test:.3g} and {std_test:.3g} in the test"
        f" ({len(train):,} and {len(test):,} images)"
    )
    ends = float(train.min()) + float(train.max())
    if not 1 / _SCALE < std_test / (std or 1.0) < _SCALE:
        ratio = std_test / (std or 1.0)
        times = f"{ratio:.3g} times" if ratio > 1 else f"1 / {1 / ratio:.3g} of" if ratio > 0 else "0 times"
        evidence = f"{shown}: the test's spread is {times} that of training"
        return Finding(name, "fault", evidence, "do the same arithmetic to both, with training's mean and deviation")
    pictures = _picture(train), _picture(test)
    if abs(ends - mean_test - mean) < abs(mean_test - mean) and _likeness(*pictures) < -0.5:
        evidence = f"{shown}; the mean images correlate by {_likeness(*pictures):.2f}: ink is inverted"
        return Finding(name, "fault", evidence, f"use {ends:g} - x for the test, or for training")
    if abs(mean_test - mean) > _FAR * std:
        evidence = f"{shown}: the means are {abs(mean_test - mean) / std:.2g} standard deviations apart"
        return Finding(name, "fault", evidence, "do the same arithmetic to both, with training's mean and deviation")
    turned = _turned(*pictures) if min(len(train), len(test)) >= _ENOUGH else None
    if turned is not None:
        how, straight, better = turned
        evidence = f"the mean images correlate by {straight:.3f}, and by {better:.3f} if the test's are {how}"
        return Finding(name, "fault", evidence, "read both the same way: one of them lies otherwise")
    return Finding(name, "ok", shown)


def _size(x: np.ndarray) -> str:
    return " x ".join(map(str, x.shape[1:]))


def _picture(images: np.ndarray) -> Picture:
    """Return the mean image, (C, H, W); features become a column."""
    mean = images.mean(axis=0)
    return mean.reshape(*mean.shape, *[1] * (3 - mean.ndim))


def _likeness(a: Picture, b: Picture) -> float:
    """Return how two images correlate."""
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else 1.0


def _turned(train: Picture, test: Picture) -> tuple[str, float, float] | None:
    """Return how the test's pictures lie and both correlations, if some turn of them is far more like training's."""
    if 1 in train.shape[1:]:
        return None
    turns = _TURNS | (_TURNS_OF_SQUARES if train.shape[1] == train.shape[2] else {})
    straight = _likeness(train, test)
    likeness = {how: _likeness(train, turn(test)) for how, turn in turns.items()}
    best = max(likeness, key=lambda how: likeness[how])
    if 1 - straight > 0.02 and 1 - likeness[best] < 0.5 * (1 - straight):
        return best, straight, likeness[best]
    return None
