"""ONNX's own tests of single nodes, through a backend that is as thin as it can be: each node is one call of ours.

The cases come with the ``onnx`` wheel.  A case counts if its node is one that we have; which are *eligible* follows
from rules that name the reason: an axis, a type, an attribute that we do not have.  What is eligible must agree.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastconv as fc
from fastconv import blocks
from fastconv import functional as F
from fastconv.layers import Workspace


class NotOurs(Exception):
    """A node that fastconv does not claim to compute; the message is the rule, which says why."""


@dataclass(frozen=True)
class Node:
    """A node of a graph: attributes, inputs (None where left out), and how many outputs are asked for."""

    kind: str
    attributes: Mapping[str, Any]
    inputs: list[Any]
    outputs: int

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def input(self, number: int) -> Any:
        """Return an input, or None."""
        return self.inputs[number] if number < len(self.inputs) else None

    def only(self, **allowed: Any) -> None:
        """Refuse attributes that have another value than the one that we compute with."""
        for name, value in allowed.items():
            if name in self.attributes and self.get(name, value) != value:
                raise NotOurs(f"{self.kind} with {name}")


# --------------------------------------------------------------------------------------------------------------- rules


def _floats(node: Node, *numbers: int) -> None:
    for number in numbers:
        array = node.input(number)
        if array is not None and array.dtype not in (np.float32, np.float64):
            raise NotOurs(f"type {array.dtype}")


def _axes(node: Node, *ranks: int) -> None:
    rank = node.inputs[0].ndim
    if rank not in ranks:
        raise NotOurs(f"{node.kind} of {rank} axes, not {' or '.join(map(str, ranks))}")


def _same_sides(node: Node, pads: list[int]) -> tuple[int, ...]:
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        raise NotOurs(f"{node.kind} with other padding before than behind")
    return tuple(pads[:half])


def _pads(node: Node, window: list[int], stride: list[int], dilation: list[int]) -> list[int]:
    """Return ONNX's pads, (begin of every axis, end of every axis), also where it is 'SAME'."""
    automatic = node.get("auto_pad", "NOTSET")
    axes = len(window)
    if automatic in ("NOTSET", "VALID"):
        return list(node.get("pads", [0] * 2 * axes))
    begin, end = [], []
    for size, k, s, d in zip(node.inputs[0].shape[2:], window, stride, dilation, strict=True):
        whole = max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
        less, more = whole // 2, whole - whole // 2
        begin.append(less if automatic == "SAME_UPPER" else more)
        end.append(more if automatic == "SAME_UPPER" else less)
    return begin + end


# --------------------------------------------------------------------------------------------------------------- nodes


def _conv(node: Node) -> list[np.ndarray]:
    _floats(node, 0, 1)
    _axes(node, 3, 4)
    x, weight, bias = node.input(0), node.input(1), node.input(2)
    axes = x.ndim - 2
    stride, dilation = (list(node.get(name, [1] * axes)) for name in ("strides", "dilations"))
    pads, groups = _pads(node, list(weight.shape[2:]), stride, dilation), node.get("group", 1)
    if axes == 1:
        return [F.conv1d(x, weight, bias, stride[0], (pads[0], pads[1]), dilation[0], groups)]
    sides = (pads[0], pads[2]), (pads[1], pads[3])
    return [F.conv2d(x, weight, bias, tuple(stride), sides, tuple(dilation), groups)]


def _conv_transpose(node: Node) -> list[np.ndarray]:
    _floats(node, 0, 1)
    _axes(node, 4)
    x, weight, bias = node.input(0), node.input(1), node.input(2)
    stride, dilation = (list(node.get(name, [1, 1])) for name in ("strides", "dilations"))
    more = list(node.get("output_padding", [0, 0]))
    pads, automatic = list(node.get("pads", [0] * 4)), node.get("auto_pad", "NOTSET")
    shape = node.get("output_shape", None)
    if shape is None and automatic.startswith("SAME"):
        shape = [size * s for size, s in zip(x.shape[2:], stride, strict=True)]
    if shape is not None:
        for axis, wanted in enumerate(shape):
            span = (
                stride[axis] * (x.shape[2 + axis] - 1) + more[axis] + (weight.shape[2 + axis] - 1) * dilation[axis] + 1
            )
            whole = span - wanted
            less = whole // 2
            pads[axis], pads[axis + 2] = (less, whole - less) if automatic == "SAME_UPPER" else (whole - less, less)
        if min(pads) < 0:  # an output that is larger than its shares: what is beyond is the bias
            raise NotOurs("ConvTranspose with an output_shape beyond its shares")
    # What is cut off at the end only, or less of it, is a negative output_padding: cut it off here.
    groups = node.get("group", 1)
    y = F.conv_transpose2d(x, weight, bias, tuple(stride), 0, tuple(more), groups, tuple(dilation))
    return [F.pad(y, (-pads[1], -pads[3], -pads[0], -pads[2]))]


