"""The table that ``model.summary`` prints: layers, output shapes, parameters, arithmetic."""

from math import prod

from fastconv import layerwise
from fastconv.layers import Conv1d, Conv2d, ConvTranspose2d, Layer, Linear
from fastconv.layers.branches import Branches
from fastconv.sequential import Sequential
from fastconv.shapes import Shape


def multiply_adds(layer: Layer, given: Shape, output: Shape) -> int:
    """Return the multiply-adds of one image in a layer with these shapes, (1, ...); 0 where there are none."""
    if isinstance(layer, Conv1d | Conv2d):
        return prod(output[1:]) * prod(layer.weight.shape[1:])
    if isinstance(layer, ConvTranspose2d):
        return prod(given[1:]) * prod(layer.weight.shape[1:])
    if isinstance(layer, Linear):
        return prod(layer.weight.shape)
    return 0


class Table(str):
    """Text that an interpreter or a notebook shows as it is, with its lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def summary(model: Sequential, input_shape: Shape) -> Table:
    """Return the table for one input of shape (C, H, W) or (features,), without the batch axis.

    Raises
    ------
    ShapeError
        If the shapes do not fit; the message names the layer.
    """
    rows = [("layer", "output shape", "parameters", "MFLOP")]
    model.output_shape((1, *input_shape))  # reports a misfit by the layer's number
    totals = [0, 0]
    for name, layer, shape, out in layerwise.shapes(model, (1, *input_shape)):
        count = work = 0
        if not isinstance(layer, Branches):  # whose layers have rows of their own
            count, work = sum(p.size for p in layer.parameters()), multiply_adds(layer, shape, out)
        totals[0] += count
        totals[1] += work
        rows.append(
            (
                f"{name} {type(layer).__name__}",
                " x ".join(map(str, out[1:])),
                f"{count:,}" if count else "",
                f"{2e-6 * work:.3f}" if work else "",
            )
        )
    total = ("total", "", f"{totals[0]:,}", f"{2e-6 * totals[1]:.3f}")
    widths = [max(len(row[column]) for row in [*rows, total]) for column in range(4)]

    def line(row: tuple[str, str, str, str]) -> str:
        left = f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}"
        return f"{left}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}".rstrip()

    rule = "-" * (sum(widths) + 6)
    size = totals[0] * model.dtype.itemsize / 1024
    return Table(
        "\n".join(
            [
                line(rows[0]),
                rule,
                *(line(row) for row in rows[1:]),
                rule,
                line(total),
                f"input {' x '.join(map(str, input_shape))}, {model.dtype} weights {size:,.0f} KB; MFLOP forward",
            ]
        )
    )
