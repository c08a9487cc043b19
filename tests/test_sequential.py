"""The model: structure, names, seeds, batches, prediction."""

import copy
import pickle

import numpy as np
import pytest
from cases import each_float

import fastconv as fc
from fastconv import reference


def small(seed=0):
    return fc.Sequential(
        fc.Conv2d(1, 4, 3), fc.ReLU(), fc.MaxPool2d(2), fc.Flatten(), fc.Linear(4 * 3 * 3, 3), seed=seed
    )


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)


def test_names_are_those_of_torch_sequential():
    names = [name for name, _ in small().named_parameters()]
    assert names == ["0.weight", "0.bias", "4.weight", "4.bias"]
    nested = fc.Sequential(fc.Sequential(fc.Conv2d(1, 2, 3), fc.ReLU()), fc.Flatten(), fc.Linear(2, 2, bias=False))
    assert [p.name for p in nested.parameters()] == ["0.0.weight", "0.0.bias", "2.weight"]


def test_models_have_the_parameters_they_promise():
    assert sum(p.size for p in fc.models.lenet5().parameters()) == 61_706
    assert sum(p.size for p in fc.models.lenet_seed().parameters()) == 5_120


def test_weights_come_from_the_seed_alone():
    first, again, other = small(3), small(3), small(4)
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert np.array_equal(a.value, b.value)
        assert a.name.endswith("bias") or not np.array_equal(a.value, c.value)


def test_equal_layers_do_not_start_equal():
    model = fc.Sequential(fc.Linear(4, 4), fc.Linear(4, 4))
    assert not np.array_equal(model[0].weight.value, model[1].weight.value)


def test_weights_that_were_set_stay():
    layer = fc.Linear(2, 2)
    layer.weight.value = np.eye(2)
    model = fc.Sequential(layer, seed=5)
    assert np.array_equal(model.parameters()[0].value, np.eye(2))
    model.initialize(5)
    assert not np.array_equal(model.parameters()[0].value, np.eye(2))


def test_a_value_that_was_read_is_changed_in_place():
    parameter = fc.Linear(2, 2).weight
    held = parameter.value
    parameter.value = np.ones((2, 2))
    assert held.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(fc.ShapeError, match=r"expected value of shape \(2, 2\), got \(3,\)"):
        parameter.value = np.ones(3)


def test_a_layer_may_stand_in_one_place_only():
    relu = fc.ReLU()
    with pytest.raises(ValueError, match=r"layers 0 and 1\.0 are the same ReLU"):
        fc.Sequential(relu, fc.Sequential(relu))


def test_only_layers_make_a_model():
    with pytest.raises(TypeError, match="expected layers, got str at position 1"):
        fc.Sequential(fc.ReLU(), "relu")


def test_slices_share_parameters_and_keep_names(x):
    model = small()
    front, back = model[:3], model[3:]
    assert len(front) == 3
    assert model[4].weight.name == "4.weight"
    assert np.array_equal(back(front(x)), model(x))


def test_a_slice_does_not_inherit_the_fused_relu(x):
    model = small()
    assert model[:1](x).min() < 0 <= model[:2](x).min()


def test_repr_is_a_tree():
    text = repr(fc.Sequential(fc.Sequential(fc.ReLU()), fc.Flatten()))
    assert text == "Sequential(\n  (0): Sequential(\n    (0): ReLU()\n  )\n  (1): Flatten()\n)"


def test_modules_are_all_layers_by_their_place():
    body = fc.Sequential(fc.Conv2d(2, 2, 1))
    model = fc.Sequential(fc.ReLU(), fc.layers.Residual(body), fc.Flatten())
    named = dict(model.named_modules())
    assert list(named) == ["", "0", "1", "1.0", "1.0.0", "2"]
    assert named[""] is model
    assert named["1.0.0"] is body[0]
    assert list(model.modules()) == list(named.values())


def test_summary_counts_parameters_and_arithmetic():
    lines = fc.models.lenet5().summary((1, 28, 28)).split("\n")
    assert lines[2].split() == ["0", "Conv2d", "6", "x", "28", "x", "28", "156", "0.235"]
    assert lines[-2].split() == ["total", "61,706", "0.833"]
    assert repr(fc.models.lenet5().summary((1, 28, 28))).split("\n") == lines
    with pytest.raises(fc.ShapeError, match=r"layer 7: linear: expected x of shape \(N, 400\)"):
        fc.models.lenet5().summary((1, 32, 32))