def _pooling(node: Node) -> tuple[tuple[int, ...], dict[str, Any]]:
    _floats(node, 0)
    _axes(node, 4)
    node.only(dilations=[1, 1])
    window = list(node.get("kernel_shape", []))
    stride = list(node.get("strides", [1, 1]))
    pads = _pads(node, window, stride, [1, 1])
    return tuple(pads), {
        "kernel_size": tuple(window),
        "stride": tuple(stride),
        "ceil_mode": bool(node.get("ceil_mode", 0)),
    }


def _max_pool(node: Node) -> list[np.ndarray]:
    pads, how = _pooling(node)
    if max(pads[0] + pads[2], pads[1] + pads[3]) and any(
        2 * p > k for p, k in zip(pads, how["kernel_size"] * 2, strict=True)
    ):
        raise NotOurs("MaxPool with padding of more than half the window")
    if pads[:2] == pads[2:]:
        return [F.max_pool2d(node.inputs[0], padding=pads[:2], **how)]
    padded = F.pad(node.inputs[0], (pads[1], pads[3], pads[0], pads[2]), value=-np.inf)
    return [F.max_pool2d(padded, **how)]


def _average_pool(node: Node) -> list[np.ndarray]:
    pads, how = _pooling(node)
    sides = _same_sides(node, list(pads))
    if any(2 * p > k for p, k in zip(sides, how["kernel_size"], strict=True)):
        raise NotOurs("AveragePool with padding of more than half the window")
    counted = bool(node.get("count_include_pad", 0))
    return [F.avg_pool2d(node.inputs[0], padding=sides, count_include_pad=counted, **how)]


def _global(function: Callable[..., np.ndarray]) -> Callable[[Node], list[np.ndarray]]:
    def call(node: Node) -> list[np.ndarray]:
        _floats(node, 0)
        _axes(node, 4)
        return [function(node.inputs[0], 1)]

    return call


def _curve(function: Callable[..., np.ndarray], **names: tuple[str, Any]) -> Callable[[Node], list[np.ndarray]]:
    """Return a node's call of a function whose arguments are attributes: ours=(theirs, default)."""

    def call(node: Node) -> list[np.ndarray]:
        _floats(node, 0)
        return [function(node.inputs[0], **{ours: node.get(*theirs) for ours, theirs in names.items()})]

    return call


def _prelu(node: Node) -> list[np.ndarray]:
    _floats(node, 0, 1)
    x, slope = node.inputs
    per_channel = slope.size == 1 or slope.shape == (x.shape[1], *[1] * (x.ndim - 2))
    if not per_channel:
        raise NotOurs("PRelu with another slope than one for all, or one a channel")
    return [F.prelu(x, slope.reshape(-1))]


def _softmax(function: Callable[..., np.ndarray]) -> Callable[[Node], list[np.ndarray]]:
    def call(node: Node) -> list[np.ndarray]:
        _floats(node, 0)
        x = node.inputs[0]
        axis = node.get("axis", -1) % x.ndim
        moved = np.moveaxis(x, axis, -1)
        rows = moved.reshape(-1, x.shape[axis])  # ours is along axis 1
        return [np.moveaxis(function(rows).reshape(moved.shape), -1, axis)]

    return call


def _batch_norm(node: Node) -> list[np.ndarray]:
    _floats(node, 0)
    _axes(node, 2, 4)
    x, scale, bias, mean, var = node.inputs
    eps, kept = node.get("epsilon", 1e-5), node.get("momentum", 0.9)
    if not node.get("training_mode", 0):
        return [F.batch_norm(x, mean, var, scale, bias, eps)]
    layer = (fc.BatchNorm2d if x.ndim == 4 else fc.BatchNorm1d)(x.shape[1], eps, 1 - kept).to(x.dtype)
    count = x[:, 0].size
    # ONNX keeps the variance of the batch as it is, PyTorch and we that of the population that it came from.
    unbiased = count / max(count - 1, 1)
    layer.load_state_dict(
        {
            "weight": scale,
            "bias": bias,
            "running_mean": mean,
            "running_var": var * unbiased,
            "num_batches_tracked": np.zeros((), np.int64),
        }
    )
    y = layer.forward(x, training=True)
    return [y, layer.running_mean, layer.running_var / x.dtype.type(unbiased)]


