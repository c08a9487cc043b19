"""Augmentation: the packing kernel against its naive twin, exact cases, and that it is a pure function."""

import math

import numpy as np
import pytest
from cases import each_float

import fastconv as fc
from fastconv import blocks, reference
from fastconv.augment import PRESETS, Augment, Augmentation, preview
from fastconv.losses import LossResult
from fastconv_kernels import augment as kernels
from fastconv_kernels.counter import random_bits, uniform
from fastconv_kernels.runtime import INTERPRETED, kernel
from fastconv_kernels.trigonometry import cos_sin

ALL = Augment(
    rotate=25,
    scale=(0.7, 1.4),
    shear=15,
    shift=2.5,
    elastic=(12, 2.0),
    crop=2,
    padding_mode="reflect",
    flip=True,
    cutout=(3, 2),
    brightness=0.3,
    contrast=0.4,
    fill=9,
)
EVERYTHING = {
    "nothing": Augment(),
    "affine": Augment(rotate=180, scale=(0.5, 2), shear=30, shift=3),
    "elastic": Augment(elastic=(20, 2.5)),
    "wide elastic": Augment(elastic=(60, 30), fill=255),
    "crop": Augment(crop=3, flip=True),
    "reflect": Augment(crop=2, padding_mode="reflect", rotate=20),
    "tint": Augment(brightness=0.5, contrast=1, fill=70),
    "cutout": Augment(cutout=(4, 3), fill=128, shift=1),
    "all": ALL,
    "mixed": Augment(mixup=0.4, rotate=20, cutout=2),
}
each_option = pytest.mark.parametrize("options", EVERYTHING.values(), ids=EVERYTHING.keys())
each_shape = pytest.mark.parametrize("shape", [(1, 5, 7), (3, 4, 3), (2, 3, 17), (1, 9, 16)], ids=str)


def drawn(n, shape):
    return np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(np.uint8)


def packing(options, images, seed=3, epoch=2, pool=None):
    pool = np.arange(len(images)) if pool is None else pool
    return Augmentation(options, images.shape[1:], pool, seed).of_epoch(epoch)


def packed(pack, images, index=None, dtype=np.float32, table=None):
    """Return the lane blocks that hold the images, as values from 0 to 255 unless there is a table."""
    if table is None:
        table = np.tile(np.arange(256, dtype=dtype), (images.shape[1], 1))
    n = len(images) if index is None else len(index)
    out = blocks.empty((n, *images.shape[1:]), dtype)
    out.array[:] = np.nan
    return pack(images, table, out, None if index is None else np.asarray(index))


def seen(*arguments, **options):
    return blocks.unpack(packed(*arguments, **options))


# ----------------------------------------------------------------------------------------------------- the tools


@pytest.mark.parametrize("degrees", [0.0, 1e-9, 10.0, -44.999, 45.0, 45.001, -89.5, 123.4, -179.9, 180.0])
def test_cosine_and_sine(degrees):
    @kernel()
    def run(crew, degrees, out):
        out[0], out[1] = cos_sin(degrees)

    out = np.empty(2)
    run(degrees, out)
    np.testing.assert_allclose(out, [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))], atol=3e-16)
    if degrees % 90 == 0:
        assert set(np.abs(out)) == {0.0, 1.0}


def test_random_bits_are_those_of_the_naive_twin():
    @kernel()
    def run(crew, key, out, numbers):
        for k in range(out.shape[0]):
            out[k], numbers[k] = random_bits(key, np.uint64(k)), uniform(key, np.uint64(k))

    out, numbers = np.empty(100, np.uint64), np.empty(100)
    run(np.uint64(2**64 - 5), out, numbers)
    bits = [reference.random_bits(2**64 - 5, k) for k in range(100)]
    assert out.tolist() == bits
    assert numbers.tolist() == [((b >> 12) + 0.5) / 2**52 for b in bits]


# ------------------------------------------------------------------------------------------------- the naive twin


