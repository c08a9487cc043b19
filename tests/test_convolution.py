"""Which kernels compute which convolution, and that each file of them does what conv2d.py would do.

Through the layer, against the oracle and against gradients: test_conv2d.py and the files beside it.
"""

import numpy as np
import pytest
from cases import (
    CONVOLUTIONS,
    DEPTHWISE,
    POINTWISE,
    WINOGRAD,
    WINOGRAD_FILTER_PAYS,
    WINOGRAD_PAYS,
    assert_same_bits,
    each_float,
    geometry,
    parametrize,
)

from fastconv import blocks, reference
from fastconv_kernels import conv2d, convolution, depthwise, memory, pieces, pointwise, winograd, winograd_filter

# --------------------------------------------------------------------------------------------------------- the choice

DIRECT, POINT, DEPTH = (conv2d,) * 3, (pointwise,) * 3, (depthwise,) * 3
WINOGRADS, ONLY_FILTERS = (winograd, winograd, winograd_filter), (conv2d, conv2d, winograd_filter)
FAST, ONLY_FORWARD, ONLY_BACK = (winograd, winograd, conv2d), (winograd, conv2d, conv2d), (conv2d, winograd, conv2d)


@pytest.mark.parametrize(
    ("case", "modules"),
    [
        (((1, 1, 28, 28), (6, 5, 5), 1, 2, 1, 1), DIRECT),
        (((1, 6, 14, 14), (16, 5, 5), 1, 0, 1, 1), DIRECT),
        # 3x3 at stride 1: from seven channels on if patches cover the size, later where much of one is thrown away.
        (((1, 64, 56, 56), (64, 3, 3), 1, 1, 1, 1), WINOGRADS),
        (((1, 7, 4, 4), (7, 3, 3), 1, 1, 1, 1), FAST),
        (((1, 6, 4, 4), (6, 3, 3), 1, 1, 1, 1), DIRECT),
        (((1, 64, 2, 2), (64, 3, 3), 1, 1, 1, 1), DIRECT),
        (((1, 3, 224, 224), (64, 3, 3), 1, 1, 1, 1), DIRECT),
        (((1, 10, 7, 7), (10, 3, 3), 1, 1, 1, 1), FAST),
        (((1, 9, 7, 7), (9, 3, 3), 1, 1, 1, 1), DIRECT),
        (((1, 20, 7, 7), (20, 3, 3), 1, 0, 1, 1), ONLY_BACK),
        (((1, 20, 5, 5), (20, 3, 3), 1, 2, 1, 1), ONLY_FORWARD),
        (((1, 512, 1, 1), (512, 3, 3), 1, 1, 1, 1), DIRECT),
        (((1, 512, 3, 3), (512, 3, 3), 1, 1, 1, 1), FAST),
        (((1, 16, 3, 3), (16, 3, 3), 1, 1, 1, 1), DIRECT),
        (((1, 512, 5, 4), (512, 3, 3), 1, 1, 1, 1), WINOGRADS),
        (((1, 512, 4, 1), (512, 3, 3), 1, (2, 1), 1, 1), DIRECT),
        (((1, 64, 8, 8), (64, 3, 3), 1, 3, 1, 1), DIRECT),
        (((1, 64, 8, 8), (64, 3, 3), 1, (0, 3), 1, 1), ONLY_FILTERS),
        (((1, 64, 8, 8), (64, 3, 3), 2, 1, 1, 1), DIRECT),
        (((1, 64, 8, 8), (64, 3, 3), (1, 2), 1, 1, 1), DIRECT),
        (((1, 64, 8, 8), (64, 3, 3), 1, 1, 2, 1), DIRECT),
        (((1, 64, 8, 8), (64, 3, 3), 1, 1, 1, 2), DIRECT),
        (((1, 64, 8, 8), (64, 3, 5), 1, 1, 1, 1), DIRECT),
        (((1, 64, 8, 8), (64, 1, 3), 1, 1, 1, 1), DIRECT),
        # The gradient to the filters, where it has been measured; taps that see no pixel cost the direct sum nothing.
        (((1, 18, 32, 32), (18, 3, 3), 1, 1, 1, 1), WINOGRADS),
        (((1, 16, 32, 32), (16, 3, 3), 1, 1, 1, 1), WINOGRADS),
        (((1, 12, 32, 32), (12, 3, 3), 1, 1, 1, 1), FAST),
        (((1, 32, 28, 28), (64, 3, 3), 1, 1, 1, 1), WINOGRADS),
        (((1, 3, 28, 28), (64, 3, 3), 1, 1, 1, 1), DIRECT),
        (((1, 64, 7, 7), (128, 3, 3), 1, 1, 1, 1), WINOGRADS),
        (((1, 64, 5, 5), (64, 3, 3), 1, 1, 1, 1), FAST),
        (((1, 64, 4, 4), (64, 3, 3), 1, 1, 1, 1), WINOGRADS),
        (((1, 64, 3, 3), (64, 3, 3), 1, 1, 1, 1), FAST),
        # 1x1
        (((1, 64, 8, 8), (128, 1, 1), 1, 0, 1, 1), POINT),
        (((1, 1, 1, 1), (1, 1, 1), 1, 0, 1, 1), POINT),
        (((1, 4, 8, 8), (4, 1, 1), 1, 0, 3, 1), POINT),
        (((1, 64, 8, 8), (128, 1, 1), 2, 0, 1, 1), DIRECT),
        (((1, 64, 8, 8), (128, 1, 1), (1, 2), 0, 1, 1), DIRECT),
        (((1, 64, 8, 8), (128, 1, 1), 1, (0, 1), 1, 1), DIRECT),
        (((1, 64, 8, 8), (128, 1, 1), 1, 0, 1, 2), DIRECT),
        # One filter for each channel, whatever the stride, the padding and the dilation.
        (((1, 64, 8, 8), (64, 3, 3), 1, 1, 1, 64), DEPTH),
        (((1, 2, 9, 9), (2, 7, 5), (2, 3), 4, (1, 2), 2), DEPTH),
        (((1, 4, 8, 8), (4, 1, 1), 1, 0, 1, 4), DEPTH),
        (((1, 4, 8, 8), (4, 5, 6), 1, 0, 1, 4), DIRECT),
        (((1, 4, 8, 8), (8, 3, 3), 1, 0, 1, 4), DIRECT),
        (((1, 1, 8, 8), (1, 3, 3), 1, 0, 1, 1), DIRECT),
    ],
    ids=lambda value: str(value) if isinstance(value[0], tuple) else value[0].__name__.split(".")[-1],
)
def test_the_choice(case, modules):
    makers = convolution.forward, convolution.backward_input, convolution.backward_filter
    chosen = tuple(type(make(geometry(case))).__module__ for make in makers)
    assert chosen == tuple(module.__name__ for module in modules)


