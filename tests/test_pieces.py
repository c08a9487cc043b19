"""Few images in pieces: from convolution to convolution without being put together."""

import numpy as np
import pytest
from cases import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv_kernels import convolution, memory, pieces
from fastconv_kernels.tile import LANES


@pytest.fixture
def small_ones_too(monkeypatch):
    monkeypatch.setattr(pieces, "_LEAST", 0)
    monkeypatch.setattr(pieces, "_LEAST_EACH", 0)


@pytest.fixture
def nan_memory(monkeypatch):
    """What nobody writes is NaN, so that a sum that it takes part in shows."""
    empty = memory.empty

    def full_of_nan(shape, dtype):
        array = empty(shape, dtype)
        array[...] = np.nan if np.dtype(dtype).kind == "f" else 0
        return array

    monkeypatch.setattr(memory, "empty", full_of_nan)


def chain(dtype=np.float64, pool=None):
    return fc.Sequential(
        fc.Conv2d(2, 3, 3, padding=1),
        fc.ReLU(),
        fc.Conv2d(3, 4, (3, 2)),
        fc.ReLU(),
        pool or fc.MaxPool2d(2),
        fc.Conv2d(4, 3, 3, padding=1),
        fc.AvgPool2d((2, 1)),
        fc.Conv2d(3, 5, 2, padding=1, dilation=2, bias=False),
        fc.Flatten(),
    ).to(dtype)


def wide_chain(dtype):
    """Of convolutions by Winograd's patches."""
    return fc.Sequential(
        fc.Conv2d(2, 12, 3, padding=1),
        fc.ReLU(),
        fc.Conv2d(12, 12, 3, padding=1),
        fc.ReLU(),
        fc.MaxPool2d(2),
        fc.Conv2d(12, 11, 3, padding=1),
        fc.Flatten(),
    ).to(dtype)


def with_integers(model, rng):
    for parameter in model.parameters():
        parameter.value = rng.integers(-2, 3, parameter.shape)
    return model


def trained_once(model, x, dy):
    y = model.forward(x, training=True)
    dx = model.backward(dy)
    return y, dx, [parameter.grad.copy() for parameter in model.parameters()]


