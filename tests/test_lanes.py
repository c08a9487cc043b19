"""The way into lane blocks and out of them, and the gate in front of it: which arrays are taken, and as what."""

import numpy as np
import pytest
from cases import each_float

import fastconv as fc
from fastconv import blocks, reference
from fastconv import functional as F
from fastconv_kernels import lanes, loss
from fastconv_kernels.runtime import INTERPRETED
from fastconv_kernels.tile import LANES

# Images, and pixels of a plane around the strips in which it is walked.
each_n = pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
each_size = pytest.mark.parametrize(
    "shape",
    [(1,), (5,), (2, 3, 4), (3, 1, lanes.STRIP - 1), (1, 1, lanes.STRIP), (2, 1, lanes.STRIP + 1), (1, 20, 19)],
    ids=str,
)


def laid_out(images):
    """Return (N, ...) as lane blocks (B, ..., 16), zeros in the lanes that hold no image."""
    missing = -len(images) % LANES
    filled = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
    return np.moveaxis(filled.reshape(-1, LANES, *images.shape[1:]), 1, -1)


def dirty(shape, dtype):
    """Return lane blocks that hold anything but what belongs into them."""
    out = blocks.empty(shape, dtype)
    out.array[:] = np.nan
    return out


# ------------------------------------------------------------------------------------------------ packing, unpacking


@each_float
@each_n
@each_size
def test_pack_and_unpack(n, shape, dtype, rng):
    x = rng.standard_normal((n, *shape)).astype(dtype)
    packed = blocks.pack(x, dirty(x.shape, dtype))
    np.testing.assert_array_equal(packed.array, laid_out(x), strict=True)
    assert packed.shape == x.shape
    np.testing.assert_array_equal(blocks.unpack(packed), x, strict=True)


@each_float
@pytest.mark.parametrize("index", [[0], [4, 4, 4], [6, 0, 3], list(range(7)) * 3, [6, 5, 4, 3, 2, 1, 0]], ids=len)
def test_an_index_array_chooses_the_images(index, dtype, rng):
    x, index = rng.standard_normal((7, 2, 3, 3)).astype(dtype), np.array(index)
    shape = (len(index), *x.shape[1:])
    np.testing.assert_array_equal(blocks.pack(x, dirty(shape, dtype), index).array, laid_out(x[index]))
    pixels = rng.integers(0, 256, x.shape).astype(np.uint8)
    table = rng.standard_normal((2, 256)).astype(dtype)
    ref = np.stack([table[c][pixels[index, c]] for c in range(2)], axis=1)
    np.testing.assert_array_equal(blocks.pack_pixels(pixels, table, dirty(shape, dtype), index).array, laid_out(ref))


@each_float
@each_n
@each_size
def test_pixels_are_looked_up_in_their_channels_table(n, shape, dtype, rng):
    pixels = rng.integers(0, 256, (n, *shape)).astype(np.uint8)
    table = rng.standard_normal((shape[0], 256)).astype(dtype)
    ref = np.stack([table[c][pixels[:, c]] for c in range(shape[0])], axis=1)
    comp = blocks.pack_pixels(pixels, table, dirty(pixels.shape, dtype)).array
    np.testing.assert_array_equal(comp, laid_out(ref), strict=True)


def test_every_value_of_a_pixel():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    table = fc.Normalization((0.5,), (0.25,)).table(1, np.float64)
    comp = blocks.unpack(blocks.pack_pixels(pixels, table, dirty(pixels.shape, np.float64)))
    np.testing.assert_array_equal(comp, reference.normalize_uint8(pixels, 0.5, 0.25))


def test_empty_batch():
    out = blocks.empty((0, 3, 2, 2), np.float32)
    assert out.array.shape == (0, 3, 2, 2, 16)
    assert blocks.unpack(blocks.pack(np.zeros((0, 3, 2, 2), np.float32), out)).shape == (0, 3, 2, 2)


def test_flat_is_the_same_memory(rng):
    packed = blocks.pack(rng.standard_normal((17, 2, 3, 4)), blocks.empty((17, 2, 3, 4), np.float64))
    flat = packed.flat()
    assert flat.shape == (17, 24)
    assert np.shares_memory(flat.array, packed.array)
    np.testing.assert_array_equal(blocks.unpack(flat), blocks.unpack(packed).reshape(17, 24))


def test_flatten_layer(rng):
    x = rng.standard_normal((17, 2, 3, 4)).astype(np.float32)
    layer = fc.Flatten()
    np.testing.assert_array_equal(layer.forward(x, training=True), x.reshape(17, 24))
    np.testing.assert_array_equal(layer.backward(x.reshape(17, 24)), x)
    assert layer(x[:0]).shape == (0, 24)


