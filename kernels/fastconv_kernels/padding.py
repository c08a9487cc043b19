"""Padding that is copied: a constant around the images, or their own pixels, and the gradient on its way back.

A convolution needs no such copy for zeros.  Rows and columns separate, so that where each pixel of a padded image comes
from is said by two tables: one for the rows, one for the columns.

Mathematics
-----------
Equation numbers are those of docs/backprop.md.  Row i of the padded image is row r(i) of the image, and column j is
column s(j), or they are outside. ::

    y[n,c,i,j]  = x[n,c, r(i), s(j)], or the constant where one of them is outside                  (60)
    dx[n,c,p,q] = sum of dy[n,c,i,j] over all i and j with r(i) == p and s(j) == q                  (61)
"""

import numpy as np

from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import plus, spread, store, vectors, zeros

OUTSIDE = -1


@kernel()
def pad_forward(crew, x, rows, columns, value, y):
    """Write equation (60).

    Parameters
    ----------
    x : float[B, C, H, W, 16]
    rows, columns : int64[OH], int64[OW]
        Where each row and column comes from, or ``OUTSIDE``.
    value : float[1]
        The constant.
    y : float[B, C, OH, OW, 16]
        Overwritten.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``y[b, c]``.
    """
    B, C, OH, OW, _ = y.shape
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        image, padded = x[b, c], y[b, c]
        for i in range(OH):
            p = rows[i]
            for j in range(OW):
                q = columns[j]
                if p >= 0 and q >= 0:
                    store(vectors(image, (p, q), 1, 1, 1), padded, (i, j), 0, 1, 1, 1, 1)
                else:
                    store(spread(value, 0, 1, 1), padded, (i, j), 0, 1, 1, 1, 1)


@kernel()
def pad_backward(crew, dy, rows, columns, dx):
    """Write equation (61).

    Parameters
    ----------
    dy : float[B, C, OH, OW, 16]
    rows, columns : int64[OH], int64[OW]
        As in ``pad_forward``.
    dx : float[B, C, H, W, 16]
        Overwritten.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``dx[b, c]``.  Each sum runs over i and j in that order.
    """
    B, C, H, W, _ = dx.shape
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        padded, image = dy[b, c], dx[b, c]
        for p in range(H):
            for q in range(W):
                store(zeros(dy, 1, 1), image, (p, q), 0, 1, 1, 1, 1)
        for i in range(rows.shape[0]):
            p = rows[i]
            if p >= 0:
                for j in range(columns.shape[0]):
                    q = columns[j]
                    if q >= 0:
                        total = plus(vectors(image, (p, q), 1, 1, 1), vectors(padded, (i, j), 1, 1, 1))
                        store(total, image, (p, q), 0, 1, 1, 1, 1)


def sources(size, before, after, mode):
    """Return the table of one axis: where each place of it comes from, int64[before + size + after].

    Parameters
    ----------
    size, before, after : int
        Negative numbers cut off.
    mode : 'constant', 'reflect', 'replicate' or 'circular'
    """
    place = np.arange(-before, size + after)
    if mode == "reflect":
        place = np.where(place < 0, -place, place)
        return np.where(place < size, place, 2 * (size - 1) - place)
    if mode == "replicate":
        return place.clip(0, size - 1)
    if mode == "circular":  # what is left after cutting off goes round
        first, last = max(-before, 0), size - max(-after, 0)
        return first + (place - first) % max(last - first, 1)
    return np.where((place >= 0) & (place < size), place, OUTSIDE)


class Padding:
    """Equations (60) and (61) for one size of image.

    Parameters
    ----------
    image : (int, int)
        H and W.
    sides : ((int, int), (int, int))
        Rows above and below, columns left and right.
    mode : str
        As in ``sources``.
    value : float
        The constant.
    dtype : numpy.dtype
    """

    def __init__(self, image, sides, mode, value, dtype):
        axes = zip(image, sides, strict=True)
        self._rows, self._columns = (sources(size, *side, mode) for size, side in axes)
        self._value = np.full(1, value, dtype)

    def forward(self, x, y):
        """Write equation (60) into ``y``."""
        pad_forward(x, self._rows, self._columns, self._value, y)

    def backward(self, dy, dx):
        """Write equation (61) into ``dx``."""
        pad_backward(dy, self._rows, self._columns, dx)