def _group_norm(node: Node) -> list[np.ndarray]:
    _floats(node, 0)
    x, scale, bias = node.inputs
    return [F.group_norm(x, node.attributes["num_groups"], scale, bias, node.get("epsilon", 1e-5))]


def _instance_norm(node: Node) -> list[np.ndarray]:
    _floats(node, 0)
    x, scale, bias = node.inputs
    return [F.group_norm(x, x.shape[1], scale, bias, node.get("epsilon", 1e-5))]


def _layer_norm(node: Node) -> list[np.ndarray]:
    _floats(node, 0)
    x, scale, bias = node.input(0), node.input(1), node.input(2)
    axis = node.get("axis", -1) % x.ndim
    rows = x.reshape(int(np.prod(x.shape[:axis])), -1)  # ours is over everything but the first axis
    flat = [None if each is None else each.reshape(-1) for each in (scale, bias)]
    return [F.layer_norm(rows, rows.shape[1], *flat, node.get("epsilon", 1e-5)).reshape(x.shape)]


MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _pad(node: Node) -> list[np.ndarray]:
    x, pads, value, axes = node.input(0), node.input(1), node.input(2), node.input(3)
    if x.dtype.itemsize > 4 and x.dtype.kind in "iu":
        raise NotOurs(f"type {x.dtype}")
    _axes(node, 4)
    whole = np.zeros(8, int)
    axes = np.arange(4) if axes is None else np.asarray(axes) % 4
    whole[axes], whole[axes + 4] = pads[: len(axes)], pads[len(axes) :]
    if whole[[0, 1, 4, 5]].any():
        raise NotOurs("Pad of images or channels")
    _, _, above, left, _, _, below, right = whole.tolist()
    filled = 0.0 if value is None else float(value)
    y = F.pad(x, (left, right, above, below), MODES[node.get("mode", "constant")], filled)
    return [y.astype(x.dtype)]  # whole numbers came as floats, and went through unchanged


def _gemm(node: Node) -> list[np.ndarray]:
    _floats(node, 0, 1)
    a, b, c = node.input(0), node.input(1), node.input(2)
    node.only(alpha=1.0, beta=1.0)
    a = a.T if node.get("transA", 0) else a
    b = b if node.get("transB", 0) else b.T
    if c is not None and c.ndim == 2 and len(c) > 1:
        raise NotOurs("Gemm with another bias for each row")
    return [F.linear(a, b, None if c is None else np.broadcast_to(c.reshape(-1), len(b)))]


def _matmul(node: Node) -> list[np.ndarray]:
    _floats(node, 0, 1)
    a, b = node.inputs
    if (a.ndim, b.ndim) != (2, 2):
        raise NotOurs(f"MatMul of {a.ndim} and {b.ndim} axes")
    return [F.linear(a, b.T)]


def _layer(layer: fc.Layer, x: np.ndarray) -> np.ndarray:
    return layer.to(x.dtype).forward(x)


def _flatten(node: Node) -> list[np.ndarray]:
    _floats(node, 0)
    x = node.inputs[0]
    if node.get("axis", 1) % x.ndim != 1:
        raise NotOurs("Flatten from another axis than 1")
    return [_layer(fc.Flatten(), x)]


def _reshape(node: Node) -> list[np.ndarray]:
    _floats(node, 0)
    x, to = node.inputs[0], np.asarray(node.inputs[1]).tolist()
    if not node.get("allowzero", 0):
        to = [x.shape[axis] if size == 0 else size for axis, size in enumerate(to)]
    if to[0] != x.shape[0] or len(to) not in (2, 4) or x.ndim not in (2, 3, 4):
        raise NotOurs("Reshape that changes the batch axis, or not to 2 or 4 axes")
    return [_layer(fc.Reshape(*to[1:]), x)]


