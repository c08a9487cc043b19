"""The oracle against answers worked out by hand, against central differences, and against identities of integers."""

import math

import numpy as np
import pytest

from fastconv import reference

# (N, C, H, W), (F, C / groups, KH, KW), stride, padding, dilation, groups
CONVOLUTIONS = [
    ((2, 1, 4, 5), (3, 1, 2, 3), 1, 0, 1, 1),
    ((1, 3, 7, 11), (2, 3, 3, 5), 2, 0, 1, 1),
    ((2, 2, 8, 9), (3, 2, 3, 2), (3, 4), (1, 0), 1, 1),
    ((1, 2, 9, 8), (2, 2, 3, 2), (2, 3), (2, 1), (4, 3), 1),
    ((2, 4, 5, 4), (6, 2, 2, 2), (1, 2), (0, 1), (2, 1), 2),
    ((1, 3, 6, 5), (3, 1, 3, 3), (2, 1), 1, (2, 2), 3),
    ((2, 1, 2, 2), (1, 1, 1, 1), (4, 5), (0, 1), 1, 1),
]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def integers(*shape, seed=0):
    return np.random.default_rng(seed).integers(-9, 10, shape)


def assert_gradient(f, x, dy, comp, eps=1e-6):
    """Compare ``comp`` with central differences of <f(x), dy>; a random dy shows errors that one of ones would hide."""
    ref = reference.numeric_gradient(lambda moved: float(np.sum(f(moved) * dy)), x, eps)
    np.testing.assert_allclose(comp, ref, rtol=1e-6, atol=1e-7, strict=True)