def test_a_misfit_names_the_layer():
    with pytest.raises(fc.ShapeError, match=r"layer 0: conv2d: .* of shape \(N, 1, H, W\) .* got \(2, 3, 8, 8\)"):
        small()(np.zeros((2, 3, 8, 8), np.float32))
    inner = fc.Sequential(fc.Sequential(fc.ReLU(), fc.Linear(3, 2)))
    with pytest.raises(fc.ShapeError, match=r"layer 0: layer 1: linear: .*got \(1, 4\)"):
        inner(np.zeros((1, 4)))


def test_nesting_changes_no_bit(x):
    flat = small()
    nested = fc.Sequential(fc.Sequential(*small()[:3]), fc.Sequential(*small()[3:]))
    for a, b in zip(nested.parameters(), flat.parameters(), strict=True):
        a.value = b.value
    assert np.array_equal(flat(x), nested(x))


def test_a_fused_relu_changes_no_bit(x):
    fused = small()
    apart = fc.Sequential(fused[:1], fused[1:])
    y = fused.forward(x, training=True)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = fused.backward(dy)
    gradients = [p.grad.copy() for p in fused.parameters()]
    assert np.array_equal(apart.forward(x, training=True), y)
    assert np.array_equal(apart.backward(dy), dx)
    assert all(np.array_equal(p.grad, g) for p, g in zip(fused.parameters(), gradients, strict=True))


def test_an_images_result_does_not_depend_on_its_batch():
    model = fc.models.lenet_seed()
    x = np.random.default_rng(0).integers(0, 256, (70, 1, 28, 28), np.uint8)
    whole = model(x)
    for start, end in ((0, 1), (3, 20), (15, 17), (53, 70)):
        assert np.array_equal(model(x[start:end]), whole[start:end])
    assert np.array_equal(model.predict_proba(x, batch_size=7), model.predict_proba(x, batch_size=70))


def test_more_shapes_than_plans_are_kept_work(x):
    model = small()
    whole = model(x)
    for _ in range(2):
        for n in (1, 2, 3, 4, 5):
            for size in (8, 9):
                images = np.zeros((n, 1, size, size), np.float32)
                images[:, :, :8, :8] = x[:n]
                assert np.array_equal(model[:2](images)[:, :, :6, :6], model[:2](x[:n]))
    assert np.array_equal(model(x), whole)


def test_uint8_pixels_are_normalised_in_the_first_kernel():
    model = small()
    model.normalization = fc.Normalization((0.2,), (0.5,))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), np.uint8)
    by_hand = ((pixels / 255 - 0.2) / 0.5).astype(np.float32)
    assert np.array_equal(model(pixels), model(by_hand))
    model.normalization = fc.Normalization((0.2, 0.3), (0.5, 0.5))
    with pytest.raises(fc.ShapeError, match="1 or 1 means and standard deviations for 1 channels, got 2 and 2"):
        model(pixels)


def test_backward_needs_a_training_pass(x):
    model = small()
    with pytest.raises(RuntimeError, match="no saved input; call forward\\(x, training=True\\) first"):
        model.backward(np.zeros((5, 3)))
    model(x)
    with pytest.raises(RuntimeError, match="no saved input"):
        model.backward(np.zeros((5, 3)))
    model.forward(x, training=True)
    with pytest.raises(fc.ShapeError, match=r"expected dy of the output's shape \(5, 3\), got \(5, 4\)"):
        model.backward(np.zeros((5, 4)))


def test_prediction_and_evaluation_agree(x):
    model = small()
    y = model(x)
    assert np.array_equal(model.predict(x), y.argmax(1))
    p = model.predict_proba(x)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
    labels = np.array([0, 1, 2, 0, 1])
    result = model.evaluate(x, labels)
    assert result["accuracy"] == (y.argmax(1) == labels).mean()
    np.testing.assert_allclose(result["loss"], -np.log(p[np.arange(5), labels]).mean(), rtol=1e-6)


def test_a_model_that_ends_in_softmax_is_not_softmaxed_again(x):
    plain = small()
    ending = fc.Sequential(*plain, fc.Softmax())
    np.testing.assert_allclose(ending.predict_proba(x), plain.predict_proba(x), rtol=1e-6)
    labels = np.array([0, 1, 2, 0, 1])
    np.testing.assert_allclose(ending.evaluate(x, labels)["loss"], plain.evaluate(x, labels)["loss"], rtol=1e-5)


