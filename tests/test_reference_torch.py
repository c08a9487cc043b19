"""The oracle against PyTorch, in float64: whoever trusts ``fastconv.reference`` trusts these tests."""

import numpy as np
import pytest
from peers import peer

from fastconv import reference

torch = peer("torch")
pytestmark = pytest.mark.torch

# (N, C, H, W), (F, KH, KW), stride, padding, dilation, groups
CONVOLUTIONS = {
    "plain": ((2, 3, 7, 6), (4, 3, 3), 1, 0, 1, 1),
    "1x1": ((2, 3, 4, 5), (5, 1, 1), 1, 0, 1, 1),
    "1x1 strided": ((2, 3, 6, 5), (2, 1, 1), (2, 3), 0, 1, 1),
    "one of everything": ((1, 1, 1, 1), (1, 1, 1), 1, 0, 1, 1),
    "the blog's": ((1, 3, 7, 11), (2, 3, 5), 2, 0, 1, 1),
    "does not tile": ((2, 2, 8, 9), (3, 3, 2), (3, 4), 0, 1, 1),
    "stride beyond filter": ((1, 2, 9, 11), (2, 2, 1), (4, 5), (1, 0), 1, 1),
    "non-square": ((2, 2, 9, 5), (3, 4, 2), (2, 1), (1, 2), (2, 3), 1),
    "padding beyond filter": ((1, 1, 2, 3), (2, 2, 2), 1, (3, 4), 1, 1),
    "dilated": ((1, 2, 11, 10), (2, 3, 3), (2, 3), (2, 0), (4, 3), 1),
    "image inside dilated filter": ((2, 1, 3, 2), (2, 3, 3), 1, 3, (3, 2), 1),
    "groups": ((2, 6, 6, 5), (4, 3, 2), (2, 1), (0, 1), 1, 2),
    "three groups": ((1, 6, 5, 5), (9, 3, 3), 2, 1, (1, 2), 3),
    "depthwise": ((2, 4, 6, 7), (4, 3, 3), (1, 2), 1, 1, 4),
    "depthwise multiplied": ((1, 3, 6, 7), (6, 2, 3), (2, 2), (1, 0), (2, 1), 3),
    "empty batch": ((0, 2, 5, 4), (3, 2, 3), 1, (1, 0), 1, 1),
}

# (N, C, H, W), kernel_size, stride, padding
POOLINGS = {
    "plain": ((2, 3, 6, 8), 2, None, 0),
    "does not tile": ((2, 2, 7, 8), (2, 3), None, 0),
    "1x1": ((1, 2, 4, 3), 1, None, 0),
    "whole image": ((2, 2, 4, 5), (4, 5), 1, 0),
    "overlapping": ((2, 1, 7, 9), 3, 2, 1),
    "non-square": ((1, 2, 9, 6), (4, 2), (3, 1), (2, 1)),
    "stride beyond kernel": ((1, 2, 10, 9), (2, 1), (4, 3), (1, 0)),
    "last window dropped": ((1, 1, 4, 5), 2, 3, 1),
    "last window over the padding": ((2, 1, 5, 6), (3, 4), (2, 3), (1, 2)),
    "far over the edge": ((1, 1, 6, 7), (5, 6), (4, 5), (2, 3)),
    "one pixel": ((1, 1, 1, 1), 2, 2, 1),
    "empty batch": ((0, 2, 5, 4), 2, None, 0),
}


def parametrize(cases):
    """Run a test once for each entry of a table."""
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def leaf(array):
    """Return a tensor that asks for its gradient."""
    return torch.tensor(array, requires_grad=True)


def assert_close(comp, ref, scale=1.0):
    """Compare to a few units in the last place of sums whose terms are of order ``scale``."""
    assert comp.dtype == np.float64
    np.testing.assert_allclose(comp, ref.detach().numpy(), rtol=1e-12, atol=1e-13 * scale, strict=True)


