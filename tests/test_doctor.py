"""The doctor: each fault is planted and must be found; what is healthy must not be called ill, nor be touched."""

import json
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from subprocesses import succeed

import fastconv as fc
from fastconv import data, models
from fastconv.blocks import planes
from fastconv.checkup import Finding, Report, history, learning, machine, pools, preprocessing, rows
from fastconv.training.normalize import normalization_of
from fastconv_kernels import limits

DIGITS = data.digits10k()
X, Y = DIGITS.images[::4].copy(), DIGITS.labels[::4].copy()
X_TEST = DIGITS.images[2::40].copy()
NORMALIZATION = normalization_of(X, np.arange(len(X)))


def network(name="lenet5", seed=0):
    model = models.create_for(name, (1, 28, 28), 10, seed)
    model.normalization = NORMALIZATION
    return model


def doctor(model=None, x=X, y=Y, **options):
    return fc.doctor(model, x, y, machine=False, **options)


def faults(report):
    return {finding.name for finding in report.faults}


def named(finding, name, severity, *parts):
    """Assert what a finding is, and that its evidence and remedy are lines with what they must say."""
    assert (finding.name, finding.severity) == (name, severity), finding
    assert all(part in finding.evidence for part in parts), finding
    assert bool(finding.remedy) == (severity != "ok")
    assert "\n" not in finding.evidence + finding.remedy


# ------------------------------------------------------------------------------------------------------------- healthy


NETWORKS = [*((name, seed) for name in ("lenet5", "lenet_seed") for seed in range(4)), ("digitnet", 0)]


@pytest.mark.parametrize(("name", "seed"), NETWORKS)
def test_no_false_alarm_before_training(name, seed):
    report = doctor(network(name, seed), x_test=X_TEST, seed=seed, optimizer=["sgd", "adam"][seed % 2])
    assert all(finding.severity == "ok" for finding in report), report
    assert [finding.name for finding in report] == [
        "labels",
        "labels and images",
        "duplicate rows",
        "input range",
        "test preprocessing",
        "leakage",
        "last layer",
        "initial loss",
        "logits",
        "outputs",
        "dead ReLUs",
        "gradients written",
        "gradient flow",
        "numeric gradients",
        "one image",
        "one batch",
        "equal probabilities",
        "learning rate",
    ]


@pytest.mark.usefixtures("few_tiles")
@pytest.mark.parametrize(
    ("name", "optimizer"),
    [("tiny", "adamw"), ("vgg_small", "rmsprop"), ("resnet20", "adamw"), ("mobilenet_small", "rmsprop")],
)
def test_no_false_alarm_on_colour_images(name, optimizer):
    """Half of the digits' pixels, each digit in a colour of its own."""
    rng = np.random.default_rng(0)
    x = (X[::2, :, ::2, ::2] * rng.uniform(0.3, 1, (len(X[::2]), 3, 1, 1))).astype(np.uint8)
    model = models.create_for(name, x.shape[1:], 10)
    model.normalization = normalization_of(x, np.arange(len(x)))
    report = doctor(model, x, Y[::2], optimizer=optimizer)
    assert all(finding.severity == "ok" for finding in report), report


@pytest.mark.parametrize("loss", [fc.CrossEntropyLoss(0.1), fc.CrossEntropyLoss(weight=np.arange(1, 11))])
def test_no_false_alarm_for_a_trained_network(loss):
    model = network()
    records = model.fit(X, Y, epochs=6, loss=loss, validation_split=0.1, verbose=False)
    report = doctor(model, loss=loss, records=records)
    assert not report.faults, report
    assert "learned already" in report.named("initial loss").evidence
    assert "with new weights" in report.named("learning rate").evidence


class WithNorm:
    """A small network with what may confuse a doctor: BatchNorm, dropout, branches, other activations."""

    @staticmethod
    def make(seed, outputs):
        return fc.Sequential(
            fc.Conv2d(1, 8, 5, stride=2),
            fc.BatchNorm2d(8),
            fc.ReLU(),
            fc.Residual(fc.Sequential(fc.Conv2d(8, 8, 3, padding=1), fc.BatchNorm2d(8), fc.ReLU())),
            fc.MaxPool2d(2),
            fc.Dropout(0.3),
            fc.Flatten(),
            fc.Linear(288, 32),
            fc.LeakyReLU(),
            fc.Linear(32, outputs),
            seed=seed,
        )