def twin(options, images, number, pack):
    """Return what becomes of an image, from random numbers drawn by the twins of the kernel's functions."""
    size, key = images.shape[2:], reference.random_bits(int(pack._key), int(number))

    def uniform(k):
        return ((reference.random_bits(key, k) >> 12) + 0.5) / 2**52

    def either_way(k, most):
        return most * (2 * uniform(k) - 1)

    least, most = options.scale
    matrix = reference.augmentation_matrix(
        size,
        either_way(0, options.rotate),
        either_way(1, options.shear),
        least + (most - least) * uniform(2),
        (either_way(3, options.shift), either_way(4, options.shift)),
        options.flip and uniform(5) < 0.5,
        tuple(math.floor((2 * options.crop + 1) * uniform(k)) - options.crop for k in (6, 7)),
    )
    displacement = None
    if options.elastic is not None:
        alpha, sigma = options.elastic
        spacing = math.sqrt(3) * sigma
        columns = -(-size[1] // 16) * 16
        grid = tuple(int((length - 1) / spacing) + 4 for length in (size[0], columns))
        bits = [reference.random_bits(key, (1 << 17) + k) for k in range(grid[0] * grid[1])]
        knots = np.array([[((b >> 32) + 0.5) / 2**31 - 1 for b in bits], [(b % 2**32 + 0.5) / 2**31 - 1 for b in bits]])
        knots *= alpha / (2 * math.sqrt(math.pi) * sigma * 151 / 315)
        displacement = reference.elastic_displacement(knots.reshape(2, *grid), spacing, size)
    side, count = options.squares
    squares = [
        (
            math.floor(size[0] * uniform(10 + 2 * k)) - side // 2,
            math.floor(size[1] * uniform(11 + 2 * k)) - side // 2,
            side,
        )
        for k in range(count)
    ]
    tint = 1 + either_way(8, options.contrast), either_way(9, options.brightness)
    return reference.augment(images[number], matrix, displacement, options.border, options.fill, *tint, squares)


@each_option
@each_shape
@each_float
def test_against_the_naive_twin(options, shape, dtype):
    images = drawn(17, shape)
    pack, index = packing(options, images), np.array([3, 16, 0, 3])
    if options.mixup:
        table, partner = pack.draw(index)
        share = table[:4, kernels.SHARE, None, None, None]
        plain = Augment(**{**vars(options), "mixup": 0.0, "cutout": 0})
        own, other = (np.stack([twin(plain, images, n, pack) for n in numbers]) for numbers in (index, partner))
        ref = share * own + (1 - share) * other
        holes = np.stack([twin(Augment(cutout=options.cutout, fill=1), images * 0, n, pack) for n in index])
        ref = np.where(holes == 1, 0, ref)
    else:
        ref = np.stack([twin(options, images, n, pack) for n in index])
    # Places are rounded to the dtype; a pixel apart, images differ by up to 255.
    atol = 255 * 200 * np.finfo(dtype).eps
    np.testing.assert_allclose(seen(pack, images, index, dtype), ref, atol=atol)


def test_elastic_displacements_vary_as_simards_do():
    """A field of uniform numbers, averaged by a bell: its variance is alpha^2 / 3 / (4 pi sigma^2)."""
    alpha, sigma = 34.0, 4.0
    spacing = math.sqrt(3) * sigma
    amplitude = (
        Augmentation(Augment(elastic=(alpha, sigma)), (1, 28, 28), np.arange(1), 0).bend(np.dtype("f8")).amplitude
    )
    knots = np.random.default_rng(0).uniform(-amplitude, amplitude, (2, 30, 30))
    found = reference.elastic_displacement(knots[:, :12, :12], spacing, (50, 50)).var()
    assert found == pytest.approx(alpha**2 / 3 / (4 * math.pi * sigma**2), rel=0.25)


# ------------------------------------------------------------------------------------------------------ exact cases


@each_float
@each_shape
@pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
def test_options_that_change_nothing_are_pack_pixels(n, shape, dtype, rng):
    images, table = drawn(n, shape), np.sort(rng.standard_normal((shape[0], 256)).astype(dtype))
    ref = blocks.pack_pixels(images, table, blocks.empty(images.shape, dtype)).array
    for options in (Augment(), Augment(padding_mode="reflect", fill=200)):
        np.testing.assert_array_equal(
            packed(packing(options, images), images, None, dtype, table).array, ref, strict=True
        )


def test_one_pixel_and_no_image():
    images = drawn(3, (1, 1, 1))
    np.testing.assert_array_equal(seen(packing(Augment(flip=True, rotate=90), images), images), images)
    assert seen(packing(ALL, drawn(1, (1, 5, 7))), drawn(0, (1, 5, 7))).shape == (0, 1, 5, 7)


@each_float
def test_a_crop_is_a_window_of_the_padded_image(dtype):
    images = drawn(200, (2, 6, 7))
    for mode in ("constant", "reflect"):
        padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode)
        found = seen(packing(Augment(crop=2, padding_mode=mode), images), images, None, dtype)
        windows = [padded[:, :, i : i + 6, j : j + 7] for i in range(5) for j in range(5)]
        matches = np.array([(found == window).all(axis=(1, 2, 3)) for window in windows])
        assert matches.any(axis=0).all()
        assert matches.any(axis=1).all()  # of 200 images, each of 25 windows


