"""Kernels check no bounds: here every array lies between guard cells.

Outputs are surrounded by a sentinel that must still be there afterwards, and filled with it: what a kernel promises to
overwrite must not hold it any more.  Inputs are surrounded by NaN: a kernel that reads beside an input and uses what it
finds gives another result than on arrays that lie by themselves.
"""

from dataclasses import replace

import numpy as np
import pytest
from cases import CONVOLUTIONS, DEPTHWISE, POINTWISE, POOLINGS, WINOGRAD, each_float, geometry, parametrize

from fastconv import shapes
from fastconv.augment import Augment, Augmentation
from fastconv.layers import upsample
from fastconv.shapes import pair
from fastconv_kernels import (
    activation,
    adaptive,
    augment,
    batchnorm,
    bias,
    branches,
    channelwise,
    conv2d,
    depthwise,
    elementwise,
    groupnorm,
    lanes,
    linear,
    loss,
    many,
    optim,
    padding,
    pieces,
    pointwise,
    pool2d,
    resample,
    winograd,
    winograd_filter,
)
from fastconv_kernels.convolution import Geometry
from fastconv_kernels.many import Many
from fastconv_kernels.runtime import get_num_threads
from fastconv_kernels.tile import LANES

MARGIN = 1024
SENTINEL = -777
TILES = [(1, 1), (1, 3), (2, 3)]


class Guarded:
    """A copy of an array inside a larger one."""

    def __init__(self, array, fill):
        self.memory = np.full(array.size + 2 * MARGIN, fill, array.dtype)
        self.inside = self.memory[MARGIN : MARGIN + array.size].reshape(array.shape)
        self.inside[...] = array
        self.before = self.memory.copy()

    def outside_untouched(self):
        now = self.memory.copy()
        now[MARGIN : MARGIN + self.inside.size] = self.before[MARGIN : MARGIN + self.inside.size]
        return np.array_equal(now, self.before, equal_nan=now.dtype.kind == "f")

    def untouched(self):
        return np.array_equal(self.memory, self.before, equal_nan=self.memory.dtype.kind == "f")


def check(launch, *arguments, writes, overwrites=None, scratch=None):
    """Run a kernel on guarded copies of its arguments.

    Parameters
    ----------
    writes : tuple of int
        Which arguments it writes to.
    overwrites : tuple of int, optional
        Which of them it overwrites everywhere; all if None.
    scratch : int, optional
        Which argument is memory that it may use as it likes: what is in there beforehand must not matter.
    """
    overwrites = writes if overwrites is None else overwrites
    plain = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    guarded = list(arguments)
    for i, a in enumerate(arguments):
        if isinstance(a, np.ndarray):
            guarded[i] = Guarded(a, SENTINEL if i in writes else np.nan if a.dtype.kind == "f" else 0)
            if i in overwrites:
                guarded[i].inside[...] = SENTINEL
            if i == scratch:
                guarded[i].inside[...] = np.nan
    launch(*plain)
    launch(*(g.inside if isinstance(g, Guarded) else g for g in guarded))
    for i, g in enumerate(guarded):
        if not isinstance(g, Guarded):
            continue
        if i == scratch:
            assert g.outside_untouched(), f"argument {i}: written to outside"
        elif i in writes:
            assert g.outside_untouched(), f"argument {i}: written to outside"
            np.testing.assert_array_equal(g.inside, plain[i], err_msg=f"argument {i}: read outside")
        else:
            assert g.untouched(), f"argument {i} is an input and was written to"
        if i in overwrites:
            assert not (g.inside == SENTINEL).any(), f"argument {i}: not overwritten everywhere"


