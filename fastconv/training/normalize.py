"""What normalisation a set of images asks for."""

import numpy as np
from numpy.typing import NDArray

from fastconv.normalization import Normalization

_CHUNK = 1024


def normalization_of(images: NDArray[np.uint8], index: NDArray[np.int64]) -> Normalization:
    """Return mean and standard deviation of v / 255 over ``images[index]``, one pair a channel.

    Parameters
    ----------
    images : uint8[N, C, H, W]
    index : int64[n]
        Those to train on: what is held out must not enter.

    Notes
    -----
    Each value is counted, so the result is exact and does not depend on any order of summation.  A channel that is the
    same everywhere gets a standard deviation of 1.
    """
    channels = images.shape[1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, index.shape[0], _CHUNK):
        part = images[index[start : start + _CHUNK]]
        for channel in range(channels):
            counts[channel] += np.bincount(part[:, channel].ravel(), minlength=256)
    values, total = np.arange(256) / 255, counts.sum(axis=1)
    mean = (counts * values).sum(axis=1) / total
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(axis=1) / total)
    return Normalization(tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))
