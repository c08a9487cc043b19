"""fastconv against PyTorch: outputs, every gradient, names, optimisers, and fifty steps of training."""

import numpy as np
import pytest
from cases import CONVOLUTIONS, POOLINGS, SPECIAL, each_float, parametrize
from peers import peer

import fastconv as fc
from fastconv import blocks
from fastconv import functional as F

torch = peer("torch")
pytestmark = pytest.mark.torch
few_tiles = pytest.mark.usefixtures("few_tiles")
# Its threads spin while they wait, which on a busy machine costs minutes.
torch.set_num_threads(1)


def leaf(array):
    """Return a tensor that asks for its gradient."""
    return torch.tensor(np.asarray(array), requires_grad=True)


def assert_close(comp, ref, terms, magnitude=None):
    """Compare sums of ``terms`` products that both sides rounded; ``magnitude`` bounds the sum of absolute values."""
    ref = ref.detach().numpy()
    assert comp.dtype == ref.dtype
    magnitude = abs(ref).max(initial=0) if magnitude is None else magnitude.detach().numpy()
    excess = np.abs(comp - ref) - terms * np.finfo(comp.dtype).eps * magnitude
    assert comp.shape == ref.shape
    assert not (excess > 0).any(), f"beyond the tolerance by {excess.max():.3g}"
    np.testing.assert_array_equal(np.isnan(comp), np.isnan(ref))


# ------------------------------------------------------------------------------------------- outputs and gradients