@pytest.mark.parametrize("threads_wanted", [1, 4])
def test_neither_dtype_nor_threads_nor_processor_take_part_in_the_choice(threads_wanted, threads, monkeypatch):
    threads(threads_wanted)
    monkeypatch.setattr("fastconv_kernels.tilesize.instruction_set", lambda: "generic")
    for dtype in (np.float32, np.float64):
        chosen = convolution.forward(geometry(WINOGRAD_PAYS["winograd"], dtype))
        assert isinstance(chosen, winograd.Forward)
        chosen = convolution.backward_filter(geometry(WINOGRAD_FILTER_PAYS["winograd's filters"], dtype))
        assert isinstance(chosen, winograd_filter.BackwardFilter)


def test_what_is_meant_to_pay_pays():
    for case in WINOGRAD_PAYS.values():
        found = geometry(case)
        assert winograd.pays(found, found.output)
        assert winograd.pays(found, found.image)
    for case in WINOGRAD_FILTER_PAYS.values():
        chosen = convolution.backward_filter(geometry(case), case[0][0])
        assert isinstance(chosen, winograd_filter.BackwardFilter)
    for table, module in ((POINTWISE, pointwise), (DEPTHWISE, depthwise)):
        assert all(module.fits(geometry(case)) for case in table.values())
    assert not pointwise.fits(geometry(CONVOLUTIONS["1x1 in groups"]))
    for name in (" multiplied", ", dilated by five", ", stride 5", ", six taps wide"):
        assert not depthwise.fits(geometry(CONVOLUTIONS["depthwise" + name]))


# -------------------------------------------------------------------------------------------- each file against conv2d