class TestConv2d:
    def test_written_out(self):
        x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
        k = np.array([[[[1, 10], [100, 1000]]]])
        y = reference.conv2d(x, k, np.array([7]))
        ref = [
            [1 * 1 + 2 * 10 + 4 * 100 + 5 * 1000 + 7, 2 * 1 + 3 * 10 + 5 * 100 + 6 * 1000 + 7],
            [4 * 1 + 5 * 10 + 7 * 100 + 8 * 1000 + 7, 5 * 1 + 6 * 10 + 8 * 100 + 9 * 1000 + 7],
        ]
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, [[ref]])

    def test_gradients_written_out(self):
        x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
        k = np.array([[[[1, 10], [100, 1000]]]])
        dy = np.array([[[[1, 2], [3, 4]]]])
        dx = [
            [1 * 1, 1 * 10 + 2 * 1, 2 * 10],
            [1 * 100 + 3 * 1, 1 * 1000 + 2 * 100 + 3 * 10 + 4 * 1, 2 * 1000 + 4 * 10],
            [3 * 100, 3 * 1000 + 4 * 100, 4 * 1000],
        ]
        dk = [
            [1 * 1 + 2 * 2 + 3 * 4 + 4 * 5, 1 * 2 + 2 * 3 + 3 * 5 + 4 * 6],
            [1 * 4 + 2 * 5 + 3 * 7 + 4 * 8, 1 * 5 + 2 * 6 + 3 * 8 + 4 * 9],
        ]
        np.testing.assert_array_equal(reference.conv2d_backward_input(dy, k, x.shape), [[dx]])
        np.testing.assert_array_equal(reference.conv2d_backward_filter(dy, x, k.shape), [[dk]])
        np.testing.assert_array_equal(reference.conv2d_backward_bias(dy), [10])

    def test_the_one_dimensional_example(self):
        """An input of 8 and a filter of 3 make an output of 6; docs/backprop.md walks through it."""
        x = np.array([3, 1, 4, 1, 5, 9, 2, 6]).reshape(1, 1, 1, 8)
        k = np.array([2, 7, 1]).reshape(1, 1, 1, 3)
        y = reference.conv2d(x, k)
        np.testing.assert_array_equal(y.ravel(), [17, 31, 20, 46, 75, 38])
        dy = np.array([1, 0, -1, 2, 0, 3]).reshape(1, 1, 1, 6)
        dx = reference.conv2d_backward_input(dy, k, x.shape)
        np.testing.assert_array_equal(dx.ravel(), [2, 7, -1, -3, 13, 8, 21, 3])
        dk = reference.conv2d_backward_filter(dy, x, k.shape)
        np.testing.assert_array_equal(dk.ravel(), [3 - 4 + 2 + 27, 1 - 1 + 10 + 6, 4 - 5 + 18 + 18])

    def test_padding_stride_and_dilation_written_out(self):
        x = np.arange(1, 6).reshape(1, 1, 1, 5)
        k = np.array([1, 10, 100]).reshape(1, 1, 1, 3)
        y = reference.conv2d(x, k, stride=(1, 3), padding=(0, 2), dilation=(1, 2))
        # Padded: 0 0 1 2 3 4 5 0 0; windows at 0 and 3; the rest of the row holds no third one.
        np.testing.assert_array_equal(y.ravel(), [0 * 1 + 1 * 10 + 3 * 100, 2 * 1 + 4 * 10 + 0 * 100])

    def test_groups_written_out(self):
        x = np.array([1, 2, 3, 4]).reshape(1, 4, 1, 1)
        k = np.array([[1, 10], [2, 20]]).reshape(2, 2, 1, 1)
        np.testing.assert_array_equal(reference.conv2d(x, k, groups=2).ravel(), [1 * 1 + 2 * 10, 3 * 2 + 4 * 20])

    @pytest.mark.parametrize("seed", range(20))
    def test_winograds_patch_is_the_same_convolution(self, seed):
        d, g = integers(6, 6, seed=seed), integers(3, 3, seed=seed + 100)
        ref = reference.conv2d(d[None, None], g[None, None])[0, 0]
        np.testing.assert_array_equal(reference.winograd_patch(d, g), ref)
        d, g = normal(6, 6, seed=seed), normal(3, 3, seed=seed + 100)
        ref = reference.conv2d(d[None, None], g[None, None])[0, 0]
        # 36 sums of numbers of which some reach a hundred.
        np.testing.assert_allclose(reference.winograd_patch(d, g), ref, rtol=0, atol=1000 * np.finfo(float).eps)

    def test_winograds_patch_written_out(self):
        """One pixel of the patch times one tap of the filter lands where it must, or nowhere."""
        for p, q, u, v in np.ndindex(6, 6, 3, 3):
            d, g, ref = np.zeros((6, 6)), np.zeros((3, 3)), np.zeros((4, 4))
            d[p, q], g[u, v] = 3, 4
            if 0 <= p - u < 4 and 0 <= q - v < 4:
                ref[p - u, q - v] = 12
            np.testing.assert_array_equal(reference.winograd_patch(d, g), ref)

    def test_winograds_two_outputs_of_one_dimension(self):
        """Two outputs of the example on docs/backprop.md by four multiplications."""
        d, k = (4, 1, 5, 9), (2, 7, 1)
        m = (
            (d[0] - d[2]) * k[0],
            (d[1] + d[2]) * (k[0] + k[1] + k[2]) / 2,
            (d[2] - d[1]) * (k[0] - k[1] + k[2]) / 2,
            (d[1] - d[3]) * k[2],
        )
        assert m == (-2, 30, -8, -8)
        assert (m[0] + m[1] + m[2], m[1] - m[2] - m[3]) == (20, 46)

    def test_winograds_four_outputs_of_one_dimension(self):
        """Four outputs of the example by six multiplications, and the same in a row of patches."""
        d, k = (4, 1, 5, 9, 2, 6), (2, 7, 1)
        m = (
            (4 * d[0] - 5 * d[2] + d[4]) * k[0] * 3 / 4,
            (d[3] + d[4] - 4 * d[1] - 4 * d[2]) * (k[0] + k[1] + k[2]) / -2,
            (4 * d[1] - 4 * d[2] - d[3] + d[4]) * (k[0] - k[1] + k[2]) / -2,
            (2 * d[3] + d[4] - 2 * d[1] - d[2]) * (k[0] + 2 * k[1] + 4 * k[2]) / 8,
            (2 * d[1] - d[2] - 2 * d[3] + d[4]) * (k[0] - 2 * k[1] + 4 * k[2]) / 8,
            (4 * d[1] - 5 * d[3] + d[5]) * k[2] * 3,
        )
        assert m == (-10.5, 65, -46, 32.5, 19, -105)
        three_y = (
            m[0] + m[1] + m[2] + m[3] + m[4],
            m[1] - m[2] + 2 * m[3] - 2 * m[4],
            m[1] + m[2] + 4 * m[3] + 4 * m[4],
            m[1] - m[2] + 8 * m[3] - 8 * m[4] + m[5],
        )
        assert three_y == (60, 138, 225, 114)
        patch, taps = np.zeros((6, 6)), np.zeros((3, 3))
        patch[0], taps[0] = d, k
        comp = reference.winograd_patch(patch, taps)
        np.testing.assert_array_equal(comp, [[20, 46, 75, 38], [0] * 4, [0] * 4, [0] * 4])

    @pytest.mark.parametrize("t", [0, 1, -1, 2, -2])
    def test_winograds_points(self, t):
        """On pixels that are the powers of a point, the outputs are its powers times one number; docs/backprop.md."""
        d, k = np.vander([t], 6, increasing=True), np.array([[2, 7, 1]])
        ref = np.vander([t], 4, increasing=True) * (2 + 7 * t + t**2)
        np.testing.assert_array_equal(reference.conv2d(d[None, None], k[None, None])[0, 0], ref)
        patch, taps = np.zeros((6, 6)), np.zeros((3, 3))
        patch[0], taps[0] = d, k
        np.testing.assert_array_equal(reference.winograd_patch(patch, taps)[0], ref[0])

    def test_winograds_patches_tile_gradients_too(self):
        """dx is the same formula, on dy with flipped filters and what padding leaves of two pixels."""
        x, k = integers(1, 1, 8, 5), integers(1, 1, 3, 3, seed=1)
        for padding in (0, 1, 2):
            y = reference.conv2d(x, k, None, 1, padding)
            for image, taps, beside, ref in (
                (x, k, padding, y),
                (y, k[..., ::-1, ::-1], 2 - padding, reference.conv2d_backward_input(y, k, x.shape, 1, padding)),
            ):
                height, width = ref.shape[2:]
                # Three more on the far sides: the last patches may stick out, and their outputs there are thrown away.
                padded, comp = np.pad(image[0, 0], (beside, beside + 3)), np.zeros((height + 3, width + 3))
                for i in range(0, height, 4):
                    for j in range(0, width, 4):
                        patch = padded[i : i + 6, j : j + 6]
                        comp[i : i + 4, j : j + 4] = reference.winograd_patch(patch, taps[0, 0])
                np.testing.assert_array_equal(comp[:height, :width], ref[0, 0])

    @pytest.mark.parametrize("seed", range(20))
    def test_winograds_patch_of_a_filters_gradient_is_the_same_sum(self, seed):
        for draw, tolerance in ((integers, 0), (normal, 1000 * np.finfo(float).eps)):
            d, dy, g = draw(6, 6, seed=seed), draw(4, 4, seed=seed + 100), draw(3, 3, seed=seed + 200)
            comp = reference.winograd_patch_backward_filter(d, dy)
            ref = reference.conv2d_backward_filter(dy[None, None], d[None, None], (1, 1, 3, 3))[0, 0]
            np.testing.assert_allclose(comp, ref, rtol=0, atol=tolerance)
            # It is the transpose of what a patch gives to its outputs.
            np.testing.assert_allclose(
                np.sum(comp * g), np.sum(dy * reference.winograd_patch(d, g)), rtol=0, atol=10 * tolerance
            )

    def test_winograds_gradient_to_a_filter_of_one_dimension(self):
        """The gradient to three taps by six multiplications, as docs/backprop.md has it, and the same in a patch."""
        d, e = (4, 1, 5, 9, 2, 6), (3, 2, 1, 1)
        m = (
            (4 * d[0] - 5 * d[2] + d[4]) * e[0],
            (d[3] + d[4] - 4 * d[1] - 4 * d[2]) * (e[0] + e[1] + e[2] + e[3]),
            (4 * d[1] - 4 * d[2] - d[3] + d[4]) * (e[0] - e[1] + e[2] - e[3]),
            (2 * d[3] + d[4] - 2 * d[1] - d[2]) * (e[0] + 2 * e[1] + 4 * e[2] + 8 * e[3]),
            (2 * d[1] - d[2] - 2 * d[3] + d[4]) * (e[0] - 2 * e[1] + 4 * e[2] - 8 * e[3]),
            (4 * d[1] - 5 * d[3] + d[5]) * e[3],
        )
        assert m == (-21, -91, -23, 247, 95, -35)
        three_dk = (
            m[0] * 3 / 4 - (m[1] + m[2]) / 2 + (m[3] + m[4]) / 8,
            (m[2] - m[1]) / 2 + (m[3] - m[4]) / 4,
            (m[3] + m[4] - m[1] - m[2]) / 2 + 3 * m[5],
        )
        assert three_dk == (84, 72, 123)
        dk = 4 * 3 + 1 * 2 + 5 * 1 + 9 * 1, 1 * 3 + 5 * 2 + 9 * 1 + 2 * 1, 5 * 3 + 9 * 2 + 2 * 1 + 6 * 1
        assert dk == (28, 24, 41)
        patch, dy = np.zeros((6, 6)), np.zeros((4, 4))
        patch[0], dy[0] = d, e
        np.testing.assert_array_equal(reference.winograd_patch_backward_filter(patch, dy)[0], dk)

    @pytest.mark.parametrize("case", CONVOLUTIONS)
    def test_gradients(self, case):
        shape, weight_shape, *how = case
        x, k, b = normal(*shape), normal(*weight_shape, seed=1), normal(weight_shape[0], seed=2)
        dy = normal(*reference.conv2d(x, k, b, *how).shape, seed=3)
        dx = reference.conv2d_backward_input(dy, k, shape, *how)
        dk = reference.conv2d_backward_filter(dy, x, weight_shape, *how)
        assert_gradient(lambda moved: reference.conv2d(moved, k, b, *how), x, dy, dx)
        assert_gradient(lambda moved: reference.conv2d(x, moved, b, *how), k, dy, dk)
        assert_gradient(lambda moved: reference.conv2d(x, k, moved, *how), b, dy, reference.conv2d_backward_bias(dy))

    @pytest.mark.parametrize("case", CONVOLUTIONS)
    def test_adjoint(self, case):
        """Equation (29): exact, for every sum is one of small integers."""
        shape, weight_shape, *how = case
        x, k = integers(*shape), integers(*weight_shape, seed=1)
        y = reference.conv2d(x, k, None, *how)
        dy = integers(*y.shape, seed=2)
        product = np.sum(y * dy)
        assert y.dtype == np.int64
        assert np.sum(x * reference.conv2d_backward_input(dy, k, shape, *how)) == product
        assert np.sum(k * reference.conv2d_backward_filter(dy, x, weight_shape, *how)) == product

    @pytest.mark.parametrize("case", CONVOLUTIONS)
    def test_backward_input_is_a_correlation_in_every_phase(self, case):
        """Equation (6), with its loops written as they stand there, gives what equation (3) gives."""
        shape, weight_shape, *how = case
        k = integers(*weight_shape)
        dy = integers(*reference.conv2d(integers(*shape), k, None, *how).shape, seed=1)
        ref = reference.conv2d_backward_input(dy, k, shape, *how)
        np.testing.assert_array_equal(backward_input_by_phases(dy, k, shape, *how), ref, strict=True)

    def test_refuses_channels_that_do_not_fit(self):
        with pytest.raises(ValueError, match=r"conv2d: 3 channels, weight \(2, 1, 2, 2\) and groups 1"):
            reference.conv2d(normal(1, 3, 4, 4), normal(2, 1, 2, 2))
        with pytest.raises(ValueError, match=r"conv2d: 4 channels, weight \(3, 2, 1, 1\) and groups 2"):
            reference.conv2d(normal(1, 4, 4, 4), normal(3, 2, 1, 1), groups=2)


