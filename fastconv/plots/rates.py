"""Losses over learning rates."""

from typing import TYPE_CHECKING

from fastconv.plots.figures import BLUE, ORANGE, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastconv.training.rate_test import RateTest


def rates(found: "RateTest") -> "Figure":
    """Draw what ``lr_find`` found.

    Raises
    ------
    ImportError
        If matplotlib is absent.
    """
    figure = new_figure(7, 4)
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, color="0.8", label="loss")
    axes.plot(found.rates, found.smoothed, color=BLUE, label="running mean")
    axes.axvline(found.suggestion, color=ORANGE, linestyle="--", label=f"suggestion {found.suggestion:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=_visible(found))
    plain(axes)
    axes.legend(edgecolor="none", framealpha=0.8)
    return figure


def _visible(found: "RateTest") -> tuple[float, float]:
    """Return an axis that does not follow the explosion at the end."""
    low, begun = min(found.losses), found.smoothed[0]
    return low - 0.05 * (begun - low) - 1e-9, begun + 0.5 * (begun - low) + 1e-9