def drawn(case, dtype, integers=False):
    """Return x, weight, bias and dy for a case, of small integers if asked for."""
    rng, found = np.random.default_rng(0), geometry(case)
    (n, channels, *_), filters = case[0], case[1][0]
    sizes = (n, channels, *found.image), found.weight, filters, (n, filters, *found.output)
    return [(rng.integers(-4, 5, s) if integers else rng.standard_normal(s)).astype(dtype) for s in sizes]


def packed(images):
    return blocks.pack(images, blocks.empty(images.shape, images.dtype)).array


def unpacked(array, n):
    return blocks.unpack(blocks.Blocks(array, n))


def run_forward(module, case, x, weight, bias, relu):
    """Return equation (1) by one file's kernels."""
    y = blocks.empty((len(x), len(weight), *geometry(case).output), x.dtype).array
    module.Forward(geometry(case, x.dtype))(packed(x), weight, bias, y, relu)
    return unpacked(y, len(x))


def run_backward_input(module, case, dy, weight):
    """Return equation (3) by one file's kernels."""
    dx = blocks.empty(case[0], dy.dtype).array
    module.BackwardInput(geometry(case, dy.dtype))(packed(dy), weight, dx)
    return unpacked(dx, len(dy))


def run_backward_filter(module, case, dy, x):
    """Return all blocks' shares of equation (2) by one file's kernels."""
    found = geometry(case, dy.dtype)
    dyb, xb = packed(dy), packed(x)
    shares = np.full((len(xb), *found.weight), np.nan, dy.dtype)
    module.BackwardFilter(found)(dyb, xb, shares)
    return shares


@pytest.mark.usefixtures("few_tiles")
@each_float
@parametrize(POINTWISE | DEPTHWISE)
def test_pointwise_and_depthwise_have_the_direct_kernels_bits(case, dtype):
    x, weight, bias, dy = drawn(case, dtype)
    module = depthwise if case[5] > 1 else pointwise
    for relu in (False, True):
        comp, ref = (run_forward(each, case, x, weight, bias, relu) for each in (module, conv2d))
        assert_same_bits(comp, ref)
    comp, ref = (run_backward_input(each, case, dy, weight) for each in (module, conv2d))
    assert_same_bits(comp, ref)
    comp, ref = (run_backward_filter(each, case, dy, x) for each in (module, conv2d))
    assert_same_bits(comp, ref)


@pytest.mark.usefixtures("few_tiles")
@each_float
@parametrize(WINOGRAD | {"many patches": ((1, 3, 12, 10), (2, 3, 3), 1, 1, 1, 1)})
def test_winograd_equals_the_oracle_on_integers(case, dtype, monkeypatch):
    """With room for a tile's patches, for some more, and for all of them."""
    x, weight, bias, dy = drawn(case, dtype, integers=True)
    padding = case[3]
    y = reference.conv2d(x, weight, bias, 1, padding)
    dx = reference.conv2d_backward_input(dy, weight, x.shape, 1, padding)
    each = (max(weight.shape[:2]) + 8) * winograd.ELEMENTS * 16 * np.dtype(dtype).itemsize
    for room in (0, 5 * each, 10**9):
        monkeypatch.setattr(winograd, "_SCRATCH", room)
        np.testing.assert_array_equal(run_forward(winograd, case, x, weight, bias, False), y)
        np.testing.assert_array_equal(run_forward(winograd, case, x, weight, bias, True), np.maximum(y, 0))
        np.testing.assert_array_equal(run_backward_input(winograd, case, dy, weight), dx)


@each_float
@parametrize(WINOGRAD | {"many patches": ((33, 5, 12, 10), (6, 3, 3), 1, 1, 1, 1)})
def test_winograds_gradient_to_the_filters_equals_the_oracle_on_integers(case, dtype, monkeypatch):
    """With one patch in a chunk, some, and all; with one chunk in a group, and with several."""
    x, weight, _, dy = drawn(case, dtype, integers=True)
    ref = reference.conv2d_backward_filter(dy, x, weight.shape, 1, case[3])
    for patches in (1, 7, 100):
        for most in (3640, 0):
            monkeypatch.setattr(winograd_filter, "_FEWEST", patches)
            monkeypatch.setattr(winograd_filter, "_MOST", patches)
            monkeypatch.setattr(winograd_filter, "_SUMS", most)
            shares = run_backward_filter(winograd_filter, case, dy, x)
            np.testing.assert_array_equal(shares[0], ref)
            assert not shares[1:].any()


