"""Few images: each is cut into pieces, which take the lanes that would stay empty.

Up to eight images leave half of the sixteen lanes or more without work.  Cut into 2, 4, 8 or 16 pieces, with the
pixels around them that the filter sees, they fill the lanes, and any kernel computes them as if they were images: with
the same bits, because every output is the same sum in the same order.

Symbols are those of conv2d.py.
"""

from typing import NamedTuple

import numpy as np

from fastconv_kernels import memory
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import LANES

MOST_IMAGES = LANES // 2


class Spread(NamedTuple):
    """How images lie in the lanes of one block: piece (a, b) of image m in lane (m*rows + a)*columns + b.

    Parameters
    ----------
    images, rows, columns : int
        Their product is at most 16.
    size : (int, int)
        Height and width of an image.
    piece : (int, int)
        Those of a piece; the last ones may hang over the image's edges.  What is there, and in lanes without a piece,
        is undefined in activations, and 0 in gradients.
    """

    images: int
    rows: int
    columns: int
    size: tuple
    piece: tuple

    def empty(self, channels, dtype):
        """Return uninitialised memory for images of so many channels."""
        return memory.empty((1, channels, *self.piece, LANES), dtype)

    def pooled(self, window, size):
        """Return how the output of a pooling lies if its windows stay within pieces, else None."""
        if any(axis % taps for axis, taps in zip(self.piece, window, strict=True)):
            return None
        piece = tuple(axis // taps for axis, taps in zip(self.piece, window, strict=True))
        return self._replace(size=size, piece=piece)


def whole(images, size):
    """Return how images lie that are not cut."""
    return Spread(images, 1, 1, size, size)


@kernel()
def gather(crew, x, places, y):
    """Move numbers to other pixels and lanes of the same channel.

    Parameters
    ----------
    x : float[C, S]
    places : int32[T]
        For each number of a channel of ``y``, which of ``x`` it is; -1 for a zero.
    y : float[C, T]
        Overwritten.

    Notes
    -----
    Race-free: task c is the only writer of ``y[c]``.
    """
    C, T = y.shape
    for c in prange(crew, C):
        for k in range(T):
            place = places[k]
            number = x[c, max(place, 0)]
            y[c, k] = number if place >= 0 else 0.0


class Move:
    """Moves images of one spread to another.

    Parameters
    ----------
    source, target : Spread
    step, around : (int, int), (int, int)
        Piece (a, b) of the target begins at the pixel (a, b)*step - around; by default, where the one before it ends.
    extent : (int, int)
        Height and width of the target's arrays, ``target.piece`` by default.
    """

    def __init__(self, source, target, step=None, around=(0, 0), extent=None):
        step, extent = step or target.piece, extent or target.piece
        image, place = np.divmod(np.arange(LANES), target.rows * target.columns)
        lines = []
        for axis, part in enumerate(np.divmod(place, target.columns)):
            line = part * step[axis] - around[axis] + np.arange(extent[axis])[:, None]
            inside = (line >= 0) & (line < source.size[axis]) & (image < target.images)
            lines.append((inside, *np.divmod(line, source.piece[axis])))
        (in_rows, a, i), (in_columns, b, j) = lines
        lane = (image * source.rows + a[:, None]) * source.columns + b
        places = (i[:, None] * source.piece[1] + j) * LANES + lane
        self._places = np.where(in_rows[:, None] & in_columns, places, -1).astype(np.int32).ravel()

    def __call__(self, x, y):
        """Write the images of ``x`` into ``y``: float[1, C, ...] both; 0 where there is no pixel."""
        gather(x.reshape(x.shape[1], -1), self._places, y.reshape(y.shape[1], -1))


# Multiply-adds for one image, and for each number that is moved, below which the empty lanes are cheaper.
_LEAST, _LEAST_EACH = 150_000, 20


def pays(geometry, images, stays=False):
    """Whether a batch of so few images, and so large ones, is better cut; ``stays``, if the output then stays so."""
    filters, channels, *taps = geometry.weight
    each = filters * channels * taps[0] * taps[1]
    moved = channels if stays else filters + channels
    enough = each * geometry.output[0] * geometry.output[1] >= _LEAST and each >= _LEAST_EACH * moved
    return 1 <= images <= MOST_IMAGES and geometry.groups == 1 and enough


def spread(images, size, multiple):
    """Return the pieces that cover ``size`` with the fewest pixels.

    Their sides are multiples of ``multiple``: the kernel that computes them says which, its ``MULTIPLE``.
    """
    count = 1
    while 2 * count * images <= LANES:
        count *= 2
    choices = []
    for rows in (1, 2, 4, 8, 16):
        if count % rows == 0:
            grid = rows, count // rows
            piece = tuple(-(-axis // (multiple * parts)) * multiple for axis, parts in zip(size, grid, strict=True))
            seen = (piece[0] + 2) * (piece[1] + 2)  # what must be read for it, with filters of 3x3
            choices.append((piece[0] * piece[1], seen, Spread(images, *grid, size, piece)))
    return min(choices)[2]


def _extent(size, geometry):
    """Return the size of the input that ``size`` outputs see."""
    axes = zip(size, geometry.stride, geometry.dilation, geometry.weight[2:], strict=True)
    return tuple((n - 1) * stride + dilation * (taps - 1) + 1 for n, stride, dilation, taps in axes)


class _Input:
    """Cuts what a convolution reads: its output's pieces, with what the filters see around them."""

    def __init__(self, geometry, images, multiple, source):
        self.pieces = spread(images, geometry.output, multiple)
        extent = _extent(self.pieces.piece, geometry)
        self.geometry = geometry._replace(image=extent, output=self.pieces.piece, padding=(0, 0))
        step = tuple(n * stride for n, stride in zip(self.pieces.piece, geometry.stride, strict=True))
        self._move = Move(source, self.pieces, step, geometry.padding, extent)
        self.array = memory.empty((1, geometry.weight[1], *extent, LANES), geometry.dtype)

    def __call__(self, x):
        """Return the pieces of ``x``."""
        self._move(x, self.array)
        return self.array


class _Output:
    """Cuts the gradient of what a convolution writes, of images one a lane."""

    def __init__(self, geometry, images, multiple):
        pieces = spread(images, geometry.output, multiple)
        self._move = Move(whole(images, geometry.output), pieces)
        self._array = pieces.empty(geometry.weight[0], geometry.dtype)

    def __call__(self, dy):
        """Return the pieces of ``dy``."""
        self._move(dy, self._array)
        return self._array


class Forward:
    """Equation (1) on pieces.

    Parameters
    ----------
    geometry : conv2d.Geometry
    images : int
    make : type
        Of what computes the pieces, made for their Geometry.
    source : Spread or None
        How the images of x lie; None for one a lane.
    stays : bool
        Whether the output stays in pieces, as ``spread`` says, instead of one image a lane.

    Attributes
    ----------
    geometry : conv2d.Geometry
        That of the pieces.
    multiple : int
        As in ``spread``.
    x : float[1, C, h, w, 16]
    """

    def __init__(self, geometry, images, make, source=None, stays=False):
        self.multiple = make.MULTIPLE
        self._cut = _Input(geometry, images, self.multiple, source or whole(images, geometry.image))
        self.geometry, pieces = self._cut.geometry, self._cut.pieces
        self._run = make(self.geometry)
        self._join = None if stays else Move(pieces, whole(images, geometry.output))
        self._y = None if stays else pieces.empty(geometry.weight[0], geometry.dtype)

    @property
    def x(self):
        """The pieces of the last input."""
        return self._cut.array

    def __call__(self, x, k, bias, y, relu):
        """Write equation (1), and max(0, that) if ``relu``, into ``y``."""
        if self._join is None:
            self._run(self._cut(x), k, bias, y, relu)
        else:
            self._run(self._cut(x), k, bias, self._y, relu)
            self._join(self._y, y)


class BackwardInput:
    """Equation (3) on pieces, at stride 1.

    Parameters
    ----------
    geometry, images, make
        As in ``Forward``.
    source, target : Spread or None
        How the images of dy lie, and those of dx.
    """

    def __init__(self, geometry, images, make, source=None, target=None):
        filters, channels = geometry.weight[:2]
        pieces = spread(images, geometry.image, make.MULTIPLE)
        around = tuple(n - 1 for n in _extent((1, 1), geometry))
        extent = tuple(n + more for n, more in zip(pieces.piece, around, strict=True))
        before = tuple(more - padding for more, padding in zip(around, geometry.padding, strict=True))
        self._cut = Move(source or whole(images, geometry.output), pieces, None, before, extent)
        self._dy = memory.empty((1, filters, *extent, LANES), geometry.dtype)
        self._dx = pieces.empty(channels, geometry.dtype)
        self._run = make(geometry._replace(image=pieces.piece, output=extent, padding=around))
        self._join = Move(pieces, target or whole(images, geometry.image))

    def __call__(self, dy, k, dx, bias=None, relu=False):
        """Write equation (3), plus ``bias``, and max(0, that) if ``relu``, into ``dx``."""
        self._cut(dy, self._dy)
        self._run(self._dy, k, self._dx, bias, relu)
        self._join(self._dx, dx)


class BackwardFilter:
    """Equation (2) on pieces, of images one a lane.

    Parameters
    ----------
    geometry, images, make
        As in ``Forward``.
    multiple : int
        As in ``spread``, of the forward pass.
    """

    def __init__(self, geometry, images, make, multiple):
        self._cut_x = _Input(geometry, images, multiple, whole(images, geometry.image))
        self._cut_dy = _Output(geometry, images, multiple)
        self._run = make(self._cut_x.geometry)

    def __call__(self, dy, x, shares):
        """Write the one block's share of equation (2) into ``shares``."""
        self._run(self._cut_dy(dy), self._cut_x(x), shares)


class Backward:
    """Equations (2) and (3), after the forward pass, which has cut x; dy is cut once.

    Parameters
    ----------
    geometry, images
        As in ``Forward``.
    forward : Forward
    filters : function
        Computes equation (2) on pieces.
    inputs : BackwardInput
        Takes the gradient as the forward pass leaves y in pieces.
    stays : bool
        As in ``Forward``, of dy.
    """

    def __init__(self, geometry, images, forward, filters, inputs, stays):
        self._forward, self._filters, self._inputs = forward, filters, inputs
        self._cut = None if stays else _Output(geometry, images, forward.multiple)

    def __call__(self, dy, x, k, shares, dx):
        """Write equation (2) into ``shares``, and equation (3) into ``dx`` unless that is None."""
        pieces = self._cut(dy) if self._cut else dy
        self._filters(pieces, self._forward.x, shares)
        if dx is not None:
            self._inputs(pieces, k, dx)