def _resize(node: Node) -> list[np.ndarray]:
    _floats(node, 0)
    _axes(node, 4)
    x, roi, scales, sizes = (node.input(number) for number in range(4))
    mode = node.get("mode", "nearest")
    if mode == "cubic":
        raise NotOurs("Resize with mode cubic")
    node.only(antialias=0, keep_aspect_ratio_policy="stretch", exclude_outside=0)
    if roi is not None and roi.size:
        raise NotOurs("Resize of a region")
    place = node.get("coordinate_transformation_mode", "half_pixel")
    axes = [axis % 4 for axis in node.get("axes", [0, 1, 2, 3])]
    given = dict(zip(axes, (scales if sizes is None else sizes).tolist(), strict=True))
    if any(given.get(axis, 1) not in (1, x.shape[axis] if sizes is not None else 1) for axis in (0, 1)):
        raise NotOurs("Resize of images or channels")
    wanted = given.get(2, 1), given.get(3, 1)
    how = {"scale_factor": wanted} if sizes is None else {"size": tuple(int(size) for size in wanted)}
    if mode == "nearest":
        # Ours are the pixels at floor(i / scale); ONNX's default rounds (i + 1/2) / scale - 1/2, half down.  For
        # whole factors upwards these are the same.
        out = (
            [int(s * n) for s, n in zip(wanted, x.shape[2:], strict=True)]
            if sizes is None
            else [int(s) for s in wanted]
        )
        same = place == "half_pixel" and node.get("nearest_mode", "round_prefer_floor") == "round_prefer_floor"
        whole = all(o % n == 0 for o, n in zip(out, x.shape[2:], strict=True))
        if not ((same and whole) or (place == "asymmetric" and node.get("nearest_mode", "") == "floor")):
            raise NotOurs("Resize to the nearest pixel by another rule than floor(i / scale)")
        return [F.interpolate(x, **how)]
    if place not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise NotOurs(f"Resize with coordinate_transformation_mode {place}")
    if place == "pytorch_half_pixel" and min(int(size) for size in wanted) == 1:
        raise NotOurs("Resize to one pixel by the rule that PyTorch had before 1.5")
    if place == "align_corners" and sizes is None and any(s * n % 1 for s, n in zip(wanted, x.shape[2:], strict=True)):
        raise NotOurs("Resize with align_corners to a size that was rounded")
    return [F.interpolate(x, **how, mode="bilinear", align_corners=place == "align_corners")]


def _upsample(node: Node) -> list[np.ndarray]:
    _floats(node, 0)
    _axes(node, 4)
    scales = np.asarray(node.inputs[1]).tolist()
    if scales[:2] != [1, 1] or node.get("mode", "nearest") != "nearest":
        raise NotOurs("Upsample of images or channels, or with mode linear")
    return [F.interpolate(node.inputs[0], scale_factor=tuple(scales[2:]))]


class _Given(fc.Layer):
    """A branch that returns an array whatever comes in: ONNX's Add and Concat have inputs of their own."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def plan(self, shape: tuple[int, ...], work: Workspace) -> tuple[int, ...]:
        return self.array.shape

    def forward_blocks(self, x: Any, work: Workspace, training: bool) -> Any:
        return blocks.pack(self.array, blocks.empty(self.array.shape, self.array.dtype))


def _sum(node: Node) -> list[np.ndarray]:
    _floats(node, *range(len(node.inputs)))
    x, *others = node.inputs
    if len(others) == 0 or any(other.shape != x.shape for other in others):
        raise NotOurs(f"{node.kind} of one input, or of inputs of several shapes")
    if x.ndim not in (2, 3, 4):
        raise NotOurs(f"{node.kind} of {x.ndim} axes, not 2 to 4")
    return [_layer(fc.Parallel(fc.LeakyReLU(1.0), *map(_Given, others)), x)]


def _concat(node: Node) -> list[np.ndarray]:
    _floats(node, *range(len(node.inputs)))
    x, *others = node.inputs
    if x.ndim not in (2, 3, 4) or node.get("axis", 1) % x.ndim != 1:
        raise NotOurs("Concat along another axis than channels")
    return [_layer(fc.Concat(fc.LeakyReLU(1.0), *map(_Given, others)), x)]


def _dropout(node: Node) -> list[np.ndarray]:
    _floats(node, 0)
    x, ratio, training = node.input(0), node.input(1), node.input(2)
    p = 0.5 if ratio is None else float(ratio)
    if training is not None and bool(training):
        if p:
            raise NotOurs("Dropout in training: random numbers are each library's own")
        return [fc.Dropout(0.0).to(x.dtype).forward(x, training=True)]
    if x.ndim < 2:
        raise NotOurs(f"Dropout of {x.ndim} axes, not 2 to 4")
    return [_layer(fc.Dropout(p), x)]


def _cross_entropy(node: Node) -> list[np.ndarray]:
    _floats(node, 0)
    x, labels, weight = node.input(0), node.input(1), node.input(2)
    node.only(reduction="mean")
    if "ignore_index" in node.attributes and (labels == node.attributes["ignore_index"]).any():
        raise NotOurs(f"{node.kind} with ignore_index")
    if node.kind == "NegativeLogLikelihoodLoss" and not np.allclose(np.exp(x).sum(1), 1):
        raise NotOurs("NegativeLogLikelihoodLoss of what are no logarithms of probabilities")
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])  # each pixel is a row: ours is (N, classes)
    value = np.asarray(F.cross_entropy(rows, labels.reshape(-1), 0.0, weight), x.dtype)
    return [value, F.log_softmax(x)][: node.outputs]


NODES: dict[str, Callable[[Node], list[np.ndarray]]] = {
    "Add": _sum,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Dropout": _dropout,
    "Elu": _curve(F.elu, alpha=("alpha", 1.0)),
    "Flatten": _flatten,
    "Gelu": _curve(F.gelu, approximate=("approximate", "none")),
    "Gemm": _gemm,
    "GlobalAveragePool": _global(F.adaptive_avg_pool2d),
    "GlobalMaxPool": _global(F.adaptive_max_pool2d),
    "GroupNormalization": _group_norm,
    "HardSwish": _curve(F.hardswish),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _curve(F.leaky_relu, negative_slope=("alpha", 0.01)),
    "LogSoftmax": _softmax(F.log_softmax),
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "NegativeLogLikelihoodLoss": _cross_entropy,
    "PRelu": _prelu,
    "Pad": _pad,
    "Relu": _curve(F.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _curve(F.sigmoid),
    "Softmax": _softmax(F.softmax),
    "SoftmaxCrossEntropyLoss": _cross_entropy,
    "Sum": _sum,
    "Swish": _curve(F.silu),
    "Tanh": _curve(F.tanh),
    "Upsample": _upsample,
}

# --------------------------------------------------------------------------------------------------------------- cases


@dataclass
class Agreement:
    """What the standard's cases said, by name."""

    passed: list[str]
    first_only: list[str]
    """Those of the passed whose further outputs, such as masks and statistics, fastconv does not return."""
    failed: dict[str, str]
    not_ours: dict[str, str]
    """Cases of nodes that we have, and the rule by which they do not count."""
    nodes: set[str]
    """The nodes of the passed."""
    without: int
    """Cases whose graph is not one node that we have."""

    def rules(self) -> Counter[str]:
        """Return how many cases each rule leaves out."""
        return Counter(self.not_ours.values())


