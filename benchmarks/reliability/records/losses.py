"""Records of the losses, which return a number, computed in float64 from arrays of any dtype, and one gradient."""

from typing import Any

import numpy as np

import fastconv as fc
from benchmarks.reliability.records.record import Arrays, Expected, Options, Record, Sample, Shapes, batch, numbers
from fastconv import functional as F
from fastconv import reference
from fastconv.shapes import ShapeError

EPS = float(np.finfo(np.float64).eps)


def _draw(rng: np.random.Generator) -> Sample:
    shape = batch(rng), *(numbers(rng, 1, 20, 1) if rng.integers(2) else numbers(rng, 1, 4, 3))
    return Sample({"x": shape, "target": shape})


BY_HAND = [Sample({"x": shape, "target": shape}) for shape in ((1, 1), (15, 3), (17, 2, 1, 3), (33, 1))]
REFUSED = np.zeros((2, 3)), np.zeros((2, 4))


def _elements(
    name: str, layer: str, oracle: Any, torch: str, option: str = "", values: Any = (), **more: Any
) -> Record:
    """Return the record of a mean over all elements; ``oracle`` is a function of x, target and options."""

    def draw(rng: np.random.Generator) -> Sample:
        return Sample(_draw(rng).shapes, {option: values[int(rng.integers(len(values)))]} if option else {})

    def forward(arrays: Arrays, options: Options) -> Expected:
        value = np.asarray(oracle(arrays["x"], arrays["target"], **options)[0])
        return Expected(value, np.abs(value), arrays["x"].size + 8, EPS)

    def backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
        value = oracle(arrays["x"], arrays["target"], **options)[1]
        terms = (np.abs(arrays["x"]) + np.abs(arrays["target"]) + 1) * (1 + max([0.0, *options.values()]))
        return {"x": Expected(value, 2 * terms / value.size, 8)}

    def in_torch(module: Any, tensors: Any, options: Options) -> Any:
        how = {k: module.tensor(v, dtype=tensors["x"].dtype) if k == "pos_weight" else v for k, v in options.items()}
        return getattr(module.nn.functional, torch)(tensors["x"], tensors["target"], **how)

    return Record(
        name,
        draw,
        [Sample(sample.shapes, {option: values[0]} if option else {}) for sample in BY_HAND],
        forward,
        backward,
        [layer],
        lambda arrays, options: np.asarray(getattr(F, name)(*arrays.values(), **options)),
        loss=lambda options: getattr(fc, layer)(**options),
        torch=in_torch,
        apart=False,
        fill=more.get("fill", {}),
        refusals=[
            (
                lambda: getattr(F, name)(*REFUSED),
                ShapeError,
                "expected target of the output's shape (2, 3), got (2, 4)",
            ),
            (lambda: getattr(F, name)(np.zeros((0, 3)), np.zeros((0, 3))), ShapeError, "expected at least one row"),
            *more.get("refusals", ()),
        ],
    )


def _draw_classes(rng: np.random.Generator) -> Sample:
    n, classes = batch(rng), int(rng.integers(1, 13))
    shapes = {"x": (n, classes), "target": (n,) if rng.integers(2) else (n, classes)}
    shapes |= {"weight": (classes,)} if rng.integers(2) else {}
    return Sample(shapes, {"label_smoothing": float(rng.choice([0.0, 0.1, 0.5]))})


def _target(rng: np.random.Generator, shape: tuple[int, ...], shapes: Shapes) -> np.ndarray:
    """Draw labels, or probabilities."""
    return rng.integers(0, shapes["x"][1], shape) if len(shape) == 1 else rng.random(shape)


def _cross_entropy_forward(arrays: Arrays, options: Options) -> Expected:
    x = arrays["x"]
    value = reference.cross_entropy(x, arrays["target"], options["label_smoothing"], arrays.get("weight"))[0]
    # Terms are at most the largest logarithm, weighed by targets that may sum to more than 1.
    most = np.abs(reference.log_softmax(x)).max() + np.ptp(x) + 1
    return Expected(np.asarray(value), np.asarray(_scale(arrays) * most), x.size + 60, EPS)


def _scale(arrays: Arrays) -> float:
    """Return a bound for what a target's sum is multiplied by."""
    target, weight = arrays["target"], arrays.get("weight", np.ones(1))
    total = 1.0 if target.ndim == 1 else max(1.0, float(target.sum(1).max()))
    return 1 + total * float(weight.max() / weight.min())  # weighted means are divided by the weights' sum


