"""The plots: what stands in them, for awkward arguments too, and that nothing global changes."""

import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
from subprocesses import succeed

import fastconv as fc
from fastconv import plots
from fastconv.plots.figures import BLUE, ORANGE
from fastconv.plots.names import short
from fastconv.plots.pictures import as_picture, mosaic

agg = pytest.importorskip("matplotlib.backends.backend_agg")
PNG = b"\x89PNG\r\n\x1a\n"


def record(epoch, val_acc=0.5, **others):
    figures = {"time": 1.0, "train_loss": 1 / epoch, "train_acc": 0.4, "val_loss": None if val_acc is None else 0.7}
    return {"epoch": epoch, "val_acc": val_acc, "lr": 0.1 * epoch, "images_per_s": 1.0} | figures | others


def drawn(figure):
    """Check that a figure can be written, and return it."""
    assert plots.png(figure).startswith(PNG)
    return figure


def texts(axes):
    return [text.get_text() for text in axes.texts]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


# -------------------------------------------------------------------------------------------------------------- curves


def test_curves_show_all_figures_and_mark_the_best_epoch():
    history = [record(1, 0.5), record(2, 0.9), record(3, 0.9), record(4, 0.8)]
    figure = drawn(plots.curves(history))
    loss, accuracy, rate = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy", "learning rate"]
    lines = {line.get_label(): line for line in accuracy.lines}
    assert list(lines) == ["validation", "training", "best: 0.9000 in epoch 2"]
    assert lines["validation"].get_color() == ORANGE
    assert lines["training"].get_color() == BLUE
    np.testing.assert_array_equal(lines["validation"].get_xydata(), [[1, 0.5], [2, 0.9], [3, 0.9], [4, 0.8]])
    assert set(loss.lines[-1].get_xdata()) == set(accuracy.lines[-1].get_xdata()) == {2}
    np.testing.assert_allclose(rate.lines[0].get_ydata(), [0.1, 0.2, 0.3, 0.4])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines)


def test_curves_leave_out_what_was_not_measured():
    loss, accuracy, _ = drawn(plots.curves([record(1, None), record(2, None)])).axes
    assert [line.get_label() for line in loss.lines] == ["training"]
    assert [line.get_label() for line in accuracy.lines] == ["training"]
    loss, accuracy, _ = drawn(plots.curves([record(1, None, train_acc=None)])).axes
    assert len(loss.lines) == 1
    assert not accuracy.lines


def test_the_axes_of_curves_show_what_matters():
    loss, accuracy, _ = plots.curves([record(n, 0.99, train_loss=10.0**-n, train_acc=0.98) for n in range(1, 5)]).axes
    assert loss.get_yscale() == "log"
    accuracies = [0.1, 0.2, *np.linspace(0.97, 0.99, 8)]
    loss, _, _ = drawn(plots.curves([record(1, 0.1, train_loss=2.0, val_loss=float("inf")), record(2)])).axes
    assert loss.get_yscale() == "linear"
    loss, accuracy, _ = plots.curves([record(n, a, train_acc=a) for n, a in enumerate(accuracies, 1)]).axes
    assert loss.get_yscale() == "linear"
    assert accuracy.get_ylim()[0] == pytest.approx(0.968, abs=1e-9)
    with pytest.raises(ValueError, match="curves: expected at least one epoch, got none"):
        plots.curves([])


# ---------------------------------------------------------------------------------------------------- confusion matrix


