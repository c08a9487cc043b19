"""Records of the normalisations."""

from math import prod
from typing import Any

import numpy as np

import fastconv as fc
from benchmarks.reliability.records.images import with_parameters
from benchmarks.reliability.records.record import Arrays, Expected, Options, Record, Sample, batch, numbers
from fastconv import functional as F
from fastconv import reference
from fastconv.shapes import ShapeError


def _rounded(parts: np.ndarray, dy: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what rounding does to a normalisation over the last axis.

    ``a`` bounds the normalised values' terms: |x| + |mean|, divided by the deviation.  A rounding of the variance,
    which is a sum of their squares, is magnified by the mean of these, and so are both in the gradient.
    """
    mean = parts.mean(-1, keepdims=True)
    deviation = np.sqrt(((parts - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
    a = (np.abs(parts) + np.abs(mean)) / deviation
    magnified = 1 + (a * a).mean(-1, keepdims=True)
    if dy is None:
        return a * magnified, a, deviation
    upstream = np.abs(dy)
    means = upstream + upstream.mean(-1, keepdims=True) + a * (upstream * a).mean(-1, keepdims=True)
    return means * magnified**2 / deviation, a * magnified, deviation


def _channels_last(x: np.ndarray) -> np.ndarray:
    """Return [C, N * ...]: what a channel's statistics are of."""
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def _back(parts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.moveaxis(parts.reshape(shape[1], shape[0], *shape[2:]), 0, 1)


def _per_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


# -------------------------------------------------------------------------------------------------- batch normalisation


def _draw_batch_norm(rng: np.random.Generator) -> Sample:
    channels = int(rng.integers(1, 5))
    x = batch(rng), channels, *(numbers(rng, 1, 5) if rng.integers(2) else ())
    return Sample({"x": x, "weight": (channels,), "bias": (channels,)}, {"eps": 1e-5})


def _batch_norm_forward(arrays: Arrays, options: Options) -> Expected:
    x, gamma, beta = arrays["x"], arrays["weight"], arrays["bias"]
    value = reference.batch_norm(x, *reference.batch_statistics(x), gamma, beta, options["eps"])
    rounded = _back(_rounded(_channels_last(x))[0], x.shape)
    magnitude = np.abs(_per_channel(gamma, x)) * rounded + np.abs(_per_channel(beta, x))
    return Expected(value, magnitude, 8 + x[:, 0].size)


def _batch_norm_backward(dy: np.ndarray, arrays: Arrays, options: Options) -> dict[str, Expected]:
    x, gamma = arrays["x"], arrays["weight"]
    dx, dgamma, dbeta = reference.batch_norm_backward(dy, x, gamma, options["eps"])
    rounded, a, _ = _rounded(_channels_last(x), _channels_last(dy))
    upstream, units = np.abs(_channels_last(dy)), 16 + 2 * x[:, 0].size
    return {
        "x": Expected(dx, np.abs(_per_channel(gamma, x)) * _back(rounded, x.shape), units),
        "weight": Expected(dgamma, (upstream * a).sum(-1), units),
        "bias": Expected(dbeta, upstream.sum(-1), units),
    }


def _batch_norm_layer(arrays: Arrays, options: Options) -> fc.Layer:
    make = fc.BatchNorm2d if arrays["x"].ndim == 4 else fc.BatchNorm1d
    return with_parameters(make(arrays["x"].shape[1], options["eps"]), arrays)


ONES = np.ones((2, 3))
BATCH_NORM = Record(
    "batch_norm",
    _draw_batch_norm,
    [
        Sample({"x": shape, "weight": (shape[1],), "bias": (shape[1],)}, {"eps": 1e-5})
        for shape in ((1, 2, 1, 3), (17, 1), (15, 3), (33, 2, 2, 1), (2, 1, 1, 1))
    ],
    _batch_norm_forward,
    _batch_norm_backward,
    ["BatchNorm1d", "BatchNorm2d"],
    lambda arrays, options: F.batch_norm(arrays["x"], None, None, arrays["weight"], arrays["bias"], **options),
    _batch_norm_layer,
    torch=lambda torch, tensors, options: _torch_batch_norm(torch, tensors, options),
    apart=False,
    refusals=[
        (
            lambda: F.batch_norm(np.ones(3)),
            ShapeError,
            "batch_norm: expected x of shape (N, C, H, W), (N, C, L) or (N, C)",
        ),
        (lambda: F.batch_norm(ONES, np.ones(3)), ValueError, "running_mean and running_var, or neither, got one"),
        (
            lambda: F.batch_norm(ONES, np.ones(2), np.ones(3)),
            ShapeError,
            "expected running_mean of shape (3,), got (2,)",
        ),
        (lambda: F.batch_norm(ONES, weight=np.ones(2)), ShapeError, "expected weight of shape (3,), got (2,)"),
        (lambda: F.batch_norm(ONES, eps=0), ValueError, "expected eps above 0, got 0"),
    ],
)


def _torch_batch_norm(torch: Any, tensors: Any, options: Options) -> Any:
    x = tensors["x"]
    if x[:, 0].numel() == 1:  # which PyTorch refuses
        return None
    rest = tensors["weight"], tensors["bias"]
    return torch.nn.functional.batch_norm(x, None, None, *rest, training=True, eps=options["eps"])


def _draw_given(rng: np.random.Generator) -> Sample:
    drawn = _draw_batch_norm(rng)
    more = {"running_mean": drawn.shapes["weight"], "running_var": drawn.shapes["weight"]}
    return Sample(dict(drawn.shapes) | more, drawn.options)


def _given_forward(arrays: Arrays, options: Options) -> Expected:
    x, mean, var = arrays["x"], arrays["running_mean"], arrays["running_var"]
    value = reference.batch_norm(x, mean, var, arrays["weight"], arrays["bias"], options["eps"])
    scale = np.abs(_per_channel(arrays["weight"] / np.sqrt(var + options["eps"]), x))
    shift = np.abs(_per_channel(arrays["bias"], x))
    return Expected(value, scale * (np.abs(x) + np.abs(_per_channel(mean, x))) + shift, 6)


BATCH_NORM_GIVEN = Record(
    "batch_norm",
    _draw_given,
    [
        Sample(
            {"x": shape} | dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (shape[1],)), {"eps": 1e-3}
        )
        for shape in ((1, 1), (0, 2), (17, 2, 3, 1), (0, 1, 2, 2))
    ],
    _given_forward,
    lambda dy, arrays, options: {},
    function=lambda arrays, options: F.batch_norm(**arrays, **options),
    torch=lambda torch, tensors, options: torch.nn.functional.batch_norm(**_renamed(tensors), **options),
    fill={"running_var": lambda rng, shape, shapes: rng.uniform(0.2, 3, shape)},
)


def _renamed(tensors: Any) -> dict[str, Any]:
    return {"input" if name == "x" else name: tensor for name, tensor in tensors.items()}


# ---------------------------------------------------------------------------------------------------- of single images


def _draw_group_norm(rng: np.random.Generator) -> Sample:
    groups, per = numbers(rng, 1, 3)
    x = batch(rng), groups * per, *(numbers(rng, 1, 5) if rng.integers(2) else ())
    return Sample({"x": x, "weight": (x[1],), "bias": (x[1],)}, {"num_groups": groups, "eps": 1e-5})


def _image_norm(arrays: Arrays, groups: int, eps: float, dy: np.ndarray | None = None) -> Any:
    """Return expectations of a normalisation of groups, scaled by one number a channel (or value, if x is flat)."""
    x, gamma, beta = arrays["x"], arrays["weight"].reshape(-1), arrays["bias"].reshape(-1)
    n, scales = len(x), len(gamma)
    parts = x.reshape(n, groups, prod(x.shape[1:]) // groups)
    wide = n, scales, prod(x.shape[1:]) // scales
    if dy is None:
        rounded = _rounded(parts)[0].reshape(wide)
        magnitude = np.abs(gamma[:, None]) * rounded + np.abs(beta[:, None])
        value = reference.group_norm(x.reshape(n, scales, -1), groups, gamma, beta, eps) if n else x
        return Expected(value.reshape(x.shape), magnitude.reshape(x.shape), 12 + parts.shape[2])
    scaled = (dy.reshape(wide) * gamma[:, None]).reshape(parts.shape)
    rounded, a, _ = _rounded(parts, scaled)
    normalised = reference.group_norm(x.reshape(n, scales, -1), groups, np.ones(scales), np.zeros(scales), eps)
    upstream, units = dy.reshape(wide), 16 + 4 * parts.shape[2] + 2 * wide[2] * n
    hat = normalised.reshape(parts.shape)
    deviation = np.sqrt(parts.var(-1, keepdims=True) + eps)
    means = scaled.mean(-1, keepdims=True) + hat * (scaled * hat).mean(-1, keepdims=True)
    dx = ((scaled - means) / deviation).reshape(x.shape)
    return {
        "x": Expected(dx, rounded.reshape(x.shape), units),
        "weight": Expected(
            (upstream * normalised).sum((0, 2)).reshape(arrays["weight"].shape),
            (np.abs(upstream) * a.reshape(wide)).sum((0, 2)).reshape(arrays["weight"].shape),
            units,
        ),
        "bias": Expected(
            upstream.sum((0, 2)).reshape(arrays["bias"].shape),
            np.abs(upstream).sum((0, 2)).reshape(arrays["bias"].shape),
            units,
        ),
    }


def _group_norm_layer(arrays: Arrays, options: Options) -> fc.Layer:
    made = fc.GroupNorm(options["num_groups"], arrays["x"].shape[1], options["eps"])
    return with_parameters(made, arrays)


GROUP_NORM = Record(
    "group_norm",
    _draw_group_norm,
    [
        Sample({"x": shape, "weight": (shape[1],), "bias": (shape[1],)}, {"num_groups": groups, "eps": 1e-5})
        for shape, groups in (
            ((1, 1, 1, 1), 1),
            ((17, 3, 2, 3), 3),
            ((33, 4), 2),
            ((15, 2, 1, 5), 1),
            ((0, 2, 3, 3), 1),
        )
    ],
    lambda arrays, options: _image_norm(arrays, **_groups(options)),
    lambda dy, arrays, options: _image_norm(arrays, **_groups(options), dy=dy),
    ["GroupNorm"],
    lambda arrays, options: F.group_norm(**arrays, **options),
    _group_norm_layer,
    torch=lambda torch, tensors, options: (
        torch.nn.functional.group_norm(**_renamed(tensors), **options)
        if tensors["x"].numel() > options["num_groups"]
        else None
    ),
    refusals=[
        (
            lambda: F.group_norm(ONES, 2),
            ShapeError,
            "GroupNorm: expected num_channels divisible by num_groups=2, got 3",
        ),
        (lambda: F.group_norm(ONES, 0), ShapeError, "GroupNorm: expected num_groups as a whole number of at least 1"),
        (lambda: F.group_norm(ONES, 3, np.ones(2)), ShapeError, "group_norm: expected weight of shape (3,), got (2,)"),
        (lambda: F.group_norm(np.ones(3), 1), ShapeError, "group_norm: expected x of shape"),
    ],
)


def _groups(options: Options) -> dict[str, Any]:
    return {"groups": options["num_groups"], "eps": options["eps"]}


def _draw_layer_norm(rng: np.random.Generator) -> Sample:
    return _layer_norm((batch(rng), *(numbers(rng, 1, 12, 1) if rng.integers(2) else numbers(rng, 1, 4, 3))))


def _layer_norm(x: tuple[int, ...]) -> Sample:
    return Sample({"x": x, "weight": x[1:], "bias": x[1:]}, {"normalized_shape": x[1:], "eps": 1e-5})


def _flat(arrays: Arrays, options: Options, dy: np.ndarray | None = None) -> Any:
    return _image_norm(arrays, 1, options["eps"], dy)


LAYER_NORM = Record(
    "layer_norm",
    _draw_layer_norm,
    [_layer_norm(shape) for shape in ((1, 1), (17, 3, 2, 3), (33, 7), (15, 1, 1, 1), (0, 2, 3, 3))],
    _flat,
    lambda dy, arrays, options: _flat(arrays, options, dy),
    ["LayerNorm"],
    lambda arrays, options: F.layer_norm(**arrays, **options),
    lambda arrays, options: with_parameters(fc.LayerNorm(options["normalized_shape"], options["eps"]), arrays),
    torch=lambda torch, tensors, options: torch.nn.functional.layer_norm(**_renamed(tensors), **options),
    refusals=[
        (lambda: F.layer_norm(ONES, 4), ShapeError, "LayerNorm: expected x of shape (N, 4), got (2, 3)"),
        (lambda: F.layer_norm(ONES, 3, np.ones(2)), ShapeError, "layer_norm: expected weight of shape (3,), got (2,)"),
    ],
)

RECORDS = [BATCH_NORM, BATCH_NORM_GIVEN, GROUP_NORM, LAYER_NORM]