def run() -> Agreement:
    """Run every case of the installed ``onnx``."""
    import onnx
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the cases overflows here and there, on purpose
        cases = load_model_tests(kind="node")
    found = Agreement([], [], {}, {}, set(), 0)
    for case in cases:
        model, sets = _load(case, onnx)
        kinds = [node.op_type for node in model.graph.node]
        if len(kinds) != 1 or kinds[0] not in NODES:
            found.without += 1
            continue
        try:
            if not sets:
                raise AssertionError("no data to compare with")
            whole = [_check(model, inputs, outputs, onnx, case.rtol, case.atol) for inputs, outputs in sets]
        except NotOurs as rule:
            found.not_ours[case.name] = str(rule)
        except Exception as error:  # whatever a node that we claim to compute ends in
            found.failed[case.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        else:
            found.passed.append(case.name)
            found.nodes.add(kinds[0])
            if not all(whole):
                found.first_only.append(case.name)
    return found


def _load(case: Any, onnx: Any) -> tuple[Any, list[tuple[list[Any], list[Any]]]]:
    """Return a case's model and data sets, which newer wheels make as they are loaded and older ones keep in files."""
    if case.model is not None:
        return case.model, case.data_sets
    from pathlib import Path

    def tensors(folder: Path, kind: str) -> list[Any]:
        count = len(list(folder.glob(f"{kind}_*.pb")))
        return [onnx.numpy_helper.to_array(onnx.load_tensor(folder / f"{kind}_{n}.pb")) for n in range(count)]

    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    if len(model.graph.node) != 1 or model.graph.node[0].op_type not in NODES:
        return model, []
    return model, [(tensors(f, "input"), tensors(f, "output")) for f in sorted(folder.glob("test_data_set_*"))]


def _check(model: Any, inputs: list[Any], outputs: list[Any], onnx: Any, rtol: float, atol: float) -> bool:
    """Compare one data set, and say whether all outputs were there to compare."""
    (proto,) = model.graph.node
    values = iter(inputs)
    arrays = [next(values) if name else None for name in proto.input]
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in proto.attribute}
    results = NODES[proto.op_type](Node(proto.op_type, attributes, arrays, len(outputs)))
    for result, expected in zip(results, outputs, strict=False):
        np.testing.assert_allclose(result, expected, rtol=rtol, atol=atol)
        if result.dtype != expected.dtype or result.shape != expected.shape:
            raise AssertionError(f"{result.dtype}{result.shape} for {expected.dtype}{expected.shape}")
    return len(results) == len(outputs)