@pytest.mark.usefixtures("few_tiles", "small_ones_too", "nan_memory")
@pytest.mark.parametrize("size", [(8, 8), (9, 12), (13, 7), (7, 6)], ids=str)
@pytest.mark.parametrize("images", [1, 2, 3, 8])
def test_a_chain_in_pieces_is_the_chain(images, size, monkeypatch):
    """On integers, so that sums over pieces are those over images to the last bit."""
    rng = np.random.default_rng(images)
    model = with_integers(chain(), rng)
    x = rng.integers(-3, 4, (images, 2, *size)).astype(float)
    dy = rng.integers(-2, 3, model.output_shape(x.shape)).astype(float)
    cut = trained_once(model, x, dy)
    assert any(work.left for _, work in model._running.work.steps), "in pieces"
    assert_same_bits(model(x), cut[0])
    monkeypatch.setattr(pieces, "MOST_IMAGES", 0)
    model = with_integers(chain(), np.random.default_rng(images))
    y, dx, gradients = trained_once(model, x, dy)
    assert not any(work.left for _, work in model._running.work.steps)
    np.testing.assert_array_equal(cut[0], y)
    np.testing.assert_array_equal(cut[1], dx)
    for mine, theirs in zip(cut[2], gradients, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.usefixtures("few_tiles", "small_ones_too", "nan_memory")
@pytest.mark.parametrize("make", [chain, wide_chain])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_image_has_the_same_bits_alone_and_among_sixteen(dtype, make):
    rng = np.random.default_rng(5)
    model, x = make(dtype), rng.standard_normal((16, 2, 9, 12)).astype(dtype)
    dy = rng.standard_normal(model.output_shape(x.shape)).astype(dtype)
    y, dx, _ = trained_once(model, x, dy)
    for images in (1, 3):
        mine = trained_once(model, x[:images], dy[:images])
        assert_same_bits(mine[0], y[:images])
        assert_same_bits(mine[1], dx[:images])


@pytest.mark.usefixtures("few_tiles", "small_ones_too", "nan_memory")
def test_the_gradients_of_a_chain_in_pieces():
    rng = np.random.default_rng(6)
    fc.gradcheck(chain(), rng.standard_normal((2, 2, 9, 7)))  # raises if they disagree


def kinds(model, shape):
    model.forward(np.zeros(shape, np.float32), training=True)
    return [(type(layer).__name__, work.left is not None) for layer, work in model._running.work.steps]


def test_images_stay_in_pieces_as_long_as_they_can():
    net = fc.Sequential(
        fc.Conv2d(1, 32, 3, padding=1), fc.ReLU(), fc.Conv2d(32, 32, 3, padding=1), fc.ReLU(), fc.MaxPool2d(2),
        fc.Conv2d(32, 64, 3, padding=1), fc.ReLU(), fc.MaxPool2d(2), fc.Flatten(), fc.Linear(3136, 10),
    )  # fmt: skip
    assert kinds(net, (1, 1, 28, 28)) == [
        ("Conv2d", True),
        ("Conv2d", True),
        ("MaxPool2d", True),
        ("Conv2d", True),
        ("MaxPool2d", True),
        ("Together", False),
        ("Flatten", False),
        ("Linear", False),
    ]
    assert not any(left for _, left in kinds(net, (9, 1, 28, 28)))


def test_who_takes_no_pieces_gets_images():
    convolved = [fc.Conv2d(3, 32, 3, padding=1), fc.ReLU()]
    for layers in (
        [fc.MaxPool2d(3, 2)],
        [fc.MaxPool2d(7)],
        [fc.MaxPool2d(2, padding=1)],
        [fc.AvgPool2d(2, ceil_mode=True)],
        [fc.Conv2d(32, 8, 3, stride=2)],
        [fc.Conv2d(32, 32, 3, groups=32)],
        [fc.Conv2d(32, 32, 3, padding=1, padding_mode="reflect")],
        [fc.Conv2d(32, 2, 1)],
    ):
        found = kinds(fc.Sequential(*convolved, *layers), (2, 3, 28, 28))
        assert found[:2] == [("Conv2d", True), ("Together", False)], layers
    normalised = kinds(fc.Sequential(convolved[0], fc.BatchNorm2d(32), fc.ReLU()), (2, 3, 28, 28))
    assert normalised == [("Conv2d", False), ("BatchNorm2d", False)]


def test_a_sequential_gives_images():
    inner = fc.Sequential(fc.Conv2d(16, 16, 3, padding=1), fc.ReLU(), fc.MaxPool2d(2))
    assert kinds(inner, (1, 16, 28, 28)) == [("Conv2d", True), ("MaxPool2d", True), ("Together", False)]
    model = fc.Sequential(
        fc.Conv2d(3, 16, 3, padding=1), fc.Residual(fc.Sequential(*inner.layers[:1])), *inner.layers[1:]
    )
    x = np.random.default_rng(0).standard_normal((16, 3, 28, 28)).astype(np.float32)
    assert_same_bits(model(x[:1]), model(x)[:1])


def test_sequences_are_not_cut_between_layers():
    model = fc.Sequential(fc.Conv1d(8, 32, 5), fc.ReLU(), fc.Conv1d(32, 32, 5))
    assert not any(left for _, left in kinds(model, (1, 8, 2000)))


@given(
    images=st.integers(1, 8),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.integers(1, 3),
    multiple=st.sampled_from([2, 4]),
)
def test_what_is_cut_comes_together_again(images, size, channels, multiple):
    rng = np.random.default_rng(0)
    spread, whole = pieces.spread(images, size, multiple), pieces.whole(images, size)
    assert not any(side % multiple for side in spread.piece)
    assert images * spread.rows * spread.columns <= LANES
    x = rng.integers(1, 1000, (1, channels, *size, LANES)).astype(np.float32)
    cut, back = spread.empty(channels, np.float32), np.empty_like(x)
    pieces.Move(whole, spread)(x, cut)
    assert cut.sum(dtype=np.float64) == x[..., :images].sum(dtype=np.float64), "every pixel once, and zeros"
    pieces.Move(spread, whole)(cut, back)
    np.testing.assert_array_equal(back[..., :images], x[..., :images])
    assert not back[..., images:].any()


def test_pieces_of_one_spread_are_those_of_another():
    rng, size = np.random.default_rng(1), (10, 7)
    x = rng.standard_normal((1, 2, *size, LANES))
    first, second = (pieces.Spread(2, *grid, size, piece) for grid, piece in (((4, 2), (3, 4)), ((1, 8), (10, 1))))
    whole = pieces.whole(2, size)
    one, two, direct = (spread.empty(2, float) for spread in (first, second, second))
    pieces.Move(whole, first)(x, one)
    pieces.Move(first, second)(one, two)
    pieces.Move(whole, second)(x, direct)
    assert_same_bits(two, direct)


def test_the_choice_looks_at_what_must_be_moved():
    found = convolution.Geometry((32, 1, 3, 3), (28, 28), (28, 28), (1, 1), (1, 1), (1, 1), 1, np.dtype(np.float32))
    assert not pieces.pays(found, 1), "one channel in, thirty-two out and back into place"
    assert pieces.pays(found, 1, stays=True)