def test_the_confusion_matrix_holds_the_counts():
    counts = np.array([[1200, 0, 3], [1, 40, 0], [0, 0, 0]])
    (axes,) = drawn(plots.confusion(counts, ["cat", "<script>", "$x_"])).axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "1,200", (2, 0): "3", (0, 1): "1", (1, 1): "40"}  # (column, row)
    assert labels(axes.xaxis) == labels(axes.yaxis) == ["cat", "<script>", "$x_"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert axes.get_title() == "4 of 1,244 wrong"
    red, _, blue = axes.images[0].get_array().astype(int).transpose(2, 0, 1)
    np.testing.assert_array_equal(np.sign(blue - red), [[1, 0, -1], [-1, 1, 0], [0, 0, 0]])
    assert (axes.images[0].get_array()[2] == 255).all()


@pytest.mark.parametrize(("n", "letters", "numbered"), [(1, 1, True), (12, 80, True), (41, 2, False)])
def test_many_classes_and_long_names_fit_into_the_picture(n, letters, numbered):
    figure = drawn(plots.confusion(np.full((n, n), 10_000), ["W" * letters] * n))
    (axes,) = figure.axes
    assert len(axes.texts) == (n * n if numbered else 0)
    canvas = agg.FigureCanvasAgg(figure)
    canvas.draw()
    renderer, page = canvas.get_renderer(), figure.bbox
    for artist in (*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label, axes.title):
        box = artist.get_window_extent(renderer)
        assert box.x0 >= 0, artist
        assert box.y0 >= 0, artist
        assert box.x1 <= page.x1, artist
        assert box.y1 <= page.y1, artist
    along = [label.get_window_extent(renderer) for label in axes.get_xticklabels()]
    assert all(a.x1 <= b.x0 for a, b in pairwise(along))
    cell = axes.get_window_extent(renderer).width / n
    assert all(text.get_window_extent(renderer).width < cell for text in axes.texts)


def test_hundreds_of_classes_have_no_names():
    (axes,) = drawn(plots.confusion(np.eye(300, dtype=int), ["name"] * 300)).axes
    assert not {"name"} & set(labels(axes.xaxis))


@pytest.mark.parametrize(
    ("matrix", "classes", "message"),
    [
        (np.zeros((2, 3), int), None, r"confusion: expected a square matrix, got shape \(2, 3\)"),
        (np.zeros((2, 2)), None, "confusion: expected whole numbers from 0 upwards, got dtype float64"),
        (np.full((2, 2), -1), None, "confusion: expected whole numbers from 0 upwards"),
        (np.eye(2, dtype=int), ["a"], "confusion: expected 2 names of classes, got 1"),
    ],
)
def test_no_confusion_matrix(matrix, classes, message):
    with pytest.raises(ValueError, match=message):
        plots.confusion(matrix, classes)


def test_names_are_made_short_and_printable():
    assert short("cat") == "cat"
    assert short("a\nb\tc  d") == "a b c d"
    assert short("\x1b[31m\udcff") == "?[31m?"
    assert short("sandal with a red strap, left", 15) == "sandal wi… left"
    assert len(short("x" * 100, 15)) == 15


# -------------------------------------------------------------------------------------------------------- worst errors

CHANCES = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.2, 0.6], [1.0, 0.0, 0.0]])
TRUE = np.array([0, 1, 1, 2])


def test_mistakes_are_sorted_by_loss():
    found = plots.find_mistakes(TRUE, CHANCES)
    assert [(each.image, each.label, each.predicted, each.probability) for each in found] == [
        (3, 2, 0, 1.0),
        (2, 1, 2, 0.6),
        (1, 1, 0, 0.6),
    ]
    assert [each.loss for each in found[1:]] == pytest.approx([-np.log(0.2), -np.log(0.4)])
    assert np.isfinite(found[0].loss)
    assert plots.find_mistakes(TRUE, CHANCES, 1) == found[:1]


@pytest.mark.parametrize("shape", [(1, 5, 9), (3, 9, 5), (2, 4, 4), (4, 4, 4)])
def test_the_gallery_says_what_was_taken_for_what(shape, rng):
    images = rng.integers(0, 256, (4, *shape)).astype(np.uint8)
    figure = drawn(plots.worst_errors(images, TRUE, CHANCES, ["<a>", "b$", "a long name of a class"], [7, 8, 9, 1000]))
    assert [axes.get_title() for axes in figure.axes] == [
        "a long na…class\nas <a>",
        "b$\nas a long na…class",
        "b$\nas <a>",
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == ["100 %, index 1000", "60 %, index 9", "60 %, index 8"]
    expected = images[3, :3].transpose(1, 2, 0) if shape[0] >= 3 else images[3, 0]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), expected)


def test_the_gallery_of_many_and_of_none():
    images = np.zeros((40, 1, 4, 4), np.float32)
    wrong = np.tile([0.3, 0.7], (40, 1))
    figure = drawn(plots.worst_errors(images, np.zeros(40, int), wrong, count=20))
    assert len(figure.axes) == 24
    assert sum(axes.get_visible() for axes in figure.axes) == 20
    assert figure.axes[0].get_title() == "0\nas 1"
    assert figure.axes[0].get_xlabel() == "70 %, index 0"
    (axes,) = drawn(plots.worst_errors(images, np.ones(40, int), wrong)).axes
    assert texts(axes) == ["none of 40 images is wrong"]
    (axes,) = drawn(plots.worst_errors(images[:0], np.zeros(0, int), wrong[:0])).axes
    assert texts(axes) == ["none of 0 images is wrong"]


