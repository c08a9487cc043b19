"""Shapes that are hard, arrays that are odd, and how close a sum has to be: what the kernels' tests share."""

import numpy as np
import pytest
from hypothesis import strategies as st

from fastconv import shapes
from fastconv_kernels.convolution import Geometry

FLOATS = [np.float32, np.float64]

# (N, C, H, W), (F, KH, KW), stride, padding, dilation, groups
CONVOLUTIONS = {
    "plain": ((2, 3, 7, 6), (4, 3, 3), 1, 0, 1, 1),
    "one of everything": ((1, 1, 1, 1), (1, 1, 1), 1, 0, 1, 1),
    "the blog's": ((1, 3, 7, 11), (2, 3, 5), 2, 0, 1, 1),
    "1x1": ((2, 3, 4, 5), (5, 1, 1), 1, 0, 1, 1),
    "1x1 strided": ((2, 3, 6, 5), (2, 1, 1), (2, 3), 0, 1, 1),
    "1x1 padded": ((2, 2, 3, 2), (3, 1, 1), 1, (1, 2), 1, 1),
    "one channel, one filter": ((3, 1, 6, 9), (1, 2, 4), 1, (0, 1), 1, 1),
    "one row": ((2, 2, 1, 13), (3, 1, 5), (1, 2), (0, 2), 1, 1),
    "one column": ((2, 2, 13, 1), (3, 5, 1), (2, 1), (2, 0), 1, 1),
    "narrower than a tile": ((2, 3, 6, 4), (5, 3, 3), 1, 0, 1, 1),
    "filter as large as the image": ((2, 3, 5, 4), (3, 5, 4), 1, 0, 1, 1),
    "filter larger than the image": ((2, 2, 2, 3), (3, 4, 5), 1, (2, 1), 1, 1),
    "does not tile": ((2, 2, 8, 9), (3, 3, 2), (3, 4), 0, 1, 1),
    "stride beyond filter": ((2, 2, 9, 11), (2, 2, 1), (4, 5), (1, 0), 1, 1),
    "stride beyond image": ((2, 2, 5, 4), (3, 2, 2), (9, 7), (1, 2), 1, 1),
    "non-square": ((2, 2, 9, 5), (3, 4, 2), (2, 1), (1, 2), (2, 3), 1),
    "padding beyond filter": ((1, 1, 2, 3), (2, 2, 2), 1, (3, 4), 1, 1),
    "padding beyond filter, strided": ((2, 2, 3, 4), (3, 2, 3), (2, 3), (5, 4), 1, 1),
    "dilated": ((1, 2, 11, 10), (2, 3, 3), (2, 3), (2, 0), (4, 3), 1),
    "dilation divides stride": ((2, 2, 9, 8), (3, 3, 2), (4, 2), (1, 2), (2, 2), 1),
    "dilation is stride": ((1, 2, 12, 11), (3, 3, 3), (2, 3), (1, 0), (2, 3), 1),
    "image inside dilated filter": ((2, 1, 3, 2), (2, 3, 3), 1, 3, (3, 2), 1),
    "groups": ((2, 6, 6, 5), (4, 3, 2), (2, 1), (0, 1), 1, 2),
    "three groups of three": ((1, 6, 5, 5), (9, 3, 3), 2, 1, (1, 2), 3),
    "depthwise": ((2, 4, 6, 7), (4, 3, 3), (1, 2), 1, 1, 4),
    "depthwise multiplied": ((1, 3, 6, 7), (6, 2, 3), (2, 2), (1, 0), (2, 1), 3),
    "1x1 in groups": ((2, 4, 3, 5), (6, 1, 1), 1, 0, 1, 2),
    "depthwise, dilated by five": ((2, 3, 4, 8), (3, 2, 2), 1, (0, 3), (1, 5), 3),
    "depthwise, stride 5": ((2, 2, 4, 9), (2, 2, 3), (1, 5), 1, 1, 2),
    "depthwise, six taps wide": ((2, 3, 4, 8), (3, 2, 6), 1, (0, 2), 1, 3),
    "fifteen images": ((15, 2, 4, 5), (3, 2, 3), 1, (0, 1), 1, 1),
    "sixteen images": ((16, 2, 4, 5), (3, 2, 3), (2, 1), 0, 1, 1),
    "seventeen images": ((17, 2, 4, 5), (3, 3, 2), 1, 1, 1, 1),
    "thirty-three images": ((33, 1, 4, 5), (2, 3, 3), (1, 2), 1, 1, 1),
}