# ----------------------------------------------------------------------------------------- uint8 images in a model


@pytest.mark.parametrize(
    ("mean", "std"), [((0.0,), (1.0,)), ((0.1307,), (0.3081,)), ((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))]
)
def test_a_model_normalises_uint8_images_and_takes_floats_as_they_are(mean, std, rng):
    images = rng.integers(0, 256, (17, 3, 4, 5)).astype(np.uint8)
    model = fc.Sequential(fc.Flatten()).to(np.float64)
    model.normalization = fc.Normalization(mean, std)
    ref = reference.normalize_uint8(images, mean, std).reshape(17, -1)
    np.testing.assert_allclose(model.forward(images), ref, rtol=1e-15)
    np.testing.assert_array_equal(model.forward(images.astype(float)), images.reshape(17, -1))


def test_uint8_images_mapped_from_a_file_are_normalised_too(tmp_path, rng):
    images = rng.integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    model = fc.Sequential(fc.Flatten(), fc.Linear(16, 2))
    np.testing.assert_array_equal(model.forward(mapped), model.forward(images))
    np.testing.assert_array_equal(model.predict_proba(mapped), model.predict_proba(images))


def test_normalization_needs_one_number_a_channel():
    model = fc.Sequential(fc.Flatten())
    model.normalization = fc.Normalization((0.1, 0.2), (1.0,))
    with pytest.raises(fc.ShapeError, match=r"1 or 3 means and standard deviations for 3 channels, got 2 and 1"):
        model.forward(np.zeros((1, 3, 2, 2), np.uint8))


# ----------------------------------------------------------------------------------------------------------- the gate


def unaligned(a):
    memory = np.empty(a.size * 4 + 1, np.uint8)
    view = memory[1:].view(np.float32).reshape(a.shape)
    view[:] = a
    assert not view.flags.aligned
    return view


def read_only(a):
    a = a.astype(np.float32)
    a.flags.writeable = False
    return a


class Image(np.ndarray):
    """A subclass, as other libraries have them."""


TAKEN = {
    "float32": lambda a: a.astype(np.float32),
    "float64": lambda a: a.astype(np.float64),
    "float16": lambda a: a.astype(np.float16),
    "big-endian float32": lambda a: a.astype(">f4"),
    "big-endian float64": lambda a: a.astype(">f8"),
    "big-endian int16": lambda a: a.astype(">i2"),
    "int8": lambda a: a.astype(np.int8),
    "int64": lambda a: a.astype(np.int64),
    "uint16": lambda a: a.astype(np.uint16),
    "uint64": lambda a: a.astype(np.uint64),
    "bool": lambda a: a.astype(bool),
    "Fortran order": lambda a: np.asfortranarray(a, np.float32),
    "every second row": lambda a: np.repeat(a, 2, axis=0).astype(np.float32)[::2],
    "last axis strided": lambda a: np.repeat(a, 2, axis=-1).astype(np.float32)[..., ::2],
    "backwards": lambda a: np.ascontiguousarray(np.flip(a), np.float32)[(slice(None, None, -1),) * a.ndim],
    "transposed": lambda a: np.ascontiguousarray(a.T, np.float64).T,
    "read-only": read_only,
    "broadcast": lambda a: np.broadcast_to(a[:1].astype(np.float32), a.shape),
    "unaligned": unaligned,
    "subclass": lambda a: a.astype(np.float32).view(Image),
    "list": lambda a: a.tolist(),
}

REFUSED = {
    "object": (lambda a: a.astype(object), "float32 or float64, got object"),
    "complex": (lambda a: a.astype(complex), "float32 or float64, got complex128"),
    "text": (lambda a: a.astype(str), "float32 or float64, got <U"),
    "bytes": (lambda a: a.astype(bytes), r"float32 or float64, got \|S"),
    "dates": (lambda a: a.astype("M8[s]"), r"float32 or float64, got datetime64\[s\]"),
    "records": (lambda a: a.astype([("v", "f4")]), "float32 or float64, got "),
    "masked": (lambda a: np.ma.masked_array(a, a > 0), "plain array, got a masked array: fill it first"),
    "list of None": (lambda a: [None] * a.size, "float32 or float64, got object"),
}

