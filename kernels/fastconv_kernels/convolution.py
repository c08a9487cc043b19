"""Which kernel computes which convolution.  The choice looks at shapes alone, because it decides the bits.

=================== ================================= ==============
filters             forward and gradient to the input to the filters
=================== ================================= ==============
one for each channel depthwise.py                     depthwise.py
1x1, stride 1        pointwise.py                     pointwise.py
3x3, stride 1, many  winograd.py                      conv2d.py
all others           conv2d.py                        conv2d.py
=================== ================================= ==============
"""

from fastconv_kernels import conv2d, depthwise, pointwise, winograd
from fastconv_kernels.conv2d import Geometry

__all__ = ["Geometry", "backward_filter", "backward_input", "forward"]


def _special(geometry):
    return next((each for each in (depthwise, pointwise) if each.fits(geometry)), None)


def forward(geometry):
    """Return run(x, k, bias, y, relu), which writes equation (1), and max(0, that) if ``relu``, into ``y``."""
    direct = winograd if winograd.pays(geometry, geometry.output) else conv2d
    return (_special(geometry) or direct).Forward(geometry)


def backward_input(geometry):
    """Return run(dy, k, dx), which writes equation (3) into ``dx``."""
    direct = winograd if winograd.pays(geometry, geometry.image) else conv2d
    return (_special(geometry) or direct).BackwardInput(geometry)


def backward_filter(geometry):
    """Return run(dy, x, shares), which writes each block's share of equation (2) into ``shares``."""
    return (_special(geometry) or conv2d).BackwardFilter(geometry)