# What winograd.py can compute; with so few channels only if it is asked directly.
WINOGRAD = {
    "one pixel": ((1, 1, 1, 1), (1, 3, 3), 1, 1, 1, 1),
    "one pixel, padding 2": ((2, 2, 1, 1), (3, 3, 3), 1, 2, 1, 1),
    "one output": ((1, 2, 3, 3), (3, 3, 3), 1, 0, 1, 1),
    "two by three": ((2, 3, 2, 3), (2, 3, 3), 1, 1, 1, 1),
    "one row": ((1, 2, 1, 9), (3, 3, 3), 1, (1, 0), 1, 1),
    "one column": ((2, 2, 7, 2), (2, 3, 3), 1, (2, 1), 1, 1),
    "even": ((2, 3, 6, 8), (5, 3, 3), 1, 1, 1, 1),
    "whole patches": ((2, 3, 4, 8), (5, 3, 3), 1, 1, 1, 1),
    "odd": ((1, 4, 7, 5), (3, 3, 3), 1, 1, 1, 1),
    "padding of one axis": ((1, 2, 4, 5), (3, 3, 3), 1, (0, 2), 1, 1),
    "ragged": ((17, 2, 4, 6), (3, 3, 3), 1, (2, 0), 1, 1),
}

# What winograd.py computes of itself, because it pays.
WINOGRAD_PAYS = {
    "winograd": ((2, 10, 4, 6), (12, 3, 3), 1, 1, 1, 1),
    "winograd, no padding": ((17, 20, 6, 6), (20, 3, 3), 1, 0, 1, 1),
    "winograd, padding 2": ((1, 26, 2, 4), (25, 3, 3), 1, (2, 1), 1, 1),
    "winograd, odd": ((1, 22, 7, 9), (23, 3, 3), 1, 1, 1, 1),
}

# What winograd_filter.py computes of itself: it pays later than the forward pass, and not for few images.
WINOGRAD_FILTER_PAYS = {
    "winograd's filters": ((17, 30, 6, 8), (29, 3, 3), 1, 1, 1, 1),
    "winograd's filters, no padding": ((16, 25, 10, 10), (27, 3, 3), 1, 0, 1, 1),
    "winograd's filters, odd": ((9, 60, 7, 9), (59, 3, 3), 1, 1, 1, 1),
}

POINTWISE = {
    "pointwise, one pixel": ((1, 5, 1, 1), (4, 1, 1), 1, 0, 1, 1),
    "pointwise, one channel": ((2, 1, 3, 4), (5, 1, 1), 1, 0, 1, 1),
    "pointwise, one filter": ((2, 4, 2, 5), (1, 1, 1), 1, 0, 1, 1),
    "pointwise, ragged": ((17, 3, 4, 3), (7, 1, 1), 1, 0, 1, 1),
    "pointwise, many pixels": ((1, 4, 9, 11), (5, 1, 1), 1, 0, 1, 1),
    "pointwise, many of both": ((17, 6, 9, 15), (31, 1, 1), 1, 0, 1, 1),
    "pointwise, many filters": ((1, 4, 5, 8), (70, 1, 1), 1, 0, 1, 1),
    "pointwise, three blocks": ((33, 7, 3, 2), (9, 1, 1), 1, 0, 1, 1),
}

DEPTHWISE = {
    "depthwise, one tap": ((2, 3, 4, 9), (3, 1, 1), 1, 0, 1, 3),
    "depthwise, two taps, stride 2": ((2, 2, 9, 18), (2, 3, 2), 2, 1, 1, 2),
    "depthwise, three taps": ((2, 3, 6, 9), (3, 3, 3), 1, 1, 1, 3),
    "depthwise, four taps, dilated": ((1, 2, 9, 17), (2, 2, 4), (2, 1), (2, 3), (3, 4), 2),
    "depthwise, five taps, stride 3": ((1, 2, 8, 24), (2, 5, 5), 3, (1, 2), 1, 2),
    "depthwise, wider than the image": ((2, 2, 3, 2), (2, 3, 5), 1, (1, 2), 1, 2),
    "depthwise, padding beyond filter": ((1, 2, 2, 3), (2, 2, 2), 1, (3, 9), 1, 2),
    "depthwise, stride beyond filter": ((2, 2, 7, 11), (2, 2, 1), (3, 4), 0, 1, 2),
    "depthwise, whole tiles": ((1, 2, 3, 14), (2, 3, 3), 1, (0, 1), 1, 2),
    "depthwise, stride beyond image": ((2, 2, 5, 3), (2, 3, 3), (6, 4), 1, (1, 2), 2),
    "depthwise, ragged": ((17, 3, 4, 4), (3, 3, 2), (1, 2), (1, 0), 1, 3),
}

# What convolution.py does not give to conv2d.py.
SPECIAL = WINOGRAD_PAYS | WINOGRAD_FILTER_PAYS | POINTWISE | DEPTHWISE