_drawn = np.random.default_rng(0).integers(0, 4, 24)
X, WEIGHT, DY = _drawn.reshape(1, 2, 3, 4), _drawn[:16].reshape(2, 2, 2, 2), _drawn[:12].reshape(1, 2, 2, 3)
ROWS, MATRIX = _drawn.reshape(6, 4), _drawn[:8].reshape(2, 4)


def as_parameter(a):
    parameter = fc.Linear(4, 6, bias=False).weight
    parameter.value = a
    return parameter.value


# What is given an odd array, of these values; and what comes out of it by the oracle.
OPERATIONS = {
    "conv2d x": (X, lambda a: F.conv2d(a, WEIGHT), lambda a: reference.conv2d(a, WEIGHT)),
    "conv2d weight": (WEIGHT, lambda a: F.conv2d(X, a), lambda a: reference.conv2d(X, a)),
    "conv2d bias": (_drawn[:2], lambda a: F.conv2d(X, WEIGHT, a), lambda a: reference.conv2d(X, WEIGHT, a)),
    "conv2d_backward dy": (
        DY,
        lambda a: F.conv2d_backward(a, X, WEIGHT)[0],
        lambda a: reference.conv2d_backward_input(a, WEIGHT, X.shape),
    ),
    "max_pool2d": (X, lambda a: F.max_pool2d(a, 2), lambda a: reference.max_pool2d(a, 2)[0]),
    "avg_pool2d": (X, lambda a: F.avg_pool2d(a, 2), lambda a: reference.avg_pool2d(a, 2)),
    "linear x": (ROWS, lambda a: F.linear(a, MATRIX), lambda a: reference.linear(a, MATRIX)),
    "linear weight": (MATRIX, lambda a: F.linear(ROWS, a), lambda a: reference.linear(ROWS, a)),
    "relu": (X, F.relu, reference.relu),
    "softmax": (ROWS, F.softmax, reference.softmax),
    "log_softmax": (ROWS, F.log_softmax, reference.log_softmax),
    "cross_entropy": (
        ROWS[:, :2],
        lambda a: F.cross_entropy(a, [0, 1] * 3),
        lambda a: reference.cross_entropy(a, [0, 1] * 3)[0],
    ),
    "mse_loss": (ROWS, lambda a: F.mse_loss(a, ROWS + 1), lambda a: reference.mse(a, ROWS + 1)[0]),
    "Layer.forward": (X, lambda a: fc.ReLU()(a), reference.relu),
    "Sequential.forward": (X, lambda a: fc.Sequential(fc.ReLU())(a), reference.relu),
    "Parameter.value": (ROWS, as_parameter, lambda a: a),
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())


@pytest.mark.usefixtures("few_tiles")
@each_operation
@pytest.mark.parametrize("kind", TAKEN.values(), ids=TAKEN.keys())
def test_arrays_of_every_kind_give_right_results(kind, operation):
    values, compute, oracle = operation
    given = kind(values)
    plain = np.array(given, np.float64)
    np.testing.assert_allclose(compute(given), oracle(plain), rtol=3e-7)
    np.testing.assert_array_equal(np.array(given, np.float64), plain)


@each_operation
@pytest.mark.parametrize("kind", REFUSED.values(), ids=REFUSED.keys())
def test_what_holds_no_real_numbers_is_refused(kind, operation):
    values, compute, _ = operation
    make, message = kind
    with pytest.raises(TypeError, match=message):
        compute(make(values))


def test_float64_stays_and_everything_else_becomes_float32():
    for kind, make in TAKEN.items():
        wide = kind in ("float64", "big-endian float64", "transposed")
        assert F.relu(make(ROWS)).dtype == (np.float64 if wide else np.float32)


@pytest.mark.skipif(INTERPRETED, reason="nothing is compiled here")
def test_odd_arrays_compile_nothing_new(rng):
    """Each kernel has one signature a dtype, whatever array came: strides, byte order and flags end at the gate."""
    launches = lanes.pack, lanes.pack_pixels, loss.cross_entropy
    pixels, labels = rng.integers(0, 256, (3, 1, 4, 4)).astype(np.uint8), np.array([0, 1, 1])
    model = fc.Sequential(fc.Flatten())

    def use_all():
        model.forward(pixels)
        F.cross_entropy(np.zeros((3, 2), np.float32), labels)
        for dtype in (np.float32, np.float64):
            F.relu(np.zeros((3, 4), dtype))
        return [len(launch.dispatcher.signatures) for launch in launches]

    usual = use_all()
    pixels.flags.writeable = labels.flags.writeable = False
    for make in TAKEN.values():
        F.relu(make(ROWS))
    assert use_all() == usual