@pytest.mark.parametrize("seed", range(3))
def test_no_false_alarm_with_norms_branches_and_dropout(seed):
    report = doctor(WithNorm.make(seed, 10), optimizer="adam", seed=seed)
    assert all(finding.severity == "ok" for finding in report), report


@pytest.mark.parametrize("seed", range(3))
def test_no_false_alarm_for_a_regression(seed):
    """How much ink each half of a digit has, as numbers of mean 0 and deviation 1; floats as images."""
    x = (X / 255).astype(np.float32)
    ink = np.stack([x[:, 0, :14].sum(axis=(1, 2)), x[:, 0, 14:].sum(axis=(1, 2))], axis=1)
    ink = (ink - ink.mean(axis=0)) / ink.std(axis=0)
    report = doctor(WithNorm.make(seed, 2), x, ink, loss=fc.MSELoss(), optimizer="adam", seed=seed)
    assert all(finding.severity == "ok" for finding in report), report
    assert {"initial loss", "logits", "equal probabilities"}.isdisjoint(finding.name for finding in report)


def test_features_and_soft_targets():
    x = (X[::5].reshape(-1, 784) / 255).astype(np.float32)
    y = np.eye(10)[Y[::5]] * 0.9 + 0.01
    report = doctor(fc.Sequential(fc.Linear(784, 30), fc.ReLU(), fc.Linear(30, 10)), x, y, x_test=x[:0])
    assert all(finding.severity == "ok" for finding in report), report


def test_the_patient_is_left_as_it_is_and_findings_follow_from_the_seed():
    model, optimizer, loss = WithNorm.make(0, 10), fc.Adam(1e-3), fc.CrossEntropyLoss()
    model.fit(X[:200], Y[:200], epochs=1, optimizer=optimizer, verbose=False)
    model.forward(X[:3], training=True)  # a backward pass may follow, which is of this one
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.grad = rng.standard_normal(parameter.shape)

    def everything():
        state = {name: array.tobytes() for name, array in model.named_state()}
        gradients = [parameter.grad.tobytes() for parameter in model.parameters()]
        where = [array.ctypes.data for _, array in model.named_state()]
        dropout = model.layers[5].p, model.layers[5].passes, model.layers[5].seed
        moments = optimizer.lr, optimizer.steps, optimizer.norm, deepcopy(vars(loss))
        plans = {shape: [part.array.tobytes() for part in (plan.x,)] for shape, plan in model._plans.items()}
        return state, gradients, where, dropout, moments, plans, id(model._running)

    before, x, y = everything(), X[:400].copy(), Y[:400].copy()
    first = doctor(model, x, y, optimizer=optimizer, loss=loss, seed=3)
    second = doctor(model, x, y, optimizer=optimizer, loss=loss, seed=3)
    assert everything() == before
    assert first == second
    np.testing.assert_array_equal(x, X[:400])
    np.testing.assert_array_equal(y, Y[:400])


def test_initial_weights_are_not_drawn_for_the_patient():
    model = network()
    doctor(model, X[:200], Y[:200])
    assert all(parameter._value is None for parameter in model.parameters())


# --------------------------------------------------------------------------------------------------- layers with faults


class Scale(fc.Layer):
    """Channels times a factor, plus a bias: right as it stands; the subclasses are wrong in one thing each."""

    def __init__(self, channels=6):
        self.channels = channels
        self.weight = fc.Parameter((channels,), fc.init.ones)
        self.bias = fc.Parameter((channels,), fc.init.zeros)

    def plan(self, shape, work):
        work.y, work.dx = work.empty(shape), work.empty(shape)
        work.shape = shape
        return shape

    def own_parameters(self):
        return {"weight": self.weight, "bias": self.bias}

    def forward_blocks(self, x, work, training):
        work.x = x
        factor, bias = (p.value[:, None, None] for p in (self.weight, self.bias))
        planes(work.y.array)[...] = planes(x.array) * factor + bias
        return work.y

    def backward_blocks(self, dy, work, need_dx):
        self.write(planes(dy.array), planes(work.x.array), planes(work.dx.array))
        return work.dx

    def write(self, dy, x, dx):
        self.weight.grad[...] = (dy * np.where(dy == 0, 0, x)).sum(axis=(0, 2, 3))
        self.bias.grad[...] = dy.sum(axis=(0, 2, 3))
        dx[...] = dy * self.weight.value[:, None, None]