@parametrize(CONVOLUTIONS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_conv2d(case, with_bias):
    shape, (filters, *kernel), *how = case
    rng = np.random.default_rng(0)
    x, weight = leaf(rng.standard_normal(shape)), leaf(rng.standard_normal((filters, shape[1] // how[3], *kernel)))
    bias = leaf(rng.standard_normal(filters)) if with_bias else None
    ref = torch.nn.functional.conv2d(x, weight, bias, *how)
    dy = rng.standard_normal(ref.shape)
    ref.backward(torch.tensor(dy))
    x_array, w_array = x.detach().numpy(), weight.detach().numpy()
    b_array = None if bias is None else bias.detach().numpy()

    assert_close(reference.conv2d(x_array, w_array, b_array, *how), ref, 100)
    assert_close(reference.conv2d_backward_input(dy, w_array, shape, *how), x.grad, 100)
    assert_close(reference.conv2d_backward_filter(dy, x_array, w_array.shape, *how), weight.grad, 100)
    if bias is not None:
        assert_close(reference.conv2d_backward_bias(dy), bias.grad, 100)


@pytest.mark.parametrize("seed", range(60))
def test_conv2d_drawn_at_random(seed):
    rng = np.random.default_rng(seed)
    pair = lambda low, high: tuple(rng.integers(low, high, 2).tolist())  # noqa: E731
    groups, per_group, filters = rng.integers(1, 4, 3).tolist()
    kernel, stride, padding, dilation = pair(1, 5), pair(1, 5), pair(0, 4), pair(1, 5)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, padding, dilation, strict=True)]
    shape = (2, groups * per_group, least[0] + int(rng.integers(6)), least[1] + int(rng.integers(6)))
    test_conv2d((shape, (groups * filters, *kernel), stride, padding, dilation, groups), with_bias=True)


@parametrize(POOLINGS)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("pixels", ["normal", "ties", "nan", "all nan", "minus infinity"])
def test_max_pool2d(case, ceil_mode, pixels):
    shape, kernel_size, stride, padding = case
    rng = np.random.default_rng(0)
    x = {
        "normal": rng.standard_normal(shape),
        "ties": rng.integers(0, 3, shape).astype(float),
        "nan": np.where(rng.random(shape) < 0.3, np.nan, rng.standard_normal(shape)),
        "all nan": np.full(shape, np.nan),
        "minus infinity": np.full(shape, -np.inf),
    }[pixels]
    tensor = leaf(x)
    ref, ref_index = torch.nn.functional.max_pool2d(
        tensor, kernel_size, stride, padding, ceil_mode=ceil_mode, return_indices=True
    )
    dy = rng.standard_normal(ref.shape)
    ref.backward(torch.tensor(dy))

    y, index = reference.max_pool2d(x, kernel_size, stride, padding, ceil_mode)
    np.testing.assert_array_equal(y, ref.detach().numpy(), strict=True)
    np.testing.assert_array_equal(index, ref_index.numpy(), strict=True)
    assert_close(reference.max_pool2d_backward(dy, index, shape), tensor.grad, 10)


@parametrize(POOLINGS)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_avg_pool2d(case, ceil_mode, count_include_pad):
    shape, *window = case
    rng = np.random.default_rng(0)
    x = leaf(rng.standard_normal(shape))
    how = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    ref = torch.nn.functional.avg_pool2d(x, *window, **how)
    dy = rng.standard_normal(ref.shape)
    ref.backward(torch.tensor(dy))

    assert_close(reference.avg_pool2d(x.detach().numpy(), *window, **how), ref, 10)
    assert_close(reference.avg_pool2d_backward(dy, shape, *window, **how), x.grad, 10)


@pytest.mark.parametrize("seed", range(60))
def test_pooling_drawn_at_random(seed):
    rng = np.random.default_rng(seed)
    kernel = rng.integers(1, 6, 2)
    stride, padding = rng.integers(1, 6, 2), [int(rng.integers(k // 2 + 1)) for k in kernel]
    size = np.maximum(1, kernel - 2 * np.array(padding)) + rng.integers(0, 7, 2)
    case = ((1, 2, *size.tolist()), tuple(kernel.tolist()), tuple(stride.tolist()), tuple(padding))
    for ceil_mode in (False, True):
        test_max_pool2d(case, ceil_mode, "nan")
        test_avg_pool2d(case, ceil_mode, count_include_pad=True)
        test_avg_pool2d(case, ceil_mode, count_include_pad=False)


@pytest.mark.parametrize(("images", "inputs", "outputs"), [(3, 5, 4), (1, 1, 1), (0, 3, 2), (2, 40, 1)])
def test_linear(images, inputs, outputs):
    rng = np.random.default_rng(0)
    x, weight, bias = (leaf(rng.standard_normal(s)) for s in ((images, inputs), (outputs, inputs), outputs))
    ref = torch.nn.functional.linear(x, weight, bias)
    dy = rng.standard_normal(ref.shape)
    ref.backward(torch.tensor(dy))

    arrays = [t.detach().numpy() for t in (x, weight, bias)]
    assert_close(reference.linear(*arrays), ref, 10)
    for comp, tensor in zip(reference.linear_backward(dy, *arrays[:2]), (x, weight, bias), strict=True):
        assert_close(comp, tensor.grad, 10)


def test_relu():
    x = leaf(np.array([-2.0, -0.0, 0.0, 1e-300, 3.0, np.inf, -np.inf, np.nan]))
    ref = torch.relu(x)
    dy = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, np.nan, 8.0])
    ref.backward(torch.tensor(dy))
    y = reference.relu(x.detach().numpy())
    assert_close(y, ref)
    assert_close(reference.relu_backward(dy, y), x.grad)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 2, 4), (0, 3), (3, 1)])