def test_lanes_without_an_image_do_not_count(rng):
    """Whatever the forward pass left in them."""
    case = (17, 3, 6, 5), (5, 3, 3), 1, 1, 1, 1
    x, weight, _, dy = drawn(case, np.float32, integers=True)
    xb, shares = packed(x), np.empty((2, *weight.shape), np.float32)
    xb[1, ..., 1:] = rng.uniform(-1e30, 1e30, xb[1, ..., 1:].shape)
    winograd_filter.BackwardFilter(geometry(case))(packed(dy), xb, shares)
    np.testing.assert_array_equal(shares[0], reference.conv2d_backward_filter(dy, x, weight.shape, 1, 1))


def test_the_groups_of_patches_take_a_bounded_room():
    """36 elements for each filter and channel: 8 MB, at most 16 groups and at least four."""
    for channels, groups, together in ((16, 16, 32), (32, 16, 16), (64, 14, 16), (128, 4, 16), (1024, 4, 16)):
        run = winograd_filter.BackwardFilter(geometry(((1, channels, 14, 14), (channels, 3, 3), 1, 1, 1, 1)))
        assert (run._most, run._together) == (groups, together)
        assert run._elements == (12, channels // 2, together, 64)
        assert run._sums == (36, channels // 4, channels // 4, 16)


def test_the_patches_of_a_task_fit_the_room_for_them(monkeypatch):
    for channels, size in ((3, 12), (64, 56), (512, 7), (2048, 8)):
        found = geometry(((1, channels, size, size), (channels, 3, 3), 1, 1, 1, 1))
        for room in (0, 704 * 1024, 10**9):
            monkeypatch.setattr(winograd, "_SCRATCH", room)
            run = winograd.Forward(found)
            assert run._rows == channels + run._packed.shape[3] + 1
            assert 1 <= run._least <= run._most <= winograd.patches(found.output)
            assert run._most <= max(2, room // (36 * (channels + 8) * 64))


def test_few_blocks_give_tasks_to_all_threads(threads, monkeypatch, rng):
    """A task then takes fewer patches."""
    found = geometry(((9, 32, 16, 16), (32, 3, 3), 1, 1, 1, 1))
    x, y = (rng.standard_normal((1, 32, 16, 16, 16)).astype(np.float32) for _ in range(2))
    k, bias = rng.standard_normal((32, 32, 3, 3)).astype(np.float32), np.zeros(32, np.float32)
    taken, scratch = [], memory.scratch
    monkeypatch.setattr(memory, "scratch", lambda shape, dtype: (taken.append(shape[2]), scratch(shape, dtype))[1])
    results = []
    run = winograd.Forward(found)
    for count in (1, 4):
        threads(count)
        run(x, k, bias, y, False)
        results.append(y.copy())
    assert 4 * taken[1] <= 16 <= 16 // run._most * taken[0] * run._most
    assert taken[1] < taken[0] or taken[0] == 4
    assert_same_bits(*results)


@pytest.mark.parametrize(("patches", "most", "together"), [(4, 3, 2), (4, 9, 4), (16, 6, 4), (1, 9, 1)])
def test_a_task_takes_patches_so_that_few_are_computed_twice(patches, most, together, monkeypatch):
    monkeypatch.setattr("fastconv_kernels.tilesize.instruction_set", lambda: "avx512")
    monkeypatch.setattr(winograd, "_SCRATCH", most * 36 * (64 + 8) * 64)
    m, p, count = winograd._cut(64, 64, patches, np.float32)
    assert count == together
    assert m * p <= 24
    assert p <= count


@pytest.mark.usefixtures("few_tiles")
@each_float
@parametrize(WINOGRAD_PAYS)
def test_winograd_loses_little_more_than_a_digit(case, dtype):
    """Of the largest sum of absolute terms in the image, for a patch's pixels meet in each of its outputs."""
    x, weight, bias, dy = drawn(case, dtype)
    padding = case[3]
    forward = [reference.conv2d(f(x), f(weight), f(bias), 1, padding) for f in (np.asarray, np.abs)]
    back = [reference.conv2d_backward_input(f(dy), f(weight), x.shape, 1, padding) for f in (np.asarray, np.abs)]
    for comp, (ref, magnitude) in (
        (run_forward(winograd, case, x, weight, bias, False), forward),
        (run_backward_input(winograd, case, dy, weight), back),
    ):
        error = np.abs(comp - ref).max() / (np.finfo(dtype).eps * magnitude.max())
        assert error < 20


@each_float
@parametrize(WINOGRAD_FILTER_PAYS)
def test_winograds_gradient_to_the_filters_loses_less_than_a_digit(case, dtype):
    x, weight, _, dy = drawn(case, dtype)
    ref, magnitude = (
        reference.conv2d_backward_filter(f(dy), f(x), weight.shape, 1, case[3]) for f in (np.asarray, np.abs)
    )
    comp = run_backward_filter(winograd_filter, case, dy, x).sum(axis=0)
    assert np.abs(comp - ref).max() / (np.finfo(dtype).eps * magnitude.max()) < 8


def test_winograds_gradient_to_the_filters_is_the_sum_of_its_naive_patches():
    """Equation (39) as reference.py states it."""
    case = WINOGRAD["odd"]
    x, weight, _, dy = drawn(case, np.float64)  # 7x5
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 4)))
    out = np.pad(dy, ((0, 0), (0, 0), (0, 1), (0, 3)))
    ref = np.zeros(weight.shape)
    for n, f, c, i, j in np.ndindex(len(x), *weight.shape[:2], out.shape[2] // 4, out.shape[3] // 4):
        patch = padded[n, c, 4 * i : 4 * i + 6, 4 * j : 4 * j + 6]
        ref[f, c] += reference.winograd_patch_backward_filter(patch, out[n, f, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4])
    comp = run_backward_filter(winograd_filter, case, dy, x)
    np.testing.assert_allclose(comp[0], ref, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("few_tiles")
def test_winograd_is_the_sum_of_its_naive_patches(rng):
    """Equation (31) as the reference states it, channel by channel, rather than the convolution that it equals."""
    case = WINOGRAD["whole patches"]
    x, weight, bias, _ = drawn(case, np.float64)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    ref = np.zeros((len(x), len(weight), *geometry(case).output))
    for n, f, i, j in np.ndindex(len(x), len(weight), ref.shape[2] // 4, ref.shape[3] // 4):
        rows, columns = (slice(4 * start, 4 * start + 4) for start in (i, j))
        for c in range(x.shape[1]):
            patch = padded[n, c, 4 * i : 4 * i + 6, 4 * j : 4 * j + 6]
            ref[n, f, rows, columns] += reference.winograd_patch(patch, weight[f, c])
    comp = run_forward(winograd, case, x, weight, bias, False)
    np.testing.assert_allclose(comp, ref + bias[:, None, None], rtol=0, atol=1e-13)


@each_float
def test_winograds_filters_are_packed_for_both_directions(dtype, rng):
    k = rng.integers(-8, 9, (5, 3, 3, 3)).astype(dtype)
    G = 3 * np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
    for flipped, filters in ((False, k), (True, k.swapaxes(0, 1)[:, :, ::-1, ::-1])):
        count, channels = filters.shape[:2]
        comp = np.full((2, 36, channels + 1, count - 1), np.nan, dtype)
        winograd.pack_filters(k, comp, flipped)
        ref = np.einsum("ua,fcab,vb->uvfc", G, filters, G).reshape(36, count, channels)
        for t, start in enumerate((0, 1)):  # the second tile is moved back to end at the last filter
            np.testing.assert_array_equal(comp[t, :, :-1], ref[:, start : start + count - 1].swapaxes(1, 2))


@pytest.mark.usefixtures("few_tiles")
@each_float
@pytest.mark.parametrize("planted", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_image_and_its_patches(planted, dtype):
    """Differences of pixels carry it to outputs that do not see it, but not out of the patches that hold it."""
    case = (17, 2, 12, 12), (3, 3, 3), 1, 1, 1, 1
    x, weight, bias, _ = drawn(case, dtype)
    clean = run_forward(winograd, case, x, weight, bias, False)
    x[16, 1, 7, 4] = planted
    comp, ref = run_forward(winograd, case, x, weight, bias, False), reference.conv2d(x, weight, bias, 1, 1)
    reached = ~np.isfinite(comp)
    assert reached[~np.isfinite(ref)].all()
    held = np.zeros(comp.shape, bool)
    # Padded, the pixel is (8, 5): in the patches that start at rows 4 and 8, and at columns 0 and 4.
    held[16, :, 4:12, :8] = True
    assert not reached[~held].any()
    np.testing.assert_array_equal(comp[~held], clean[~held])


@pytest.mark.usefixtures("few_tiles")
def test_scratch_left_by_another_operation_does_not_matter(monkeypatch):
    """Kernels with scratch, one after the other, in memory full of NaN."""
    raw = memory.scratch((2**20,), np.float32)
    for module, case in (
        (winograd, WINOGRAD["odd"]),
        (winograd_filter, WINOGRAD["odd"]),
        (depthwise, DEPTHWISE["depthwise, three taps"]),
    ):
        x, weight, bias, dy = drawn(case, np.float32, integers=True)
        how = case[2:]
        raw[...] = np.nan
        if module is not winograd_filter:
            np.testing.assert_array_equal(
                run_forward(module, case, x, weight, bias, False), reference.conv2d(x, weight, bias, *how)
            )
        if module is not winograd:
            raw[...] = np.nan
            shares = run_backward_filter(module, case, dy, x)
            ref = reference.conv2d_backward_filter(dy, x, weight.shape, *how)
            np.testing.assert_array_equal(shares.sum(axis=0), ref)
    assert np.shares_memory(raw, memory.scratch((1,), np.float32))


# ---------------------------------------------------------------------------------------------------------- few images

FEW = {
    "one image": ((1, 3, 9, 7), (4, 3, 3), 1, 1, 1, 1),
    "one pixel": ((1, 2, 1, 1), (3, 1, 3), 1, (0, 1), 1, 1),
    "three images, dilated": ((3, 2, 8, 11), (3, 2, 3), 1, (0, 3), (3, 2), 1),
    "eight images, strided": ((8, 2, 7, 9), (3, 3, 2), (2, 3), (1, 0), 1, 1),
    "padding beyond filter": ((2, 2, 3, 4), (3, 2, 2), 1, (4, 3), 1, 1),
    "winograd": ((1, 10, 6, 8), (11, 3, 3), 1, 1, 1, 1),
    "winograd, two images": ((2, 20, 8, 8), (20, 3, 3), 1, (0, 2), 1, 1),
    "winograd, many patches in a piece": ((1, 12, 20, 20), (10, 3, 3), 1, 1, 1, 1),
}


@pytest.mark.usefixtures("few_tiles")
@each_float
@parametrize(FEW)
def test_images_cut_into_pieces_have_the_same_bits(case, dtype, monkeypatch):
    found, images = geometry(case, dtype), case[0][0]
    monkeypatch.setattr(pieces, "_LEAST", 0)
    monkeypatch.setattr(pieces, "_LEAST_EACH", 0)
    x, weight, bias, dy = drawn(case, dtype)
    y, dx = blocks.empty(dy.shape, dtype).array, blocks.empty(x.shape, dtype).array
    whole, cut = (convolution.forward(found, count) for count in (16, images))
    assert isinstance(cut, pieces.Forward)
    results = []
    for run in (whole, cut):
        run(packed(x), weight, bias, y, True)
        results.append(unpacked(y, images))
    assert_same_bits(*results)
    whole, cut = (convolution.backward_input(found, count) for count in (16, images))
    assert isinstance(cut, pieces.BackwardInput) == (found.stride == (1, 1))
    results = []
    for run in (whole, cut):
        run(packed(dy), weight, dx)
        results.append(unpacked(dx, images))
    assert_same_bits(*results)


@pytest.mark.usefixtures("few_tiles")
@each_float
@parametrize(FEW)
def test_gradients_to_the_filters_add_up_over_pieces(case, dtype, monkeypatch):
    """Not bit for bit, since the sum has another order; so on integers."""
    monkeypatch.setattr(pieces, "_LEAST", 0)
    monkeypatch.setattr(pieces, "_LEAST_EACH", 0)
    x, weight, _, dy = drawn(case, dtype, integers=True)
    run = convolution.backward_filter(geometry(case, dtype), len(x))
    assert isinstance(run, pieces.BackwardFilter)
    shares = np.full((1, *weight.shape), np.nan, dtype)
    run(packed(dy), packed(x), shares)
    np.testing.assert_array_equal(shares[0], reference.conv2d_backward_filter(dy, x, weight.shape, *case[2:]))


@pytest.mark.usefixtures("few_tiles")
@each_float
@parametrize(FEW)
def test_both_gradients_after_the_forward_pass_are_those_of_each_alone(case, dtype, monkeypatch):
    monkeypatch.setattr(pieces, "_LEAST", 0)
    monkeypatch.setattr(pieces, "_LEAST_EACH", 0)
    found, images = geometry(case, dtype), case[0][0]
    x, weight, bias, dy = drawn(case, dtype)
    y, dx, expected_dx = (blocks.empty(shape, dtype).array for shape in (dy.shape, x.shape, x.shape))
    shares, expected, alone = (np.full((1, *weight.shape), np.nan, dtype) for _ in range(3))
    convolution.backward_filter(found, images)(packed(dy), packed(x), expected)
    convolution.backward_input(found, images)(packed(dy), weight, expected_dx)

    forward = convolution.forward(found, images)
    run = convolution.backward(found, images, forward)
    assert isinstance(run, pieces.Backward) == (found.stride == (1, 1))
    forward(packed(x), weight, bias, y, False)
    run(packed(dy), packed(x), weight, alone, None)
    run(packed(dy), packed(x), weight, shares, dx)
    assert_same_bits(alone, expected)
    assert_same_bits(shares, expected)
    assert_same_bits(unpacked(dx, images), unpacked(expected_dx, images))


def test_few_images_meet_winograds_kernel():
    for name, case in FEW.items():
        found = geometry(case)
        chosen = winograd.pays(found, found.output), winograd.pays(found, found.image)
        assert chosen == (name.startswith("winograd"),) * 2


def test_the_number_of_images_takes_part_only_where_it_must():
    found = geometry(((1, 64, 28, 28), (64, 3, 3), 1, 1, 1, 1))
    for images in (1, 8):
        assert isinstance(convolution.backward_filter(found, images)._run, conv2d.BackwardFilter)
        assert isinstance(convolution.forward(found, images), pieces.Forward)
        assert isinstance(convolution.forward(found, images)._run, winograd.Forward)
    for images in (9, 16, 17):
        assert isinstance(convolution.backward_filter(found, images), winograd_filter.BackwardFilter)
        assert isinstance(convolution.forward(found, images), winograd.Forward)


# ------------------------------------------------------------------------------------------------ the filters' two ways


@pytest.mark.parametrize(
    ("filters", "channels", "taps", "over"),
    [
        (6, 1, 5, "taps"),
        (1, 1, 1, "taps"),
        (16, 64, 1, "channels"),
        (16, 8, 2, "channels"),
    ],
)
def test_the_gradient_to_the_filters_runs_over_what_there_is_more_of(filters, channels, taps, over):
    case = (1, channels, 9, 9), (filters, 2, taps), 1, 0, 1, 1
    run = conv2d.BackwardFilter(geometry(case))._kernel
    assert run.__name__ == ("conv2d_backward_filter_rows" if over == "taps" else "conv2d_backward_filter")


@pytest.mark.usefixtures("few_tiles")
@each_float
@parametrize(CONVOLUTIONS)
def test_the_gradient_to_the_filters_has_the_same_bits_both_ways(case, dtype):
    found, (x, _, _, dy) = geometry(case, dtype), drawn(case, dtype)
    filters, channels, _, taps = found.weight
    shares = []
    for kernel, columns in ((conv2d.backward_filter, channels), (conv2d.backward_filter_rows, taps)):
        m, p = (1, 1) if columns < 3 else (min(2, filters // found.groups), 3)
        dyb = packed(dy)
        shares.append(np.full((len(dyb), *found.weight), np.nan, dtype))
        kernel(m, p)(dyb, packed(x), shares[-1], *found.forward_lines())
    assert_same_bits(*shares)