# (N, C, H, W), kernel_size, stride, padding
POOLINGS = {
    "plain": ((2, 3, 6, 8), 2, None, 0),
    "1x1": ((1, 2, 4, 3), 1, None, 0),
    "one pixel": ((1, 1, 1, 1), 2, 2, 1),
    "whole image": ((2, 2, 4, 5), (4, 5), 1, 0),
    "does not tile": ((2, 2, 7, 8), (2, 3), None, 0),
    "overlapping": ((2, 1, 7, 9), 3, 2, 1),
    "overlapping, stride 1": ((1, 2, 5, 6), (3, 4), 1, (1, 2)),
    "non-square": ((1, 2, 9, 6), (4, 2), (3, 1), (2, 1)),
    "stride beyond kernel": ((1, 2, 10, 9), (2, 1), (4, 3), (1, 0)),
    "last window dropped": ((1, 1, 4, 5), 2, 3, 1),
    "last window over the padding": ((2, 1, 5, 6), (3, 4), (2, 3), (1, 2)),
    "far over the edge": ((1, 1, 6, 7), (5, 6), (4, 5), (2, 3)),
    "fifteen images": ((15, 1, 4, 6), 2, None, 0),
    "sixteen images": ((16, 2, 3, 4), 2, 1, 1),
    "seventeen images": ((17, 1, 5, 4), 3, 2, 1),
    "thirty-three images": ((33, 2, 4, 4), 2, None, 0),
}


def parametrize(cases):
    """Run a test once for each entry of a table."""
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


each_float = pytest.mark.parametrize("dtype", FLOATS)


def geometry(case, dtype=np.float32):
    """Return what a case of the tables is to the kernels, whichever of them."""
    shape, (filters, *taps), *how, groups = case
    how = [shapes.pair(value, "", "") for value in how]
    weight = (filters, shape[1] // groups, *taps)
    size = shapes.conv2d(shape, weight, *how, groups)[2:]
    return Geometry(weight, shape[2:], size, *how, groups, np.dtype(dtype))


@st.composite
def convolutions(draw):
    """Draw a convolution whose filter fits: ((N, C, H, W), (F, KH, KW), stride, padding, dilation, groups)."""
    pairs = lambda least, most: draw(st.tuples(*[st.integers(least, most)] * 2))  # noqa: E731
    few = st.integers(1, 3)
    groups, channels, filters = draw(few), draw(few), draw(few)
    taps, stride, padding, dilation, beyond = pairs(1, 4), pairs(1, 4), pairs(0, 3), pairs(1, 3), pairs(0, 4)
    n = draw(st.sampled_from([1, 2, 17]))
    # Each file of kernels is met often; conv2d.py has the most to go wrong.
    kind = draw(st.sampled_from(["any", "any", "winograd", "pointwise", "depthwise"]))
    if kind == "winograd":
        groups, channels, filters, n = 1, 16 + channels, 16 + filters, min(n, 2)
        taps, stride, padding, dilation = (3, 3), (1, 1), tuple(p % 3 for p in padding), (1, 1)
        beyond = tuple(b // 3 * 4 + 3 for b in beyond)  # sizes that patches cover with little waste
    elif kind == "pointwise":
        groups, taps, stride, padding, dilation = 1, (1, 1), (1, 1), (0, 0), (1, 1)
    elif kind == "depthwise":
        groups, channels, filters = 1 + groups, 1, 1
    spans = [d * (k - 1) + 1 for k, d in zip(taps, dilation, strict=True)]
    size = [max(1, s - 2 * p) + b for s, p, b in zip(spans, padding, beyond, strict=True)]
    return (n, groups * channels, *size), (groups * filters, *taps), stride, padding, dilation, groups


@st.composite
def poolings(draw):
    """Draw a pooling whose window fits: ((N, C, H, W), kernel_size, stride, padding)."""
    pairs = lambda least, most: draw(st.tuples(*[st.integers(least, most)] * 2))  # noqa: E731
    window, stride, beyond = pairs(1, 4), pairs(1, 4), pairs(0, 4)
    padding = tuple(draw(st.integers(0, k // 2)) for k in window)
    size = [max(1, k - 2 * p) + b for k, p, b in zip(window, padding, beyond, strict=True)]
    return (draw(st.sampled_from([1, 2, 17])), draw(st.integers(1, 2)), *size), window, stride, padding


def assert_sum_close(comp, ref, magnitude, terms):
    """Compare sums of ``terms`` products with those of the oracle; ``magnitude`` is the sum of their absolute values.

    Each of the ``terms`` roundings of a sum moves it by at most eps/2 of a partial sum, which ``magnitude`` bounds
    (Higham 2002, section 3.1), or by half a denormal; the oracle's own roundings are as many.
    """
    assert comp.shape == ref.shape
    unit = np.finfo(comp.dtype)
    excess = np.abs(comp - ref) - terms * (unit.eps * magnitude + unit.smallest_subnormal)
    assert not (excess > 0).any(), f"beyond the tolerance by {excess.max():.3g} at {np.argmax(excess)}"
    assert not np.isnan(excess).any()


def assert_same_bits(comp, ref):
    np.testing.assert_array_equal(comp.view(np.uint8), ref.view(np.uint8))
