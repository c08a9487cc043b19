"""A network in onnxruntime, which has no training.  Imports no fastconv, so it may run in another environment."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks import machine, nets
from benchmarks.peers import protocol

OPSET, IR_VERSION = 17, 8


def _nodes(layers: Sequence[nets.Layer], prefix: str, source: str) -> tuple[list[Any], str]:
    """Return the nodes of layers one after another, whose parameters' names begin so, and the name of their result."""
    nodes: list[Any] = []
    for number, layer in enumerate(layers):
        place = f"{prefix}{number}"
        more, source = _node(layer, place, source, f"result {place}")
        nodes += more
    return nodes, source


def _node(layer: nets.Layer, place: str, source: str, target: str) -> tuple[list[Any], str]:
    parameters = [f"{place}.weight", f"{place}.bias"]

    def one(kind: str, *inputs: str, **options: Any) -> tuple[list[Any], str]:
        return [helper.make_node(kind, [source, *inputs], [target], **options)], target

    match layer:
        case nets.Conv2d(_, _, _, padding, stride, groups, bias):
            how = {"pads": [padding] * 4, "strides": [stride] * 2, "group": groups}
            return one("Conv", *parameters[: 1 + bias], **how)
        case nets.BatchNorm2d():
            statistics = f"{place}.running_mean", f"{place}.running_var"
            return one("BatchNormalization", *parameters, *statistics, epsilon=nets.EPS)
        case nets.ReLU():
            return one("Relu")
        case nets.MaxPool2d(size):
            return one("MaxPool", kernel_shape=[size] * 2, strides=[size] * 2)
        case nets.GlobalAvgPool2d():
            return one("GlobalAveragePool")
        case nets.Residual(body, shortcut):
            nodes, ends = [], []
            for number, branch in enumerate((body, shortcut)):
                more, end = _nodes(branch, f"{place}.{number}.", source)
                nodes += more
                ends.append(end)
            return [*nodes, helper.make_node("Add", ends, [target])], target
        case nets.Flatten():
            return one("Flatten")
        case nets.Linear():
            return one("Gemm", *parameters, transB=1)


def graph(net: nets.Net, weights: protocol.Weights) -> bytes:
    """Return the ONNX model from uint8 images to logits, any number of images at a time.

    Normalising inside it takes a tenth less time than NumPy for one image, and the same for 128.
    """
    constants = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    constants |= {"mean": np.float32(255 * protocol.MEAN), "std": np.float32(255 * protocol.STD)}
    nodes, logits = _nodes(net.layers, "", "values")
    made = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["floats", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "std"], ["values"]),
            *nodes,
        ],
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", *net.image])],
        [helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["n", None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString()


class OnnxruntimeNet:
    """Inference as fastconv's; attributes and ``index`` as in ``protocol.Peer``."""

    version = f"onnxruntime {onnxruntime.__version__}"

    def __init__(self, net: nets.Net, images: np.ndarray, labels: np.ndarray, weights: protocol.Weights) -> None:
        self.session = onnxruntime.InferenceSession(graph(net, weights), providers=["CPUExecutionProvider"])
        self.images = images
        self.threads = machine.cores()  # what it takes by default
        self.works: protocol.Works = {"inference": self.infer}

    def index(self, numbers: np.ndarray) -> np.ndarray:
        """Return the numbers as they are."""
        return numbers

    def infer(self, index: np.ndarray) -> Any:
        """Choose, and run the graph."""
        return self.session.run(None, {"pixels": self.images[index]})[0]


if __name__ == "__main__":
    sys.exit(protocol.main(OnnxruntimeNet))
