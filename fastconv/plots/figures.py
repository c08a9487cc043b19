"""Figures: the one place that imports matplotlib, and the colours that all plots share.

A ``Figure`` that was made without pyplot has no window and no backend but the one that writes its file, Agg for PNG: so
plots work without a display, and leave a notebook's own plots alone.
"""

import io
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, FAINT = "#1f6390", "#d9701e", "#6f6f6f", "#e6e6e6"
DPI = 110
_BOXES = "Glyph .* missing from"
"""What matplotlib warns of where a class's name is written in letters that the font lacks: it draws boxes."""


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of so many inches, which notebooks show without pyplot.

    Raises
    ------
    ImportError
        If matplotlib is not installed; the message says how to install it.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ImportError('plots need matplotlib, which comes with: pip install "fastconv[plot]"') from error
    figure = _shown_by_notebooks(Figure)(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.07, h_pad=0.07)
    return figure


def png(figure: "Figure") -> bytes:
    """Return a figure as a PNG file's bytes."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _BOXES, UserWarning)
        figure.savefig(stream, format="png")
    return stream.getvalue()


def text_width(line: str, size: float) -> float:
    """Return how wide a line of letters of ``size`` points is drawn, in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _BOXES, UserWarning)
        return text_to_path.get_text_width_height_descent(line, FontProperties(size=size), False)[0]


def plain(axes: Any) -> None:
    """Remove the upper and the right edge of a diagram, and draw a grid behind its lines."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=FAINT)
    axes.set_axisbelow(True)


def bare(axes: Any) -> None:
    """Remove all that stands around an image."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


@cache
def _shown_by_notebooks(kind: type) -> Any:
    """Return a class of figures that IPython shows; plain ones it shows only where pyplot has been imported."""
    return type("NotebookFigure", (kind,), {"_repr_png_": png})
