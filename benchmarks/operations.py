"""Every operation of the kernels at LeNet-5's sizes beside its naive loops: what is run, compared and timed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks import naive
from fastconv import blocks
from fastconv.blocks import Blocks, pixels, planes
from fastconv.layers.softmax import write_softmax, write_softmax_gradient
from fastconv_kernels import activation, bias, convolution, lanes, linear, loss, optim, pool2d
from fastconv_kernels.many import Many

FLOAT = np.float32


@dataclass(frozen=True)
class Case:
    """One operation on one batch, ready to run both ways."""

    loops: Callable[..., None]
    """The function in ``benchmarks.naive``."""
    arguments: Sequence[object]
    """What to call it with."""
    expected: Callable[[], Sequence[np.ndarray]]
    """What the loops wrote."""
    kernel: Callable[[], object]
    """Runs the product."""
    results: Callable[[], Sequence[np.ndarray]]
    """What the product wrote, in the same order and layout."""
    work: int
    """Passes through the innermost loop, by which times for a few images are scaled."""
    flops: int | None = None
    """Additions and multiplications; None where arithmetic is not what takes the time."""
    terms: int = 1
    """Length of the longest sum, which bounds the rounding."""
    restore: Callable[[], None] = field(default=lambda: None)
    """Undoes what a run changed in place."""


@dataclass(frozen=True)
class Operation:
    """A name, the shape at batch 128, and how to prepare a batch of n images."""

    name: str
    shape: str
    prepare: Callable[[np.random.Generator, int], Case]

    def __str__(self) -> str:
        return self.name.replace(", ", " ").replace(" ", "-")


ALL: list[Operation] = []


def operation(name: str, shape: str, *arguments: object) -> Callable[[Callable[..., Case]], Callable[..., Case]]:
    """Add what the function prepares to ``ALL``; ``arguments`` go to it behind the generator and n."""

    def register(prepare: Callable[..., Case]) -> Callable[..., Case]:
        ALL.append(Operation(name, shape, lambda rng, n: prepare(rng, n, *arguments)))
        return prepare

    return register


class Disagreement(AssertionError):
    """The naive loops and the kernel gave different results; nothing is timed then."""


def check(case: Case, rung: str, name: str) -> Callable[[], None]:
    """Run the loops once and the kernel once, compare, and return the loops as a function without arguments.

    Raises
    ------
    Disagreement
        If an element differs by more than the roundings of its sum explain: ``terms`` of them, each at most eps times
        the largest element.
    """
    loops = naive.rung(case.loops, rung)

    def run() -> None:
        loops(*case.arguments)

    case.restore()
    run()
    case.kernel()
    for ref, comp in zip(case.expected(), case.results(), strict=True):
        tolerance = max(case.terms, 8) * float(np.finfo(FLOAT).eps * np.abs(ref).max())
        worst = float(np.abs(np.subtract(ref, comp, dtype=np.float64)).max())
        if not worst <= tolerance:
            raise Disagreement(f"{name}, {rung}: loops and kernel differ by {worst:.3g}, tolerance {tolerance:.3g}")
    case.restore()
    return run


# ---------------------------------------------------------------------------------------------------------- helpers


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, FLOAT)


def _packed(x: np.ndarray) -> Blocks:
    return blocks.pack(x, blocks.empty(x.shape, FLOAT))


def _empty(*shape: int) -> Blocks:
    return blocks.empty(shape, FLOAT)


def _padded(x: np.ndarray, padding: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


# ------------------------------------------------------------------------------------------------------ convolution

# C, size of the image, F, taps, padding
CONVOLUTIONS = {1: (1, 28, 6, 5, 2), 2: (6, 14, 16, 5, 0)}
_SHAPES = {1: "1x28x28 to 6, 5x5, padding 2", 2: "6x14x14 to 16, 5x5"}


def lenet_convolution(
    rng: np.random.Generator, n: int, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, convolution.Geometry, int]:
    """Return input, filters, upstream gradient, geometry and padding of LeNet's convolution."""
    C, size, F, taps, padding = CONVOLUTIONS[number]
    out = size + 2 * padding - taps + 1
    x, k, dy = _normal(rng, n, C, size, size), _normal(rng, F, C, taps, taps), _normal(rng, n, F, out, out)
    how = (1, 1), (padding, padding), (1, 1), 1, FLOAT
    return x, k, dy, convolution.Geometry((F, C, taps, taps), (size, size), (out, out), *how), padding