def test_half_of_the_images_are_flipped():
    images = drawn(200, (3, 4, 5))
    found = seen(packing(Augment(flip=True), images), images)
    flipped = (found == images[..., ::-1]).all(axis=(1, 2, 3))
    assert ((found == images).all(axis=(1, 2, 3)) != flipped).all()
    assert 70 < flipped.sum() < 130


def test_what_moves_out_is_gone_and_fill_comes_in():
    images = drawn(50, (1, 4, 4))
    assert (seen(packing(Augment(shift=1000, fill=7), images), images) == 7).mean() > 0.9


def test_squares_are_cut_out():
    images = np.full((50, 2, 8, 9), 255, np.uint8)
    found = seen(packing(Augment(cutout=4, fill=3), images), images)
    holes = (found == 3).sum(axis=(2, 3))
    assert set(np.unique(found)) == {3.0, 255.0}
    assert holes.max() == 16
    assert holes.min() >= 4
    assert (holes[:, 0] == holes[:, 1]).all()


def test_brightness_and_contrast_stay_between_black_and_white():
    images = drawn(60, (1, 6, 6))
    found = seen(packing(Augment(brightness=1, contrast=1), images), images)
    assert found.min() == 0
    assert found.max() == 255
    assert len(np.unique(found)) > 500


# -------------------------------------------------------------------------------------------------- a pure function


@each_option
def test_an_image_becomes_the_same_in_any_batch(options, threads):
    """At any thread count, batch size and order; anew in each epoch and for each seed."""
    n = 20 if INTERPRETED else 70
    images = drawn(n, (2, 9, 8))
    ref = seen(packing(options, images), images)
    for count in (1,) if INTERPRETED else (1, 2, 4):
        threads(count)
        pack = packing(options, images)
        for size in (1, 16, 37):
            for start in range(0, n, size):
                part = np.arange(n)[start : start + size]
                np.testing.assert_array_equal(seen(pack, images, part), ref[part])
        np.testing.assert_array_equal(seen(pack, images, np.arange(n)[::-1].copy()), ref[::-1])
    if options != Augment():
        assert (seen(packing(options, images, epoch=3), images) != ref).any()
        assert (seen(packing(options, images, seed=4), images) != ref).any()


@pytest.mark.parametrize("seed", [0, 2**70])
def test_apply_is_what_training_sees(seed):
    images = drawn(20, (3, 8, 8))
    ref = np.rint(seen(packing(ALL, images, seed=seed), images)).astype(np.uint8)
    np.testing.assert_array_equal(ALL.apply(images, np.arange(20), 2, seed), ref, strict=True)
    np.testing.assert_array_equal(ALL.apply(images, [4, -1], 2, seed), ref[[4, 19]])
    np.testing.assert_array_equal(ALL.apply(images, 4, 2, seed), ref[4])
    with pytest.raises(IndexError):
        ALL.apply(images, 20, 2)


# ----------------------------------------------------------------------------------------------------------- mixtures