class ForgetsBias(Scale):
    def write(self, dy, x, dx):
        self.weight.grad[...] = (dy * np.where(dy == 0, 0, x)).sum(axis=(0, 2, 3))
        dx[...] = dy * self.weight.value[:, None, None]


class ZeroBias(Scale):
    def write(self, dy, x, dx):
        super().write(dy, x, dx)
        self.bias.grad[...] = 0


class Adds(Scale):
    def write(self, dy, x, dx):
        before = self.bias.grad.copy()
        super().write(dy, x, dx)
        self.bias.grad[...] += before


class Leaves(Scale):
    def write(self, dy, x, dx):
        last = self.bias.grad[-1]
        super().write(dy, x, dx)
        self.bias.grad[-1] = last


class WrongSign(Scale):
    def write(self, dy, x, dx):
        super().write(dy, x, dx)
        dx[...] *= -1


class WrongChannel(Scale):
    def write(self, dy, x, dx):
        super().write(dy, x, dx)
        dx[:, 1] *= 1.5


class PassesNothing(Scale):
    def write(self, dy, x, dx):
        super().write(dy, x, dx)
        dx[...] = 0


class Float32Only(Scale):
    def forward_blocks(self, x, work, training):
        if x.array.dtype != np.float32:
            raise TypeError("float32 alone")
        return super().forward_blocks(x, work, training)


class Backwards(fc.Linear):
    """A last layer that learns the contrary."""

    def backward_blocks(self, dy, work, need_dx):
        dy.array[...] *= -1
        return super().backward_blocks(dy, work, need_dx)


def with_layer(layer):
    model = network("lenet_seed")
    model = fc.Sequential(model.layers[0], layer, *model.layers[1:])
    model.normalization = NORMALIZATION
    return model


@cache
def report_of(layer):
    return doctor(with_layer(layer()), X[:500], Y[:500] % 2)


def test_a_right_layer_of_ones_own():
    assert not doctor(with_layer(Scale())).faults


@pytest.mark.parametrize(
    ("layer", "name", "parts"),
    [
        (ForgetsBias, "gradients written", ["does not write 1.bias (ForgetsBias)"]),
        (Adds, "gradients written", ["adds to 1.bias (Adds)"]),
        (Leaves, "gradients written", ["leaves 1 of 6 elements of 1.bias (Leaves) unwritten"]),
        (ForgetsBias, "numeric gradients", ["gradient of bias", "by differences; it is missing", "1 ForgetsBias"]),
        (ZeroBias, "numeric gradients", ["gradient of bias", "by differences; it is missing", "1 ZeroBias"]),
        (ZeroBias, "gradient flow", ["zero, every element: 1.bias (ZeroBias)"]),
        (WrongSign, "numeric gradients", ["gradient of x", "by backward", "1 WrongSign"]),
        (WrongChannel, "numeric gradients", ["gradient of x", "by backward", "1 WrongChannel"]),
        (PassesNothing, "numeric gradients", ["gradient of x", "1 PassesNothing"]),
        (PassesNothing, "gradient flow", ["zero, every element: 0.weight (Conv2d)"]),
    ],
)
def test_wrong_gradients(layer, name, parts):
    report = report_of(layer)
    named(report.named(name), name, "fault", *parts)
    assert len(report.named("numeric gradients").evidence.split(";")) <= 3


def test_a_layer_that_takes_no_float64_is_said():
    report = doctor(with_layer(Float32Only()))
    named(report.named("numeric gradients"), "numeric gradients", "note", "1 Float32Only cannot be checked: TypeError")
    assert not report.faults


def test_what_cannot_be_learned_by_heart():
    model = network("lenet_seed")
    model = fc.Sequential(*model.layers[:-1], Backwards(256, 10))
    model.normalization = NORMALIZATION
    report = doctor(model)
    named(report.named("one image"), "one image", "fault", "on 1 image: cannot learn it by heart")
    named(report.named("one batch"), "one batch", "fault", "on 16 images: cannot learn them by heart")
    assert "numeric gradients" in faults(report)


# -------------------------------------------------------------------------------------------------- weights with faults


def test_weights_of_a_thousand():
    model = network()
    for parameter in model.parameters():
        parameter.value *= 1e3
    report = doctor(model)
    named(report.named("initial loss"), "initial loss", "fault", "over 256 images; ln(10) = 2.30", "times less")
    named(report.named("logits"), "logits", "fault", "the largest is", "softmax saturates")
    named(report.named("gradient flow"), "gradient flow", "fault", "times as long as its weights: exploding")
    assert "one batch" in faults(report)


