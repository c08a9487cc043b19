"""Convolution of few images: each is cut into pieces, which take the lanes that would stay empty.

Up to eight images leave half of the sixteen lanes or more without work.  Cut into 2, 4, 8 or 16 pieces, with the
pixels around them that the filter sees, they fill the lanes, and any kernel computes them as if they were images: with
the same bits, because every output is the same sum in the same order.

Symbols are those of conv2d.py.  An image has GH x GW pieces of PH x PW outputs; the last ones may hang over its edges.
"""

from fastconv_kernels import memory
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import LANES

MOST_IMAGES = LANES // 2


@kernel()
def cut(crew, x, n, grid, step, offset, pieces):
    """Copy pieces of images into lanes of their own: piece (a, b) of image m into lane (m*GH + a)*GW + b.

    Parameters
    ----------
    x : float[1, C, H, W, 16]
    n : int
        How many lanes of ``x`` hold an image.
    grid : (int, int)
        GH and GW; n*GH*GW is at most 16.
    step, offset : (int, int)
        Piece (a, b) begins at the pixel (a, b) * step + offset, which may lie outside the image.
    pieces : float[1, C, h, w, 16]
        Overwritten; 0 outside the image, and in lanes without a piece.

    Notes
    -----
    Race-free: task c is the only writer of ``pieces[:, c]``.
    """
    _, C, H, W, _ = x.shape
    h, w = pieces.shape[2:4]
    for c in prange(crew, C):
        pieces[0, c] = 0
        for m in range(n):
            for a in range(grid[0]):
                for b in range(grid[1]):
                    lane = (m * grid[0] + a) * grid[1] + b
                    top, left = a * step[0] + offset[0], b * step[1] + offset[1]
                    for i in range(max(0, -top), min(h, H - top)):
                        for j in range(max(0, -left), min(w, W - left)):
                            pieces[0, c, i, j, lane] = x[0, c, top + i, left + j, m]


@kernel()
def join(crew, pieces, n, grid, y):
    """Put pieces together: the inverse of ``cut`` where they neither overlap nor leave gaps.

    Parameters
    ----------
    pieces : float[1, F, PH, PW, 16]
    n : int
    grid : (int, int)
    y : float[1, F, OH, OW, 16]
        Overwritten; 0 in the lanes from n on.

    Notes
    -----
    Race-free: task f is the only writer of ``y[:, f]``.
    """
    _, F, OH, OW, _ = y.shape
    h, w = pieces.shape[2:4]
    for f in prange(crew, F):
        for i in range(OH):
            row, a = y[0, f, i], i // h
            row[:] = 0
            for m in range(n):
                for b in range(grid[1]):
                    lane = (m * grid[0] + a) * grid[1] + b
                    for j in range(min(w, OW - b * w)):
                        row[b * w + j, m] = pieces[0, f, i - a * h, j, lane]


# Multiply-adds for one image, and for each number that is cut or joined, below which the empty lanes are cheaper.
_LEAST, _LEAST_EACH = 150_000, 20


def pays(geometry, images):
    """Whether a batch of so few images, and so large ones, is better cut."""
    filters, channels, *taps = geometry.weight
    each = filters * channels * taps[0] * taps[1]
    enough = each * geometry.output[0] * geometry.output[1] >= _LEAST and each >= _LEAST_EACH * (filters + channels)
    return 1 <= images <= MOST_IMAGES and geometry.groups == 1 and enough


