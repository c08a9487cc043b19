"""The filters of the first convolution: what a network looks for in pixels."""

from typing import TYPE_CHECKING

import numpy as np

from fastconv.layers import Conv2d, Layer
from fastconv.plots.figures import GREY, bare, new_figure
from fastconv.plots.pictures import mosaic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST, _COLUMNS, _TILE, _LARGEST = 64, 16, 0.6, 1.1


def filters(model: Layer) -> "Figure":
    """Draw the weights of a model's first ``Conv2d``, at most 64 tiles.

    Filters for three channels are drawn as RGB, each on its own scale, where grey is 0.  All others are drawn channel
    by channel on one scale: red adds to the output, blue takes away, white is 0.

    Raises
    ------
    ValueError
        If the model has no Conv2d.
    ImportError
        If matplotlib is absent.
    """
    first = next((layer for layer in model.modules() if isinstance(layer, Conv2d)), None)
    if first is None:
        raise ValueError(f"filters: expected a model with a Conv2d, got none in {type(model).__name__}")
    weight = np.asarray(first.weight.value, np.float64)
    count, channels, height, width = weight.shape
    if channels == 3:
        largest = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
        tiles = (0.5 + 0.5 * weight / np.where(largest > 0, largest, 1)).transpose(0, 2, 3, 1)
        ground = 1.0
    else:
        tiles, ground = weight.reshape(count * channels, height, width), np.nan
    shown = tiles[:_MOST]
    columns = min(_columns(len(shown)), len(shown))
    rows = -(-len(shown) // columns)
    tile = min(_LARGEST, max(_TILE, 6.5 / columns)) / max(1.0, height / width)
    figure = new_figure(max(3.0, columns * tile + 1.0), max(1.2, rows * tile * height / width) + 0.5)
    axes = figure.subplots()
    if channels == 3:
        axes.imshow(np.clip(_spaced(shown, columns, ground), 0, 1), interpolation="nearest")
    else:
        limit = float(np.abs(shown).max()) or 1.0
        drawn = axes.imshow(
            _spaced(shown, columns, ground), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        figure.colorbar(drawn, ax=axes, label="weight")
    bare(axes)
    axes.set_title(_title(count, channels, (height, width), len(shown), len(tiles)), fontsize=10, color=GREY)
    return figure


def _columns(n: int) -> int:
    """Return a width at which n tiles fill all rows, or else nearly so."""
    widths = [width for width in range(8, _COLUMNS + 1) if n % width == 0]
    return widths[0] if widths else min(n, 8)


def _spaced(tiles: np.ndarray, columns: int, ground: float) -> np.ndarray:
    """Return a mosaic in which gaps stay narrow although weights are few: each is drawn as several pixels."""
    times = max(1, 24 // max(tiles.shape[1:3]))
    return mosaic(tiles.repeat(times, axis=1).repeat(times, axis=2), columns, 2, ground)


def _title(count: int, channels: int, size: tuple[int, int], shown: int, there: int) -> str:
    text = f"{count} filter{'s' if count > 1 else ''} of {size[0]} x {size[1]}"
    if channels not in (1, 3):
        text += f" x {channels} channels"
    return text if shown == there else f"{text}, the first {shown} of {there} tiles"