def check_conv2d(case, dtype, rng):
    shape, (filters, *taps), *how = case
    x, weight, bias = (
        leaf(rng.standard_normal(s).astype(dtype)) for s in (shape, (filters, shape[1] // how[3], *taps), filters)
    )
    ref = torch.nn.functional.conv2d(x, weight, bias, *how)
    dy = rng.standard_normal(ref.shape).astype(dtype)
    ref.backward(torch.tensor(dy))

    absolute = [leaf(abs(t.detach().numpy())) for t in (x, weight, bias)]
    magnitude = torch.nn.functional.conv2d(*absolute, *how)
    magnitude.backward(torch.tensor(abs(dy)))

    arrays = [t.detach().numpy() for t in (x, weight, bias)]
    assert_close(F.conv2d(*arrays, *how), ref, weight[0].numel() + 1, magnitude)
    terms = weight[:, 0].numel(), dy[:, 0].size, dy[:, 0].size
    gradients = F.conv2d_backward(dy, *arrays[:2], *how)
    for comp, tensor, size, count in zip(gradients, (x, weight, bias), absolute, terms, strict=True):
        assert_close(comp, tensor.grad, count, size.grad)


@few_tiles
@each_float
@parametrize(CONVOLUTIONS | SPECIAL)
def test_conv2d(case, dtype, rng):
    check_conv2d(case, dtype, rng)


@few_tiles
@each_float
@pytest.mark.parametrize("seed", range(25))
def test_conv2d_drawn_at_random(seed, dtype):
    rng = np.random.default_rng(seed)
    pair = lambda low, high: tuple(rng.integers(low, high, 2).tolist())  # noqa: E731
    groups, per_group, filters = rng.integers(1, 4, 3).tolist()
    taps, stride, padding, dilation = pair(1, 6), pair(1, 5), pair(0, 4), pair(1, 5)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(taps, padding, dilation, strict=True)]
    shape = (int(rng.integers(1, 40)), groups * per_group, *(size + int(rng.integers(8)) for size in least))
    check_conv2d((shape, (groups * filters, *taps), stride, padding, dilation, groups), dtype, rng)


def check_layer(layer, function, x, dtype, terms, exact=False):
    """Compare a layer without parameters, forward and backward, with a function of torch."""
    tensor = leaf(x.astype(dtype))
    ref = function(tensor)
    dy = np.random.default_rng(1).standard_normal(ref.shape).astype(dtype)
    ref.backward(torch.tensor(dy))
    layer.to(dtype)
    y = layer.forward(x, training=True)
    if exact:
        np.testing.assert_array_equal(y, ref.detach().numpy(), strict=True)
    else:
        assert_close(y, ref, terms)
    assert_close(layer.backward(dy), tensor.grad, terms)


@each_float
@parametrize(POOLINGS)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("planted", [False, True])
def test_max_pool2d(case, ceil_mode, planted, dtype, rng):
    shape, *how = case
    x = rng.integers(0, 3, shape).astype(dtype) if planted else rng.standard_normal(shape)
    if planted:
        x[rng.random(shape) < 0.2] = np.nan
        x[rng.random(shape) < 0.2] = -np.inf
    layer = fc.MaxPool2d(*how, ceil_mode=ceil_mode)
    check_layer(
        layer, lambda t: torch.nn.functional.max_pool2d(t, *how, ceil_mode=ceil_mode), x.astype(dtype), dtype, 50, True
    )


@each_float
@parametrize(POOLINGS)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_avg_pool2d(case, ceil_mode, count_include_pad, dtype, rng):
    shape, *how = case
    options = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    layer = fc.AvgPool2d(*how, **options)
    x = rng.standard_normal(shape).astype(dtype)
    check_layer(layer, lambda t: torch.nn.functional.avg_pool2d(t, *how, **options), x, dtype, 100)


@each_float
@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("GroupNorm", (2, 4), (3, 4, 5, 2)),
        ("GroupNorm", (3, 3), (17, 3, 2, 2)),
        ("GroupNorm", (2, 6), (33, 6)),
        ("LayerNorm", ((3, 2, 4),), (15, 3, 2, 4)),
        ("LayerNorm", (7,), (18, 7)),
        ("GroupNorm", (2, 4), (17, 4, 5)),
        ("LayerNorm", ((3, 5),), (17, 3, 5)),
    ],
)
def test_group_and_layer_norm(name, arguments, shape, dtype, rng):
    ours, theirs = getattr(fc, name)(*arguments).to(dtype), getattr(torch.nn, name)(*arguments).to(torch.float64)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        mine.value = rng.standard_normal(mine.shape)
        other.data = torch.tensor(mine.value.astype(float))
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    tensor = leaf(x.astype(float))
    ref = theirs(tensor)
    ref.backward(torch.tensor(dy.astype(float)))
    bound = 1e-4 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(ours.forward(x, training=True), ref.detach().numpy(), rtol=bound, atol=bound)
    np.testing.assert_allclose(ours.backward(dy), tensor.grad.numpy(), rtol=bound, atol=bound)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=bound, atol=bound)


@each_float
@pytest.mark.parametrize(
    "shape", [(2, 3, 1, 1), (1, 2, 5, 3), (17, 2, 4, 1), (33, 1, 3, 2), (19, 5), (17, 3, 4)], ids=str
)
@pytest.mark.parametrize("options", [{}, {"momentum": None, "eps": 0.1}, {"affine": False}], ids=str)
def test_batch_norm(shape, options, dtype, rng):
    kind = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
    ours, theirs = getattr(fc, kind)(shape[1], **options).to(dtype), getattr(torch.nn, kind)(shape[1], **options)
    theirs = theirs.to(torch.float64)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        mine.value = rng.standard_normal(shape[1])
        other.data = torch.tensor(mine.value.astype(float))
    close = {"rtol": 1e-5, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-11}
    for training in (True, True, False):
        theirs.train(training)
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        tensor = leaf(x.astype(float))
        ref = theirs(tensor)
        np.testing.assert_allclose(ours.forward(x, training=training), ref.detach().numpy(), **close)
        if training:
            ref.backward(torch.tensor(dy.astype(float)))
            np.testing.assert_allclose(ours.backward(dy), tensor.grad.numpy(), rtol=1e-3, atol=close["atol"] * 5)
            for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=1e-4, atol=close["atol"])
                other.grad = None
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], value.numpy(), **close)