def test_logits_in_the_hundreds():
    model = network()
    model.layers[-1].weight.value *= 60
    report = doctor(model)
    named(report.named("logits"), "logits", "fault", "softmax saturates")
    assert "initial loss" in faults(report)
    assert "numeric gradients" not in faults(report)


def test_logits_that_are_no_numbers():
    model = network()
    model.layers[-1].weight.value[0] = np.inf
    report = doctor(model)
    named(report.named("logits"), "logits", "fault", "are NaN or infinite")
    named(report.named("gradient flow"), "gradient flow", "fault", "NaN or infinite: ")


@pytest.mark.parametrize("seed", range(2))
def test_dead_relus_and_a_loss_stuck_at_equal_probabilities(seed):
    model = network(seed=seed)
    model.layers[3].bias.value -= 100
    report = doctor(model, seed=seed)
    named(report.named("dead ReLUs"), "dead ReLUs", "fault", "most in 4 ReLU, 16 of 16")
    named(report.named("outputs"), "outputs", "fault", "every image gets the same")
    named(report.named("gradient flow"), "gradient flow", "fault", "zero, every element: 0.weight (Conv2d)")
    named(report.named("equal probabilities"), "equal probabilities", "fault", "stuck at ln(10) = 2.30")
    assert "one batch" in faults(report)
    assert "numeric gradients" not in faults(report)


def test_some_dead_relus_are_noted():
    model = network()
    model.layers[3].bias.value[:5] -= 100
    named(doctor(model).named("dead ReLUs"), "dead ReLUs", "note", "most in 4 ReLU, 5 of 16")


def test_gradients_that_vanish():
    layers = [part for _ in range(14) for part in (fc.Linear(20, 20), fc.Sigmoid())]
    model = fc.Sequential(fc.Flatten(), fc.Linear(784, 20), fc.Sigmoid(), *layers, fc.Linear(20, 10))
    named(doctor(model).named("gradient flow"), "gradient flow", "fault", "vanishing in 1.weight (Linear)")


def test_a_softmax_too_many():
    report = doctor(fc.Sequential(*network("lenet_seed").layers, fc.Softmax()))
    named(report.named("last layer"), "last layer", "fault", "ends in Softmax")


@pytest.mark.parametrize(
    ("optimizer", "verdict"),
    [
        (fc.SGD(5.0, 0.9), "too high"),
        (fc.SGD(1e4), "too high"),
        (fc.SGD(1e-6), "too low"),
        (fc.Adam(1.0), "too high"),
        (fc.Adam(1e-7), "too low"),
    ],
)
def test_learning_rates(optimizer, verdict):
    report = doctor(network(), optimizer=optimizer)
    named(report.named("learning rate"), "learning rate", "fault", f"at {optimizer.lr:g}: loss", verdict)
    assert faults(report) == {"learning rate"}


def test_a_rate_is_not_blamed_for_what_no_rate_can_do():
    model = network()
    model.layers[3].bias.value -= 1e6
    finding = doctor(model, X[::4], Y[::4]).named("learning rate")
    named(finding, "learning rate", "note", "no rate from")


# ---------------------------------------------------------------------------------------------------------------- data


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_labels(seed):
    report = doctor(x=X, y=np.random.default_rng(seed).permutation(Y))
    named(report.named("labels and images"), "labels and images", "fault", "labels do not follow from images")
    assert len(report.faults) == 1


def test_labels_of_another_order_are_no_fault():
    order = np.random.default_rng(0).permutation(len(X))
    assert not doctor(x=X[order], y=(Y[order] + 3) % 10).faults


@pytest.mark.parametrize(
    ("y", "severity", "part"),
    [
        (np.full(100, 3), "fault", "all 100 are 3"),
        (np.arange(100) % 9, "note", "9 classes, from 0 of class 9 to 12 of 0; the model has 10 outputs"),
        (np.r_[np.zeros(900, int), np.arange(10)], "note", "from 1 of class 1 to 901 of 0"),
        (np.arange(100) % 11, "fault", "9 of 100 are not from 0 to 9, such as 10 at row 10"),
        (np.arange(100) % 10 - 1, "fault", "such as -1 at row 0"),
        (np.arange(100) % 10, "ok", "100 of 10 classes"),
    ],
)
def test_labels(y, severity, part):
    named(rows.check_labels(y, 10), "labels", severity, part)


