"""Sliding-window kernels for 2-D convolution on lane blocks: forward, and the gradients to input, filters and bias.

Every array of images holds lane blocks: ``x[b, c, h, w, lane]`` is one pixel of sixteen images.  The loops are the
textbook's; they are fast because the innermost statement works on an M x P tile of lane vectors at once, M filters by P
pixels held in registers, each loaded pixel used M times and each weight P times.  Nothing here checks a shape or
knows what a layer is.

Symbols
-------
B            lane blocks in the batch
C, F         input channels and filters of one group;  G  groups
H, W         height and width of the input, without padding
KH, KW       height and width of one filter
OH, OW       height and width of the output
sh, sw       stride;  dh, dw  dilation;  ph, pw  padding above and to the left

Mathematics
-----------
"Convolution" is cross-correlation: the filter is not flipped.  Equation numbers are those of docs/backprop.md. ::

    y[n,f,i,j]  = b[f] + sum_{c,u,v} x[n,c, i*sh + u*dh - ph, j*sw + v*dw - pw] * k[f,c,u,v]        (1)
    dk[f,c,u,v] = sum_{n,i,j} dy[n,f,i,j] * x[n,c, i*sh + u*dh - ph, j*sw + v*dw - pw]              (2)
    dx[n,c,p,q] = sum of dy[n,f,i,j] * k[f,c,u,v] over every f and every
                  i,j,u,v with i*sh + u*dh - ph == p and j*sw + v*dw - pw == q                      (3)

Pixels outside the image count as zero.  No padded copy is made: rows outside are left out by the loops' bounds, and
columns outside are read as zeros by ``padded_vectors``.  Measured, this is as fast as reading a padded copy.

One kernel serves (1) and (3), because (3) is (1) again, on dy, with the filters' two channel axes exchanged and the
filters flipped: once at stride 1, and once for each remainder of p and q modulo the stride otherwise (6).  What
differs is where each output row or column takes its input from, and that is a straight line on each axis::

    output index   origin + spacing * i       for i in range(size)
    input index    offset + stride * i + dilation * u
"""

from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np

from fastconv_kernels import memory
from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import (
    outer_fma,
    padded_vectors,
    rectified,
    spread,
    store,
    store_lane_sums,
    vectors,
    weights,
    zeros,
)
from fastconv_kernels.tilesize import VECTOR, choose, cost

# -------------------------------------------------------------------------------- geometry: plain integers, no arrays


class Geometry(NamedTuple):
    """A convolution's sizes, checked."""

    weight: tuple[int, ...]
    """[G*F, C, KH, KW], the filters' shape"""
    image: tuple[int, ...]
    """(H, W)"""
    output: tuple[int, ...]
    """(OH, OW)"""
    stride: tuple[int, int]
    padding: tuple[int, int]
    """(top, left); what is below and to the right follows from ``output``"""
    dilation: tuple[int, int]
    groups: int
    dtype: np.dtype

    def forward_lines(self):
        """Return the line of equation (1) along each axis."""
        axes = zip(self.output, self.stride, self.padding, self.dilation, strict=True)
        return [forward_line(*axis) for axis in axes]

    def backward_input_lines(self):
        """Yield the two lines and the two axes' taps of equation (6), for each pair of remainders."""
        axes = zip(self.image, self.weight[2:], self.stride, self.padding, self.dilation, strict=True)
        row_lines, column_lines = (backward_input_lines(*axis) for axis in axes)
        for rows, row_taps in row_lines:
            for columns, column_taps in column_lines:
                yield (rows, columns), (row_taps, column_taps)


def forward_line(size, stride, padding, dilation):
    """Return the line of equation (1) along one axis with ``size`` outputs.

    Returns
    -------
    (stride, dilation, offset, origin, spacing, size) : six ints
        Where the outputs along the axis lie, and where each takes its input from, as in the module's docstring.
    """
    return stride, dilation, -padding, 0, 1, size