@each_float
@pytest.mark.parametrize("n", [1, 17])
def test_normalisations_that_pool_and_that_end_a_branch(n, dtype, rng):
    ours = fc.Sequential(
        fc.BatchNorm2d(3),
        fc.ReLU(),
        fc.MaxPool2d(2),
        fc.Residual(fc.Sequential(fc.Conv2d(3, 3, 3, padding=1), fc.BatchNorm2d(3))),
        fc.ReLU(),
    ).to(dtype)
    pool = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)).to(torch.float64)
    body = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.BatchNorm2d(3)).to(torch.float64)
    theirs = [*pool.parameters(), *body.parameters()]
    for mine, other in zip(ours.parameters(), theirs, strict=True):
        mine.value = rng.standard_normal(mine.shape)
        other.data = torch.tensor(mine.value.astype(float))
    x = rng.standard_normal((n, 3, 7, 9)).astype(dtype)
    tensor = leaf(x.astype(float))
    halved = pool(tensor)
    ref = torch.relu(halved + body(halved))
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose(ours.forward(x, training=True), ref.detach().numpy(), **close)
    dy = rng.standard_normal(ref.shape).astype(dtype)
    ref.backward(torch.tensor(dy.astype(float)))
    np.testing.assert_allclose(ours.backward(dy), tensor.grad.numpy(), **close)
    for mine, other in zip(ours.parameters(), theirs, strict=True):
        np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=close["rtol"], atol=10 * close["atol"])


@each_float
def test_relu_and_softmax(dtype, rng):
    x = rng.standard_normal((17, 5, 3, 2)).astype(dtype)
    check_layer(fc.Softmax(), lambda t: torch.softmax(t, 1), x, dtype, 20)
    x[3] = [[[0.0, -0.0]] * 3, [[np.inf, -np.inf]] * 3, [[1e-40, -1e-40]] * 3, [[np.nan] * 2] * 3, [[1, -1]] * 3]
    check_layer(fc.ReLU(), torch.relu, x, dtype, 0, True)


@each_float
@pytest.mark.parametrize("scale", [1, 1e4])
def test_log_softmax(scale, dtype, rng):
    x = (scale * rng.standard_normal((17, 10))).astype(dtype)
    assert_close(F.log_softmax(x), torch.log_softmax(torch.tensor(x), 1), 4)


CURVES = {
    "LeakyReLU": [{}, {"negative_slope": -0.3}],
    "ELU": [{}, {"alpha": 0.4}],
    "GELU": [{}, {"approximate": "tanh"}],
    "Sigmoid": [{}],
    "SiLU": [{}],
    "Tanh": [{}],
    "Hardswish": [{}],
}
INFINITE = [np.inf, -np.inf, np.nan, 0.0, -0.0, 3.0, -3.0]


@each_float
@pytest.mark.parametrize(("name", "options"), [(name, o) for name, all_ in CURVES.items() for o in all_])
def test_curves(name, options, dtype, rng):
    ours, theirs = getattr(fc, name)(**options), getattr(torch.nn, name)(**options)
    check_layer(ours, theirs, (3 * rng.standard_normal((17, 40))).astype(dtype), dtype, 8)
    x = np.array(INFINITE if (name, dtype, options) != ("GELU", np.float32, {}) else INFINITE[1:], dtype)
    if name == "GELU" and dtype == np.float32 and not options:
        assert ours(np.array([[np.inf]], dtype)) == np.inf, "which is NaN in torch's float32, not in its float64"
    x = np.tile(x, (64, 1))  # a number that its vectors divide: what is left over may give NaN another gradient
    tensor = leaf(x)
    ref = theirs(tensor)
    ref.backward(torch.ones_like(ref))
    np.testing.assert_allclose(ours.forward(x, training=True), ref.detach().numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours.backward(np.ones_like(x)), tensor.grad.numpy(), rtol=1e-6, atol=1e-6)