def test_wrong_labels_end_the_examination_of_the_model():
    report = doctor(network(), y=Y + 1)
    assert faults(report) == {"labels"}
    assert [finding.name for finding in report][-1] == "input range"


def test_targets_of_a_regression():
    y = np.linspace(-1, 1, 50)[:, None]
    named(rows.check_targets(y), "labels", "ok", "50 rows of 1 number, from -1 to 1")
    named(rows.check_targets(y * 1000), "labels", "note", "outputs near 1")
    named(rows.check_targets(np.ones((5, 2))), "labels", "fault", "all rows are the same")


def test_few_images_say_nothing_about_their_labels():
    assert rows.check_labels_and_images(X[:60], Y[:60]) is None


def test_duplicates():
    x, y = X.copy(), Y.copy()
    named(rows.check_duplicates(x, y), "duplicate rows", "ok", "none of 2,500 rows")
    x[7], y[7] = x[1200], y[1200]
    named(rows.check_duplicates(x, y), "duplicate rows", "note", "1 of 2,500 rows", "rows 7 and 1200")
    y[7] += 1
    named(rows.check_duplicates(x, y), "duplicate rows", "fault", "1 of them with another label", "rows 7 and 1200")
    x, y = np.concatenate([X, X[::10]]), np.concatenate([Y, Y[::10]])
    named(rows.check_duplicates(x, y), "duplicate rows", "fault", "250 of 2,750 rows are copies")


def test_leakage():
    named(rows.check_leakage(X, X_TEST), "leakage", "ok", "0 of 250 test rows")
    test = X_TEST.copy()
    test[17] = X[1000]
    named(
        rows.check_leakage(X, test), "leakage", "fault", "1 of 250 test rows", "test row 17, which is training row 1000"
    )
    many = np.concatenate([DIGITS.images[1::4], DIGITS.images[2::4], X[:1]])
    named(rows.check_leakage(X, many), "leakage", "note", "1 of 5,001 test rows")


def test_leakage_among_floats_of_two_kinds():
    test = X_TEST / 255
    test[17] = X[1000] / 255
    train = (X / 255).astype(np.float32)
    for a, b in ((train, test), (train.astype(np.float64), test.astype(np.float32))):
        named(rows.check_leakage(a, b), "leakage", "fault", "1 of 250 test rows", "row 17, which is training row 1000")
        named(rows.check_leakage(a, b[:17]), "leakage", "ok", "0 of 17 test rows")


def test_leakage_that_cannot_be_looked_for():
    finding = rows.check_leakage(X, X_TEST.astype(np.float32))
    named(
        finding, "leakage", "note", "not looked for: rows are uint8 of shape (1, 28, 28) in training, float32 of shape"
    )
    named(rows.check_leakage(X, X_TEST[:, :, :20]), "leakage", "note", "uint8 of shape (1, 20, 28) in the test")


FLOATS = (X / 255).astype(np.float32)
FLOATS_TEST = (X_TEST / 255).astype(np.float32)


@pytest.mark.parametrize(
    ("train", "test", "part"),
    [
        (FLOATS, FLOATS_TEST / 255, "the test's spread is 1 / 252 of that of training"),
        (FLOATS, FLOATS_TEST * 255, "the test's spread is 258 times"),
        (FLOATS, 1 - FLOATS_TEST, "ink is inverted"),
        (X, 255 - X_TEST, "ink is inverted"),
        (X, X_TEST.transpose(0, 1, 3, 2), "transposed"),
        (X, X_TEST[:, :, ::-1], "upside down"),
        (X, X_TEST[..., ::-1], "mirrored"),
        (X, X_TEST[:, :, ::-1, ::-1], "turned by 180 degrees"),
        (X, np.rot90(X_TEST, axes=(2, 3)), "turned by"),
        (X, FLOATS_TEST, "uint8 in training, float32 in the test"),
        (X, X_TEST.transpose(0, 2, 3, 1), "images of 1 x 28 x 28 in training, of 28 x 28 x 1 in the test"),
        (X, X_TEST[:, :, :20], "of 1 x 20 x 28 in the test"),
        (FLOATS, FLOATS_TEST - FLOATS_TEST.mean(), ""),
        ((FLOATS - 0.13) / 0.3, FLOATS_TEST, "the test's spread is 1 / 3.29"),
        (FLOATS, FLOATS_TEST + 0.3, "the means are 0.9"),
        ((X - X.mean(axis=0)) / (X.std(axis=0) + 1e-9), FLOATS_TEST, "the test's spread"),
    ],
)
def test_preprocessing(train, test, part):
    finding = preprocessing.check_test_preprocessing(train, test)
    named(finding, "test preprocessing", "fault" if part else "ok", *([part] if part else []))


