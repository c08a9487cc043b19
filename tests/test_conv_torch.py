"""Padding, the transposed convolution and the convolution of sequences against PyTorch, and their oracles too."""

from itertools import product

import numpy as np
import pytest
from cases import each_float
from peers import peer
from test_conv1d import CASES as SEQUENCES
from test_conv_transpose2d import CASES as TRANSPOSED
from test_torch import assert_close, leaf

import fastconv as fc
from fastconv import functional as F
from fastconv import reference

torch = peer("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.usefixtures("few_tiles"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),  # PyTorch copies there
]

MODES = ["constant", "reflect", "replicate", "circular"]


def both(ours, theirs, x, dtype, terms):
    """Compare a layer of ours with a module of theirs that has the same weights: names, outputs and gradients."""
    theirs = theirs.to(getattr(torch, dtype.__name__))
    ours.to(dtype).load_state_dict({name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
    tensor = leaf(x.astype(dtype))
    ref = theirs(tensor)
    dy = np.random.default_rng(1).standard_normal(ref.shape).astype(dtype)
    ref.backward(torch.tensor(dy))
    assert_close(ours.forward(x, training=True), ref, terms)
    assert_close(ours.backward(dy), tensor.grad, terms)
    for parameter, weight in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(parameter.grad, weight.grad, terms)


# (N, C, H, W), then Conv2d's arguments
CONVOLUTIONS = {
    "pairs": ((17, 2, 5, 6), (2, 3, (3, 2), (2, 1), (2, 1), (1, 2))),
    "groups": ((2, 4, 4, 5), (4, 6, 3, 1, (1, 3), 1, 2)),
    "same": ((3, 2, 5, 6), (2, 3, 3, 1, "same")),
    "same, even": ((17, 3, 6, 7), (3, 2, (2, 4), 1, "same")),
    "same, dilated": ((2, 2, 7, 8), (2, 3, (2, 3), 1, "same", (3, 2))),
    "same, depthwise": ((2, 3, 5, 6), (3, 3, (4, 3), 1, "same", 1, 3)),
    "same, winograd": ((2, 12, 6, 8), (12, 12, 3, 1, "same")),
    "same, 1x1": ((2, 3, 4, 5), (3, 4, 1, 1, "same")),
    "valid": ((2, 2, 5, 6), (2, 3, (3, 2), 2, "valid")),
}


@each_float
@pytest.mark.parametrize("mode", ["zeros", *MODES[1:]])
@pytest.mark.parametrize(("shape", "how"), CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_conv2d(shape, how, mode, dtype, rng):
    theirs = torch.nn.Conv2d(*how, padding_mode=mode)
    both(fc.Conv2d(*how, padding_mode=mode), theirs, rng.standard_normal(shape), dtype, 400)


@each_float
@pytest.mark.parametrize("mode", MODES)
def test_pad(mode, dtype, rng):
    """With every width up to what is allowed, and one beyond; with widths below zero too.

    Where more is to go round than cutting off has left, PyTorch returns memory that nothing was written to.
    """
    x = rng.standard_normal((2, 2, 3, 4)).astype(dtype)
    options = {"value": 1.5} if mode == "constant" else {}
    refused = 0
    for around in product((-2, 0, 3, 4), (-1, 0, 5), (-1, 2, 3), (0, 1)):
        pairs = ((4, around[:2]), (3, around[2:]))
        if mode == "circular" and any(max(pair) > size + min(0, *pair) for size, pair in pairs):
            refused += 1
            with pytest.raises(fc.ShapeError, match="circular padding of at most"):
                F.pad(x, around, mode)
            continue
        try:
            ref = torch.nn.functional.pad(torch.tensor(x), around, mode, **options)
        except RuntimeError:
            refused += 1
            with pytest.raises(fc.ShapeError):
                F.pad(x, around, mode)
        else:
            np.testing.assert_array_equal(F.pad(x, around, mode, 1.5), ref.numpy(), strict=True)
    assert (refused > 0) == (mode in ("reflect", "circular"))


@pytest.mark.parametrize("mode", MODES)
def test_the_oracles_pad(mode, rng):
    x, around = leaf(rng.standard_normal((2, 3, 4, 5))), (4, 2, 3, 1)
    ref = torch.nn.functional.pad(x, around, mode)
    dy = rng.standard_normal(ref.shape)
    ref.backward(torch.tensor(dy))
    np.testing.assert_array_equal(reference.pad(x.detach().numpy(), around, mode), ref.detach().numpy())
    np.testing.assert_allclose(reference.pad_backward(dy, x.shape, around, mode), x.grad.numpy(), atol=1e-14)


@each_float
@pytest.mark.parametrize("case", TRANSPOSED.values(), ids=TRANSPOSED.keys())
def test_conv_transpose2d(case, dtype, rng):
    shape, (filters, *taps), stride, padding, output_padding, groups, dilation = case
    how = shape[1], filters, taps, stride, padding, output_padding, groups, True, dilation
    x = rng.standard_normal(shape)
    theirs = torch.nn.ConvTranspose2d(*how)
    both(fc.ConvTranspose2d(*how), theirs, x, dtype, 400)

    arrays = x, *(tensor.detach().numpy().astype(float) for tensor in theirs.parameters())
    how = stride, padding, output_padding, groups, dilation
    ref = torch.nn.functional.conv_transpose2d(*(torch.tensor(array) for array in arrays), *how)
    np.testing.assert_allclose(reference.conv_transpose2d(*arrays, *how), ref.numpy(), rtol=1e-12, atol=1e-13)


@each_float
@pytest.mark.parametrize("seed", range(15))
def test_conv_transpose2d_drawn_at_random(seed, dtype):
    rng = np.random.default_rng(seed)
    pair = lambda low, high: tuple(rng.integers(low, high, 2).tolist())  # noqa: E731
    size, taps, stride, dilation = pair(2, 6), pair(1, 5), pair(1, 5), pair(1, 4)
    more = tuple(int(rng.integers(max(s, d))) for s, d in zip(stride, dilation, strict=True))
    spans = [(n - 1) * s + d * (k - 1) for n, s, d, k in zip(size, stride, dilation, taps, strict=True)]
    padding = tuple(int(rng.integers(span // 2 + 1)) for span in spans)
    groups, channels, filters = rng.integers(1, 4, 3).tolist()
    shape = int(rng.integers(1, 40)), groups * channels, *size
    test_conv_transpose2d((shape, (groups * filters, *taps), stride, padding, more, groups, dilation), dtype, rng)


def test_conv_transpose2d_refuses_what_torch_refuses():
    for stride, dilation, more in product((1, 2, 3), (1, 2), (0, 1, 2, 3)):
        theirs = torch.nn.ConvTranspose2d(2, 3, 2, stride, 0, more, dilation=dilation)
        try:
            theirs(torch.zeros(1, 2, 4, 4))
        except RuntimeError:
            with pytest.raises(fc.ShapeError, match="output_padding below stride"):
                fc.ConvTranspose2d(2, 3, 2, stride, 0, more, dilation=dilation)
        else:
            fc.ConvTranspose2d(2, 3, 2, stride, 0, more, dilation=dilation)


@each_float
@pytest.mark.parametrize("case", SEQUENCES.values(), ids=SEQUENCES.keys())
def test_conv1d(case, dtype, rng):
    shape, (filters, taps), *how = case
    how = shape[1], filters, taps, *how
    both(fc.Conv1d(*how), torch.nn.Conv1d(*how), rng.standard_normal(shape), dtype, 400)


@pytest.mark.parametrize("mode", ["zeros", *MODES[1:]])
@pytest.mark.parametrize("padding", [2, "same"])
def test_conv1d_padded(padding, mode, rng):
    how = 2, 3, 4, 1, padding, 1, 1, True, mode
    both(fc.Conv1d(*how), torch.nn.Conv1d(*how), rng.standard_normal((17, 2, 6)), np.float64, 400)