@each_float
@pytest.mark.parametrize("slopes", [1, 5])
def test_prelu(slopes, dtype, rng):
    ours, theirs = fc.PReLU(slopes).to(dtype), torch.nn.PReLU(slopes).to(getattr(torch, dtype.__name__))
    x, dy = leaf(rng.standard_normal((17, 5, 3, 2)).astype(dtype)), rng.standard_normal((17, 5, 3, 2)).astype(dtype)
    ref = theirs(x)
    ref.backward(torch.tensor(dy))
    assert_close(ours.forward(x.detach().numpy(), training=True), ref, 1)
    assert_close(ours.backward(dy), x.grad, 1)
    assert_close(ours.weight.grad, theirs.weight.grad, x.numel())
    assert list(ours.state_dict()) == list(theirs.state_dict())


@each_float
def test_log_softmax_layer(dtype, rng):
    check_layer(fc.LogSoftmax(), torch.nn.LogSoftmax(1), rng.standard_normal((17, 5, 3, 2)), dtype, 20)


RESIZED = [(1, 1, 1, 1), (17, 2, 5, 7), (2, 3, 8, 8), (2, 1, 1, 9), (3, 2, 13, 4)]
each_image = pytest.mark.parametrize("shape", RESIZED, ids=str)


@each_float
@each_image
@pytest.mark.parametrize("size", [1, 2, (3, None), (7, 4), (5, 5)], ids=str)
def test_adaptive_pooling(size, shape, dtype, rng):
    x = rng.standard_normal(shape)
    check_layer(fc.AdaptiveAvgPool2d(size), torch.nn.AdaptiveAvgPool2d(size), x, dtype, 70)
    planted = rng.integers(0, 3, shape).astype(float)
    planted[rng.random(shape) < 0.2] = np.nan
    planted[rng.random(shape) < 0.2] = -np.inf
    check_layer(fc.AdaptiveMaxPool2d(size), torch.nn.AdaptiveMaxPool2d(size), planted, dtype, 70, True)


@each_float
@each_image
@pytest.mark.parametrize(
    "how", [{"size": 3}, {"size": (7, 4)}, *({"scale_factor": f} for f in (1.0, 2, 3, (1.3, 2.7)))], ids=str
)
def test_upsample(how, shape, dtype, rng):
    x = rng.standard_normal(shape)
    check_layer(fc.Upsample(**how), torch.nn.Upsample(**how), x, dtype, 50, False)
    y = torch.nn.Upsample(**how)(torch.tensor(x.astype(dtype)))
    np.testing.assert_array_equal(fc.Upsample(**how).to(dtype)(x), y.numpy())
    for align in (False, True):
        ours, theirs = (kind.Upsample(**how, mode="bilinear", align_corners=align) for kind in (fc, torch.nn))
        check_layer(ours, theirs, x, dtype, 60)


@each_float
def test_zero_pad2d(dtype, rng):
    x = rng.standard_normal((17, 2, 3, 4))
    check_layer(fc.ZeroPad2d((1, 0, 2, 3)), torch.nn.ZeroPad2d((1, 0, 2, 3)), x, dtype, 0, True)