def backward_input_lines(size, taps, stride, padding, dilation):
    """Return equation (6) along one axis: for each remainder modulo the stride, its line and its taps.

    Parameters
    ----------
    size, taps : int
        The input's size and the filter's along this axis.
    stride, padding, dilation : int

    Returns
    -------
    list of (line, (first, step, count))
        An input index p gets a share through tap u only if p + padding - u*dilation divides by the stride.  For all
        p = remainder + stride*i these are the same taps: ``first``, ``first - step``, ... ``count`` of them, in the
        flipped order in which their positions in dy grow.
    """
    lines = []
    common = gcd(stride, dilation)
    for remainder in range(min(stride, size)):
        found = [u for u in range(taps) if (remainder + padding - u * dilation) % stride == 0]
        last = found[-1] if found else 0
        offset = (remainder + padding - last * dilation) // stride
        count = -(-(size - remainder) // stride)
        line = 1, dilation // common, offset, remainder, stride, count
        lines.append((line, (last, stride // common, len(found))))
    return lines


# ------------------------------------------------------------------------------------------- filters, packed for tiles
# Serial: packing reads each filter once, the convolution many times.


def packed_shape(groups, filters, channels, taps, m):
    """Shape of filters packed for tiles of ``m``: [G, ceil(F/m), C, KH, KW, m]."""
    return (groups, -(-filters // m), channels, *taps, m)


@kernel(parallel=False)
def pack_forward(k, packed):
    """Lay M filters side by side: packed[g, t, c, u, v, m] = k[f, c, u, v] with f the m-th filter of tile t of group g.

    Parameters
    ----------
    k : float[G*F, C, KH, KW]
    packed : float[G, ceil(F/M), C, KH, KW, M]
        Overwritten.  The last tile of a group is moved back to end at the group's last filter.
    """
    G, T, C, KH, KW, M = packed.shape
    F = k.shape[0] // G
    for g in range(G):
        for t in range(T):
            f = g * F + min(t * M, F - M)
            for c in range(C):
                for u in range(KH):
                    for v in range(KW):
                        for m in range(M):
                            packed[g, t, c, u, v, m] = k[f + m, c, u, v]


@kernel(parallel=False)
def pack_backward_input(k, packed, rows, columns):
    """Lay M input channels side by side, filters flipped: equation (6)'s filters for one pair of remainders.

    Parameters
    ----------
    k : float[G*F, C, KH, KW]
    packed : float[G, ceil(C/M), F, KH', KW', M]
        Overwritten.
    rows, columns : (int, int, int)
        first, step and count of the taps along each axis: KH' and KW' are the counts.
    """
    G, T, F, _, _, M = packed.shape
    C = k.shape[1]
    for g in range(G):
        for t in range(T):
            c = min(t * M, C - M)
            for f in range(F):
                for u in range(rows[2]):
                    for v in range(columns[2]):
                        tap = rows[0] - u * rows[1], columns[0] - v * columns[1]
                        for m in range(M):
                            packed[g, t, f, u, v, m] = k[g * F + f, c + m, tap[0], tap[1]]


# ------------------------------------------------------------------------------------------------------------- kernels


@lru_cache
def forward(M, P):
    """Make the kernel of equations (1) and (6) for tiles of M filters by P pixels; F >= M and OW >= P."""

    @kernel()
    def conv2d_forward(crew, x, packed, bias, y, rows, columns, relu):
        """Write equation (1), and max(0, that) if ``relu``, into the rows and columns of ``y`` that the lines name.

        Parameters
        ----------
        x : float[B, G*C, H, W, 16]
        packed : float[G, ceil(F/M), C, KH, KW, M]
            Filters from ``pack_forward`` or ``pack_backward_input``.
        bias : float[G*F]
        y : float[B, G*F, H', W', 16]
            Overwritten at the outputs of the two lines.
        rows, columns : six ints each
            The line along each axis.
        relu : bool

        Notes
        -----
        Race-free: task (b, i) is the only writer of one row of every channel of ``y[b]``.  Every output is one lane of
        one accumulator, summed over c, u, v in that order, whatever M, P and the number of threads.  The last tile of
        a row, or of a group's filters, is moved back to fit: what it computes twice has the same bits.
        """
        B, _, H, W, _ = x.shape
        G, T, C, KH, KW, _ = packed.shape
        F = y.shape[1] // G
        sh, dh, oh, first_row, row_spacing, OH = rows
        sw, dw, ow, first_column, column_spacing, OW = columns
        for task in prange(crew, B * OH):
            b, i = task // OH, task % OH
            image, response = x[b], y[b]
            top = i * sh + oh
            u_from, u_to = max(0, -(top // dh)), min(KH, -((top - H) // dh))
            for g in range(G):
                for t in range(T):
                    f = g * F + min(t * M, F - M)
                    for start in range(0, OW, P):
                        j = min(start, OW - P)
                        left = j * sw + ow
                        # Taps that no pixel of the tile can see are left out; those that some can, read zeros beside.
                        v_from, v_to = max(0, -((left + (P - 1) * sw) // dw)), min(KW, -((left - W) // dw))
                        acc = spread(bias, f, M, P)
                        for c in range(C):
                            for u in range(u_from, u_to):
                                for v in range(v_from, v_to):
                                    acc = outer_fma(
                                        acc,
                                        weights(packed, (g, t, c, u, v, 0), 5, M),
                                        padded_vectors(image, (g * C + c, top + u * dh, left + v * dw), 2, sw, P),
                                    )
                        if relu:
                            acc = rectified(acc)
                        place = (f, first_row + i * row_spacing, first_column + j * column_spacing)
                        store(acc, response, place, 0, M, 2, column_spacing, P)

    return conv2d_forward


@lru_cache
def backward_filter(M, P):
    """Make the kernel of equation (2) for tiles of M filters by P channels; F >= M and C >= P."""

    @kernel()
    def conv2d_backward_filter(crew, dy, x, shares, rows, columns):
        """Write each block's share of equation (2); ``bias.sum_shares`` adds them in block order.

        Parameters
        ----------
        dy : float[B, G*F, OH, OW, 16]
            Zero in the lanes that hold no image.
        x : float[B, G*C, H, W, 16]
            The forward pass's input.
        shares : float[B, G*F, C, KH, KW]
            Overwritten.
        rows, columns : six ints each
            The forward pass's line along each axis.

        Notes
        -----
        Race-free: task (b, filters, channels) is the only writer of its part of ``shares[b]``, or writes the same bits
        as its neighbour where the last tile is moved back to fit.  A share is summed over i and j in that order in
        sixteen lanes, which are then added in a fixed tree.
        """
        B, _, OH, OW, _ = dy.shape
        _, FG, C, KH, KW = shares.shape
        H, W = x.shape[2:4]
        G = x.shape[1] // C
        F = FG // G
        T, D = -(-F // M), -(-C // P)
        sh, dh, oh = rows[:3]
        sw, dw, ow = columns[:3]
        for task in prange(crew, B * G * T * D):
            b, g, t, d = task // (G * T * D), task // (T * D) % G, task // D % T, task % D
            image, response, share = x[b], dy[b], shares[b]
            f, c = g * F + min(t * M, F - M), min(d * P, C - P)
            for u in range(KH):
                top = u * dh + oh
                i_from, i_to = max(0, -(top // sh)), min(OH, -((top - H) // sh))
                for v in range(KW):
                    left = v * dw + ow
                    j_from, j_to = max(0, -(left // sw)), min(OW, -((left - W) // sw))
                    acc = zeros(x, M, P)
                    for i in range(i_from, i_to):
                        for j in range(j_from, j_to):
                            acc = outer_fma(
                                acc,
                                vectors(response, (f, i, j), 0, 1, M),
                                vectors(image, (g * C + c, top + i * sh, left + j * sw), 0, 1, P),
                            )
                    store_lane_sums(acc, share, (f, c, u, v), 0, M, 1, P)

    return conv2d_backward_filter


@lru_cache
def backward_filter_rows(M, P):
    """Make the kernel of equation (2) for tiles of M filters by P taps of a row: for few channels; KW >= P."""

    @kernel()
    def conv2d_backward_filter_rows(crew, dy, x, shares, rows, columns):
        """Do what ``conv2d_backward_filter`` does, with the same arguments and the same bits.

        Notes
        -----
        Race-free: task (b, filters, c) is the only writer of its part of ``shares[b]``, or writes the same bits as its
        neighbour.
        """
        B, _, OH, OW, _ = dy.shape
        _, FG, C, KH, KW = shares.shape
        H, W = x.shape[2:4]
        G = x.shape[1] // C
        F = FG // G
        T = -(-F // M)
        sh, dh, oh = rows[:3]
        sw, dw, ow = columns[:3]
        for task in prange(crew, B * G * T * C):
            b, g, t, c = task // (G * T * C), task // (T * C) % G, task // C % T, task % C
            image, response, share = x[b], dy[b], shares[b]
            f = g * F + min(t * M, F - M)
            for u in range(KH):
                top = u * dh + oh
                i_from, i_to = max(0, -(top // sh)), min(OH, -((top - H) // sh))
                for start in range(0, KW, P):
                    v = min(start, KW - P)
                    left = v * dw + ow
                    j_from, j_to = max(0, -((left + (P - 1) * dw) // sw)), min(OW, -((left - W) // sw))
                    acc = zeros(x, M, P)
                    for i in range(i_from, i_to):
                        for j in range(j_from, j_to):
                            acc = outer_fma(
                                acc,
                                vectors(response, (f, i, j), 0, 1, M),
                                padded_vectors(image, (g * C + c, top + i * sh, left + j * sw), 2, dw, P),
                            )
                    store_lane_sums(acc, share, (f, c, u, v), 0, M, 3, P)

    return conv2d_backward_filter_rows


# ------------------------------------------------------------------------ tiles chosen, filters packed, kernels called


class Forward:
    """Equation (1) for one geometry: chooses the tile, holds the packed filters, calls the kernel."""

    MULTIPLE = 2
    """Of the sides of pieces, pieces.py: most pooling halves them."""

    def __init__(self, geometry):
        filters, channels, *taps = geometry.weight
        filters //= geometry.groups
        m, p = choose(filters, geometry.output[1])
        self._kernel = forward(m, p)
        self._packed = memory.empty(packed_shape(geometry.groups, filters, channels, taps, m), geometry.dtype)
        self._lines = geometry.forward_lines()

    def __call__(self, x, k, bias, y, relu):
        """Write equation (1), and max(0, that) if ``relu``, into ``y``; shapes as in the kernel."""
        pack_forward(k, self._packed)
        self._kernel(x, self._packed, bias, y, *self._lines, relu)


class BackwardInput:
    """Equation (3) for one geometry, as one forward convolution of dy for each pair of remainders (6)."""

    MULTIPLE = 2
    """Of the sides of pieces, pieces.py: most pooling halves them."""

    def __init__(self, geometry):
        filters, channels, *_ = geometry.weight
        filters //= geometry.groups
        self._no_bias = np.zeros(channels * geometry.groups, geometry.dtype)
        self._parts = []
        for lines, taps in geometry.backward_input_lines():
            m, p = choose(channels, lines[1][-1])
            shape = packed_shape(geometry.groups, channels, filters, (taps[0][2], taps[1][2]), m)
            self._parts.append((forward(m, p), memory.empty(shape, geometry.dtype), lines, taps))

    def __call__(self, dy, k, dx, bias=None, relu=False):
        """Write equation (3), plus ``bias``, and max(0, that) if ``relu``, into ``dx``; all of it.

        Where no output looks, the gradient is zero.
        """
        bias = self._no_bias if bias is None else bias
        for run, packed, lines, taps in self._parts:
            pack_backward_input(k, packed, *taps)
            run(dy, packed, bias, dx, *lines, relu)


class BackwardFilter:
    """Equation (2) for one geometry: chooses the tile, over channels or over the taps of a row, calls the kernel."""

    def __init__(self, geometry):
        filters, channels, _, taps = geometry.weight
        filters //= geometry.groups
        by_channels, by_taps = choose(filters, channels, VECTOR), choose(filters, taps, VECTOR)
        self._lines = geometry.forward_lines()
        if cost(by_channels, filters, channels, VECTOR) * taps < cost(by_taps, filters, taps, VECTOR) * channels:
            self._kernel = backward_filter(*by_channels)
        else:
            self._kernel = backward_filter_rows(*by_taps)

    def __call__(self, dy, x, shares):
        """Write each block's share of equation (2) into ``shares``; shapes as in the kernel."""
        self._kernel(dy, x, shares, *self._lines)
