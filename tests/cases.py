"""Shapes that are hard, arrays that are odd, and how close a sum has to be: what the kernels' tests share."""

import numpy as np
import pytest
from hypothesis import strategies as st

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
    "fifteen images": ((15, 2, 4, 5), (3, 2, 3), 1, (0, 1), 1, 1),
    "sixteen images": ((16, 2, 4, 5), (3, 2, 3), (2, 1), 0, 1, 1),
    "seventeen images": ((17, 2, 4, 5), (3, 3, 2), 1, 1, 1, 1),
    "thirty-three images": ((33, 1, 4, 5), (2, 3, 3), (1, 2), 1, 1, 1),
}

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


@st.composite
def convolutions(draw):
    """Draw a convolution whose filter fits: ((N, C, H, W), (F, KH, KW), stride, padding, dilation, groups)."""
    pairs = lambda least, most: draw(st.tuples(*[st.integers(least, most)] * 2))  # noqa: E731
    groups, channels, filters = (draw(st.integers(1, 3)) for _ in range(3))
    taps, stride, padding, dilation, beyond = pairs(1, 4), pairs(1, 4), pairs(0, 3), pairs(1, 3), pairs(0, 4)
    spans = [d * (k - 1) + 1 for k, d in zip(taps, dilation, strict=True)]
    size = [max(1, s - 2 * p) + b for s, p, b in zip(spans, padding, beyond, strict=True)]
    n = draw(st.sampled_from([1, 2, 17]))
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
