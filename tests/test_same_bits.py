"""The same bits at any thread count, on any processor, in any batch and with any tile.

Every sum has one order, so that nothing of this is a matter of tolerance: SHA-256 and ``==``.
"""

import hashlib
import platform

import llvmlite.binding as llvm
import numpy as np
import pytest
from cases import CONVOLUTIONS, geometry, parametrize
from subprocesses import succeed

import fastconv as fc
from fastconv import functional as F
from fastconv_kernels import bias, conv2d, depthwise, linear, memory, pointwise, winograd
from fastconv_kernels.many import Many
from fastconv_kernels.runtime import INTERPRETED
from fastconv_kernels.tile import LANES


def digest(arrays):
    """Return the SHA-256 of the arrays' bytes."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


# ---------------------------------------------------------------------------------------------------------- threads


def with_dropout():
    return fc.Sequential(
        fc.Conv2d(1, 6, 5, stride=2, padding=2),
        fc.ReLU(),
        fc.AvgPool2d(3, stride=2, padding=1),
        fc.Conv2d(6, 12, 3, groups=2),
        fc.MaxPool2d(2, stride=1),
        fc.Dropout(0.3),
        fc.Flatten(),
        fc.Linear(192, 30),
        fc.ReLU(),
        fc.Dropout(0.5),
        fc.Linear(30, 10),
        seed=3,
    )


def with_branches():
    block = fc.Sequential(fc.Conv2d(6, 6, 3, padding=1, bias=False), fc.BatchNorm2d(6), fc.ReLU(), fc.Conv2d(6, 6, 1))
    return fc.Sequential(
        fc.Conv2d(1, 6, 3, stride=3, bias=False),
        fc.BatchNorm2d(6),
        fc.ReLU(),
        fc.Residual(block),
        fc.ReLU(),
        fc.Residual(fc.Sequential(fc.Conv2d(6, 6, 1), fc.BatchNorm2d(6))),
        fc.ReLU(),
        fc.Concat(fc.Conv2d(6, 4, 1), fc.MaxPool2d(3, 1, 1)),
        fc.BatchNorm2d(10),
        fc.ReLU(),
        fc.MaxPool2d(2),
        fc.GroupNorm(2, 10),
        fc.AvgPool2d(4),
        fc.Flatten(),
        fc.Linear(10, 10),
        fc.BatchNorm1d(10),
        fc.LayerNorm(10),
    )


@pytest.mark.parametrize(
    ("make", "optimizer"),
    [
        (with_branches, lambda: fc.SGD(0.05, momentum=0.9)),
        (fc.models.lenet5, lambda: fc.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)),
        (with_dropout, lambda: fc.AdamW(2e-3)),
    ],
    ids=["branches by SGD", "LeNet-5 by SGD", "dropout by AdamW"],
)
def test_training_gives_one_hash_at_any_thread_count(make, optimizer, threads, rng):
    """Batches are ragged, and large enough that every kernel has work for four threads."""
    images, labels = rng.integers(0, 256, (120, 1, 28, 28)).astype(np.uint8), rng.integers(0, 10, 120)
    hashes = {}
    for count in (1, 2, 3, 4):
        threads(count)
        model, steps = make(), optimizer()
        losses = [
            fc.train_step(model, fc.CrossEntropyLoss(), steps, images[start : start + 73], labels[start : start + 73])
            for start in (0, 40, 13, 7)
        ]
        hashes[count] = digest([*model.state_dict().values(), np.array(losses)])
        assert losses[-1] != losses[0]
    assert len(set(hashes.values())) == 1, hashes


@pytest.mark.parametrize(
    "name",
    [
        "augment",
        "conv",
        "backward",
        "winograd",
        "winograd's filters",
        "pointwise",
        "depthwise",
        "reflect",
        "transposed",
        "linear",
        "softmax",
        "max_pool",
        "avg_pool",
        "loss",
        "soft loss",
        "binary loss",
        "optimisers",
        "sums",
        "element losses",
        "curves",
        "softmax's gradient",
        "sequence",
        "prelu",
        "resizing",
    ],
)
def test_each_operation_gives_the_same_bits_at_any_thread_count(name, threads, rng):
    """Large enough that threads really run side by side, several times over."""
    x, weight, dy, matrix, shares = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((640, 4, 16, 15), (6, 2, 3, 3), (640, 6, 16, 15), (100, 960), (20, 150_000))
    )
    labels = rng.integers(0, 100, 640)
    maps = rng.standard_normal((100, 12, 8, 8)).astype(np.float32)
    filters = {
        size: rng.standard_normal((12, *size)).astype(np.float32) for size in ((12, 3, 3), (12, 1, 1), (1, 3, 3))
    }

    def all_of(weight, *how):
        y = F.conv2d(maps, weight, None, *how)
        return [y, *F.conv2d_backward(y, maps, weight, *how)]

    wide, wide_filters = (rng.standard_normal(s).astype(np.float32) for s in ((100, 28, 8, 8), (28, 28, 3, 3)))

    def transposed_gradients():
        layer = fc.ConvTranspose2d(12, 3, 3, 2, 1, 1)
        layer.weight.value = filters[12, 3, 3][:, :3]
        y = layer.forward(maps, training=True)
        return [y, layer.backward(y), layer.weight.grad, layer.bias.grad]

    def linear_gradients():
        layer = fc.Linear(960, 100)
        layer.weight.value = matrix
        y = layer.forward(x.reshape(640, 960), training=True)
        return [y, layer.backward(y), layer.weight.grad, layer.bias.grad]

    def sums():
        total = np.empty(shares.shape[1], np.float32)
        bias.sum_shares(*Many([(shares, total)]).table, len(shares))
        return [total]

    def loss():
        measured = fc.CrossEntropyLoss()
        return [np.float64(measured(x.reshape(640, 960)[:, :100], labels)), measured.backward()]

    def through(*layers, x=x):
        found = []
        for layer in layers:
            y = layer.forward(x, training=True)
            found += [y, layer.backward(y), *(parameter.grad for parameter in layer.parameters())]
        return found

    def other_loss(measured, target):
        return [np.float64(measured(x.reshape(640, 960), target)), measured.backward()]

    def optimisers():
        moved = []
        for make in (fc.RMSprop, fc.Lion):
            parameter = fc.Parameter(matrix.shape, fc.init.zeros)
            parameter.value, parameter.grad = matrix, matrix[::-1]
            make(weight_decay=0.1, clip_norm=1.0).step([parameter])
            moved.append(parameter.value)
        return moved

    pixels = rng.integers(0, 256, (640, 2, 16, 15)).astype(np.uint8)

    def augmented():
        packing = fc.augment.Augmentation(fc.augment.PRESETS["digits"], (2, 16, 15), np.arange(640), 0).of_epoch(1)
        return [fc.Sequential(fc.Flatten()).run_batch(pixels, None, False, packing).array]

    run = {
        "augment": augmented,
        "curves": lambda: through(fc.GELU(), fc.Tanh(), fc.LogSoftmax(), fc.Dropout2d(0.5)),
        "softmax's gradient": lambda: through(fc.Softmax()),
        "sequence": lambda: through(fc.Conv1d(4, 6, 3, 2, 1, 2, 2), x=x.reshape(640, 4, 240)),
        "prelu": lambda: through(fc.PReLU(), fc.PReLU(4)),
        "resizing": lambda: through(fc.AdaptiveAvgPool2d(7), fc.AdaptiveMaxPool2d(7), fc.Upsample(9, mode="bilinear")),
        "conv": lambda: [F.conv2d(x, weight, None, 1, 1, 1, 2)],
        "backward": lambda: F.conv2d_backward(dy, x, weight, 1, 1, 1, 2),
        "winograd": lambda: all_of(filters[12, 3, 3], 1, 1),
        "winograd's filters": lambda: F.conv2d_backward(wide, wide, wide_filters, 1, 1),
        "pointwise": lambda: all_of(filters[12, 1, 1]),
        "depthwise": lambda: all_of(filters[1, 3, 3], 1, 1, 1, 12),
        "reflect": lambda: all_of(filters[12, 3, 3], 1, ((2, 1), (0, 3)), 1, 1, "reflect"),
        "transposed": transposed_gradients,
        "linear": linear_gradients,
        "softmax": lambda: [F.softmax(x), F.log_softmax(x)],
        "max_pool": lambda: [F.max_pool2d(x, 3, 2, 1)],
        "avg_pool": lambda: [F.avg_pool2d(x, 3, 2, 1)],
        "loss": loss,
        "soft loss": lambda: other_loss(fc.CrossEntropyLoss(0.1), abs(x.reshape(640, 960))),
        "binary loss": lambda: other_loss(fc.BCEWithLogitsLoss(2.0), abs(x.reshape(640, 960))),
        "element losses": lambda: [
            part
            for made in (fc.MSELoss, fc.L1Loss, fc.HuberLoss)
            for part in other_loss(made(), dy[:, :4].reshape(640, 960))
        ],
        "optimisers": optimisers,
        "sums": sums,
    }[name]
    hashes = set()
    for count in (1, 2, 3, 4) * 8:
        threads(count)
        hashes.add(digest(run()))
    assert len(hashes) == 1


# ------------------------------------------------------------------------------------------------------- processors

TRAIN = """
import hashlib, sys
import numpy as np
import fastconv as fc
from fastconv_kernels.tilesize import choose, instruction_set

rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (21, 1, 16, 16)).astype(np.uint8), rng.integers(0, 5, 21)
model = fc.Sequential(
    fc.Conv2d(1, 30, 3, padding=1), fc.ReLU(), fc.MaxPool2d(2),
    fc.Conv2d(30, 30, 3, padding=1), fc.ReLU(),  # Winograd's, the gradient to the filters too
    fc.Conv2d(30, 12, 1), fc.ReLU(), fc.Conv2d(12, 12, 3, padding=1, groups=12), fc.ReLU(),
    fc.GELU(), fc.SiLU(), fc.Tanh(), fc.ELU(), fc.PReLU(12),
    fc.Flatten(), fc.Linear(768, 5), seed=1,
)
loss, optimizer = fc.CrossEntropyLoss(), fc.SGD(0.05, momentum=0.9, weight_decay=1e-3)
found = hashlib.sha256()
for _ in range(5):
    found.update(np.float64(fc.train_step(model, loss, optimizer, images, labels)).tobytes())
for array in model.state_dict().values():
    found.update(array.tobytes())
options = fc.augment.Augment(
    rotate=180, scale=(0.5, 2), shear=30, shift=2, elastic=(9, 2), crop=2, padding_mode="reflect", flip=True, cutout=2,
    brightness=0.3, contrast=0.3, mixup=0.3,
)
augmented = fc.Sequential(fc.Flatten())
packing = fc.augment.Augmentation(options, images.shape[1:], np.arange(21), 5).of_epoch(3)
found.update(augmented.run_batch(images, None, False, packing).array.tobytes())
print(instruction_set(), *choose(12, 12), found.hexdigest())
"""
# An empty list of features means those of the named processor, rather than of this one.
PROCESSORS = {
    "this one": {},
    "generic": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    "haswell": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
    "skylake-avx512": {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": ""},
}
NEEDS = {"haswell": ("avx2", "fma"), "skylake-avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")}


@pytest.mark.skipif(INTERPRETED, reason="nothing is compiled here")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the processors named are x86-64's")
def test_training_gives_one_hash_whatever_processor_the_code_is_for(tmp_path_factory):
    """With other instructions, other vector widths and other tiles; generic code has no fused multiply-add at all."""
    cache, present = tmp_path_factory.mktemp("cache"), llvm.get_host_cpu_features()
    found = {}
    for name, environment in PROCESSORS.items():
        if all(present.get(feature) for feature in NEEDS.get(name, ())):
            folder = {"FASTCONV_CACHE_DIR": cache} if environment else {}
            found[name] = succeed(TRAIN, **folder, **environment).split()
    for name, instructions in (("generic", "generic"), ("haswell", "avx2"), ("skylake-avx512", "avx512")):
        assert found.get(name, [instructions])[0] == instructions
    assert len({tuple(tile) for _, *tile, _ in found.values()}) > 1, "all had the same tiles"
    assert len({sha256 for *_, sha256 in found.values()}) == 1, found


# ----------------------------------------------------------------------------------------------------------- batches

LAYERS = {
    "conv": (lambda: fc.Conv2d(2, 3, 3, padding=1), (2, 5, 6)),
    "winograd": (lambda: fc.Conv2d(12, 12, 3, padding=1), (12, 4, 6)),
    "pointwise": (lambda: fc.Conv2d(12, 12, 1), (12, 4, 6)),
    "depthwise": (lambda: fc.Conv2d(12, 12, 3, padding=1, groups=12), (12, 4, 6)),
    "one-sided padding": (lambda: fc.Conv2d(2, 3, 2, padding=((0, 1), (2, 0))), (2, 5, 6)),
    "circular padding": (lambda: fc.Conv2d(12, 12, 3, padding=1, padding_mode="circular"), (12, 4, 6)),
    "transposed": (lambda: fc.ConvTranspose2d(3, 2, 3, 2, 1, 1), (3, 4, 5)),
    "transposed, winograd": (lambda: fc.ConvTranspose2d(12, 12, 3, padding=1), (12, 4, 6)),
    "sequence": (lambda: fc.Conv1d(3, 4, 3), (3, 9)),
    "max pool": (lambda: fc.MaxPool2d(3, 2, 1), (2, 5, 6)),
    "avg pool": (lambda: fc.AvgPool2d(3, 2, 1), (2, 5, 6)),
    "linear": (lambda: fc.Linear(33, 5), (33,)),
    "relu": (lambda: fc.ReLU(), (7,)),
    "softmax": (lambda: fc.Softmax(), (10,)),
    "leaky relu": (lambda: fc.LeakyReLU(), (7,)),
    "prelu": (lambda: fc.PReLU(2), (2, 5, 6)),
    "elu": (lambda: fc.ELU(), (7,)),
    "gelu": (lambda: fc.GELU(), (7,)),
    "gelu by tanh": (lambda: fc.GELU("tanh"), (7,)),
    "silu": (lambda: fc.SiLU(), (7,)),
    "sigmoid": (lambda: fc.Sigmoid(), (7,)),
    "tanh": (lambda: fc.Tanh(), (7,)),
    "hardswish": (lambda: fc.Hardswish(), (7,)),
    "log softmax": (lambda: fc.LogSoftmax(), (10,)),
    "adaptive avg pool": (lambda: fc.AdaptiveAvgPool2d((3, 4)), (2, 5, 6)),
    "adaptive max pool": (lambda: fc.AdaptiveMaxPool2d((3, 4)), (2, 5, 6)),
    "upsample": (lambda: fc.Upsample(scale_factor=1.7, mode="bilinear"), (2, 5, 6)),
    "upsample, nearest": (lambda: fc.Upsample(scale_factor=(2, 1.7)), (2, 5, 6)),
    "global avg pool": (lambda: fc.GlobalAvgPool2d(), (2, 5, 6)),
    "global max pool": (lambda: fc.GlobalMaxPool2d(), (2, 5, 6)),
    "group norm": (lambda: fc.GroupNorm(2, 4), (4, 5, 6)),
    "group norm of features": (lambda: fc.GroupNorm(3, 12), (12,)),
    "layer norm": (lambda: fc.LayerNorm((2, 5, 6)), (2, 5, 6)),
    "layer norm of features": (lambda: fc.LayerNorm(33), (33,)),
    "residual": (lambda: fc.Residual(fc.Conv2d(2, 2, 3, padding=1)), (2, 5, 6)),
    "parallel": (lambda: fc.Parallel(fc.Conv2d(2, 3, 1), fc.Conv2d(2, 3, 3, padding=1)), (2, 5, 6)),
    "concat": (lambda: fc.Concat(fc.Conv2d(2, 3, 1), fc.MaxPool2d(3, 1, 1), fc.ReLU()), (2, 5, 6)),
    "zero pad": (lambda: fc.ZeroPad2d(1), (2, 5, 6)),
    "lenet": (lambda: fc.models.lenet5(), (1, 28, 28)),
}

CHOSEN = [0], [15], [16], [32], list(range(17)), list(range(32, -1, -1)), [20, 3, 20]
"""Of 33 images: one, a few, a block and one, all in another order, and one twice."""


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_an_images_result_does_not_depend_on_its_batch(make, shape, rng):
    """Neither on its neighbours, nor on its lane, nor on how many blocks there are; forward and back."""
    layer = make()
    x = rng.standard_normal((33, *shape)).astype(np.float32)
    y = layer.forward(x, training=True)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dx = layer.backward(dy)
    for chosen in CHOSEN:
        np.testing.assert_array_equal(layer.forward(x[chosen], training=True), y[chosen])
        np.testing.assert_array_equal(layer.backward(dy[chosen]), dx[chosen])


# Normalisations by running statistics are folded into what is beside them, or follow from the image alone.
FOLDED = {
    "behind a convolution": lambda: fc.Sequential(fc.Conv2d(2, 3, 3, bias=False), fc.BatchNorm2d(3), fc.ReLU()),
    "behind a depthwise one": lambda: fc.Sequential(fc.Conv2d(2, 2, 3, groups=2, bias=False), fc.BatchNorm2d(2)),
    "before a convolution": lambda: fc.Sequential(fc.BatchNorm2d(2), fc.ReLU(), fc.Conv2d(2, 3, 3)),
    "behind a matrix": lambda: fc.Sequential(fc.Flatten(), fc.Linear(60, 7, bias=False), fc.BatchNorm1d(7)),
    "of a branch": lambda: fc.Sequential(fc.Residual(fc.Sequential(fc.Conv2d(2, 2, 1), fc.BatchNorm2d(2))), fc.ReLU()),
}


@pytest.mark.parametrize("make", FOLDED.values(), ids=FOLDED.keys())
def test_an_image_of_a_folded_normalisation_does_not_depend_on_its_batch(make, rng):
    model, x = make(), rng.standard_normal((33, 2, 5, 6)).astype(np.float32)
    model.forward(3 * x + 1, training=True)  # which moves the running statistics
    y = model(x)
    for chosen in CHOSEN:
        np.testing.assert_array_equal(model(x[chosen]), y[chosen])


@pytest.mark.parametrize("make", [fc.models.lenet5, with_branches], ids=["LeNet-5", "branches"])
def test_predictions_do_not_depend_on_the_batch_size(make, rng):
    model, x = make(), rng.integers(0, 256, (50, 1, 28, 28)).astype(np.uint8)
    fc.train_step(model, fc.CrossEntropyLoss(), fc.SGD(0.05), x, np.arange(50) % 10)
    ref = model.predict_proba(x)
    for batch_size in (1, 7, 16, 33):
        np.testing.assert_array_equal(model.predict_proba(x, batch_size), ref)


# ------------------------------------------------------------------------------------------------------------- tiles

TILES = [(1, 1), (1, 3), (2, 3), (4, 2), (3, 4)]


def tiles(rows, columns):
    found = [(m, p) for m, p in TILES if m <= rows and p <= columns]
    assert len(found) > 1
    return found


SOME = ("plain", "the blog's", "padding beyond filter", "dilation divides stride")


@parametrize({name: CONVOLUTIONS[name] for name in SOME})
def test_a_convolutions_tile_changes_no_bit(case, rng):
    (_, channels, *size), (_, *taps), *how = case
    case = (2 * LANES, channels, *size), (5, *taps), *how
    k, b = (rng.standard_normal(shape).astype(np.float32) for shape in (geometry(case).weight, 5))
    x = rng.standard_normal((2, channels, *size, LANES)).astype(np.float32)
    lines, (height, width) = geometry(case).forward_lines(), geometry(case).output
    results, shares = set(), set()
    for m, p in tiles(5, width):
        packed = np.empty(conv2d.packed_shape(1, 5, channels, taps, m), np.float32)
        conv2d.pack_forward(k, packed)
        y = np.empty((2, 5, height, width, LANES), np.float32)
        conv2d.forward(m, p)(x, packed, b, y, *lines, False)
        results.add(digest([y]))
    over_channels = [conv2d.backward_filter(m, p) for m, p in TILES if p <= channels]
    over_taps = [conv2d.backward_filter_rows(m, p) for m, p in TILES if p <= taps[1]]
    for run in over_channels + over_taps:
        share = np.empty((2, *k.shape), np.float32)
        run(y, x, share, *lines)
        shares.add(digest([share]))
    assert (len(results), len(shares)) == (1, 1)


def test_winograds_tile_and_patches_of_a_task_change_no_bit(rng):
    x, y = (rng.standard_normal((2, rows, 11, 13, LANES)).astype(np.float32) for rows in (4, 5))
    k, b = rng.standard_normal((5, 4, 3, 3)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    hashes = set()
    for m, p in ((1, 1), (2, 3), (4, 2)):
        packed = np.empty((-(-5 // m), 36, 4 + 1, m), np.float32)
        winograd.pack_filters(k, packed, False)
        for together in (p, p + 2, 12):
            scratch = memory.scratch((36, 4 + m + 1, together, LANES), np.float32)
            winograd.forward(m, p)(x, packed, b, y, (1, 1), False, scratch)
            hashes.add(digest([y]))
    assert len(hashes) == 1


def test_a_pointwise_convolutions_tile_and_pixels_of_a_task_change_no_bit(rng):
    x, y = (rng.standard_normal((2, rows, 19, LANES)).astype(np.float32) for rows in (4, 5))
    k, b = rng.standard_normal((5, 4, 1, 1)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    hashes = set()
    for m, p in ((1, 1), (2, 3), (4, 2)):
        packed = np.empty(conv2d.packed_shape(1, 5, 4, (1, 1), m), np.float32)
        conv2d.pack_forward(k, packed)
        for together in (p, p + 2, 19):
            pointwise.forward(m, p)(x, packed[0, :, :, 0, 0], b, y, False, together)
            hashes.add(digest([y]))
    assert len(hashes) == 1


def test_a_depthwise_convolutions_tile_changes_no_bit(rng):
    case = geometry(((32, 3, 5, 18), (3, 3, 4), (1, 2), (1, 2), 1, 3))
    x, dy = (rng.standard_normal((2, 3, *size, LANES)).astype(np.float32) for size in (case.image, case.output))
    k = rng.standard_normal((3, 3, 4)).astype(np.float32)
    b, scratch = k[:, 0, 0].copy(), memory.scratch((3, 4, LANES), np.float32)
    hashes = set()
    for p in (1, 3, depthwise.PIXELS):
        y, dx, shares = np.empty_like(dy), np.empty_like(x), np.empty((2, 3, 3, 4), np.float32)
        depthwise.forward(p, 4, 2, 1)(x, k, b, y, (1, 1, -1), -2, False)
        depthwise.backward_input(p)(dy, k, b, dx, *depthwise.remainders(case), False)
        depthwise.backward_filter(p, 4, 2, 1)(dy, x, shares, (1, 1, -1), -2, scratch)
        hashes.add(digest([y, dx, shares]))
    assert len(hashes) == 1


def test_a_matrix_tile_changes_no_bit(rng):
    x, dy = (rng.standard_normal((5, features, LANES)).astype(np.float32) for features in (70, 9))
    w, b = rng.standard_normal((9, 70)).astype(np.float32), rng.standard_normal(9).astype(np.float32)
    transposed = np.empty((5 * LANES, 80), np.float32)
    linear.transpose_lanes(x, transposed)
    hashes = set()
    for m, p in tiles(9, 5):
        y, dx, dw = np.empty_like(dy), np.empty_like(x), np.empty_like(w)
        linear.forward(m, p)(x, w, b, y, False)
        linear.backward_input(m, p)(dy, w, dx)
        linear.backward_weight(m, p)(dy, transposed, len(transposed), dw)
        hashes.add(digest([y, dx, dw]))
    assert len(hashes) == 1


@pytest.mark.skipif(INTERPRETED, reason="NumPy has no fused multiply-add")
def test_a_multiply_add_rounds_once():
    """(1 + d)**2 - (1 + 2d) is d**2, which a product rounded by itself would lose."""
    d = np.float32(2.0**-12)
    x, weight, bias = np.full((1, 1, 1, 1), 1 + d), np.full((1, 1, 1, 1), 1 + d), np.array([-(1 + 2 * d)])
    assert F.conv2d(x, weight, bias).item() == d * d
    assert F.linear(x[:, :, 0, 0], weight[:, :, 0, 0], bias).item() == d * d