@pytest.mark.parametrize("count", [1, 10, 29, 30, 60, 250])
@pytest.mark.parametrize("seed", range(4))
def test_no_false_alarm_for_a_few_test_images(count, seed):
    some = np.random.default_rng(seed).choice(len(X_TEST), count, replace=False)
    assert preprocessing.check_test_preprocessing(X, X_TEST[some]).severity == "ok"


@pytest.mark.parametrize(
    ("x", "severity", "part"),
    [
        (X, "ok", "uint8 from 0 to 255"),
        (FLOATS, "ok", "float32 from 0 to 1"),
        ((FLOATS - 0.13) / 0.3, "ok", "mean"),
        (X.astype(np.float32), "fault", "floats are taken as they are"),
        (FLOATS / 255, "fault", "almost nothing"),
        ((X > 127).astype(np.uint8), "fault", "as uint8, these are 0 to 1/255"),
        (np.zeros((5, 1, 4, 4), np.uint8), "fault", "all values are the same"),
    ],
)
def test_range(x, severity, part):
    named(preprocessing.check_range(x), "input range", severity, part)


def test_a_sample_is_said():
    assert "(4,000 of 10,000 images, evenly spread)" in preprocessing.check_range(DIGITS.images).evidence


# ------------------------------------------------------------------------------------------------------------- history


def curve(losses, train_acc=0.9, val_acc=0.89):
    return [{"train_loss": loss, "train_acc": train_acc, "val_acc": val_acc} for loss in losses]


@pytest.mark.parametrize(
    ("losses", "severity", "part"),
    [
        ([0.8, 0.2, 0.1, 0.09], "ok", "4 epochs, training loss 0.8 -> 0.09"),
        ([0.08, 0.001, 0.0009, 0.0004], "ok", "-> 0.0004"),
        ([2.31, 2.302, 2.303], "fault", "stuck at ln(10) = 2.30"),
        ([0.8, 0.5, 2.3], "fault", "the lowest 0.5: it has grown again"),
        ([0.8, np.nan], "fault", "the lowest 0.8"),
        ([2.0, 1.5, 1.1], "note", "of which the last epoch took 27%: it was still falling"),
        ([], "note", "no epoch has ended"),
    ],
)
def test_curves(losses, severity, part):
    named(history.check_history(curve(losses), 10)[0], "history", severity, part)


def test_what_does_not_carry_over():
    named(history.check_history(curve([0.1]), 10)[1], "accuracy", "ok", "0.900 in training, 0.890 in validation")
    named(history.check_history(curve([0.1], 0.99, 0.1), 10)[1], "accuracy", "fault", "does not carry over")
    assert len(history.check_history([{"train_loss": 0.5}, {"train_loss": 0.5}], None)) == 1


# ------------------------------------------------------------------------------------------------------------- machine


def test_versions():
    installed = {"numpy": "2.4.6", "numba": "0.68.1", "pandas": "3.0.0"}
    inside = ["numpy<3,>=2.0", "numba<0.69,>=0.61", "pandas>=3", "rich>=99", 'numba>=9; extra == "bench"']
    named(machine.versions(installed, inside), "versions", "ok", "numba 0.68.1")
    for outside in ("numba<0.69,>=0.68.2", "numba<0.68,>=0.61", "pandas<3,>=2", "numpy>=3"):
        finding = machine.versions(installed, [*inside, outside])
        named(finding, "versions", "fault", f"expected {outside}")
        assert finding.remedy == f'pip install "{outside}"'
    named(
        machine.versions(installed, ["numpy<2", "numba<0.9", "pandas<3"]), "versions", "fault", "numpy<2 and numba<0.9"
    )