def test_softmax_and_log_softmax(scale, shape):
    rng = np.random.default_rng(0)
    x = leaf(scale * rng.standard_normal(shape))
    dy = rng.standard_normal(shape)
    ref = torch.softmax(x, 1)
    ref.backward(torch.tensor(dy))
    y = reference.softmax(x.detach().numpy())
    assert_close(y, ref)
    assert_close(reference.softmax_backward(dy, y), x.grad)
    assert_close(reference.log_softmax(x.detach().numpy()), torch.log_softmax(x, 1))


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("images", [6, 1, 0])
def test_cross_entropy(scale, label_smoothing, images):
    rng = np.random.default_rng(0)
    logits, labels = leaf(scale * rng.standard_normal((images, 4))), rng.integers(0, 4, images)
    ref = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), label_smoothing=label_smoothing)
    ref.backward()
    loss, dlogits = reference.cross_entropy(logits.detach().numpy(), labels, label_smoothing)
    np.testing.assert_allclose(loss, ref.item(), rtol=1e-12)
    assert_close(dlogits, logits.grad)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 5), (0, 3)])
def test_mse(shape):
    rng = np.random.default_rng(0)
    y, target = leaf(rng.standard_normal(shape)), rng.standard_normal(shape)
    ref = torch.nn.functional.mse_loss(y, torch.tensor(target))
    ref.backward()
    loss, dy = reference.mse(y.detach().numpy(), target)
    np.testing.assert_allclose(loss, ref.item(), rtol=1e-12)
    assert_close(dy, y.grad)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_with_weights_and_probabilities(label_smoothing, soft, weighted):
    rng = np.random.default_rng(0)
    logits, target = leaf(rng.standard_normal((6, 4))), rng.random((6, 4)) if soft else rng.integers(0, 4, 6)
    weight = rng.uniform(0.5, 2, 4) if weighted else None
    ref = torch.nn.functional.cross_entropy(
        logits, torch.tensor(target), torch.tensor(weight) if weighted else None, label_smoothing=label_smoothing
    )
    ref.backward()
    loss, dlogits = reference.cross_entropy(logits.detach().numpy(), target, label_smoothing, weight)
    np.testing.assert_allclose(loss, ref.item(), rtol=1e-12)
    assert_close(dlogits, logits.grad)


@pytest.mark.parametrize(
    ("oracle", "name", "options"),
    [
        (reference.l1, "l1_loss", {}),
        (reference.huber, "huber_loss", {"delta": 0.4}),
        (reference.binary_cross_entropy, "binary_cross_entropy_with_logits", {}),
        (reference.binary_cross_entropy, "binary_cross_entropy_with_logits", {"pos_weight": np.array([1.0, 2, 5])}),
    ],
)
def test_losses_of_elements(oracle, name, options):
    rng = np.random.default_rng(0)
    y, target = leaf(3 * rng.standard_normal((7, 3))), rng.random((7, 3))
    spread = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    ref = getattr(torch.nn.functional, name)(y, torch.tensor(target), **spread)
    ref.backward()
    loss, dy = oracle(y.detach().numpy(), target, *options.values())
    np.testing.assert_allclose(loss, ref.item(), rtol=1e-12)
    assert_close(dy, y.grad)


def torch_steps(optimizer, value, grads, **options):
    """Yield the parameter after each step of PyTorch's own optimiser."""
    parameter = leaf(value)
    steps = optimizer([parameter], **options)
    for grad in grads:
        parameter.grad = torch.tensor(grad)
        steps.step()
        yield parameter


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_sgd(momentum, nesterov, weight_decay):
    rng = np.random.default_rng(0)
    value, grads, velocity = rng.standard_normal((3, 4)), rng.standard_normal((6, 3, 4)), np.zeros((3, 4))
    options = {"lr": 0.05, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
    for grad, ref in zip(grads, torch_steps(torch.optim.SGD, value, grads, **options), strict=True):
        value, velocity = reference.sgd(value, grad, velocity, **options)
        assert_close(value, ref)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_adam_and_adamw(name, weight_decay, scale):
    rng = np.random.default_rng(0)
    value, grads = rng.standard_normal((3, 4)), scale * rng.standard_normal((6, 3, 4))
    m, v, step_once = np.zeros((3, 4)), np.zeros((3, 4)), {"Adam": reference.adam, "AdamW": reference.adamw}[name]
    refs = torch_steps(
        getattr(torch.optim, name), value, grads, lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=weight_decay
    )
    for step, (grad, ref) in enumerate(zip(grads, refs, strict=True), start=1):
        value, m, v = step_once(value, grad, m, v, step, 0.01, 0.8, 0.99, 1e-6, weight_decay)
        assert_close(value, ref, 100)


@pytest.mark.parametrize(("momentum", "centered"), [(0.0, False), (0.9, False), (0.5, True)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_rmsprop(momentum, centered, weight_decay):
    rng = np.random.default_rng(0)
    value, grads, state = rng.standard_normal((3, 4)), rng.standard_normal((6, 3, 4)), [np.zeros((3, 4))] * 3
    options = {
        "lr": 0.02, "alpha": 0.9, "eps": 1e-3, "momentum": momentum, "centered": centered, "weight_decay": weight_decay,
    }  # fmt: skip
    for grad, ref in zip(grads, torch_steps(torch.optim.RMSprop, value, grads, **options), strict=True):
        value, *state = reference.rmsprop(value, grad, *state, **options)
        assert_close(value, ref, 100)