@operation("convolution 2, forward", _SHAPES[2], 2)
@operation("convolution 1, forward", _SHAPES[1], 1)
def _conv2d_forward(rng: np.random.Generator, n: int, number: int) -> Case:
    x, k, dy, geometry, padding = lenet_convolution(rng, n, number)
    forward = convolution.forward(geometry)
    b, y = _normal(rng, k.shape[0]), np.empty_like(dy)
    xb, yb = _packed(x), _empty(*y.shape)
    work = y.size * k[0].size
    return Case(
        naive.conv2d_forward,
        (_padded(x, padding), k, b, 1, y),
        lambda: [y],
        lambda: forward(xb.array, k, b, yb.array, False),
        lambda: [blocks.unpack(yb)],
        work,
        2 * work,
        k[0].size,
    )


@operation("convolution 2, to the input", _SHAPES[2], 2)
@operation("convolution 1, to the input", _SHAPES[1], 1)
def _conv2d_backward_input(rng: np.random.Generator, n: int, number: int) -> Case:
    x, k, dy, geometry, padding = lenet_convolution(rng, n, number)
    backward = convolution.backward_input(geometry)
    dx = np.empty_like(_padded(x, padding))
    inner = dx[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
    dyb, dxb = _packed(dy), _empty(*x.shape)
    work = dy.size * k[0].size
    return Case(
        naive.conv2d_backward_input,
        (dy, k, 1, dx),
        lambda: [inner],
        lambda: backward(dyb.array, k, dxb.array),
        lambda: [blocks.unpack(dxb)],
        work,
        2 * work,
        k[:, 0].size,
    )


@operation("convolution 2, to the filters", _SHAPES[2], 2)
@operation("convolution 1, to the filters", _SHAPES[1], 1)
def _conv2d_backward_filter(rng: np.random.Generator, n: int, number: int) -> Case:
    x, k, dy, geometry, padding = lenet_convolution(rng, n, number)
    backward = convolution.backward_filter(geometry)
    dk, total = np.empty_like(k), np.empty_like(k)
    xb, dyb = _packed(x), _packed(dy)
    shares = np.empty((xb.array.shape[0], *k.shape), FLOAT)
    sums = Many([(shares, total)])

    def kernel() -> None:
        backward(dyb.array, xb.array, shares)
        bias.sum_shares(*sums.table, len(shares))

    work = dy.size * k[0].size
    return Case(
        naive.conv2d_backward_filter,
        (dy, _padded(x, padding), 1, dk),
        lambda: [dk],
        kernel,
        lambda: [total],
        work,
        2 * work,
        dy[:, 0].size,
    )


@operation("bias and ReLU's gate, backward", "6x28x28")
def _bias_backward(rng: np.random.Generator, n: int) -> Case:
    dy, y = _normal(rng, n, 6, 28, 28), np.maximum(_normal(rng, n, 6, 28, 28), 0)
    dz, db, total = np.empty_like(dy), np.empty(6, FLOAT), np.empty(6, FLOAT)
    dyb, yb = _packed(dy), _packed(y)
    shares = np.empty((dyb.array.shape[0], 6), FLOAT)
    sums = Many([(shares, total)])

    def kernel() -> None:
        bias.bias_backward(planes(dyb.array), planes(yb.array), True, shares)
        bias.sum_shares(*sums.table, len(shares))

    # Gating twice is gating once, so nothing has to be restored.
    return Case(
        naive.bias_backward,
        (dy, y, dz, db),
        lambda: [dz, db],
        kernel,
        lambda: [blocks.unpack(dyb), total],
        dy.size,
        terms=dy[:, 0].size,
    )


# ---------------------------------------------------------------------------------------------------------- pooling

_POOL = (2, 2), (2, 2), (0, 0)


@operation("max pooling, forward", "6x28x28, 2x2")
def _max_pool2d_forward(rng: np.random.Generator, n: int) -> Case:
    x, y = _normal(rng, n, 6, 28, 28), np.empty((n, 6, 14, 14), FLOAT)
    place, forward = np.empty(y.shape, np.int64), pool2d.max_pool2d_forward(pool2d.windows_together(28, 14, 2, 2, 0))
    xb, yb, placeb = _packed(x), _empty(*y.shape), _empty(*y.shape)
    return Case(
        naive.max_pool2d_forward,
        (x, 2, y, place),
        lambda: [y, place],
        lambda: forward(xb.array, yb.array, placeb.array, *_POOL),
        lambda: [blocks.unpack(yb), blocks.unpack(placeb)],
        x.size,
    )


@operation("max pooling, backward", "6x28x28, 2x2")
def _max_pool2d_backward(rng: np.random.Generator, n: int) -> Case:
    dy, dx = _normal(rng, n, 6, 14, 14), np.empty((n, 6, 28, 28), FLOAT)
    place = rng.integers(0, 4, dy.shape)
    dyb, dxb, placeb = _packed(dy), _empty(*dx.shape), _packed(place.astype(FLOAT))
    nothing, no_shares = dyb.array[:0], np.empty((0, 0), FLOAT)
    return Case(
        naive.max_pool2d_backward,
        (dy, place, 2, dx),
        lambda: [dx],
        lambda: pool2d.max_pool2d_backward(dyb.array, placeb.array, nothing, dxb.array, *_POOL, no_shares),
        lambda: [blocks.unpack(dxb)],
        dx.size,
    )


@operation("average pooling, forward", "6x28x28, 2x2")
def _avg_pool2d_forward(rng: np.random.Generator, n: int) -> Case:
    x, y = _normal(rng, n, 6, 28, 28), np.empty((n, 6, 14, 14), FLOAT)
    xb, yb = _packed(x), _empty(*y.shape)
    return Case(
        naive.avg_pool2d_forward,
        (x, 2, y),
        lambda: [y],
        lambda: pool2d.avg_pool2d_forward(xb.array, yb.array, *_POOL, True),
        lambda: [blocks.unpack(yb)],
        x.size,
    )


@operation("average pooling, backward", "6x28x28, 2x2")
def _avg_pool2d_backward(rng: np.random.Generator, n: int) -> Case:
    dy, dx = _normal(rng, n, 6, 14, 14), np.empty((n, 6, 28, 28), FLOAT)
    dyb, dxb = _packed(dy), _empty(*dx.shape)
    return Case(
        naive.avg_pool2d_backward,
        (dy, 2, dx),
        lambda: [dx],
        lambda: pool2d.avg_pool2d_backward(dyb.array, dxb.array, *_POOL, True),
        lambda: [blocks.unpack(dxb)],
        dx.size,
    )


# ----------------------------------------------------------------------------------------------------------- linear

_INPUTS, _OUTPUTS = 400, 120
_LINEAR = f"{_INPUTS} to {_OUTPUTS}"


def _matrix(
    rng: np.random.Generator, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Blocks, Blocks, linear.Matrix]:
    x, w, dy = _normal(rng, n, _INPUTS), _normal(rng, _OUTPUTS, _INPUTS), _normal(rng, n, _OUTPUTS)
    xb = _packed(x)
    return x, w, dy, xb, _packed(dy), linear.Matrix(xb.array.shape[0], _INPUTS, _OUTPUTS, FLOAT)


@operation("linear, forward", _LINEAR)
def _linear_forward(rng: np.random.Generator, n: int) -> Case:
    x, w, dy, xb, _, matrix = _matrix(rng, n)
    b, y, yb = _normal(rng, _OUTPUTS), np.empty_like(dy), _empty(n, _OUTPUTS)
    work = n * w.size
    return Case(
        naive.linear_forward,
        (x, w, b, y),
        lambda: [y],
        lambda: matrix.forward(xb.array, w, b, yb.array, False),
        lambda: [blocks.unpack(yb)],
        work,
        2 * work,
        _INPUTS,
    )


@operation("linear, to the input", _LINEAR)
def _linear_backward_input(rng: np.random.Generator, n: int) -> Case:
    x, w, dy, _, dyb, matrix = _matrix(rng, n)
    dx, dxb = np.empty_like(x), _empty(n, _INPUTS)
    work = n * w.size
    return Case(
        naive.linear_backward_input,
        (dy, w, dx),
        lambda: [dx],
        lambda: matrix.backward_input(dyb.array, w, dxb.array),
        lambda: [blocks.unpack(dxb)],
        work,
        2 * work,
        _OUTPUTS,
    )


@operation("linear, to the weights", _LINEAR)
def _linear_backward_weight(rng: np.random.Generator, n: int) -> Case:
    x, w, dy, xb, dyb, matrix = _matrix(rng, n)
    dw, total = np.empty_like(w), np.empty_like(w)
    work = n * w.size
    return Case(
        naive.linear_backward_weight,
        (dy, x, dw),
        lambda: [dw],
        lambda: matrix.backward_weight(dyb.array, xb.array, n, total),
        lambda: [total],
        work,
        2 * work,
        n,
    )


# -------------------------------------------------------------------------------------------- activations and losses


@operation("ReLU, forward", "6x28x28")
def _relu_forward(rng: np.random.Generator, n: int) -> Case:
    x = _normal(rng, n, 6, 28, 28)
    y, xb, yb = np.empty_like(x), _packed(x), _empty(*x.shape)
    return Case(
        naive.relu_forward,
        (x, y),
        lambda: [y],
        lambda: activation.relu_forward(pixels(xb), pixels(yb)),
        lambda: [blocks.unpack(yb)],
        x.size,
    )


@operation("ReLU, backward", "6x28x28")
def _relu_backward(rng: np.random.Generator, n: int) -> Case:
    dy, y = _normal(rng, n, 6, 28, 28), np.maximum(_normal(rng, n, 6, 28, 28), 0)
    dx, dyb, yb, dxb = np.empty_like(dy), _packed(dy), _packed(y), _empty(*dy.shape)
    return Case(
        naive.relu_backward,
        (dy, y, dx),
        lambda: [dx],
        lambda: activation.relu_backward(pixels(dyb), pixels(yb), pixels(dxb)),
        lambda: [blocks.unpack(dxb)],
        dy.size,
    )


@operation("softmax, forward", "10")
def _softmax_forward(rng: np.random.Generator, n: int) -> Case:
    z = _normal(rng, n, 10)
    p, zb, pb = np.empty_like(z), _packed(z), _empty(n, 10)
    return Case(
        naive.softmax_forward,
        (z, p),
        lambda: [p],
        lambda: write_softmax(zb, pb),
        lambda: [blocks.unpack(pb)],
        z.size,
        terms=10,
    )


@operation("softmax, backward", "10")
def _softmax_backward(rng: np.random.Generator, n: int) -> Case:
    dp, p = _normal(rng, n, 10), rng.random((n, 10), FLOAT)
    dz, dpb, pb, dzb = np.empty_like(dp), _packed(dp), _packed(p), _empty(n, 10)
    return Case(
        naive.softmax_backward,
        (dp, p, dz),
        lambda: [dz],
        lambda: write_softmax_gradient(dpb, pb, dzb),
        lambda: [blocks.unpack(dzb)],
        dp.size,
        terms=10,
    )


@operation("softmax and cross-entropy, both ways", "10")
def _cross_entropy(rng: np.random.Generator, n: int) -> Case:
    z, labels = _normal(rng, n, 10), rng.integers(0, 10, n)
    dz, losses, zb, dzb = np.empty_like(z), np.empty(n), _packed(z), _empty(n, 10)
    count = zb.array.shape[0]
    shares, hits = np.empty(count), np.empty(count, np.int64)
    return Case(
        naive.cross_entropy,
        (z, labels, dz, losses),
        lambda: [dz, losses.sum()],
        lambda: loss.cross_entropy(zb.array, labels, 0.0, np.ones(10), float(n), dzb.array, shares, hits),
        lambda: [blocks.unpack(dzb), shares.sum()],
        z.size,
        terms=10,
    )


# ------------------------------------------------------------------------------------------------------- optimisers

_PARAMETERS = _INPUTS * _OUTPUTS


def _optimiser(
    loops: Callable[..., None],
    grad: np.ndarray,
    state: Sequence[np.ndarray],
    rates: Sequence[float],
    step: Callable[..., object],
) -> Case:
    """Prepare an operation that changes its ``state``: each side has a copy, and both start from the same."""
    mine, theirs = [array.copy() for array in state], [array.copy() for array in state]

    def restore() -> None:
        for array, *copies in zip(state, mine, theirs, strict=True):
            for copy in copies:
                copy[...] = array

    return Case(
        loops,
        (grad, *rates, *mine),
        lambda: mine,
        lambda: step(*theirs),
        lambda: theirs,
        grad.size,
        restore=restore,
    )


@operation("SGD with momentum", f"{_PARAMETERS:,} weights")
def _sgd(rng: np.random.Generator, n: int) -> Case:
    value, grad, velocity = (_normal(rng, _PARAMETERS) for _ in range(3))
    return _optimiser(
        naive.sgd,
        grad,
        [value, velocity],
        (0.01, 0.9),
        lambda value, velocity: optim.sgd(*Many([(velocity, grad, value)]).table, 0.01, 0.9, False, np.zeros(1), 1.0),
    )


@operation("Adam", f"{_PARAMETERS:,} weights")
def _adam(rng: np.random.Generator, n: int) -> Case:
    value, grad, mean = (_normal(rng, _PARAMETERS) for _ in range(3))
    square = rng.random(_PARAMETERS, FLOAT)
    corrections = 1 - 0.9**7, (1 - 0.999**7) ** 0.5
    return _optimiser(
        naive.adam,
        grad,
        [value, mean, square],
        (1e-3, 0.9, 0.999, 1e-8, 7),
        lambda value, mean, square: optim.adam(
            *Many([(mean, square, grad, value)]).table, 1e-3, 0.9, 0.999, 1e-8, np.zeros(1), False, *corrections, 1.0
        ),
    )


# ---------------------------------------------------------------------------------------------------------- packing


@operation("packing and normalising uint8", "1x28x28")
def _pack_pixels(rng: np.random.Generator, n: int) -> Case:
    images, index = rng.integers(0, 256, (2 * n, 1, 28, 28), np.uint8), rng.permutation(2 * n)[:n]
    table = _normal(rng, 1, 256)
    x = np.empty((n, 1, 28, 28), FLOAT)
    xb = _empty(*x.shape)
    return Case(
        naive.pack_pixels,
        (images, index, table, x),
        lambda: [x],
        lambda: blocks.pack_pixels(images, table, xb, index),
        lambda: [blocks.unpack(xb)],
        x.size,
    )


@operation("packing float32", "1x28x28")
def _pack(rng: np.random.Generator, n: int) -> Case:
    images, index = _normal(rng, 2 * n, 1, 28, 28), rng.permutation(2 * n)[:n]
    x = np.empty((n, 1, 28, 28), FLOAT)
    xb = _empty(*x.shape)
    return Case(
        naive.pack,
        (images, index, x),
        lambda: [x],
        lambda: lanes.pack(images.reshape(2 * n, 1, -1), index, planes(xb.array)),
        lambda: [blocks.unpack(xb)],
        x.size,
    )


@operation("unpacking", "6x28x28")
def _unpack(rng: np.random.Generator, n: int) -> Case:
    xb = _packed(_normal(rng, n, 6, 28, 28))
    images, ours = np.empty(xb.shape, FLOAT), np.empty(xb.shape, FLOAT)
    return Case(
        naive.unpack,
        (xb.array, images),
        lambda: [images],
        lambda: lanes.unpack(planes(xb.array), ours.reshape(n, 6, -1)),
        lambda: [ours],
        images.size,
    )