@pytest.mark.parametrize("name", ["W" * 30, "飛行機" * 10, "an extraordinarily long name", "b$" * 9, "T-shirt/top"])
def test_names_in_the_gallery_stay_apart(name):
    """Each stays within its own column, and none is smaller than can be read."""
    names, wrong = [f"{name} {number}" for number in range(2)], np.tile([0.3, 0.7], (12, 1))
    figure = drawn(plots.worst_errors(np.zeros((12, 1, 4, 4)), np.zeros(12, int), wrong, names, count=12))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        boxes = [axes.title.get_window_extent() for axes in figure.axes]
    for left, right in pairwise(boxes[:6]):
        assert left.x1 < right.x0
    assert figure.axes[0].title.get_fontsize() > 5


def test_a_probability_just_below_one_is_no_certainty():
    chances = np.array([[0.0001, 0.9999]])
    (axes,) = plots.worst_errors(np.zeros((1, 1, 2, 2)), np.array([0]), chances).axes
    assert axes.get_xlabel() == "99 %, index 0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": TRUE[:3]}, r"expected labels \(N,\) and probabilities \(N, classes\), got \(3,\) and \(4, 3\)"),
        ({"labels": TRUE + 1}, "expected labels from 0 to 2, got 1 to 3"),
        ({"count": 0}, "expected count of at least 1, got 0"),
        ({"images": np.zeros((3, 1, 2, 2))}, r"expected images of shape \(4, C, H, W\), got \(3, 1, 2, 2\)"),
        ({"numbers": [1]}, r"expected numbers of shape \(4,\), got \(1,\)"),
        ({"classes": "abc"}, "expected 3 names of classes, got 3"),
    ],
)
def test_no_gallery(change, message):
    arguments = {"images": np.zeros((4, 1, 2, 2)), "labels": TRUE, "probabilities": CHANCES} | change
    with pytest.raises(ValueError, match=message):
        plots.worst_errors(**arguments)


def test_images_as_matplotlib_takes_them():
    np.testing.assert_array_equal(as_picture(np.array([[[-1.0, 0.0, 1.0]]])), [[0, 128, 255]])
    np.testing.assert_array_equal(as_picture(np.ones((1, 1, 2))), [[0, 0]])
    page = mosaic(np.arange(1.0, 4.0).reshape(3, 1, 1), 2, 1, 0.0)
    np.testing.assert_array_equal(page, [[1, 0, 2], [0, 0, 0], [3, 0, 0]])


# ------------------------------------------------------------------------------------------------------------- filters


def test_filters_of_one_channel_share_a_scale(rng):
    model = fc.Sequential(fc.Residual(fc.Sequential(fc.Conv2d(1, 6, 5))), fc.Conv2d(6, 9, 3))
    weight = model.parameters()[0].value[:] = rng.standard_normal((6, 1, 5, 5))
    axes, bar = drawn(plots.filters(model)).axes
    assert axes.get_title() == "6 filters of 5 x 5"
    assert bar.get_ylabel() == "weight"
    (image,) = axes.images
    assert image.get_clim() == pytest.approx((-np.abs(weight).max(), np.abs(weight).max()))
    page = np.ma.filled(image.get_array(), np.nan)
    assert page.shape == (20, 6 * 20 + 5 * 2)
    np.testing.assert_allclose(page[::4, 22:42:4], weight[1, 0], rtol=1e-6)
    assert np.isnan(page[:, 20:22]).all()