def test_an_empty_batch_has_an_empty_result():
    model = small()
    assert model(np.zeros((0, 1, 8, 8), np.float32)).shape == (0, 3)
    assert model.predict(np.zeros((0, 1, 8, 8), np.uint8)).shape == (0,)
    with pytest.raises(ValueError, match="evaluate: expected at least one image"):
        model.evaluate(np.zeros((0, 1, 8, 8)), np.zeros(0, int))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((8, 8)), fc.ShapeError, "linear|layer 0"),
        (np.zeros(8), fc.ShapeError, r"predict: expected x of shape \(N, C, H, W\) or \(N, C, L\) or \(N, features\)"),
        (
            np.zeros((2, 8, 8)),
            fc.ShapeError,
            r"layer 0: conv2d: expected x of shape \(N, 1, H, W\) .*, got \(2, 8, 8\)",
        ),
        (np.full((1, 1, 8, 8), np.nan), ValueError, r"predict: x\[0, 0, 0, 0\] is nan; expected finite numbers"),
        (np.zeros((1, 1, 8, 8), complex), TypeError, "expected x of float32 or float64, got complex128"),
        (np.array([["a"]]), TypeError, "expected x of float32 or float64"),
        (np.ma.zeros((1, 1, 8, 8)), TypeError, "got a masked array"),
        (None, TypeError, "expected x of float32 or float64, got object"),
    ],
)
def test_bad_images_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        small().predict(images)


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_a_bad_batch_size_is_refused(x, size):
    with pytest.raises(ValueError, match="predict: expected batch_size of at least 1"):
        small().predict(x, batch_size=size)


def test_a_copy_is_independent(x):
    model = small()
    model.normalization = fc.Normalization((0.1,), (0.3,))
    twin = copy.deepcopy(model)
    assert np.array_equal(twin(x), model(x))
    assert twin.normalization == model.normalization
    twin[0].weight.value = np.zeros((4, 1, 3, 3))
    assert model[0].weight.value.any()


def test_a_model_can_be_sent_to_another_process(x):
    model = small()
    y = model.forward(x, training=True)
    twin = pickle.loads(pickle.dumps(model))
    assert np.array_equal(twin(x), y)
    with pytest.raises(RuntimeError, match="no saved input"):
        twin.backward(y)


def test_float64_models_compute_in_float64(x):
    model = small().to(np.float64)
    assert model(x).dtype == np.float64
    assert np.abs(model(x) - small()(x)).max() < 1e-5
    with pytest.raises(TypeError, match="expected float32 or float64, got float16"):
        model.to(np.float16)


def test_load_state_dict_changes_all_or_nothing():
    model = small()
    before = model.state_dict()
    wrong = dict(before)
    wrong["4.bias"] = np.zeros(7)
    with pytest.raises(fc.ShapeError, match=r"expected 4.bias of shape \(3,\), got \(7,\)"):
        model.load_state_dict({"0.weight": np.ones((4, 1, 3, 3))} | {k: v for k, v in wrong.items() if k != "0.weight"})
    with pytest.raises(ValueError, match=r"missing \['4.bias'\], unknown \['5.bias'\]"):
        model.load_state_dict({k.replace("4.bias", "5.bias"): v for k, v in before.items()})
    assert all(np.array_equal(a, b) for a, b in zip(model.state_dict().values(), before.values(), strict=True))


# ----------------------------------------------------------------------------- ReLU's gradient inside max pooling's


@each_float
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (2, 1, 0)])
def test_pooling_passes_the_gradient_through_the_relu_before_it(window, stride, padding, bias, dtype, rng):
    convolution = fc.Conv2d(2, 3, 3, bias=bias)
    model = fc.Sequential(convolution, fc.ReLU(), fc.MaxPool2d(window, stride, padding)).to(dtype)
    x = rng.standard_normal((5, 2, 8, 8)).astype(dtype)
    if bias:
        convolution.bias.value = [0, 0.1, -100]  # the last filter lets nothing through
    y = model.forward(x, training=True)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = model.backward(dy)

    weight = convolution.weight.value
    z = reference.conv2d(x, weight, convolution.bias.value if bias else None)
    pooled, index = reference.max_pool2d(reference.relu(z), window, stride, padding)
    dz = reference.relu_backward(reference.max_pool2d_backward(dy, index, z.shape), reference.relu(z))
    tolerance = 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(y, pooled, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, reference.conv2d_backward_input(dz, weight, x.shape), rtol=0, atol=tolerance)
    dk = reference.conv2d_backward_filter(dz, x, weight.shape)
    np.testing.assert_allclose(convolution.weight.grad, dk, rtol=0, atol=100 * tolerance)
    if bias:
        np.testing.assert_allclose(convolution.bias.grad, dz.sum(axis=(0, 2, 3)), rtol=0, atol=100 * tolerance)
        assert convolution.bias.grad[2] == 0