@few_tiles
@each_float
@pytest.mark.parametrize(("n", "inputs", "outputs"), [(1, 1, 1), (17, 33, 5), (64, 400, 120), (50, 84, 10)])
def test_linear(n, inputs, outputs, dtype, rng):
    theirs, ours = (
        torch.nn.Linear(inputs, outputs).to(getattr(torch, dtype.__name__)),
        fc.Linear(inputs, outputs).to(dtype),
    )
    ours.load_state_dict({name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
    x, dy = leaf(rng.standard_normal((n, inputs)).astype(dtype)), rng.standard_normal((n, outputs)).astype(dtype)
    ref = theirs(x)
    ref.backward(torch.tensor(dy))
    assert_close(ours.forward(x.detach().numpy(), training=True), ref, inputs + 1)
    assert_close(ours.backward(dy), x.grad, outputs)
    assert_close(ours.weight.grad, theirs.weight.grad, n)
    assert_close(ours.bias.grad, theirs.bias.grad, n)


@each_float
@pytest.mark.parametrize("scale", [1, 1e4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("n", [1, 17, 64])
def test_cross_entropy(n, smoothing, scale, dtype, rng):
    logits, labels = leaf((scale * rng.standard_normal((n, 10))).astype(dtype)), rng.integers(0, 10, n)
    if scale > 1 and not smoothing:
        with torch.no_grad():
            logits[0, (labels[0] + 1) % 10] = -torch.inf
    ref = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), label_smoothing=smoothing)
    ref.backward()
    loss = fc.CrossEntropyLoss(smoothing)
    comp = loss(logits.detach().numpy(), labels)
    np.testing.assert_allclose(comp, ref.item(), rtol=(n + 10) * np.finfo(dtype).eps)
    assert_close(loss.backward(), logits.grad, 20)


@each_float
def test_mse(dtype, rng):
    y, target = (
        leaf(rng.standard_normal((17, 2, 3)).reshape(17, 6).astype(dtype)),
        rng.standard_normal((17, 6)).astype(dtype),
    )
    ref = torch.nn.functional.mse_loss(y, torch.tensor(target))
    ref.backward()
    loss = fc.MSELoss()
    np.testing.assert_allclose(loss(y.detach().numpy(), target), ref.item(), rtol=100 * np.finfo(dtype).eps)
    assert_close(loss.backward(), y.grad, 4)


@each_float
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_cross_entropy_with_weights_and_probabilities(soft, weighted, smoothing, scale, dtype, rng):
    logits = leaf((scale * rng.standard_normal((33, 7))).astype(dtype))
    target = rng.random((33, 7)).astype(dtype) if soft else rng.integers(0, 7, 33)
    weight = rng.uniform(0.2, 3, 7).astype(dtype) if weighted else None
    ref = torch.nn.functional.cross_entropy(
        logits, torch.tensor(target), None if weight is None else torch.tensor(weight), label_smoothing=smoothing
    )
    ref.backward()
    loss = fc.CrossEntropyLoss(smoothing, weight)
    np.testing.assert_allclose(loss(logits.detach().numpy(), target), ref.item(), rtol=60 * np.finfo(dtype).eps)
    assert_close(loss.backward(), logits.grad, 60)


def test_an_impossible_class_with_probabilities():
    logits, target = leaf([[0.0, -np.inf, 0.0], [1.0, 2.0, 3.0]]), np.array([[0.5, 0, 0.5], [0.2, 0.3, 0.5]])
    ref = torch.nn.functional.cross_entropy(logits, torch.tensor(target))
    ref.backward()
    loss = fc.CrossEntropyLoss()
    assert np.isnan(loss(logits.detach().numpy(), target)) == ref.isnan().item()
    assert_close(loss.backward(), logits.grad, 4)


SPECIAL_VALUES = (0.0, -0.0, 1.0, -1.0, 0.5, 50.0, -50.0, 1e4, -1e4, np.inf, -np.inf, np.nan)
ELEMENT_LOSSES = {
    "mse": (fc.MSELoss, torch.nn.functional.mse_loss, {}),
    "l1": (fc.L1Loss, torch.nn.functional.l1_loss, {}),
    "huber": (fc.HuberLoss, torch.nn.functional.huber_loss, {"delta": 0.7}),
    "bce": (fc.BCEWithLogitsLoss, torch.nn.functional.binary_cross_entropy_with_logits, {}),
    "bce, weighted": (
        fc.BCEWithLogitsLoss, torch.nn.functional.binary_cross_entropy_with_logits, {"pos_weight": [0.5, 1, 2, 3, 4, 5]}
    ),
}  # fmt: skip


@each_float
@pytest.mark.parametrize(("ours", "theirs", "options"), ELEMENT_LOSSES.values(), ids=ELEMENT_LOSSES.keys())
@pytest.mark.parametrize("special", [False, True])
def test_losses_of_elements(ours, theirs, options, special, dtype, rng):
    y = leaf((3 * rng.standard_normal((34, 6))).astype(dtype))
    target = rng.integers(0, 3, (34, 6)).astype(dtype) / 2
    if special:
        with torch.no_grad():
            y[: 2 * len(SPECIAL_VALUES)] = torch.tensor(np.tile(SPECIAL_VALUES, (6, 2)).T.copy())
    spread = {k: torch.tensor(v, dtype=y.dtype) if isinstance(v, list) else v for k, v in options.items()}
    ref = theirs(y, torch.tensor(target), reduction="none", **spread)
    ref.mean().backward()
    loss = ours(**options)
    comp = loss(y.detach().numpy(), target)
    np.testing.assert_allclose(comp, ref.mean().item(), rtol=300 * np.finfo(dtype).eps)
    # The terms of a gradient, some of which cancel, are at most 8 / 204; those of squares are large.
    unit = np.finfo(dtype).eps
    np.testing.assert_allclose(loss.backward(), y.grad.numpy(), rtol=4 * unit, atol=unit / 3)


# ------------------------------------------------------------------------------------------------ names and weights


def torch_lenet5():
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def torch_nested():
    nn = torch.nn
    return nn.Sequential(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 6, (3, 2), 2, 1, groups=2))
        ),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3)),
    )