def test_targets_are_mixed_as_the_images_are():
    """Images that are one grey each, their number: from a mixture follow the shares and the partner."""
    images = np.repeat(np.arange(0, 250, 5, np.uint8), 4).reshape(50, 1, 2, 2)
    labels, pool = np.arange(50) % 7, np.arange(0, 50, 2)
    pack, index = packing(Augment(mixup=1.0), images, pool=pool), np.arange(50)
    table, partner = pack.draw(index)
    assert set(partner) <= set(pool)
    share = table[:50, kernels.SHARE]
    values = seen(pack, images, dtype=np.float64)[:, 0, 0, 0]
    np.testing.assert_allclose(values, share * 5 * index + (1 - share) * 5 * partner, rtol=1e-14)
    targets = pack.targets(labels, index, 7, np.float64)
    ref = share[:, None] * np.eye(7)[labels] + (1 - share[:, None]) * np.eye(7)[labels[partner]]
    np.testing.assert_allclose(targets, ref, rtol=1e-14)
    some = np.array([31, 2])
    np.testing.assert_array_equal(pack.targets(labels, some, 7, np.float32), ref[some].astype(np.float32))


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3, 1)])
def test_targets_that_are_no_labels_are_mixed_as_they_are(shape, rng):
    pack, index = packing(Augment(mixup=1.0), drawn(50, (1, 2, 2))), np.array([31, 2, 7])
    table, partner = pack.draw(index)
    share = table[:3, kernels.SHARE]
    target = rng.standard_normal((50, *shape))
    ref = [a * target[i] + (1 - a) * target[j] for a, i, j in zip(share, index, partner, strict=True)]
    mixed = pack.targets(target, index, 7, np.float64)
    np.testing.assert_allclose(mixed, ref, rtol=1e-14)
    assert mixed.shape == (3, *shape)


def test_several_whole_numbers_an_image_are_not_mixed():
    pack = packing(Augment(mixup=1.0), drawn(5, (1, 2, 2)))
    with pytest.raises(TypeError, match=r"Augment: expected labels, .* or floats to mix, got int64 of shape \(5, 2\)"):
        pack.targets(np.zeros((5, 2), np.int64), np.arange(5), 7, np.float32)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 4.0])
def test_shares_are_drawn_from_the_beta_distribution(alpha):
    images = np.zeros((300 if INTERPRETED else 4000, 1, 1, 1), np.uint8)
    table, _ = packing(Augment(mixup=alpha), images).draw(np.arange(len(images)))
    share = table[: len(images), kernels.SHARE]
    assert share.mean() == pytest.approx(0.5, abs=0.06)
    assert share.var() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.25)


# ----------------------------------------------------------------------------------------------------------- training


def trained(images, labels, **options):
    model = fc.Sequential(fc.Flatten(), fc.Linear(images[0].size, 3), seed=1)
    history = model.fit(images, labels, epochs=2, verbose=False, **options)
    return model.state_dict()["1.weight"], [record["val_loss"] for record in history]


def test_fit_trains_on_augmented_images_and_validates_on_plain_ones():
    images, labels = drawn(60, (1, 5, 6)), np.arange(60) % 3
    plain, val = trained(images, labels, validation_data=(images, labels))
    same, same_val = trained(images, labels, validation_data=(images, labels), augment=Augment())
    np.testing.assert_array_equal(same, plain)
    assert same_val == val
    for augment in (ALL, "digits"):
        moved, _ = trained(images, labels, augment=augment)
        assert (moved != plain).any()
        np.testing.assert_array_equal(trained(images, labels, augment=augment)[0], moved)
    model = fc.Sequential(fc.Flatten(), fc.Linear(30, 3), seed=1)
    history = model.fit(images, labels, 1, verbose=False, augment=ALL, validation_data=(images, labels))
    assert history[0]["val_loss"] == pytest.approx(model.evaluate(images, labels)["loss"])


def test_fit_may_hold_out_the_same_share_of_each_class():
    images, labels = drawn(40, (1, 5, 6)), np.repeat([0, 1, 2], [28, 8, 4])
    _, held_out = fc.data.split(40, 0.25, 0, labels)
    assert np.bincount(labels[held_out]).tolist() == [7, 2, 1]
    model = fc.Sequential(fc.Flatten(), fc.Linear(30, 3), seed=1)
    history = model.fit(images, labels, 1, verbose=False, validation_split=0.25, stratify=True)
    loss = model.evaluate(images[held_out], labels[held_out])["loss"]
    assert history[0]["val_loss"] == pytest.approx(loss, rel=1e-12)