def test_a_layer_derived_from_ours_may_change_its_gradient(x):
    class Halved(fc.Conv2d):
        def backward_blocks(self, dy, work, need_dx):
            dx = super().backward_blocks(dy, work, need_dx)
            self.weight.grad /= 2
            return dx

    model, twin = small(), small()
    halved = Halved(1, 4, 3)
    changed = fc.Sequential(halved, *twin.layers[1:])
    halved.weight.value, halved.bias.value = model.layers[0].weight.value, model.layers[0].bias.value
    for each in (model, changed):
        y = each.forward(x, training=True)
        each.backward(np.ones_like(y))
    np.testing.assert_allclose(2 * halved.weight.grad, model.layers[0].weight.grad, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(halved.bias.grad, model.layers[0].bias.grad, rtol=1e-5, atol=1e-5)


def test_a_batch_that_failed_has_no_gradient():
    class Broken(fc.Layer):
        fails = False

        def plan(self, shape, work):
            return shape

        def forward_blocks(self, x, work, training):
            if self.fails:
                raise OSError("the disk is full")
            return x

        def backward_blocks(self, dy, work, need_dx):
            return dy

    model = fc.Sequential(fc.Linear(3, 2), Broken())
    x, dy = np.ones((2, 3)), np.ones((2, 2))
    model.forward(x, training=True)
    model.layers[1].fails = True
    with pytest.raises(OSError, match="the disk is full"):
        model.forward(x, training=True)
    with pytest.raises(RuntimeError, match="no saved input"):
        model.backward(dy)


def test_a_model_is_of_its_layers_dtype():
    double = fc.Sequential(fc.Linear(3, 4).to(np.float64), fc.ReLU(), fc.Sequential(fc.Linear(4, 2)).to(np.float64))
    assert double.dtype == np.float64
    assert double.forward(np.ones((2, 3))).dtype == np.float64
    assert double[:2].forward(np.ones((2, 3))).dtype == np.float64
    assert np.shares_memory(double[:2].layers[0].weight.value, double.layers[0].weight.value)
    with pytest.raises(
        TypeError, match=r"expected parameters of one dtype, got .* of float64 and .* of float32; convert"
    ):
        fc.Sequential(fc.Linear(3, 4).to(np.float64), fc.Linear(4, 2))


@pytest.mark.parametrize("make", [lambda: fc.Sequential(seed=-1), lambda: fc.Sequential().initialize(1.5)])
def test_seeds_that_are_none(make):
    with pytest.raises(ValueError, match=r"Sequential.*: expected seed as a whole number of at least 0, got"):
        make()


def test_numbers_of_numpys_are_numbers(tmp_path):
    """As they come of y.max() + 1, and as a file can hold them."""
    three, four = np.int64(3), np.int32(4)
    layers = (
        fc.Conv2d(np.int64(1), four, three, padding=np.int64(1), groups=np.int64(1)),
        fc.ConvTranspose2d(four, four, three, stride=np.int64(1), padding=np.int64(1)),
        fc.BatchNorm2d(four),
        fc.GroupNorm(np.int64(2), four),
        fc.PReLU(four),
        fc.LayerNorm((four, np.int64(6), np.int64(6))),
        fc.ZeroPad2d(np.int64(1)),
        fc.Reshape(four, np.int64(64)),
        fc.Conv1d(four, four, three),
        fc.Flatten(),
        fc.Linear(np.int64(248), three),
    )
    model = fc.Sequential(*layers, seed=np.int64(3))
    x = np.random.default_rng(0).standard_normal((5, 1, 6, 6)).astype(np.float32)
    fc.save(model, tmp_path / "net.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "net.safetensors").forward(x), model.forward(x))
    model.fit(x, np.arange(5) % 3, epochs=np.int64(1), batch_size=np.int64(2), seed=np.int64(0), verbose=False)
