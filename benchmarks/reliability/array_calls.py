"""Every public function and layer that takes arrays, with plain arrays to call it with."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastconv as fc
from fastconv import data
from fastconv import functional as F
from fastconv.augment import Augment
from fastconv.training import metrics

Argument = tuple[str, np.ndarray]
"""A role, as in ``array_kinds.ROLES``, and a plain array."""


class Call(NamedTuple):
    """A function of arrays."""

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Argument]
    says: tuple[str, ...]
    """Names of the operation, one of which an error's message has."""
    is_strict: bool = False
    """Whether it may refuse an array for its byte order or its order in memory."""


_N = 5
_RNG = np.random.default_rng(5)


def _floats(*shape: int, positive: bool = False) -> Argument:
    values = _RNG.standard_normal(shape).astype(np.float32)
    return "floats", np.abs(values) if positive else values


def _images(*shape: int) -> Argument:
    return "images", _floats(*shape)[1]


def _pixels(*shape: int) -> Argument:
    return "pixels", _RNG.integers(0, 256, shape).astype(np.uint8)


def _labels(n: int = _N, classes: int = 3) -> Argument:
    return "labels", np.arange(n) % classes


def _functional() -> list[Call]:
    x, features = _floats(_N, 2, 5, 6), _floats(_N, 4)
    weight, bias, two = _floats(3, 2, 3, 3), _floats(3), _floats(2)
    single = [F.relu, F.elu, F.gelu, F.hardswish, F.leaky_relu, F.sigmoid, F.silu, F.softmax, F.log_softmax, F.tanh]
    norms = {"weight": two, "bias": two}
    calls: list[tuple[Callable[..., Any], dict[str, Argument], dict[str, Any]]] = [
        *((function, {"x": x}, {}) for function in single),
        (F.conv2d, {"x": x, "weight": weight, "bias": bias}, {"padding": 1}),
        (F.conv2d_backward, {"dy": _floats(_N, 3, 3, 4), "x": x, "weight": weight}, {}),
        (F.conv1d, {"x": _floats(_N, 2, 9), "weight": _floats(3, 2, 3), "bias": bias}, {}),
        (F.conv_transpose2d, {"x": x, "weight": _floats(2, 3, 2, 2), "bias": bias}, {"stride": 2}),
        (F.linear, {"x": features, "weight": _floats(3, 4), "bias": bias}, {}),
        (F.pad, {"x": x}, {"pad": (1, 1, 0, 2)}),
        (F.max_pool2d, {"x": x}, {"kernel_size": 2}),
        (F.avg_pool2d, {"x": x}, {"kernel_size": 2}),
        (F.adaptive_avg_pool2d, {"x": x}, {"output_size": 2}),
        (F.adaptive_max_pool2d, {"x": x}, {"output_size": 2}),
        (F.interpolate, {"x": x}, {"size": 7}),
        (F.batch_norm, {"x": x, "running_mean": two, "running_var": _floats(2, positive=True)} | norms, {}),
        (F.group_norm, {"x": x} | norms, {"num_groups": 2}),
        (F.layer_norm, {"x": x} | dict.fromkeys(norms, _floats(2, 5, 6)), {"normalized_shape": (2, 5, 6)}),
        (F.prelu, {"x": x, "weight": two}, {}),
        (F.cross_entropy, {"logits": features, "labels": _labels(), "weight": _floats(4, positive=True)}, {}),
        (F.mse_loss, {"y": features, "target": _floats(_N, 4)}, {}),
        (F.l1_loss, {"y": features, "target": _floats(_N, 4)}, {}),
        (F.huber_loss, {"y": features, "target": _floats(_N, 4)}, {}),
        (
            F.binary_cross_entropy_with_logits,
            {"logits": features, "target": _floats(_N, 4, positive=True), "pos_weight": _floats(4, positive=True)},
            {},
        ),
    ]
    losses = {
        "cross_entropy": "CrossEntropyLoss",
        "mse_loss": "MSELoss",
        "l1_loss": "L1Loss",
        "huber_loss": "HuberLoss",
        "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
        "interpolate": "Upsample",
    }
    found: list[Call] = []
    for function, arguments, options in calls:
        name = function.__name__
        says = (name.removesuffix("_backward"), losses.get(name, name.replace("_", "")))
        found.append(Call(f"functional.{name}", _with(function, options), arguments, says))
    return found