def _cross_entropy_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    x, weight = arrays["x"], arrays.get("weight", np.ones(1))
    value = reference.cross_entropy(x, arrays["target"], options["label_smoothing"], arrays.get("weight"))[1]
    magnitude = np.full(x.shape, _scale(arrays) * max(1.0, float(weight.max())) * 2 / len(x))
    return {"x": Expected(value, magnitude, 16 + x.shape[1] + np.ptp(x))}


def _torch_cross_entropy(torch: Any, tensors: Any, options: Options) -> Any:
    return torch.nn.functional.cross_entropy(
        tensors["x"], tensors["target"], tensors.get("weight"), label_smoothing=options["label_smoothing"]
    )


LOGITS = np.zeros((2, 3))
CROSS_ENTROPY = Record(
    "cross_entropy",
    _draw_classes,
    [
        Sample({"x": (1, 1), "target": (1,)}, {"label_smoothing": 0.0}),
        Sample({"x": (17, 10), "target": (17,), "weight": (10,)}, {"label_smoothing": 0.1}),
        Sample({"x": (33, 3), "target": (33, 3)}, {"label_smoothing": 0.0}),
        Sample({"x": (15, 2), "target": (15, 2), "weight": (2,)}, {"label_smoothing": 0.2}),
    ],
    _cross_entropy_forward,
    _cross_entropy_backward,
    function=lambda arrays, options: np.asarray(
        F.cross_entropy(arrays["x"], arrays["target"], options["label_smoothing"], arrays.get("weight"))
    ),
    loss=lambda options: fc.CrossEntropyLoss(options["label_smoothing"], options.get("weight")),
    torch=_torch_cross_entropy,
    fill={
        "x": lambda rng, shape, shapes: rng.choice([1.0, 10.0]) * rng.standard_normal(shape),
        "target": _target,
        "weight": lambda rng, shape, shapes: rng.uniform(0.2, 3, shape),
    },
    apart=False,
    refusals=[
        (lambda: F.cross_entropy(LOGITS, np.array([0, 3])), ValueError, "labels from 0 to 2, got 3 at position 1"),
        (lambda: F.cross_entropy(LOGITS, np.array([0, -1])), ValueError, "labels from 0 to 2, got -1 at position 1"),
        (lambda: F.cross_entropy(LOGITS, np.zeros(2)), TypeError, "expected labels as whole numbers, got float64"),
        (
            lambda: F.cross_entropy(LOGITS, np.zeros(3, int)),
            ShapeError,
            "expected 2 labels, one an image, got shape (3,)",
        ),
        (lambda: F.cross_entropy(LOGITS, -np.ones((2, 3))), ValueError, "expected finite probabilities of at least 0"),
        (
            lambda: F.cross_entropy(LOGITS, np.zeros(2, int), 1.0),
            ValueError,
            "label_smoothing of at least 0 and below 1",
        ),
        (lambda: F.cross_entropy(LOGITS[0], np.zeros(3, int)), ShapeError, "CrossEntropyLoss: expected"),
    ],
)

RECORDS = [
    CROSS_ENTROPY,
    _elements("mse_loss", "MSELoss", reference.mse, "mse_loss"),
    _elements("l1_loss", "L1Loss", reference.l1, "l1_loss"),
    _elements(
        "huber_loss",
        "HuberLoss",
        reference.huber,
        "huber_loss",
        "delta",
        (1.0, 0.3, 2.5),
        refusals=[(lambda: F.huber_loss(LOGITS, LOGITS, 0), ValueError, "expected a finite delta above 0, got 0")],
    ),
    _elements(
        "binary_cross_entropy_with_logits",
        "BCEWithLogitsLoss",
        lambda x, target, pos_weight: reference.binary_cross_entropy(x, target, pos_weight),
        "binary_cross_entropy_with_logits",
        "pos_weight",
        (1.0, 0.5, 3.0),
        fill={"target": lambda rng, shape, shapes: rng.choice([0.0, 1.0, 0.25], shape)},
        refusals=[
            (
                lambda: F.binary_cross_entropy_with_logits(LOGITS, LOGITS, [1.0, 2.0]),
                ShapeError,
                "expected pos_weight of a shape that spreads over the features (3,), got (2,)",
            ),
            (
                lambda: F.binary_cross_entropy_with_logits(LOGITS, LOGITS, -1.0),
                ValueError,
                "expected pos_weight finite and at least 0, got -1.0",
            ),
        ],
    ),
]