def test_a_step_of_fit_is_a_step_on_what_apply_shows():
    images, labels = drawn(20, (1, 5, 6)), np.arange(20) % 3
    augment = Augment(crop=2, flip=True)  # whole pixels
    weights, _ = trained(images, labels, batch_size=20, schedule="constant", augment=augment)
    model, loss, optimizer = (
        fc.Sequential(fc.Flatten(), fc.Linear(30, 3), seed=1),
        fc.CrossEntropyLoss(),
        fc.optim.by_name("sgd"),
    )
    for epoch in (1, 2):
        order = fc.data.permutation(20, 0, epoch)
        fc.train_step(model, loss, optimizer, augment.apply(images, order, epoch), labels[order])
    np.testing.assert_array_equal(model.state_dict()["1.weight"], weights)


def test_fit_mixes_targets():
    given = []

    class SoftLoss(fc.CrossEntropyLoss):
        """Cross-entropy that takes float[N, classes]."""

        def check_target(self, target, shape):
            if np.asarray(target).ndim == 1:
                return super().check_target(target, shape)
            given.append(target)
            return target

        def of_blocks(self, y, target):
            logits = blocks.unpack(y)
            dy = ((reference.softmax(logits) - target) / len(logits)).astype(logits.dtype)
            loss = -(target * reference.log_softmax(logits)).sum() / len(logits)
            return LossResult(float(loss), blocks.pack(dy, blocks.empty(dy.shape, dy.dtype)), None)

    images, labels = drawn(60, (1, 5, 6)), np.arange(60) % 3
    augment = Augment(mixup=0.5)
    trained(images, labels, augment=augment, batch_size=25, loss=SoftLoss())
    for epoch in (1, 2):
        pack, order = packing(augment, images, 0, epoch), fc.data.permutation(60, 0, epoch)
        ref = pack.targets(labels, order, 3, np.float32)
        np.testing.assert_array_equal(np.concatenate(given[3 * epoch - 3 : 3 * epoch]), ref, strict=True)
    assert given[0].sum(axis=1) == pytest.approx(1)


def test_mixed_labels_and_their_probabilities_are_one_to_cross_entropy():
    images, labels = drawn(60, (1, 5, 6)), np.arange(60) % 3
    options = {"augment": Augment(mixup=0.5), "batch_size": 25, "loss": fc.CrossEntropyLoss(0.1)}
    of_labels, _ = trained(images, labels, **options)
    of_soft, _ = trained(images, np.eye(3, dtype=np.float32)[labels], **options)
    np.testing.assert_allclose(of_labels, of_soft, rtol=1e-5, atol=1e-7)
    unmixed, _ = trained(images, labels, **options | {"augment": None})
    assert abs(of_labels - unmixed).max() > 0.01


@pytest.mark.parametrize("loss", [fc.MSELoss(), fc.L1Loss(), fc.HuberLoss(), fc.BCEWithLogitsLoss()])
def test_mixtures_train_by_the_other_losses_too(loss):
    images, target = drawn(60, (1, 5, 6)), np.eye(3)[np.arange(60) % 3]
    mixed, (first, last) = trained(
        images, target, augment=Augment(mixup=0.5), loss=loss, validation_data=(images, target)
    )
    plain, _ = trained(images, target, augment=None, loss=loss)
    assert last < first
    assert (mixed != plain).any()


def test_fit_refuses_what_cannot_be_augmented():
    images, labels = drawn(6, (1, 4, 4)), np.arange(6) % 3
    model = fc.Sequential(fc.Flatten(), fc.Linear(16, 3))
    with pytest.raises(TypeError, match="fit: augmentation reads uint8 images, got float32"):
        model.fit(images.astype(np.float32), labels, augment="digits")
    with pytest.raises(fc.ShapeError, match=r"\(N, C, H, W\), got \(6, 16\)"):
        model.fit(images.reshape(6, 16), labels, augment="digits")
    with pytest.raises(fc.ShapeError, match="more than 4 pixels for crop=4 by reflection, got 4x4"):
        model.fit(images, labels, augment="cifar")
    with pytest.raises(ValueError, match="fit: expected augment as one of digits, fashion, cifar, got 'letters'"):
        model.fit(images, labels, augment="letters")
    with pytest.raises(TypeError, match="expected augment as an Augment, a preset's name or None, got 3"):
        model.fit(images, labels, augment=3)


