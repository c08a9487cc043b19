"""Which kernel computes which convolution.  The choice looks at shapes alone, because it decides the bits.

==================== ================================= ==================
filters              forward and gradient to the input to the filters
==================== ================================= ==================
one for each channel depthwise.py                      depthwise.py
1x1, stride 1        pointwise.py                      pointwise.py
3x3, stride 1, many  winograd.py                       winograd_filter.py
all others           conv2d.py                         conv2d.py
==================== ================================= ==================

If there are few images, winograd.py and conv2d.py work on pieces of them, pieces.py, and winograd_filter.py on none.
"""

from fastconv_kernels import conv2d, depthwise, pieces, pointwise, winograd, winograd_filter
from fastconv_kernels.conv2d import Geometry
from fastconv_kernels.tile import LANES

__all__ = ["Geometry", "backward", "backward_filter", "backward_input", "forward", "stays_in_pieces"]


def _special(geometry):
    return next((each for each in (depthwise, pointwise) if each.fits(geometry)), None)


def stays_in_pieces(geometry, images):
    """Return how the output's images lie, a pieces.Spread, if they are better left in pieces; else None."""
    if geometry.stride != (1, 1) or _special(geometry) or not pieces.pays(geometry, images, stays=True):
        return None
    return pieces.spread(images, geometry.output, _forward_kernel(geometry).MULTIPLE)


def forward(geometry, images=LANES, source=None, stays=False):
    """Return run(x, k, bias, y, relu), which writes equation (1), and max(0, that) if ``relu``, into ``y``.

    The images of x lie as ``source`` says, one a lane if it is None, and those of y as ``stays_in_pieces`` says if they
    stay so.
    """
    if special := _special(geometry):
        return special.Forward(geometry)
    make = _forward_kernel(geometry)
    cut = source or stays or pieces.pays(geometry, images)
    return pieces.Forward(geometry, images, make, source, stays) if cut else make(geometry)


def _forward_kernel(geometry):
    return winograd.Forward if winograd.pays(geometry, geometry.output) else conv2d.Forward


def backward_input(geometry, images=LANES):
    """Return run(dy, k, dx, bias=None, relu=False), which writes equation (3) into ``dx``.

    With a bias, and max(0, that) if ``relu``, it is the transposed convolution's forward pass, equation (64).
    """
    if special := _special(geometry):
        return special.BackwardInput(geometry)
    make = _input_kernel(geometry)
    cut = geometry.stride == (1, 1) and pieces.pays(geometry, images)
    return pieces.BackwardInput(geometry, images, make) if cut else make(geometry)


def _input_kernel(geometry):
    return winograd.BackwardInput if winograd.pays(geometry, geometry.image) else conv2d.BackwardInput


def backward_filter(geometry, images=LANES):
    """Return run(dy, x, shares), which writes the blocks' shares of equation (2) into ``shares``.

    What a block's share is depends on the kernel; their sum is the gradient.
    """
    if depthwise.fits(geometry):
        return depthwise.BackwardFilter(geometry)
    if pieces.pays(geometry, images):
        return pieces.BackwardFilter(geometry, images, conv2d.BackwardFilter, _forward_kernel(geometry).MULTIPLE)
    if pointwise.fits(geometry):
        return pointwise.BackwardFilter(geometry)
    return (winograd_filter if winograd_filter.pays(geometry) else conv2d).BackwardFilter(geometry)


def backward(geometry, images, forward, source=None, stays=False):
    """Return run(dy, x, k, shares, dx), which writes (2) into ``shares`` and, unless ``dx`` is None, (3) into ``dx``.

    It follows ``forward``, which must have run on the same ``x``, and whose ``source`` and ``stays`` hold here too, of
    dx as of x and of dy as of y.
    """
    if isinstance(forward, pieces.Forward) and geometry.stride == (1, 1):
        filters = conv2d.BackwardFilter(forward.geometry)
        cut = pieces.spread(images, geometry.output, forward.multiple)
        inputs = pieces.BackwardInput(geometry, images, _input_kernel(geometry), cut, source)
        return pieces.Backward(geometry, images, forward, filters, inputs, stays)
    return _Each(backward_filter(geometry, images), backward_input(geometry, images))


class _Each:
    """Both gradients, one after the other; an object, so that a copy of it has memory of its own."""

    def __init__(self, filters, inputs):
        self._filters, self._inputs = filters, inputs

    def __call__(self, dy, x, k, shares, dx):
        """Write equation (2) into ``shares``, and equation (3) into ``dx`` unless that is None."""
        self._filters(dy, x, shares)
        if dx is not None:
            self._inputs(dy, k, dx)