@pytest.mark.parametrize(
    ("threads", "usable", "more", "variables", "severity", "part"),
    [
        (4, 4, [], {}, "ok", "4 threads on 4 cores"),
        (4, 4, [(4, "OMP_NUM_THREADS=4")], {"OMP_NUM_THREADS": "4"}, "ok", "4 threads on 4 cores"),
        (8, 4, [], {}, "note", "8 threads on 4 cores: they wait for each other"),
        (4, 1, [(1.0, "the CPU quota of /a")], {}, "note", "limited to 1 by the CPU quota of /a: they wait"),
        (2, 2, [(2, "OMP_NUM_THREADS=2")], {"OMP_NUM_THREADS": "2"}, "note", "limited to 2 by OMP_NUM_THREADS=2"),
        (2, 2, [(3, "the CPU affinity"), (1.5, "the CPU quota of /a")], {}, "note", "limited to 2 by the CPU quota of"),
        (2, 4, [], {}, "note", "by set_num_threads"),
        (4, 4, [], {"NUMBA_NUM_THREADS": "many"}, "note", "NUMBA_NUM_THREADS=many is no number"),
    ],
)
def test_threads(threads, usable, more, variables, severity, part):
    allowed = [limits.Limit(4, "the machine"), *(limits.Limit(*limit) for limit in more)]
    named(machine.threads_used(threads, usable, allowed, variables), "threads", severity, part)


@pytest.mark.parametrize(
    ("layer", "severity"), [("tbb", "ok"), ("omp", "note"), ("workqueue", "note"), ("interpreter", "note")]
)
def test_thread_layers(layer, severity):
    named(machine.thread_layer(layer), "thread layer", severity, layer)


@pytest.mark.parametrize(("found", "severity"), [("avx512", "ok"), ("avx2", "ok"), ("neon", "ok"), ("generic", "note")])
def test_instructions(found, severity):
    named(machine.instructions(found), "instructions", severity, found)


def test_the_cache(tmp_path, monkeypatch):
    top = tmp_path / "kernels"
    for folder in ("now", "before"):
        (top / folder).mkdir(parents=True)
        (top / folder / "a.kernel").write_bytes(b"1" * 2_000_000)
    monkeypatch.setattr(machine.cache, "folder", lambda: top / "now")
    named(machine.kernel_cache({}), "kernel cache", "ok", f"{top / 'now'}: writable, 1 kernel, 2 MB")
    monkeypatch.setattr(machine, "_LARGE_CACHE", 1e6)
    named(machine.kernel_cache({}), "kernel cache", "note", "2 MB of other versions")
    monkeypatch.setattr(machine, "_LEAST_DISK", 1e30)
    named(machine.kernel_cache({}), "kernel cache", "note", "MB free")
    monkeypatch.setattr(machine.os, "access", lambda place, how: False)
    named(machine.kernel_cache({}), "kernel cache", "note", "read-only, 1 kernel, 2 MB: what is not in it is compiled")
    monkeypatch.setattr(machine.cache, "folder", lambda: None)
    named(machine.kernel_cache({"HOME": "/h"}), "kernel cache", "note", "(HOME=/h): kernels are compiled anew")
    named(machine.kernel_cache({}), "kernel cache", "note", "no home folder")


BLAS, TBB, GOMP = "/a/libscipy_openblas64_-32a.so", "/b/libtbb.so.12.16", "/usr/lib/libgomp.so.1"


@pytest.mark.parametrize(
    ("libraries", "layer", "blas", "severity", "part"),
    [
        ([], "tbb", {}, "ok", "none"),
        ([BLAS, TBB, "/b/libtbbmalloc.so.2"], "tbb", {"OpenBLAS": 8}, "ok", "OpenBLAS, TBB"),
        ([BLAS, GOMP], "omp", {"OpenBLAS": 1}, "ok", "OpenBLAS, GNU OpenMP"),
        ([BLAS, GOMP], "omp", {}, "ok", "OpenBLAS, GNU OpenMP"),
        ([BLAS, GOMP], "workqueue", {"OpenBLAS": 8}, "ok", "OpenBLAS, GNU OpenMP"),
        ([BLAS, GOMP], "omp", {"OpenBLAS": 8, "MKL": 1}, "note", "GNU OpenMP; OpenBLAS has 8 threads, and kernels run"),
        (
            [BLAS, GOMP, "/t/libgomp-98b.so.1"],
            "tbb",
            {},
            "note",
            f"2 x GNU OpenMP; {GOMP} and /t/libgomp-98b.so.1 have",
        ),
        (["/a/libiomp5.so", "/b/libomp-1.so"], "tbb", {}, "note", "Intel OpenMP, LLVM OpenMP"),
    ],
)
def test_other_pools(libraries, layer, blas, severity, part):
    named(pools.thread_pools(libraries, layer, blas), "thread pools", severity, part)