# ------------------------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"rotate": 181}, ValueError, "rotate from 0 to 180, got 181"),
        ({"rotate": -1}, ValueError, "rotate from 0 to 180, got -1"),
        ({"rotate": float("nan")}, ValueError, "rotate from 0 to 180, got nan"),
        ({"rotate": "10"}, TypeError, "rotate as a number, got '10'"),
        ({"shear": 61}, ValueError, "shear from 0 to 60, got 61"),
        ({"scale": 1.1}, TypeError, "scale as two numbers, the least factor and the greatest, got 1.1"),
        ({"scale": (1.1, 0.9)}, ValueError, r"scale as the least factor and the greatest, got \(1.1, 0.9\)"),
        ({"scale": (0.0, 0.9)}, ValueError, "scale from 0.1 to 10, got 0.0"),
        ({"elastic": (1,)}, TypeError, r"elastic as alpha and sigma, got \(1,\)"),
        ({"elastic": (1, 0.5)}, ValueError, "elastic's sigma from 1 to 100, got 0.5"),
        ({"crop": 1.5}, TypeError, "crop as a whole number, got 1.5"),
        ({"crop": -1}, ValueError, "crop from 0 to 1000, got -1"),
        ({"padding_mode": "zeros"}, ValueError, "padding_mode 'constant' or 'reflect', got 'zeros'"),
        ({"flip": 1}, TypeError, "flip as True or False, got 1"),
        ({"cutout": "8"}, TypeError, "cutout as a side, or a side and a count, got '8'"),
        ({"cutout": (8, -1)}, ValueError, "cutout's count from 0 to 100, got -1"),
        ({"mixup": 5}, ValueError, "mixup from 0 to 4, got 5"),
        ({"fill": 256}, ValueError, "fill from 0 to 255, got 256"),
    ],
)
def test_bad_options(options, error, match):
    with pytest.raises(error, match=f"^Augment: expected {match}$"):
        Augment(**options)


def test_options_are_frozen_and_keywords():
    with pytest.raises(AttributeError):
        ALL.rotate = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Augment(10)  # type: ignore[misc]
    assert set(PRESETS) == {"digits", "fashion", "cifar"}


# ------------------------------------------------------------------------------------------------------ contact sheet


@pytest.mark.parametrize("channels", [1, 3])
def test_a_contact_sheet_begins_with_the_originals(channels, tmp_path):
    image = pytest.importorskip("PIL.Image")
    images = drawn(3, (channels, 48, 20))
    preview(images, "cifar", tmp_path / "sheet.png", seed=5, columns=4)
    with image.open(tmp_path / "sheet.png") as file:
        page = np.asarray(file)
    assert page.shape == (3 * (96 + 2), 4 * (40 + 2), 3)
    rows = page.reshape(3, 98, 4, 42, 3)[:, :96:2, :, :40:2].transpose(2, 0, 4, 1, 3)
    for epoch, shown in enumerate(rows):
        ref = PRESETS["cifar"].apply(images, np.arange(3), epoch, 5) if epoch else images
        np.testing.assert_array_equal(shown, np.broadcast_to(ref, shown.shape))


def test_bad_contact_sheets(tmp_path, monkeypatch):
    path = tmp_path / "sheet.png"
    with pytest.raises(
        ValueError, match="preview: expected an Augment or a preset's name, and images of 1 or 3 channels"
    ):
        preview(drawn(1, (2, 8, 8)), "digits", path)
    with pytest.raises(ValueError, match="preview: expected columns of at least 2, got 1"):
        preview(drawn(1, (1, 8, 8)), "digits", path, columns=1)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"^preview: needs Pillow; pip install 'fastconv\[images\]'$"):
        preview(drawn(1, (1, 8, 8)), "digits", path)
    assert not path.exists()