def test_filters_of_three_channels_are_colours(rng):
    model = fc.Sequential(fc.Conv2d(3, 10, 3))
    weight = model.parameters()[0].value[:] = rng.standard_normal((10, 3, 3, 3))
    (axes,) = drawn(plots.filters(model)).axes
    page = axes.images[0].get_array()
    assert page.shape == (24, 10 * 24 + 9 * 2, 3)
    first = page[4:24:8, 4:24:8]
    np.testing.assert_allclose(first, 0.5 + weight[0].transpose(1, 2, 0) / np.abs(weight[0]).max() / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "title"),
    [
        (fc.Conv2d(1, 1, (1, 7)), "1 filter of 1 x 7"),
        (fc.Conv2d(1, 64, (7, 1)), "64 filters of 7 x 1"),
        (fc.Conv2d(5, 20, (3, 5)), "20 filters of 3 x 5 x 5 channels, the first 64 of 100 tiles"),
        (fc.Conv2d(3, 100, 2), "100 filters of 2 x 2, the first 64 of 100 tiles"),
        (fc.Conv2d(4, 8, 3, groups=4), "8 filters of 3 x 3"),
    ],
)
def test_filters_of_other_shapes(layer, title):
    layer.parameters()[0].value[:] = 0
    figure = drawn(plots.filters(layer))
    assert figure.axes[0].get_title() == title
    assert max(figure.get_size_inches()) < 9


def test_filters_of_a_model_without_convolutions():
    with pytest.raises(ValueError, match="filters: expected a model with a Conv2d, got none in Sequential"):
        plots.filters(fc.Sequential(fc.Flatten(), fc.Linear(4, 2)))


# ------------------------------------------------------------------------------------------------ augmentation, rates


def test_the_preview_of_augmentation_shows_what_training_sees(rng):
    images = rng.integers(0, 256, (9, 1, 100, 100)).astype(np.uint8)
    options = fc.augment.Augment(rotate=20)
    (axes,) = drawn(plots.augmentation(images, options, [7, 2], seed=5, columns=3)).axes
    assert labels(axes.xaxis) == ["original", "epoch 1", "epoch 2"]
    page = axes.images[0].get_array()
    assert page.shape == (2 * 102, 3 * 102, 3)
    np.testing.assert_array_equal(page[102:202, :100, 1], images[2, 0])
    np.testing.assert_array_equal(page[:100, 204:304, 0], options.apply(images, 7, epoch=2, seed=5)[0])
    tall = drawn(plots.augmentation(np.zeros((2, 1, 784, 1), np.uint8), "digits"))
    assert max(tall.get_size_inches()) < 13
    with pytest.raises(ValueError, match="augmentation: expected columns of at least 2, got 1"):
        plots.augmentation(images, options, columns=1)
    with pytest.raises(ValueError, match="augmentation: expected augment as one of digits"):
        plots.augmentation(images, "letters")


def test_rates():
    from fastconv.training import RateTest

    (axes,) = drawn(plots.rates(RateTest([0.1, 1.0, 10.0], [3.0, 1.0, 900.0], [3.0, 2.0, 5.0], 1.0))).axes
    assert axes.get_xscale() == "log"
    assert [line.get_label() for line in axes.lines] == ["loss", "running mean", "suggestion 1"]
    assert axes.get_ylim()[1] < 10


# ------------------------------------------------------------------------------------------------------- nothing global


def test_a_notebook_shows_a_figure_as_it_is():
    assert plots.curves([record(1)])._repr_png_().startswith(PNG)


def test_letters_that_the_font_lacks_are_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(plots.confusion(np.eye(2, dtype=int), ["犬", "猫"]))


def test_plots_load_matplotlib_late_and_change_nothing():
    assert succeed(
        """
        import sys
        from fastconv import plots
        assert "matplotlib" not in sys.modules
        import matplotlib
        before = matplotlib.rcParams.copy()  # which, unlike dict(), chooses no backend
        plots.png(plots.curves([dict(epoch=1, train_loss=1, val_loss=1, train_acc=1, val_acc=1, lr=1)]))
        assert repr(matplotlib.rcParams.copy()) == repr(before)
        assert "matplotlib.pyplot" not in sys.modules
        print("fine")
        """,
        MPLBACKEND=None,
    ).endswith("fine")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.curves([record(1)]),
        lambda: plots.confusion(np.eye(2, dtype=int)),
        lambda: plots.worst_errors(np.zeros((4, 1, 2, 2)), TRUE, CHANCES),
        lambda: plots.filters(fc.Conv2d(1, 1, 1)),
        lambda: plots.augmentation(np.zeros((2, 1, 4, 4), np.uint8), "digits"),
    ],
)
def test_what_to_install(draw, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'^plots need matplotlib, which comes with: pip install "fastconv\[plot\]"$'):
        draw()