def nested():
    return fc.Sequential(
        fc.Sequential(
            fc.Conv2d(2, 4, 3, bias=False), fc.ReLU(), fc.Sequential(fc.Conv2d(4, 6, (3, 2), 2, 1, groups=2))
        ),
        fc.AvgPool2d(2),
        fc.Flatten(),
        fc.Sequential(fc.Dropout(0.5), fc.Linear(6, 3)),
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [(fc.models.lenet5, torch_lenet5, (17, 1, 28, 28)), (nested, torch_nested, (17, 2, 8, 7))],
    ids=["LeNet-5", "nested"],
)
def test_weights_have_torchs_names_and_order_and_give_its_outputs(ours, theirs, shape, rng):
    torch.manual_seed(0)
    ours, theirs = ours(), theirs().eval()
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    assert [(name, value.shape) for name, value in ours.state_dict().items()] == [
        (n, v.shape) for n, v in state.items()
    ]
    ours.load_state_dict(state)
    x = rng.standard_normal(shape).astype(np.float32)
    assert_close(ours.forward(x), theirs(torch.tensor(x)), 500)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})


# ------------------------------------------------------------------------------------------------------- optimisers

OPTIMIZERS = {
    "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, {"weight_decay": 0.1}],
    "Adam": [{}, {"betas": (0.8, 0.99), "eps": 1e-4, "weight_decay": 0.1}],
    "AdamW": [{}, {"betas": (0.5, 0.9), "eps": 1e-6, "weight_decay": 0.3}],
    "RMSprop": [
        {"alpha": 0.9},
        {"alpha": 0.9, "momentum": 0.5, "centered": True, "eps": 0.1, "weight_decay": 0.1},
    ],
}


@each_float
@pytest.mark.parametrize(("name", "options"), [(name, o) for name, all_ in OPTIMIZERS.items() for o in all_])
def test_optimisers_step_by_step(name, options, dtype, rng):
    start = rng.standard_normal((7, 600)).astype(dtype)
    theirs, ours = leaf(start.copy()), fc.Parameter(start.shape, fc.init.zeros, dtype)
    ours.value = start
    optimizers = getattr(torch.optim, name)([theirs], lr=0.01, **options), getattr(fc, name)(lr=0.01, **options)
    for step in range(12):
        grad = rng.standard_normal(start.shape).astype(dtype)
        theirs.grad, ours.grad = torch.tensor(grad), grad
        optimizers[0].step()
        optimizers[1].step([ours])
        # Each step rounds both sides a few times; 0.01 times a gradient is below the weights themselves.
        assert_close(ours.value, theirs, 2 * (step + 1))


