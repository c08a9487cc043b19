"""Folders of PNG and JPEG files: classes, colours, sizes, and a table of bad ones."""

import random

import numpy as np
import pytest

from fastconv.data import DataError, load, read_images

Image = pytest.importorskip("PIL.Image")


def save(path, array, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (6, 5, 7, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, pixels):
    """Classes 'a b' and 'ä' with two and one colour images, between things that are none."""
    save(tmp_path / "set" / "ä" / "1.png", pixels[0])
    save(tmp_path / "set" / "a b" / "2.png", pixels[1])
    save(tmp_path / "set" / "a b" / "10.PNG", pixels[2], format="PNG")
    (tmp_path / "set" / "a b" / "notes.txt").write_text("no image")
    (tmp_path / "set" / ".hidden").mkdir()
    (tmp_path / "set" / "a b" / "._2.png").write_bytes(b"what another system leaves")
    return tmp_path / "set"


def test_folders_are_classes_in_the_order_of_their_names(folder, pixels):
    for dataset in (read_images(folder), load(folder), load(str(folder))):
        assert dataset.classes == ("a b", "ä")
        assert dataset.labels.tolist() == [0, 0, 1]
        np.testing.assert_array_equal(dataset.images, pixels[[2, 1, 0]].transpose(0, 3, 1, 2), strict=True)
        assert dataset.source == str(folder)


def test_files_alone_have_no_labels(tmp_path, pixels):
    for n in range(3):
        save(tmp_path / f"{n}.png", pixels[n])
    dataset = load(tmp_path)
    assert dataset.labels is None
    assert dataset.classes is None
    np.testing.assert_array_equal(dataset.images, pixels[:3].transpose(0, 3, 1, 2))


def test_grey_files_have_one_channel_unless_there_is_a_colour(tmp_path, pixels):
    grey = pixels[..., 0]
    save(tmp_path / "g.png", grey[0])
    save(tmp_path / "a.png", grey[1], "LA")
    np.testing.assert_array_equal(read_images(tmp_path).images, grey[[1, 0], None])
    assert read_images(tmp_path, channels=3).images.shape == (2, 3, 5, 7)
    save(tmp_path / "rgb.png", pixels[2])
    dataset = read_images(tmp_path)
    np.testing.assert_array_equal(dataset.images[1], np.stack([grey[0]] * 3))
    np.testing.assert_array_equal(dataset.images[2], pixels[2].transpose(2, 0, 1))
    assert read_images(tmp_path, channels=1).images.shape == (3, 1, 5, 7)


def test_other_kinds_of_pixels(tmp_path, pixels):
    save(tmp_path / "1.png", pixels[0, :, :, 0] > 127)
    save(tmp_path / "2.png", pixels[0, :, :, 0].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_images(tmp_path).images[0, 0], 255 * (pixels[0, :, :, 0] > 127))
    np.testing.assert_array_equal(read_images(tmp_path).images[1, 0], pixels[0, :, :, 0])
    save(tmp_path / "3.png", pixels[1], "P")
    save(tmp_path / "4.png", np.dstack([pixels[1], pixels[2, :, :, :1]]))
    save(tmp_path / "5.jpg", pixels[1], quality=100)
    save(tmp_path / "6.jpeg", pixels[1], "CMYK", quality=100)
    dataset = read_images(tmp_path)
    assert dataset.images.shape == (6, 3, 5, 7)
    np.testing.assert_array_equal(dataset.images[3], pixels[1].transpose(2, 0, 1))


def test_images_are_turned_as_their_camera_says(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    save(tmp_path / "1.png", pixels[0], exif=exif)
    np.testing.assert_array_equal(read_images(tmp_path).images[0], pixels[0, ::-1, ::-1].transpose(2, 0, 1))


def test_sizes_must_agree_or_be_named(folder, pixels):
    save(folder / "ä" / "0.png", pixels[0, :4])
    with pytest.raises(DataError, match=r"0\.png: expected 7x5 pixels as in 10\.PNG, got 7x4; .*--size"):
        read_images(folder)
    dataset = load(folder, size=(5, 7))
    assert dataset.images.shape == (4, 3, 5, 7)
    np.testing.assert_array_equal(dataset.images[3], pixels[0].transpose(2, 0, 1))


def test_size_and_channels_leave_other_data_as_they_are():
    assert load(size=(5, 5), channels=3).images.shape == (10_000, 1, 28, 28)


# ---------------------------------------------------------------------------------------------------------- bad folders


def test_damaged_images_name_their_file(folder):
    """Whatever is cut off or changed: an image, or an error that names the file."""
    file, drawn = folder / "ä" / "1.png", random.Random(0)
    for kind in ("PNG", "JPEG"):
        with Image.open(folder / "a b" / "2.png") as image:
            image.save(file, kind)
        good, refused = file.read_bytes(), 0
        for trial in range(150):
            bad = bytearray(good)
            if trial % 3 == 0:
                del bad[drawn.randrange(len(bad)) :]
            else:
                bad[drawn.randrange(min(len(bad), 80) if trial % 3 == 1 else len(bad))] ^= 1 << drawn.randrange(8)
            file.write_bytes(bad)
            try:
                read_images(folder)
            except DataError as error:
                assert "1.png: " in str(error)  # noqa: PT017
                refused += 1
        assert refused > 50


def test_an_image_of_too_many_pixels(folder):
    image = Image.new("1", (10_000, 10_000))
    image.save(folder / "ä" / "1.png")
    with pytest.raises(DataError, match=r"1\.png: expected at most 67,108,864 pixels, got 10000x10000"):
        read_images(folder)


def test_another_format_under_the_name(folder):
    Image.new("RGB", (7, 5)).save(folder / "ä" / "1.png", "BMP")
    with pytest.raises(DataError, match=r"1\.png: the image is damaged, or neither PNG nor JPEG \(cannot identify"):
        read_images(folder)


def test_an_empty_class(folder):
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"^read_images: \S+empty: expected at least one PNG or JPEG file, found none"):
        read_images(folder)


def test_files_beside_classes(folder, pixels):
    save(folder / "stray.png", pixels[0])
    with pytest.raises(DataError, match=r"in sub-folders, .*, or in the folder itself, got both, such as stray"):
        read_images(folder)


def test_no_images(tmp_path):
    with pytest.raises(DataError, match="expected PNG or JPEG files in sub-folders, one a class, found none"):
        read_images(tmp_path)
    with pytest.raises(DataError, match="expected a folder; check the name"):
        read_images(tmp_path / "absent")


def test_bad_channels(folder):
    with pytest.raises(DataError, match="expected channels 1 or 3, got 2"):
        read_images(folder, channels=2)


def test_without_pillow(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(DataError, match=r"10\.PNG: images need Pillow; pip install 'fastconv\[images\]'$"):
        read_images(folder)