def _grid(images, size):
    """Return (GH, GW) and (PH, PW), even for Winograd's patches, that cover ``size`` with the fewest outputs."""
    count = 1
    while 2 * count * images <= LANES:
        count *= 2
    choices = []
    for rows in (1, 2, 4, 8, 16):
        if count % rows == 0:
            grid = rows, count // rows
            piece = tuple(-(-axis // (2 * parts)) * 2 for axis, parts in zip(size, grid, strict=True))
            seen = (piece[0] + 2) * (piece[1] + 2)  # what must be read for it, with filters of 3x3
            choices.append((piece[0] * piece[1], seen, grid, piece))
    return min(choices)[2:]


def _extent(size, geometry):
    """Return the size of the input that ``size`` outputs see."""
    axes = zip(size, geometry.stride, geometry.dilation, geometry.weight[2:], strict=True)
    return tuple((n - 1) * stride + dilation * (taps - 1) + 1 for n, stride, dilation, taps in axes)


class Forward:
    """Equation (1) on pieces.

    Parameters
    ----------
    geometry : conv2d.Geometry
    images : int
    make : function of a Geometry
        Makes the kernel that computes the pieces.

    Attributes
    ----------
    x : float[1, C, h, w, 16]
        The pieces of the last input.
    """

    def __init__(self, geometry, images, make):
        filters, channels = geometry.weight[:2]
        self._images, (self._grid, piece) = images, _grid(images, geometry.output)
        extent = _extent(piece, geometry)
        self._step = tuple(n * stride for n, stride in zip(piece, geometry.stride, strict=True))
        self._offset = tuple(-n for n in geometry.padding)
        self.x = memory.empty((1, channels, *extent, LANES), geometry.dtype)
        self._y = memory.empty((1, filters, *piece, LANES), geometry.dtype)
        self._run = make(geometry._replace(image=extent, output=piece, padding=(0, 0)))

    def __call__(self, x, k, bias, y, relu):
        """Write equation (1), and max(0, that) if ``relu``, into ``y``."""
        cut(x, self._images, self._grid, self._step, self._offset, self.x)
        self._run(self.x, k, bias, self._y, relu)
        join(self._y, self._images, self._grid, y)


class BackwardInput:
    """Equation (3) on pieces, at stride 1; parameters as in ``Forward``."""

    def __init__(self, geometry, images, make):
        filters, channels = geometry.weight[:2]
        self._images, (self._grid, piece) = images, _grid(images, geometry.image)
        around = tuple(n - 1 for n in _extent((1, 1), geometry))
        extent = tuple(n + more for n, more in zip(piece, around, strict=True))
        self._step = piece
        self._offset = tuple(padding - more for padding, more in zip(geometry.padding, around, strict=True))
        self._dy = memory.empty((1, filters, *extent, LANES), geometry.dtype)
        self._dx = memory.empty((1, channels, *piece, LANES), geometry.dtype)
        self._run = make(geometry._replace(image=piece, output=extent, padding=around))
        self._inner = tuple(slice(-first, -first + size) for first, size in zip(self._offset, piece, strict=True))

    def __call__(self, dy, k, dx, bias=None, relu=False):
        """Write equation (3), plus ``bias``, and max(0, that) if ``relu``, into ``dx``."""
        self.cut(dy)
        self.of_pieces(k, dx, bias, relu)

    def cut(self, dy):
        """Cut the gradient, for ``of_pieces``."""
        cut(dy, self._images, self._grid, self._step, self._offset, self._dy)

    def inner(self):
        """Return the pieces that were cut without what is around them, if the output has the input's size."""
        return self._dy[:, :, *self._inner]

    def of_pieces(self, k, dx, bias=None, relu=False):
        """Write equation (3) of the gradient that was cut into ``dx``, as a call does."""
        self._run(self._dy, k, self._dx, bias, relu)
        join(self._dx, self._images, self._grid, dx)


class BackwardFilter:
    """Equation (2) on pieces; parameters as in ``Forward``.

    Attributes
    ----------
    dy : float[1, F, PH, PW, 16]
        The pieces of the gradient, for ``of_pieces``.
    """

    def __init__(self, geometry, images, make):
        filters, channels = geometry.weight[:2]
        self._images, (self._grid, self._piece) = images, _grid(images, geometry.output)
        extent = _extent(self._piece, geometry)
        self._step = tuple(n * stride for n, stride in zip(self._piece, geometry.stride, strict=True))
        self._offset = tuple(-n for n in geometry.padding)
        self._x = memory.empty((1, channels, *extent, LANES), geometry.dtype)
        self.dy = memory.empty((1, filters, *self._piece, LANES), geometry.dtype)
        self._run = make(geometry._replace(image=extent, output=self._piece, padding=(0, 0)))

    def __call__(self, dy, x, shares):
        """Write the one block's share of equation (2) into ``shares``."""
        cut(x, self._images, self._grid, self._step, self._offset, self._x)
        self.cut(dy)
        self.of_pieces(self._x, shares)

    def cut(self, dy):
        """Cut the gradient, for ``of_pieces``."""
        cut(dy, self._images, self._grid, self._piece, (0, 0), self.dy)

    def of_pieces(self, x, shares):
        """Write equation (2) of the gradient that was cut and of pieces ``x`` into ``shares``."""
        self._run(self.dy, x, shares)


class Backward:
    """Equations (2) and (3), after the forward pass, which has cut x; dy is cut once if both want the same pieces."""

    def __init__(self, geometry, forward, filters, inputs):
        self._forward, self._filters, self._inputs = forward, filters, inputs
        self._same = geometry.image == geometry.output

    def __call__(self, dy, x, k, shares, dx):
        """Write equation (2) into ``shares``, and equation (3) into ``dx`` unless that is None."""
        together = self._same and dx is not None
        if together:
            self._inputs.cut(dy)
            self._filters.dy[...] = self._inputs.inner()
        else:
            self._filters.cut(dy)
        self._filters.of_pieces(self._forward.x, shares)
        if dx is not None:
            if not together:
                self._inputs.cut(dy)
            self._inputs.of_pieces(k, dx)