def test_what_to_do_about_a_blas_beside_omp():
    remedy = pools.thread_pools([BLAS, GOMP], "omp", {"OpenBLAS": 8, "MKL": 2}).remedy
    assert remedy.startswith("set OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1, or pip install tbb and unset NUMBA_THREAD")


@pytest.mark.skipif(not any("openblas" in path for path in pools.loaded()), reason="NumPy has another BLAS here")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_blas_is_asked_for_its_threads(threads):
    code = """
        import numpy
        from fastconv.checkup import pools
        print(pools.blas_threads([*pools.loaded(), "/gone/libopenblas.so"]))
        """
    assert succeed(code, OPENBLAS_NUM_THREADS=threads) == f"{{'OpenBLAS': {threads}}}"


def test_variables():
    named(machine.environment({"PATH": "/bin"}), "environment", "ok", "none set")
    named(machine.environment({"OMP_NUM_THREADS": "2", "NUMBA_OPT": "3"}), "environment", "ok", "NUMBA_OPT=3, OMP_NUM")
    finding = machine.environment({"NUMBA_BOUNDSCHECK": "1", "NUMBA_DISABLE_JIT": "1"})
    named(finding, "environment", "note", "NUMBA_BOUNDSCHECK=1, NUMBA_DISABLE_JIT=1;", "as plain Python")
    assert finding.remedy == "unset NUMBA_DISABLE_JIT NUMBA_BOUNDSCHECK"


def test_the_machine_alone():
    report = fc.doctor()
    names = ["versions", "threads", "thread layer", "instructions", "kernel cache", "thread pools", "environment"]
    assert [finding.name for finding in report] == names
    assert not report.faults


# ------------------------------------------------------------------------------------------------- report and arguments


def test_the_report():
    report = Report(
        [
            Finding("logits", "ok", "the largest is 7.66"),
            Finding("learning rate", "fault", "loss 4.4 -> 2.4 in 40 steps: too high", "try 0.05"),
            Finding("leakage", "note", "one row"),
        ]
    )
    assert report.table(80).splitlines() == [
        "ok     logits         the largest is 7.66",
        "fault  learning rate  loss 4.4 -> 2.4 in 40 steps: too high",
        "                      -> try 0.05",
        "note   leakage        one row",
        "1 fault, 1 note, 1 ok",
    ]
    assert report.table(30).splitlines() == [
        "ok     logits",
        "  the largest is 7.66",
        "fault  learning rate",
        "  loss 4.4 -> 2.4 in 40 steps:",
        "  too high",
        "  -> try 0.05",
        "note   leakage",
        "  one row",
        "1 fault, 1 note, 1 ok",
    ]
    assert repr(report) == str(report)
    assert [finding.name for finding in report.notes] == ["leakage"]
    assert json.loads(report.to_json())[1] == {
        "name": "learning rate",
        "severity": "fault",
        "evidence": "loss 4.4 -> 2.4 in 40 steps: too high",
        "remedy": "try 0.05",
    }
    with pytest.raises(KeyError, match="no finding 'labels'; there are logits, learning rate, leakage"):
        report.named("labels")
    assert Report().table(80) == "0 faults, 0 notes, 0 ok"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((None, X), {}, ValueError, "doctor: expected images and their labels, got one without the other"),
        ((fc.Sequential(),), {}, ValueError, "doctor: expected images and labels with a model, got none"),
        ((), {"x_test": X}, ValueError, "doctor: expected images and labels with x_test, got none"),
        ((fc.ReLU(), X, Y), {}, TypeError, "doctor: expected a Sequential model, got ReLU"),
        ((None, X, Y[:9]), {}, ValueError, "doctor: expected at least one image and a label for each, got 2500 and 9"),
        ((None, Y, Y), {}, ValueError, r"doctor: expected images and labels in batches, got shapes \(2500,\)"),
        ((), {"seed": -1}, ValueError, "doctor: expected seed of at least 0, got -1"),
        ((), {"batch_size": 0}, ValueError, "doctor: expected batch_size of at least 1, got 0"),
        ((network(), X[:, :, :9], Y), {}, fc.ShapeError, "layer"),
    ],
)
def test_what_is_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        fc.doctor(*arguments, **options)


def test_few_images():
    report = doctor(network(), X[:2], np.array([0, 1]))
    assert report.named("one batch").severity == "ok"
    assert learning._BATCH == 16