def phase_taps(residue, stride, dilation, kernel):
    """Return the taps u with u * dilation == residue modulo stride as equation (6) has them: u0, step, how many."""
    g = math.gcd(stride, dilation)
    if residue % g:
        return 0, 1, 0
    step = stride // g
    u0 = next(u for u in range(step) if (residue - u * dilation) % stride == 0)
    return u0, step, max(0, -(-(kernel - u0) // step))


def backward_input_by_phases(dy, k, input_shape, stride, padding, dilation, groups):
    """Equation (6): for every pair of residues, a stride-1 correlation of ``dy`` with flipped, swapped filters."""
    (sh, sw), (ph, pw), (dh, dw) = (np.broadcast_to(value, 2).tolist() for value in (stride, padding, dilation))
    gh, gw = math.gcd(sh, dh), math.gcd(sw, dw)
    C, H, W = input_shape[1:]
    F, per_group, KH, KW = k.shape
    dx = np.zeros(input_shape, dy.dtype)
    swapped = k.reshape(groups, F // groups, per_group, KH, KW).swapaxes(1, 2).reshape(C, F // groups, KH, KW)
    for r in range(sh):
        u0, u_step, T = phase_taps(r, sh, dh, KH)
        for s in range(sw):
            v0, v_step, S = phase_taps(s, sw, dw, KW)
            if T == 0 or S == 0:
                continue
            # Rows and columns of this phase, and where the first tap of the first one falls in dy.
            rows = [p for p in range(H) if (p + ph) % sh == r]
            columns = [q for q in range(W) if (q + pw) % sw == s]
            if not rows or not columns:
                continue
            top = (rows[0] + ph - u0 * dh) // sh - (T - 1) * (dh // gh)
            left = (columns[0] + pw - v0 * dw) // sw - (S - 1) * (dw // gw)
            flipped = swapped[:, :, u0::u_step, v0::v_step][:, :, ::-1, ::-1]
            assert flipped.shape[2:] == (T, S)
            height, width = len(rows) + (T - 1) * (dh // gh), len(columns) + (S - 1) * (dw // gw)
            window = np.zeros((*dy.shape[:2], height, width), dy.dtype)
            for i in range(height):
                for j in range(width):
                    if 0 <= top + i < dy.shape[2] and 0 <= left + j < dy.shape[3]:
                        window[:, :, i, j] = dy[:, :, top + i, left + j]
            phase = reference.conv2d(window, flipped, dilation=(dh // gh, dw // gw), groups=groups)
            dx[:, :, rows[0] :: sh, columns[0] :: sw] = phase
    return dx


class TestMaxPool2d:
    def test_written_out(self):
        x = np.array([[[[1, 5, 2, 0, 9], [3, 4, 8, 7, 9], [6, 6, 6, 6, 9]]]])
        y, index = reference.max_pool2d(x, 2)
        np.testing.assert_array_equal(y, [[[[5, 8]]]])
        np.testing.assert_array_equal(index, [[[[1, 7]]]])
        y, index = reference.max_pool2d(x, 2, ceil_mode=True)
        np.testing.assert_array_equal(y, [[[[5, 8, 9], [6, 6, 9]]]])
        np.testing.assert_array_equal(index, [[[[1, 7, 4], [10, 12, 14]]]])

    def test_padding_never_wins(self):
        y, index = reference.max_pool2d(np.array([[[[-3, -1], [-2, -4]]]]), 2, 2, 1)
        np.testing.assert_array_equal(y, [[[[-3, -1], [-2, -4]]]])
        np.testing.assert_array_equal(index, [[[[0, 1], [2, 3]]]])

    def test_nan_wins_and_the_last_one_is_kept(self):
        x = np.array([1.0, np.nan, 7.0, np.nan, 2.0, 3.0]).reshape(1, 1, 1, 6)
        y, index = reference.max_pool2d(x, (1, 3))
        np.testing.assert_array_equal(y.ravel(), [np.nan, np.nan])
        np.testing.assert_array_equal(index.ravel(), [1, 3])
        assert reference.max_pool2d(x, (1, 6))[1] == 3

    def test_a_last_window_never_starts_behind_the_image(self):
        x = np.arange(5).reshape(1, 1, 1, 5)
        # Windows of 2 at -1, 2 and 5; pixel 5 would be padding.
        np.testing.assert_array_equal(
            reference.max_pool2d(x, (1, 2), (1, 3), (0, 1), ceil_mode=True)[0].ravel(), [0, 3]
        )
        np.testing.assert_array_equal(reference.avg_pool2d(x, (1, 2), (1, 3), (0, 1), ceil_mode=True).ravel(), [0, 2.5])

    def test_backward_adds_up_where_windows_overlap(self):
        x = np.array([0, 9, 0, 1]).reshape(1, 1, 1, 4)
        _, index = reference.max_pool2d(x, (1, 2), 1)
        dx = reference.max_pool2d_backward(np.array([5, 6, 7]).reshape(1, 1, 1, 3), index, x.shape)
        np.testing.assert_array_equal(dx.ravel(), [0, 11, 0, 7])

    @pytest.mark.parametrize("window", [(2, None, 0), (3, 2, 1), ((2, 4), (3, 1), (1, 2))])
    @pytest.mark.parametrize("ceil_mode", [False, True])
    def test_gradient(self, window, ceil_mode):
        # Far apart, so that no step of the central differences changes a winner.
        x = np.random.default_rng(0).permutation(2 * 2 * 7 * 6).reshape(2, 2, 7, 6).astype(float)
        y, index = reference.max_pool2d(x, *window, ceil_mode=ceil_mode)
        dy = normal(*y.shape)
        dx = reference.max_pool2d_backward(dy, index, x.shape)
        assert_gradient(lambda moved: reference.max_pool2d(moved, *window, ceil_mode=ceil_mode)[0], x, dy, dx, eps=1e-2)


class TestAvgPool2d:
    def test_divisors_written_out(self):
        x = np.full((1, 1, 1, 5), 12)
        average = lambda **how: reference.avg_pool2d(x, (1, 4), (1, 3), (0, 1), **how).ravel()  # noqa: E731
        # One window begins on the padding, the other ends on it.
        np.testing.assert_array_equal(average(), [9, 9])
        np.testing.assert_array_equal(average(count_include_pad=False), [12, 12])
        # What ceil_mode adds beyond image and padding is in neither divisor.
        over = reference.avg_pool2d(x, (1, 4), (1, 4), ceil_mode=True)
        np.testing.assert_array_equal(over.ravel(), [12, 12])

    @pytest.mark.parametrize("window", [(2, None, 0), (3, 2, 1), ((2, 4), (3, 1), (1, 2))])
    @pytest.mark.parametrize("ceil_mode", [False, True])
    @pytest.mark.parametrize("count_include_pad", [False, True])
    def test_gradient(self, window, ceil_mode, count_include_pad):
        how = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        x = normal(2, 2, 7, 6)
        dy = normal(*reference.avg_pool2d(x, *window, **how).shape, seed=1)
        dx = reference.avg_pool2d_backward(dy, x.shape, *window, **how)
        assert_gradient(lambda moved: reference.avg_pool2d(moved, *window, **how), x, dy, dx)


class TestLinear:
    def test_written_out(self):
        x, weight, bias = np.array([[1, 2, 3]]), np.array([[1, 10, 100], [2, 0, -1]]), np.array([5, 6])
        np.testing.assert_array_equal(reference.linear(x, weight, bias), [[326, 5]])
        dx, dweight, dbias = reference.linear_backward(np.array([[2, 3]]), x, weight)
        np.testing.assert_array_equal(dx, [[2 * 1 + 3 * 2, 2 * 10, 2 * 100 - 3]])
        np.testing.assert_array_equal(dweight, [[2, 4, 6], [3, 6, 9]])
        np.testing.assert_array_equal(dbias, [2, 3])

    def test_gradients(self):
        x, weight, bias, dy = normal(3, 4), normal(2, 4, seed=1), normal(2, seed=2), normal(3, 2, seed=3)
        dx, dweight, dbias = reference.linear_backward(dy, x, weight)
        assert_gradient(lambda moved: reference.linear(moved, weight, bias), x, dy, dx)
        assert_gradient(lambda moved: reference.linear(x, moved, bias), weight, dy, dweight)
        assert_gradient(lambda moved: reference.linear(x, weight, moved), bias, dy, dbias)

    def test_is_a_convolution_by_filters_as_large_as_the_image(self):
        x, weight = integers(3, 4, 2, 2), integers(5, 4, 2, 2, seed=1)
        ref = reference.linear(x.reshape(3, 16), weight.reshape(5, 16))
        np.testing.assert_array_equal(reference.conv2d(x, weight).reshape(3, 5), ref, strict=True)


class TestActivationsAndLosses:
    def test_relu(self):
        np.testing.assert_array_equal(reference.relu(np.array([-3, 0, 2])), [0, 0, 2])
        np.testing.assert_array_equal(reference.relu(np.array([-np.inf, np.inf, np.nan])), [0, np.inf, np.nan])
        np.testing.assert_array_equal(reference.relu_backward(np.array([5, 6, 7]), np.array([0, 2, 0])), [0, 6, 0])
        np.testing.assert_array_equal(reference.relu_backward(np.array([5.0]), np.array([np.nan])), [5])

    def test_softmax_of_known_odds(self):
        x = np.log([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]])
        ref = [[0.125, 0.25, 0.625], [0.375, 0.375, 0.25]]
        np.testing.assert_allclose(reference.softmax(x), ref, rtol=1e-15)
        np.testing.assert_allclose(reference.softmax(x + 1e4), ref, rtol=1e-11)
        np.testing.assert_allclose(reference.log_softmax(x), np.log(ref), rtol=1e-14)

    def test_log_softmax_keeps_what_softmax_loses(self):
        x = np.array([[0.0, -1e4]])
        np.testing.assert_array_equal(reference.softmax(x), [[1, 0]])
        np.testing.assert_array_equal(reference.log_softmax(x), x)

    def test_softmax_gradient(self):
        x, dy = normal(3, 4), normal(3, 4, seed=1)
        assert_gradient(reference.softmax, x, dy, reference.softmax_backward(dy, reference.softmax(x)))

    def test_equal_logits_cost_the_logarithm_of_the_number_of_classes(self):
        loss, dlogits = reference.cross_entropy(np.zeros((2, 10)), np.array([3, 0]))
        assert loss == pytest.approx(2.302585092994046, rel=1e-15)
        np.testing.assert_allclose(dlogits[0], np.where(np.arange(10) == 3, -0.45, 0.05), rtol=1e-14)

    @pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
    def test_cross_entropy_gradient(self, label_smoothing):
        logits, labels = 3 * normal(4, 3), np.array([2, 0, 1, 1])
        _, dlogits = reference.cross_entropy(logits, labels, label_smoothing)
        loss = lambda moved: np.float64(reference.cross_entropy(moved, labels, label_smoothing)[0])  # noqa: E731
        assert_gradient(loss, logits, 1.0, dlogits)

    def test_cross_entropy_of_logits_in_the_thousands(self):
        loss, dlogits = reference.cross_entropy(np.array([[1e4, -1e4]]), np.array([1]))
        assert loss == 2e4
        np.testing.assert_array_equal(dlogits, [[1, -1]])

    def test_mse(self):
        loss, dy = reference.mse(np.array([[1, 2], [3, 4]]), np.array([[1, 0], [0, 4]]))
        assert loss == 13 / 4
        np.testing.assert_array_equal(dy, [[0, 1], [1.5, 0]])


class TestOptimisers:
    def test_sgd_written_out(self):
        value, velocity = np.array([1.0]), np.array([0.0])
        value, velocity = reference.sgd(value, np.array([0.5]), velocity, lr=0.5, momentum=0.5)
        assert (value, velocity) == (0.75, 0.5)
        value, velocity = reference.sgd(value, np.array([0.5]), velocity, lr=0.5, momentum=0.5)
        assert (value, velocity) == (0.375, 0.75)
        assert reference.sgd(value, np.array([0.5]), velocity, 0.5, 0.5, nesterov=True)[0] == 0.375 - 0.5 * 0.9375
        assert reference.sgd(value, np.array([0.0]), np.array([0.0]), 0.5, weight_decay=0.5)[0] == 0.375 * 0.75

    def test_lion_written_out(self):
        """One weight: the sign of 0.5 * 4 + 0.5 * -2, and then of 0.5 * 1 + 0.5 * -1, which has none."""
        value, mean = reference.lion(np.array([1.0]), np.array([-2.0]), np.array([4.0]), 0.25, 0.5, 0.5)
        assert (value, mean) == (0.75, 1)
        value, mean = reference.lion(value, np.array([-1.0]), mean, 0.25, 0.5, 0.25, weight_decay=0.5)
        assert (value, mean) == (0.75 - 0.25 * 0.5 * 0.75, 0.25 - 0.75)

    def test_clipping_and_averaging_written_out(self):
        norm, factor = reference.clip_factor([np.array([3.0]), np.array([[4.0, 0.0]])], 1.0)
        assert (norm, factor) == (5, 1 / (5 + 1e-6))
        assert reference.clip_factor([np.array([3.0])], 4.0) == (3, 1)
        assert reference.moving_average(np.array([1.0]), np.array([3.0]), 0.75) == 1.5

    def test_adam_begins_with_a_step_of_the_learning_rate(self):
        zeros, grad = np.zeros(3), np.array([1e-3, -5.0, 1e6])
        value, m, v = reference.adam(zeros, grad, zeros, zeros, step=1, lr=0.1, eps=0.0)
        np.testing.assert_allclose(value, [-0.1, 0.1, -0.1], rtol=1e-12)
        assert reference.adam(np.array(0.0), np.array(1.0), 0.0 * v[0], 0.0 * v[0], 1, lr=0.5, eps=1.0)[0] == -0.25
        np.testing.assert_allclose(m, 0.1 * grad, rtol=1e-12)
        np.testing.assert_allclose(v, 1e-3 * grad**2, rtol=1e-12)

    def test_decay_meets_the_moments_in_adam_and_not_in_adamw(self):
        value, zero = np.array([2.0]), np.array([0.0])
        assert reference.adamw(value, zero, zero, zero, 1, lr=0.5, weight_decay=0.5) == (1.5, 0, 0)
        assert reference.adam(value, zero, zero, zero, 1, lr=0.5, eps=0.0, weight_decay=0.5)[0] == pytest.approx(1.5)
        assert reference.adam(value, zero, zero, zero, 1, weight_decay=0.5)[1] == pytest.approx(0.1)


def test_normalize_uint8():
    images = np.array([0, 255, 51, 102], np.uint8).reshape(1, 2, 1, 2)
    y = reference.normalize_uint8(images, 0.5, 0.25)
    np.testing.assert_allclose(y.ravel(), [-2, 2, -1.2, -0.4], rtol=1e-15)
    y = reference.normalize_uint8(images, np.array([0.0, 0.2]), np.array([1.0, 0.1]))
    np.testing.assert_allclose(y.ravel(), [0, 1, 0, 2], atol=1e-15)


def test_numeric_gradient():
    x = normal(2, 3)
    before = x.copy()
    gradient = reference.numeric_gradient(lambda a: float(np.sum(a**3)), x, 1e-5)
    np.testing.assert_allclose(gradient, 3 * x**2, atol=1e-9)
    np.testing.assert_array_equal(x, before)


def test_empty_batch():
    x, k, none = normal(0, 2, 5, 6), normal(4, 2, 3, 3), normal(0, 4, 3, 4)
    assert reference.conv2d(x, k, normal(4)).shape == (0, 4, 3, 4)
    assert reference.conv2d_backward_input(none, k, x.shape).shape == x.shape
    np.testing.assert_array_equal(reference.conv2d_backward_filter(none, x, k.shape), np.zeros(k.shape), strict=True)
    np.testing.assert_array_equal(reference.conv2d_backward_bias(none), np.zeros(4), strict=True)

    y, index = reference.max_pool2d(x, 2)
    assert y.shape == index.shape == reference.avg_pool2d(x, 2).shape == (0, 2, 2, 3)
    assert reference.max_pool2d_backward(y, index, x.shape).shape == x.shape
    assert reference.avg_pool2d_backward(y, x.shape, 2).shape == x.shape

    rows = normal(0, 3)
    assert reference.linear(rows, normal(2, 3)).shape == (0, 2)
    dx, dweight, dbias = reference.linear_backward(normal(0, 2), rows, normal(2, 3))
    assert (dx.shape, dweight.any(), dbias.any()) == ((0, 3), False, False)
    for f in (reference.relu, reference.softmax, reference.log_softmax):
        assert f(rows).shape == (0, 3)
    assert reference.relu_backward(rows, rows).shape == reference.softmax_backward(rows, rows).shape == (0, 3)
    for loss, gradient in (reference.cross_entropy(rows, np.zeros(0, int)), reference.mse(rows, rows)):
        assert np.isnan(loss)
        assert gradient.shape == (0, 3)
    assert reference.normalize_uint8(np.zeros((0, 1, 2, 2), np.uint8), 0.5, 0.5).shape == (0, 1, 2, 2)


def test_computes_in_float64_and_writes_to_no_argument():
    x, k = normal(1, 2, 4, 4).astype(np.float32), normal(2, 2, 3, 3, seed=1).astype(np.float32)
    x.flags.writeable = k.flags.writeable = False
    y = reference.conv2d(x, k, padding=1)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, reference.conv2d(x.astype(np.float64), k.astype(np.float64), padding=1))
    y.flags.writeable = False
    assert reference.conv2d_backward_input(y, k, x.shape, padding=1).dtype == np.float64
    for decay in (reference.adam, reference.adamw):
        assert [a.dtype for a in decay(x, x, x, abs(x), 1)] == [np.float64] * 3
    pooled = reference.avg_pool2d(x, 2), reference.max_pool2d(x, 2)[0]
    for result in (*pooled, reference.relu(x), reference.softmax(x[0, 0])):
        assert result.dtype == np.float64