@each_float
@pytest.mark.parametrize("clip_norm", [0.5, 1e6])
def test_clipping(clip_norm, dtype, rng):
    shapes = (7, 60), (5,)
    grads = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    theirs = [leaf(np.zeros(shape, dtype)) for shape in shapes]
    ours = [fc.Parameter(shape, fc.init.zeros, dtype) for shape in shapes]
    for tensor, parameter, grad in zip(theirs, ours, grads, strict=True):
        tensor.grad, parameter.grad = torch.tensor(grad), grad
    norm = torch.nn.utils.clip_grad_norm_(theirs, clip_norm)
    torch.optim.SGD(theirs, lr=1.0).step()
    optimizer = fc.SGD(1.0, clip_norm=clip_norm)
    optimizer.step(ours)
    np.testing.assert_allclose(optimizer.norm, norm.item(), rtol=20 * np.finfo(dtype).eps)
    for tensor, parameter in zip(theirs, ours, strict=True):
        assert_close(parameter.value, tensor, 20)


@pytest.mark.parametrize("monitor", ["val_loss", "val_acc"])
@pytest.mark.parametrize("options", [{}, {"factor": 0.5, "patience": 1, "threshold": 0.1, "min_lr": 0.02}])
def test_the_rate_on_a_plateau(monitor, options, rng):
    optimizer = torch.optim.SGD([leaf([1.0])], lr=0.3)
    options = {"patience": 3} | options
    mode = "max" if monitor == "val_acc" else "min"
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, **options)
    ours = fc.schedules.ReduceOnPlateau(**options, monitor=monitor)
    for figure in [*rng.random(60), np.nan, np.nan, *rng.random(20)]:
        rate = 0.3 * ours(0.0)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=2e-8)
        theirs.step(figure)
        ours.after_epoch({monitor: figure, "lr": rate})


LR = torch.optim.lr_scheduler


def warm_cosine(optimizer):
    rise, fall = LR.LinearLR(optimizer, 0.05, total_iters=6), LR.CosineAnnealingLR(optimizer, 14, eta_min=0.3 * 0.1)
    return LR.SequentialLR(optimizer, [rise, fall], [6])


SCHEDULES = {
    "constant": (fc.schedules.constant(), lambda optimizer: LR.ConstantLR(optimizer, 1.0)),
    "step": (
        fc.schedules.step((0.25, 0.6), 0.3),
        lambda optimizer: LR.MultiStepLR(optimizer, [5, 12], gamma=0.3),
    ),
    "exponential": (fc.schedules.exponential(0.02), lambda optimizer: LR.ExponentialLR(optimizer, 0.02 ** (1 / 20))),
    "cosine": (
        fc.schedules.cosine(final=0.1),
        lambda optimizer: LR.CosineAnnealingLR(optimizer, 20, eta_min=0.3 * 0.1),
    ),
    "cosine with warm-up": (fc.schedules.cosine(final=0.1, warmup=0.3, start=0.05), warm_cosine),
    # PyTorch's cycle reaches its peak, and its end, one step before so many are over.
    "one-cycle": (
        fc.schedules.one_cycle(warmup=0.3, start=0.04, final=1e-3),
        lambda optimizer: LR.OneCycleLR(
            optimizer, 0.3, total_steps=21, pct_start=7 / 21, div_factor=1 / 0.04, final_div_factor=0.04 / 1e-3
        ),
    ),
}


@pytest.mark.parametrize(("ours", "make"), SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")
def test_the_rate_of_schedules(ours, make):
    """At each of 20 steps, and behind the last."""
    optimizer = torch.optim.SGD([leaf([1.0])], lr=0.3)
    theirs = make(optimizer)
    for step in range(21):
        assert 0.3 * ours(step / 20) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12), step
        optimizer.step()
        if step < 20:
            theirs.step()