def drawn(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def blocks_of(n):
    return -(-n // LANES)


# ---------------------------------------------------------------------------------------------------- convolution


def images(case):
    """Return x's and y's shape in lane blocks."""
    (n, channels, *_), (filters, *_), *_ = case
    found = geometry(case)
    return (blocks_of(n), channels, *found.image, LANES), (blocks_of(n), filters, *found.output, LANES)


def tiles(rows, columns):
    return [(m, p) for m, p in TILES if m <= rows and p <= columns]


@each_float
@parametrize(CONVOLUTIONS)
def test_conv2d_forward(case, dtype):
    x, y = images(case)
    weight, groups = geometry(case).weight, geometry(case).groups
    filters, channels, *taps = weight
    lines = geometry(case).forward_lines()
    for m, p in tiles(filters // groups, y[3]):
        packed = np.zeros(conv2d.packed_shape(groups, filters // groups, channels, taps, m), dtype)
        check(conv2d.pack_forward, drawn(*weight, dtype=dtype), packed, writes=(1,))
        conv2d.pack_forward(drawn(*weight, dtype=dtype), packed)
        arguments = drawn(*x, dtype=dtype), packed, drawn(filters, dtype=dtype), np.zeros(y, dtype), *lines, True
        check(conv2d.forward(m, p), *arguments, writes=(3,))


@each_float
@parametrize(CONVOLUTIONS)
def test_conv2d_backward_filter(case, dtype):
    x, y = images(case)
    filters, channels, _, taps = weight = geometry(case).weight
    filters //= geometry(case).groups
    arguments = drawn(*y, dtype=dtype), drawn(*x, dtype=dtype), np.zeros((x[0], *weight), dtype)
    for m, p in tiles(filters, channels):
        check(conv2d.backward_filter(m, p), *arguments, *geometry(case).forward_lines(), writes=(2,))
    for m, p in tiles(filters, taps):
        check(conv2d.backward_filter_rows(m, p), *arguments, *geometry(case).forward_lines(), writes=(2,))


@each_float
@parametrize(CONVOLUTIONS)
def test_conv2d_backward_input(case, dtype):
    """All remainders together overwrite everything, each one its own pixels only."""
    x, y = images(case)
    weight, groups = geometry(case).weight, geometry(case).groups
    filters, channels, *_ = weight
    k, dy, no_bias = drawn(*weight, dtype=dtype), drawn(*y, dtype=dtype), np.zeros(channels * groups, dtype)
    written = np.zeros(x, int)
    for lines, taps in geometry(case).backward_input_lines():
        counts = [count for *_, count in taps]
        for m, p in tiles(channels, lines[1][-1]):
            packed = np.zeros(conv2d.packed_shape(groups, channels, filters // groups, counts, m), dtype)
            check(conv2d.pack_backward_input, k, packed, *taps, writes=(1,))
            conv2d.pack_backward_input(k, packed, *taps)
            run, dx = conv2d.forward(m, p), np.full(x, SENTINEL, dtype)
            check(run, dy, packed, no_bias, dx, *lines, False, writes=(3,), overwrites=())
        run(dy, packed, no_bias, dx, *lines, False)
        written += dx != SENTINEL
    np.testing.assert_array_equal(written, 1)


@each_float
@parametrize(WINOGRAD)
def test_winograd(case, dtype):
    """With room for one tile's patches, for more than fit the image evenly, and for all."""
    x, y = images(case)
    filters, channels = geometry(case).weight[:2]
    k, patches = drawn(*geometry(case).weight, dtype=dtype), winograd.patches(y[2:4])
    for m, p in tiles(filters, patches):
        packed = np.full((-(-filters // m), 36, channels + 1, m), SENTINEL, dtype)
        check(winograd.pack_filters, k, packed, False, writes=(1,), overwrites=())
        check(winograd.pack_filters, k.swapaxes(0, 1).copy(), packed, True, writes=(1,), overwrites=())
        winograd.pack_filters(k, packed, False)
        assert not (packed[:, :, :channels] == SENTINEL).any()
        packed[:, :, channels] = np.nan
        arguments = drawn(*x, dtype=dtype), packed, drawn(filters, dtype=dtype), np.zeros(y, dtype)
        for together in {p, min(p + 1, patches), patches}:
            scratch = np.zeros((get_num_threads(), 36, channels + m + 1, together, LANES), dtype)
            how = geometry(case).padding, True, scratch
            check(winograd.forward(m, p), *arguments, *how, writes=(3,), scratch=6)


@each_float
@parametrize(WINOGRAD)
def test_winograd_filter(case, dtype):
    """With room for one patch, for some, and for all; with one group of them, and more."""
    x, y = images(case)
    weight, patches = geometry(case).weight, winograd.patches(geometry(case).output)
    filters, channels = (-(-count // 4) for count in weight[:2])
    for together in {1, min(3, patches), patches}:
        elements = np.zeros((get_num_threads(), 12, filters + channels, together, 4 * LANES), dtype)
        for groups in (1, x[0] * -(-patches // together)):
            sums = np.zeros((groups, 36, filters, channels, LANES), dtype)
            arguments = drawn(*y, dtype=dtype), drawn(*x, dtype=dtype), sums, geometry(case).padding, elements
            check(winograd_filter.winograd_filter_products, *arguments, writes=(2,), scratch=4)
            given = drawn(*sums.shape, dtype=dtype)
            check(
                winograd_filter.winograd_filter_gradient,
                given,
                np.zeros((x[0], *weight), dtype),
                writes=(0, 1),
                overwrites=(1,),
            )


@each_float
@parametrize(POINTWISE)
def test_pointwise(case, dtype):
    (blocks, channels, *size, _), (_, filters, *_) = images(case)
    pixels = size[0] * size[1]
    x, dy = (drawn(blocks, rows, pixels, LANES, dtype=dtype) for rows in (channels, filters))
    for m, p in tiles(filters, pixels):
        packed = drawn(-(-filters // m), channels, m, dtype=dtype)
        for together in {p, min(p + 1, pixels), pixels}:
            arguments = x, packed, drawn(filters, dtype=dtype), np.zeros_like(dy), True, together
            check(pointwise.forward(m, p), *arguments, writes=(3,))


@each_float
@parametrize(DEPTHWISE)
def test_depthwise(case, dtype):
    x, y = images(case)
    channels, _, *taps = geometry(case).weight
    (*rows, _, _, _), (step, gap, left, *_) = geometry(case).forward_lines()
    k, b, dy = drawn(channels, *taps, dtype=dtype), drawn(channels, dtype=dtype), drawn(*y, dtype=dtype)
    sizes, scratch = (min(2, y[3]), taps[1], step, gap), np.zeros((get_num_threads(), *taps, LANES), dtype)
    arguments = drawn(*x, dtype=dtype), k, b, np.zeros(y, dtype), tuple(rows), left, True
    check(depthwise.forward(*sizes), *arguments, writes=(3,))
    arguments = dy, drawn(*x, dtype=dtype), np.zeros((x[0], channels, *taps), dtype), tuple(rows), left, scratch
    check(depthwise.backward_filter(*sizes), *arguments, writes=(2,), scratch=5)
    remainders = depthwise.remainders(geometry(case))
    run = depthwise.backward_input(min(2, x[3] // len(remainders[1])))
    check(run, dy, k, b, np.zeros(x, dtype), *remainders, True, writes=(3,))


@each_float
@pytest.mark.parametrize("cells", [(1, 1), (35, 16), (16, 250)], ids=str)
def test_gather(cells, dtype):
    source, target = cells
    places = np.random.default_rng(0).integers(-1, source, target).astype(np.int32)
    check(pieces.gather, drawn(3, source, dtype=dtype), places, np.zeros((3, target), dtype), writes=(2,))


@each_float
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "sides", [((0, 0), (0, 0)), ((3, 1), (0, 4)), ((-2, 1), (3, -1)), ((-1, -1), (-4, 0))], ids=str
)
def test_padding(sides, mode, dtype):
    rows, columns = (padding.sources(size, *side, mode) for size, side in zip((4, 5), sides, strict=True))
    x, y = np.zeros((2, 3, 4, 5, LANES), dtype), np.zeros((2, 3, len(rows), len(columns), LANES), dtype)
    check(padding.pad_forward, drawn(*x.shape, dtype=dtype), rows, columns, np.ones(1, dtype), y, writes=(4,))
    check(padding.pad_backward, drawn(*y.shape, dtype=dtype), rows, columns, x, writes=(3,))


# -------------------------------------------------------------------------------------------------------- pooling


@each_float
@parametrize(POOLINGS)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooling(case, ceil_mode, dtype):
    shape, window, stride, padding = case
    how = [pair(v, "", "") for v in (window, window if stride is None else stride, padding)]
    out = shapes.pool2d("", shape, *how, ceil_mode)
    x, y = ((blocks_of(s[0]), *s[1:], LANES) for s in (shape, out))
    images, dy, empty, dx = drawn(*x, dtype=dtype), drawn(*y, dtype=dtype), np.zeros(y, dtype), np.zeros(x, dtype)
    forward = pool2d.max_pool2d_forward(pool2d.windows_together(x[3], y[3], *(pair[1] for pair in how)))
    check(forward, images, empty, empty, *how, writes=(1, 2))
    check(forward, images, empty, empty[:0], *how, writes=(1,))
    place = empty.copy()
    forward(images, empty.copy(), place, *how)
    no_shares, shares = np.zeros((0, 0), dtype), np.zeros(x[:2], dtype)
    check(pool2d.max_pool2d_backward, dy, place, empty[:0], dx, *how, no_shares, writes=(3,))
    check(pool2d.max_pool2d_backward, dy, place, drawn(*y, dtype=dtype), dx, *how, shares, writes=(3, 7))
    for count_include_pad in (False, True):
        check(pool2d.avg_pool2d_forward, images, empty, *how, count_include_pad, writes=(1,))
        check(pool2d.avg_pool2d_backward, dy, dx, *how, count_include_pad, writes=(1,))


SIZES = [((1, 1), (1, 1)), ((5, 3), (3, 2)), ((2, 3), (5, 3)), ((4, 7), (1, 1))]


@each_float
@pytest.mark.parametrize(("size", "out"), SIZES, ids=str)
def test_adaptive_pooling(size, out, dtype):
    x, dx = drawn(2, 3, *size, LANES, dtype=dtype), np.zeros((2, 3, *size, LANES), dtype)
    dy, y = drawn(2, 3, *out, LANES, dtype=dtype), np.zeros((2, 3, *out, LANES), dtype)
    check(adaptive.adaptive_avg_pool2d_forward, x, y, writes=(1,))
    check(adaptive.adaptive_avg_pool2d_backward, dy, dx, writes=(1,))
    check(adaptive.adaptive_max_pool2d_forward, x, y, y[:0], writes=(1,))
    place = y.copy()
    check(adaptive.adaptive_max_pool2d_forward, x, y, place, writes=(1, 2))
    adaptive.adaptive_max_pool2d_forward(x, y, place)
    check(adaptive.adaptive_max_pool2d_backward, dy, place, dx, writes=(2,))


@each_float
@pytest.mark.parametrize(("size", "out"), SIZES, ids=str)
def test_resampling(size, out, dtype):
    x, y = drawn(2, 3, *size, LANES, dtype=dtype), np.zeros((2, 3, *out, LANES), dtype)
    for make in (upsample.nearest, lambda *how: upsample.linear(*how, False, np.dtype(dtype))):
        matrices = [make(*sizes, None) for sizes in zip(size, out, strict=True)]
        forward = [part.astype(dtype) if part.dtype.kind == "f" else part for taps in matrices for part in taps]
        check(resample.resample, x, *forward, y, writes=(7,))


# --------------------------------------------------------------------------------------------------------- linear


@each_float
@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (15, 3), (16, 2), (17, 5), (33, 4), (49, 7), (64, 1)])
def test_linear(blocks, inputs, outputs, dtype):
    x, dy = drawn(blocks, inputs, LANES, dtype=dtype), drawn(blocks, outputs, LANES, dtype=dtype)
    w, b = drawn(outputs, inputs, dtype=dtype), drawn(outputs, dtype=dtype)
    for m, p in tiles(outputs, blocks):
        check(linear.forward(m, p), x, w, b, np.zeros_like(dy), True, writes=(3,))
    for m, p in tiles(inputs, blocks):
        check(linear.backward_input(m, p), dy, w, np.zeros_like(x), writes=(2,))
    columns = -(-inputs // LANES)
    transposed = np.zeros((blocks * LANES, columns * LANES), dtype)
    check(linear.transpose_lanes, x, transposed, writes=(1,))
    linear.transpose_lanes(x, transposed)
    for m, p in tiles(outputs, columns):
        check(linear.backward_weight(m, p), dy, transposed, len(transposed), np.zeros_like(w), writes=(3,))


# --------------------------------------------------------------------------------------------------- all the others


@each_float
@pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("size", [1, 9, lanes.STRIP + 1])
def test_packing(n, size, dtype):
    index = np.arange(n)[::-1].copy()
    x = np.zeros((blocks_of(n), 2, size, LANES), dtype)
    images, pixels = drawn(n, 2, size, dtype=dtype), np.arange(n * 2 * size, dtype=np.uint8).reshape(n, 2, size)
    check(lanes.pack, images, index, x, writes=(2,))
    squares = np.zeros((get_num_threads(), LANES, LANES), dtype)
    check(lanes.pack_pixels, pixels, index, drawn(2, 256, dtype=dtype), x, squares, writes=(3,), scratch=4)
    check(lanes.unpack, drawn(*x.shape, dtype=dtype), images, writes=(1,))


@each_float
@pytest.mark.parametrize("n", [1, 17])
@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 5, 3), (3, 4, 17)], ids=str)
def test_augmentation(n, shape, dtype):
    options = Augment(rotate=180, scale=(0.1, 10), elastic=(9, 1), crop=9, flip=True, cutout=3, contrast=1, mixup=1)
    if min(shape[1:]) > 1:
        options = replace(options, crop=1, padding_mode="reflect")
    run = Augmentation(options, shape, np.arange(n), 0)
    index, key, partner = np.arange(n)[::-1].copy(), np.uint64(7), np.zeros(n, np.int64)
    table = np.zeros((2 * n, augment.SQUARES + 2))
    check(augment.draw, key, index, run.pool, run.size, run.ranges, 1.0, table, partner, writes=(6, 7), overwrites=(6,))
    augment.draw(key, index, run.pool, run.size, run.ranges, 1.0, table, partner)
    (height, width), border, bend = run.size, options.border, run.bend(np.dtype(dtype))
    cells = 2 * bend.rows * sum(bend.across.shape) + 17 * (height * width + LANES)
    scratch = np.zeros((get_num_threads(), cells + (height + 2 * border + 3) * (width + 2 * border + 3)), dtype)
    x = np.zeros((blocks_of(n), shape[0], height * width, LANES), dtype)
    pixels = np.arange(n * x[0, ..., 0].size, dtype=np.uint8).reshape(n, shape[0], -1)
    chosen = index, partner, drawn(shape[0], 256, dtype=dtype), table, key, run.size, border, 5, 3
    check(augment.pack_augmented, pixels, *chosen, *bend, x, scratch, writes=(14,), scratch=15)


@each_float
@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (3, 40)], ids=str)
def test_element_wise(shape, dtype):
    x, y = drawn(*shape, LANES, dtype=dtype), np.zeros((*shape, LANES), dtype)
    check(activation.relu_forward, x, y, writes=(1,))
    check(activation.relu_backward, x, abs(x) - 0.5, y, writes=(2,))
    check(activation.dropout, x, y, np.uint64(5), np.uint64(2**63), 2.0, writes=(1,))
    channels = x.reshape(shape[0], 1, shape[1], LANES), y.reshape(shape[0], 1, shape[1], LANES)
    check(activation.dropout_channels, *channels, np.uint64(5), np.uint64(2**63), 2.0, writes=(1,))


@each_float
@pytest.mark.parametrize("n", [1, 16, 17, 33])
def test_curves(n, dtype):
    x = drawn(blocks_of(n), 3, 2 * LANES, dtype=dtype)
    flat = x.reshape(len(x), -1)
    check(elementwise.forward(elementwise.gelu), flat, 0.0, np.zeros_like(flat), writes=(2,))
    check(elementwise.backward(elementwise.gelu_slope), flat, flat, 0.0, n, np.zeros_like(flat), writes=(4,))
    for slopes in (1, 3):
        weight, shares = drawn(slopes, dtype=dtype), np.zeros((len(x), slopes), dtype)
        check(elementwise.prelu_forward, x, weight, np.zeros_like(x), writes=(2,))
        check(elementwise.prelu_backward, x + 1, x, weight, n, np.zeros_like(x), shares, writes=(4, 5))


@each_float
@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (3, branches.STRIP + 1)], ids=str)
def test_branches(shape, dtype):
    a, b, y = drawn(*shape, LANES, dtype=dtype), drawn(*shape, LANES, dtype=dtype), np.zeros((*shape, LANES), dtype)
    for relu in (False, True):
        check(branches.add, a, b, y, relu, writes=(2,))
        check(branches.copy_gated, a, b, relu, y, writes=(0, 3), overwrites=(3,))
    whole = drawn(2, 5, shape[1], LANES, dtype=dtype)
    check(branches.copy_channels, whole, 1, np.zeros((2, 3, shape[1], LANES), dtype), 0, 3, writes=(2,))
    check(branches.copy_channels, whole[:, :2].copy(), 0, whole, 3, 2, writes=(2,), overwrites=())


@each_float
@pytest.mark.parametrize(("n", "channels", "pixels"), [(1, 1, 1), (15, 2, 3), (33, 3, 4)])
def test_batch_norm(n, channels, pixels, dtype):
    x, dy = (drawn(blocks_of(n), channels, pixels, LANES, dtype=dtype) for _ in range(2))
    line = [drawn(channels, dtype=dtype) for _ in range(4)]
    found = [np.zeros(channels), np.zeros(channels), np.zeros(channels, dtype), np.zeros(channels, dtype)]
    y = np.zeros_like(x)
    for addend in (x[:0], drawn(*x.shape, dtype=dtype)):
        how = *line[:2], 1e-5, addend, True
        check(batchnorm.batch_norm_forward, x, n, *how, *found, y, writes=(7, 8, 9, 10, 11))
        check(batchnorm.scale_and_shift, x, *line[:2], addend, True, y, writes=(5,))
    sums = np.zeros(channels, dtype), np.zeros(channels, dtype)
    how = *found[:2], 1e-5, *line[:2], True, *sums
    check(batchnorm.batch_norm_backward, dy, x, x[:0], n, *how, y, writes=(10, 11, 12))
    check(batchnorm.batch_norm_backward, dy, x, y, n, *how, y.copy(), writes=(0, 10, 11, 12), overwrites=(10, 11, 12))


@each_float
@pytest.mark.parametrize(("n", "stride"), [(1, 1), (33, 1), (17, 2)])
def test_channelwise(n, stride, dtype):
    channels, size, out = 2, (5, 4), (5, 4) if stride == 1 else (3, 2)
    how = (stride, stride), (1, 1), (1, 1), channels, np.dtype(dtype)
    kernels = channelwise.Channelwise(Geometry((channels, 1, 3, 3), size, out, *how))
    x, d, dy = (drawn(blocks_of(n), channels, *each, LANES, dtype=dtype) for each in (size, out, out))
    k, shares = drawn(channels, 1, 3, 3, dtype=dtype), drawn(len(x), channels, 1, 3, 3, dtype=dtype)
    line = [drawn(channels, dtype=dtype) for _ in range(4)]
    found = [np.zeros(channels), np.zeros(channels), np.zeros(channels, dtype), np.zeros(channels, dtype)] * 2

    def forward(x, k, gamma, beta, d, y, *found):
        first, second = ((gamma, beta, 1e-5, True, *found[start : start + 4]) for start in (0, 4))
        kernels.forward(x, n, first, k, second, d, y)

    def backward(dy, d, x, k, mean, var, scale, shift, shares, dx, *sums):
        first, second = ((mean, var, 1e-5, scale, shift, True, *sums[start : start + 2]) for start in (0, 2))
        kernels.backward(dy, d, x, n, first, k, second, shares, dx)

    found = [each.copy() for each in found]
    check(forward, x, k, *line[:2], d, dy.copy(), *found, writes=tuple(range(4, 14)))
    sums = [np.zeros(channels, dtype) for _ in range(4)]
    check(backward, dy, d, x, k, *found[:2], *line[:2], shares, x.copy(), *sums, writes=tuple(range(8, 14)))


@each_float
@pytest.mark.parametrize(("n", "channels", "groups", "pixels"), [(1, 1, 1, 1), (15, 4, 2, 3), (33, 3, 3, 2)])
def test_group_norm(n, channels, groups, pixels, dtype):
    x, dy = (drawn(blocks_of(n), channels, pixels, LANES, dtype=dtype) for _ in range(2))
    gamma, beta, shares = (drawn(*shape, dtype=dtype) for shape in ((channels,), (channels,), (len(x), channels)))
    statistics = [drawn(len(x), groups, LANES, dtype=dtype) for _ in range(2)]
    check(groupnorm.group_norm_forward, x, gamma, beta, 0.1, np.zeros_like(x), *statistics, writes=(4, 5, 6))
    arguments = dy, x, n, gamma, *statistics, shares, shares.copy()
    check(groupnorm.group_norm_backward, *arguments, writes=(0, 6, 7), overwrites=(6, 7))


@each_float
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (1, 10, 2)], ids=str)
def test_softmax_and_bias(shape, dtype):
    x, y = drawn(*shape, LANES, dtype=dtype), np.zeros((*shape, LANES), dtype)
    flat, out = (array.reshape(*shape[:2], -1) for array in (x, y))
    room = np.zeros((get_num_threads(), 2 * loss.STRIP * LANES))
    for take_log in (False, True):
        check(loss.softmax_forward, flat, out, take_log, room, writes=(1,), scratch=3)
    check(loss.softmax_backward, flat, flat, out, room, writes=(2,), scratch=3)
    check(loss.log_softmax_backward, -abs(flat), -abs(flat), 16 * shape[0] - 3, out, room, writes=(3,), scratch=4)
    for relu in (False, True):
        shares = np.zeros(shape[:2], dtype)
        check(bias.bias_backward, x, x[::-1].copy(), relu, shares, writes=(0, 3), overwrites=(3,))


@each_float
@pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("classes", [1, 3])
def test_losses(n, classes, dtype):
    z = drawn(blocks_of(n), classes, LANES, dtype=dtype)
    labels, losses, hits = np.arange(n) % classes, np.zeros(len(z)), np.zeros(len(z), np.int64)
    weights, dz = np.ones(classes), np.zeros_like(z)
    check(loss.cross_entropy, z, labels, 0.1, weights, float(n), dz, losses, hits, writes=(5, 6, 7))
    check(loss.soft_cross_entropy, z, abs(z), n, 0.1, weights, dz, losses, hits, writes=(5, 6, 7))
    for term in (loss.squared, loss.absolute, loss.bent, loss.binary):
        check(loss.mean_of(term), z, z + 1, weights, n, dz, losses, writes=(4, 5))


@each_float
@pytest.mark.parametrize("size", [1, many.CHUNK - 1, many.CHUNK, many.CHUNK + 1])
def test_sums_and_optimisers(size, dtype):
    value, grad, mean, square = abs(drawn(4, size, dtype=dtype))
    shares = drawn(3, size, dtype=dtype)
    check(lambda *group: bias.sum_shares(*Many([group]).table, 3), shares, value, writes=(1,))
    decays = np.array([0.01])
    how = 0.1, 0.9, True, decays, 0.5
    check(lambda *group: optim.sgd(*Many([group]).table, *how), mean, grad, value, writes=(0, 2), overwrites=())
    how = 0.1, 0.9, 0.99, 1e-8, decays, True, 0.1, 0.1, 0.5
    group = mean, square, grad, value
    check(lambda *group: optim.adam(*Many([group]).table, *how), *group, writes=(0, 1, 3), overwrites=())
    group = mean, value.copy(), square + mean**2, grad, value
    for centered in (False, True):
        how = 0.1, 0.9, 1e-8, 0.9, centered, decays, 0.5
        writes = (0, 1, 2, 4) if centered else (1, 2, 4)
        check(lambda *group: optim.rmsprop(*Many([group]).table, *how), *group, writes=writes, overwrites=())  # noqa: B023
    how = 0.1, 0.9, 0.99, decays, 0.5
    check(lambda *group: optim.lion(*Many([group]).table, *how), mean, grad, value, writes=(0, 2), overwrites=())
    totals = np.zeros(-(-size // many.CHUNK))
    launch = lambda *group: optim.squares_of_gradients(*Many([group[:2]]).table, group[2])  # noqa: E731
    check(launch, grad, value, totals, writes=(2,))
    check(lambda *group: optim.average(*Many([group]).table, 0.1), mean, value, writes=(0,), overwrites=())