def _with(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    return lambda **arrays: function(**arrays, **options)


_IMAGE, _SEQUENCE, _ROW = (2, 5, 6), (2, 9), (4,)
LAYERS: dict[str, tuple[Callable[[], fc.Layer], tuple[int, ...]]] = {
    "AdaptiveAvgPool2d": (lambda: fc.AdaptiveAvgPool2d(2), _IMAGE),
    "AdaptiveMaxPool2d": (lambda: fc.AdaptiveMaxPool2d(2), _IMAGE),
    "AvgPool2d": (lambda: fc.AvgPool2d(2), _IMAGE),
    "BatchNorm1d": (lambda: fc.BatchNorm1d(4), _ROW),
    "BatchNorm2d": (lambda: fc.BatchNorm2d(2), _IMAGE),
    "Concat": (lambda: fc.Concat(fc.ReLU(), fc.Tanh()), _IMAGE),
    "Conv1d": (lambda: fc.Conv1d(2, 3, 3), _SEQUENCE),
    "Conv2d": (lambda: fc.Conv2d(2, 3, 3), _IMAGE),
    "ConvTranspose2d": (lambda: fc.ConvTranspose2d(2, 3, 2), _IMAGE),
    "Dropout": (lambda: fc.Dropout(0.5), _ROW),
    "Dropout2d": (lambda: fc.Dropout2d(0.5), _IMAGE),
    "ELU": (lambda: fc.ELU(), _IMAGE),
    "Flatten": (lambda: fc.Flatten(), _IMAGE),
    "GELU": (lambda: fc.GELU(), _IMAGE),
    "GlobalAvgPool2d": (lambda: fc.GlobalAvgPool2d(), _IMAGE),
    "GlobalMaxPool2d": (lambda: fc.GlobalMaxPool2d(), _IMAGE),
    "GroupNorm": (lambda: fc.GroupNorm(1, 2), _IMAGE),
    "Hardswish": (lambda: fc.Hardswish(), _IMAGE),
    "LayerNorm": (lambda: fc.LayerNorm((2, 5, 6)), _IMAGE),
    "LeakyReLU": (lambda: fc.LeakyReLU(), _IMAGE),
    "Linear": (lambda: fc.Linear(4, 3), _ROW),
    "LogSoftmax": (lambda: fc.LogSoftmax(), _ROW),
    "MaxPool2d": (lambda: fc.MaxPool2d(2), _IMAGE),
    "PReLU": (lambda: fc.PReLU(2), _IMAGE),
    "Parallel": (lambda: fc.Parallel(fc.ReLU(), fc.Tanh()), _IMAGE),
    "ReLU": (lambda: fc.ReLU(), _IMAGE),
    "Reshape": (lambda: fc.Reshape(-1), _IMAGE),
    "Residual": (lambda: fc.Residual(fc.ReLU()), _IMAGE),
    "SiLU": (lambda: fc.SiLU(), _IMAGE),
    "Sigmoid": (lambda: fc.Sigmoid(), _IMAGE),
    "Softmax": (lambda: fc.Softmax(), _ROW),
    "Tanh": (lambda: fc.Tanh(), _IMAGE),
    "Upsample": (lambda: fc.Upsample(7), _IMAGE),
    "ZeroPad2d": (lambda: fc.ZeroPad2d(1), _IMAGE),
}
"""Each layer, and the shape of an image that it takes."""


def _layer(name: str) -> list[Call]:
    make, shape = LAYERS[name]
    out = make().output_shape((_N, *shape))

    def forward(x: Any) -> Any:
        layer = make()
        return layer.forward(x), layer.state_dict()

    def backward(x: Any, dy: Any) -> Any:
        layer = make()
        y = layer.forward(x, training=True)
        return y, layer.backward(dy), [parameter.grad for parameter in layer.parameters()], layer.state_dict()

    says = (name, name.lower(), name.lower().removesuffix("2d"), "conv_transpose2d" if "Transpose" in name else name)
    return [
        Call(f"{name}.forward", forward, {"x": _floats(_N, *shape)}, says),
        Call(f"{name}.backward", backward, {"x": _floats(_N, *shape), "dy": _floats(*out)}, says),
    ]


def _net() -> fc.Sequential:
    return fc.Sequential(fc.Conv2d(1, 2, 3), fc.ReLU(), fc.MaxPool2d(2), fc.Flatten(), fc.Linear(8, 3), seed=1)


def _model(use: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of arrays that makes a model, uses it, and returns what came and what became of it."""

    def function(**arrays: Any) -> Any:
        model = _net()
        return use(model, **arrays), model.state_dict()

    return function


def _sequential() -> list[Call]:
    x, pixels, y = _images(_N, 1, 6, 6), _pixels(_N, 1, 6, 6), _labels()
    dy = _floats(_N, 3)

    def backward(model: fc.Sequential, x: Any, dy: Any) -> Any:
        model.forward(x, training=True)
        return model.backward(dy), [parameter.grad for parameter in model.parameters()]

    def fit(model: fc.Sequential, x: Any, y: Any, x_val: Any, y_val: Any) -> Any:
        return list(model.fit(x, y, epochs=1, verbose=False, validation_data=(x_val, y_val)).column("train_loss"))

    def step(model: fc.Sequential, x: Any, y: Any) -> Any:
        return fc.train_step(model, fc.CrossEntropyLoss(), fc.SGD(0.1), x, y)

    def rate(model: fc.Sequential, x: Any, y: Any) -> Any:
        return fc.lr_find(model, x, y, steps=10).losses

    uses: list[tuple[str, Callable[..., Any], dict[str, Argument]]] = [
        ("forward", lambda model, x: model.forward(x), {"x": x}),
        ("call", lambda model, x: model(x), {"x": ("images", pixels[1])}),
        ("predict", lambda model, x: model.predict(x), {"x": x}),
        ("predict_proba", lambda model, x: model.predict_proba(x), {"x": x}),
        ("evaluate", lambda model, x, y: model.evaluate(x, y), {"x": x, "y": y}),
        ("fit", fit, {"x": x, "y": y, "x_val": x, "y_val": y}),
        ("backward", backward, {"x": x, "dy": dy}),
        ("train_step", step, {"x": x, "y": y}),
        ("lr_find", rate, {"x": x, "y": y}),
    ]

    def together(model: fc.Sequential, x: Any, y: Any) -> Any:
        both = fc.Ensemble([model, _net()])
        return both.predict(x), both.evaluate(x, y)

    uses.append(("Ensemble.evaluate", together, {"x": x, "y": y}))
    says = ("Sequential", "layer ", "CrossEntropyLoss", "predict_proba", "evaluate", "Ensemble")
    return [Call(f"Sequential {name}", _model(use), given, (name, *says)) for name, use, given in uses]


def _losses() -> list[Call]:
    y, target = _floats(_N, 3), _floats(_N, 3)
    shares: Argument = "floats", np.full((_N, 3), 1 / 3, np.float32)

    def both(make: Callable[[], fc.MSELoss | fc.CrossEntropyLoss]) -> Callable[..., Any]:
        def function(y: Any, target: Any) -> Any:
            loss = make()
            return loss.forward(y, target), loss.backward()

        return function

    makers: list[tuple[str, Callable[[], Any], Argument]] = [
        ("CrossEntropyLoss", lambda: fc.CrossEntropyLoss(0.1), _labels()),
        ("CrossEntropyLoss", lambda: fc.CrossEntropyLoss(0.1), shares),
        ("MSELoss", lambda: fc.MSELoss(), target),
        ("L1Loss", lambda: fc.L1Loss(), target),
        ("HuberLoss", lambda: fc.HuberLoss(), target),
        ("BCEWithLogitsLoss", lambda: fc.BCEWithLogitsLoss(), shares),
    ]
    return [Call(name, both(make), {"y": y, "target": aim}, (name,)) for name, make, aim in makers]


def _state() -> list[Call]:
    """Return calls that set weights, gradients and memories."""
    layer, begun = fc.Linear(4, 3), fc.EMA()
    begun.begin(layer)
    average_of_layer = begun.state_dict()

    def assign(what: str) -> Callable[..., Any]:
        def function(value: Any) -> Any:
            parameter = fc.Parameter((3, 4), fc.init.zeros)
            setattr(parameter, what, value)
            return parameter.value, parameter.grad

        return function

    def load(weight: Any, bias: Any) -> Any:
        made = fc.Linear(4, 3)
        made.load_state_dict({"weight": weight, "bias": bias})
        return made.state_dict()

    def optimizer(memory: Any) -> Any:
        made, adam = fc.Linear(4, 3, bias=False), fc.Adam()
        adam.load_state_dict(made, {"steps": np.array(3), "weight.0": memory, "weight.1": memory})
        return adam.state_dict(made)

    def average(value: Any) -> Any:
        ema = fc.EMA()
        ema.load_state_dict(average_of_layer | {"weight": value})
        ema.begin(layer)
        return ema.state_dict()

    def moved(make: Callable[[], Any]) -> Callable[..., Any]:
        def function(value: Any, grad: Any) -> Any:
            parameter = fc.Parameter((3, 4), fc.init.zeros)
            parameter.value, parameter.grad = value, grad
            made = make()
            for _ in range(2):
                made.step([parameter])
            return parameter.value

        return function

    both = {"value": _floats(3, 4), "grad": _floats(3, 4)}
    return [
        Call("Parameter.value", assign("value"), {"value": _floats(3, 4)}, ("parameter",)),
        Call("Parameter.grad", assign("grad"), {"value": _floats(3, 4)}, ("parameter",)),
        Call("Layer.load_state_dict", load, {"weight": _floats(3, 4), "bias": _floats(3)}, ("load_state_dict",)),
        Call("Optimizer.load_state_dict", optimizer, {"memory": _floats(12)}, ("Adam",)),
        Call("EMA.load_state_dict", average, {"value": ("numbers", _floats(3, 4)[1])}, ("EMA",)),
        *(
            Call(f"{name}.step", moved(make), both, ("parameter",))
            for name, make in {
                "SGD": lambda: fc.SGD(0.1),
                "Adam": lambda: fc.Adam(0.1),
                "AdamW": lambda: fc.AdamW(0.1),
                "RMSprop": lambda: fc.RMSprop(0.1),
                "Lion": lambda: fc.Lion(0.1),
            }.items()
        ),
    ]


def _others() -> list[Call]:
    def submission(labels: Any) -> str:
        with tempfile.TemporaryDirectory() as folder:
            data.write_submission(Path(folder) / "s.csv", labels)
            return (Path(folder) / "s.csv").read_text()

    def dataset(images: Any, labels: Any) -> Any:
        found = data.Dataset(images, labels, "here")
        return len(found), found.num_classes, found.sha256()

    def saved(weight: Any) -> Any:
        model = fc.Sequential(fc.Linear(4, 3, bias=False))
        model.layers[0].parameters()[0].value = weight
        with tempfile.TemporaryDirectory() as folder:
            fc.save(model, Path(folder) / "m")
            return fc.load(Path(folder) / "m").state_dict()

    augment = Augment(rotate=10, mixup=0.5)
    return [
        Call("gradcheck", lambda x: fc.gradcheck(fc.Tanh(), x), {"x": _floats(2, 3)}, ("gradcheck", "Tanh")),
        Call("save and load", saved, {"weight": _floats(3, 4)}, ("parameter",)),
        Call(
            "Augment.apply",
            lambda images, index: augment.apply(images, index, 1),
            {"images": _pixels(_N, 1, 6, 6), "index": ("numbers", np.arange(_N))},
            ("Augment.apply",),
        ),
        Call("data.Dataset", dataset, {"images": _pixels(_N, 1, 6, 6), "labels": _labels()}, ("Dataset",), True),
        Call(
            "data.split",
            lambda stratify: data.split(_N, 0.4, 1, stratify),
            {"stratify": _labels()},
            ("split",),
        ),
        Call("data.split", lambda n: data.split(n, 0.4, 1), {"n": ("numbers", np.array(5))}, ("split",)),
        Call(
            "data.permutation", lambda n: data.permutation(n, 1, 1), {"n": ("numbers", np.array(5))}, ("permutation",)
        ),
        Call("data.write_submission", submission, {"labels": _labels()}, ("write_submission",)),
        Call(
            "confusion_matrix",
            lambda labels, predicted: metrics.confusion_matrix(labels, predicted, 3),
            {"labels": _labels(), "predicted": _labels()},
            ("confusion_matrix",),
        ),
        Call(
            "CrossEntropyLoss.weight",
            lambda weight: fc.CrossEntropyLoss(0.1, weight).weight,
            {"weight": _floats(3, positive=True)},
            ("CrossEntropyLoss",),
        ),
        Call(
            "BCEWithLogitsLoss.pos_weight",
            lambda weight: fc.BCEWithLogitsLoss(weight).pos_weight,
            {"weight": _floats(3, positive=True)},
            ("BCEWithLogitsLoss",),
        ),
    ]


def calls() -> list[Call]:
    """Return all of them."""
    return [
        *_functional(),
        *(call for name in LAYERS for call in _layer(name)),
        *_sequential(),
        *_losses(),
        *_state(),
        *_others(),
    ]


LEFT_OUT = {
    "doctor": "takes seconds a call, in which it calls what is called here",
    "plots": "a module of drawings, which need matplotlib",
    "__version__": "a text",
    "augment": "a module, of which Augment.apply takes arrays",
    "data": "a module; its readers take files, which the promise 'files' is about",
    "functional": "a module, each of whose functions is called",
    "init": "a module of functions of a shape",
    "models": "a module of functions that make models of numbers",
    "reference": "a module of naive loops for tests, which check nothing on purpose",
    "schedules": "a module of functions of one number",
    "Layer": "the base of those that are called",
    "Workspace": "memory of layers, which takes no array",
    "Normalization": "takes numbers",
    "GradientError": "an error",
    "ModelFileError": "an error",
    "NoRoomError": "an error",
    "NotFiniteError": "an error",
    "ShapeError": "an error",
    "TrainingError": "an error",
    "Callback": "takes no array",
    "Checkpoint": "takes a path",
    "EarlyStopping": "takes no array",
    "TimeBudget": "takes no array",
    "get_num_threads": "takes no array",
    "set_num_threads": "takes a number",
    "thread_layer": "takes no array",
}
"""Public names that no call is needed for, and why."""


def uncovered() -> list[str]:
    """Return the public names that are neither called nor left out: none."""
    called = {word for call in calls() for word in call.name.replace(".", " ").split()}
    public = {name: name for name in fc.__all__} | {f"functional.{name}": name for name in F.__all__}
    return sorted(full for full, name in public.items() if name not in called and name not in LEFT_OUT)