# --------------------------------------------------------------------------------------------------------- training


def batches(steps):
    digits = fc.data.digits10k()
    order = np.random.default_rng(0).permutation(10_000)[: 50 * steps].reshape(steps, 50)
    for index in order:
        yield (digits.images[index] / 255 - 0.13) / 0.31, digits.labels[index].astype(np.int64)


def train_theirs(weights, steps, dtype, name, options):
    model = torch_lenet5()
    model.load_state_dict({n: torch.tensor(v) for n, v in weights.items()})
    model.to(getattr(torch, dtype.__name__))
    optimizer, losses = getattr(torch.optim, name)(model.parameters(), **options), []
    for x, labels in batches(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(x.astype(dtype))), torch.tensor(labels))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, np.concatenate([v.numpy().ravel() for v in model.state_dict().values()])


def train_ours(weights, steps, dtype, name, options):
    model, optimizer = fc.models.lenet5().to(dtype), getattr(fc, name)(**options)
    model.load_state_dict(weights)
    losses = [fc.train_step(model, fc.CrossEntropyLoss(), optimizer, x, labels) for x, labels in batches(steps)]
    return losses, np.concatenate([v.ravel() for v in model.state_dict().values()])


SGD = ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4})


@pytest.mark.parametrize(
    ("steps", "name", "options"),
    [(50, *SGD), (15, "Adam", {"lr": 2e-3}), (15, "AdamW", {"lr": 2e-3, "weight_decay": 0.05})],
    ids=["SGD", "Adam", "AdamW"],
)
def test_training_in_float64_stays_with_torch(steps, name, options):
    weights = fc.models.lenet5(seed=1).state_dict()
    losses, values = train_ours(weights, steps, np.float64, name, options)
    ref_losses, ref_values = train_theirs(weights, steps, np.float64, name, options)
    assert losses[-1] < 0.7 * losses[0]
    np.testing.assert_allclose(losses, ref_losses, rtol=1e-9)
    np.testing.assert_allclose(values, ref_values, rtol=0, atol=1e-9)


def test_training_in_float32_is_as_near_to_the_truth_as_torch():
    """Rounding grows from step to step by what the network makes of it: PyTorch's own growth is the yardstick."""
    weights = fc.models.lenet5(seed=1).state_dict()
    _, truth = train_theirs(weights, 50, np.float64, *SGD)
    comp, ref = (abs(train(weights, 50, np.float32, *SGD)[1] - truth).max() for train in (train_ours, train_theirs))
    assert comp < 10 * ref
    assert comp < 1e-3


# ------------------------------------------------------------------------------------------------------ augmentation


@each_float
def test_augmentation_reads_pixels_as_grid_sample_does(dtype, rng):
    """Outside an image both read zeros; places are rounded, and a pixel apart values differ by up to 255."""
    images, index = rng.integers(0, 256, (17, 2, 9, 12)).astype(np.uint8), np.arange(17)
    options = fc.augment.Augment(rotate=180, scale=(0.5, 2), shear=30, shift=3, crop=2, flip=True)
    packing = fc.augment.Augmentation(options, (2, 9, 12), index, 4).of_epoch(1)
    out = packing(images, np.tile(np.arange(256, dtype=dtype), (2, 1)), blocks.empty(images.shape, dtype))
    table, _ = packing.draw(index)
    rows, columns = np.mgrid[:9, :12]
    place = table[:, :6].reshape(17, 2, 3) @ np.stack([columns, rows, np.ones((9, 12))]).reshape(3, -1)
    grid = 2 * place / np.array([11, 8])[:, None] - 1
    ref = torch.nn.functional.grid_sample(
        torch.tensor(images.astype(dtype)),
        torch.tensor(grid.transpose(0, 2, 1).reshape(17, 9, 12, 2).astype(dtype)),
        align_corners=True,
    )
    np.testing.assert_allclose(blocks.unpack(out), ref, atol=255 * 60 * np.finfo(dtype).eps)
