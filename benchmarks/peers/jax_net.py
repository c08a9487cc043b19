"""A network in JAX, each step one compiled call.  Imports no fastconv, so it may run in another environment."""

import sys
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import machine, nets
from benchmarks.peers import protocol

Arrays = dict[str, jax.Array]
STATISTICS = ("running_mean", "running_var")


def _convolved(x: jax.Array, weight: jax.Array, layer: nets.Conv2d) -> jax.Array:
    padding, stride = layer.padding, layer.stride
    pads = ((padding, padding), (padding, padding))
    if layer.groups == 1:
        return lax.conv_general_dilated(x, weight, (stride,) * 2, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    # Depthwise: shifted images, since XLA's own takes twice as long forward and thrice backward.
    height, width = ((size + 2 * padding - layer.taps) // stride + 1 for size in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = (stride * (size - 1) + 1 for size in (height, width))
    return sum(
        (
            x[:, u : u + rows : stride, v : v + columns : stride] * weight[u, v, 0]
            for u in range(layer.taps)
            for v in range(layer.taps)
        ),
        jnp.float32(0),
    )


def _normalised(place: str, state: Arrays, x: jax.Array, training: bool) -> tuple[jax.Array, Arrays]:
    """Return a normalisation's result and, of training, its new statistics."""
    names = [f"{place}.{name}" for name in STATISTICS]
    mean, var = (state[name] for name in names)
    new: Arrays = {}
    if training:
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        count = x.size // x.shape[3]
        news = mean, var * (count / (count - 1))
        new = {
            name: lax.stop_gradient((1 - nets.TRACKED) * state[name] + nets.TRACKED * value)
            for name, value in zip(names, news, strict=True)
        }
    scale = state[f"{place}.weight"] * lax.rsqrt(var + nets.EPS)
    return (x - mean) * scale + state[f"{place}.bias"], new


def _chain(
    layers: Sequence[nets.Layer], prefix: str, state: Arrays, x: jax.Array, training: bool
) -> tuple[jax.Array, Arrays]:
    """Return the result of layers whose parameters' names begin so and, of training, the new statistics in them."""
    new: Arrays = {}
    for number, layer in enumerate(layers):
        x, some = _apply(layer, f"{prefix}{number}", state, x, training)
        new |= some
    return x, new


def _apply(layer: nets.Layer, place: str, state: Arrays, x: jax.Array, training: bool) -> tuple[jax.Array, Arrays]:
    match layer:
        case nets.Conv2d():
            y = _convolved(x, state[f"{place}.weight"], layer)
            return y + state[f"{place}.bias"] if layer.bias else y, {}
        case nets.BatchNorm2d():
            return _normalised(place, state, x, training)
        case nets.ReLU():
            return jax.nn.relu(x), {}
        case nets.MaxPool2d(size):
            # The gradient of lax.reduce_window takes so long that training takes a sixth (LeNet-5) to nearly a half
            # (3x3 nets) more time with it; forward it is as fast.
            n, height, width, channels = x.shape
            return x.reshape(n, height // size, size, width // size, size, channels).max((2, 4)), {}
        case nets.GlobalAvgPool2d():
            return x.mean((1, 2), keepdims=True), {}
        case nets.Residual(body, shortcut):
            y, new = _chain(body, f"{place}.0.", state, x, training)
            z, more = _chain(shortcut, f"{place}.1.", state, x, training)
            return y + z, new | more
        case nets.Flatten():
            return x.transpose(0, 3, 1, 2).reshape(len(x), -1), {}
        case nets.Linear():
            return x @ state[f"{place}.weight"].T + state[f"{place}.bias"], {}


def _logits(
    net: nets.Net, training: bool, state: Arrays, images: jax.Array, index: jax.Array
) -> tuple[jax.Array, Arrays]:
    x = (images[index].astype(jnp.float32) - 255 * protocol.MEAN) / (255 * protocol.STD)
    return _chain(net.layers, "", state, x, training)


def _mean_loss(
    net: nets.Net, parameters: Arrays, statistics: Arrays, images: jax.Array, labels: jax.Array, index: jax.Array
) -> tuple[jax.Array, Arrays]:
    logits, statistics = _logits(net, True, parameters | statistics, images, index)
    scores = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(scores, labels[index, None], 1).mean(), statistics


def _step(
    net: nets.Net,
    parameters: Arrays,
    velocity: Arrays,
    statistics: Arrays,
    images: jax.Array,
    labels: jax.Array,
    index: jax.Array,
) -> tuple[Arrays, Arrays, Arrays, jax.Array]:
    mean_loss = jax.value_and_grad(partial(_mean_loss, net), has_aux=True)
    (loss, statistics), gradient = mean_loss(parameters, statistics, images, labels, index)
    velocity = jax.tree.map(lambda v, g: protocol.MOMENTUM * v + g, velocity, gradient)
    return jax.tree.map(lambda p, v: p - protocol.LR * v, parameters, velocity), velocity, statistics, loss


class JaxNet:
    """The same work as fastconv's; attributes and ``index`` as in ``protocol.Peer``.

    Images are NHWC: in training that takes a tenth (LeNet-5) to a fifth (3x3 nets) less time than NCHW, and in
    inference as much or less.
    """

    version = f"jax {jax.__version__}"

    def __init__(self, net: nets.Net, images: np.ndarray, labels: np.ndarray, weights: protocol.Weights) -> None:
        state = {
            name: jnp.array(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)
            for name, value in weights.items()
            if not name.endswith("num_batches_tracked")
        }
        self.statistics = {name: value for name, value in state.items() if name.endswith(STATISTICS)}
        self.parameters = {name: value for name, value in state.items() if name not in self.statistics}
        self.velocity = jax.tree.map(jnp.zeros_like, self.parameters)
        self.images, self.labels = jnp.array(images.transpose(0, 2, 3, 1)), jnp.array(labels)
        self.threads = machine.cores()  # what XLA takes
        self.works: protocol.Works = {"training": self.train, "inference": self.infer}
        self._step = jax.jit(partial(_step, net), donate_argnums=(0, 1, 2))
        self._logits = jax.jit(partial(_logits, net, False))

    def index(self, numbers: np.ndarray) -> jax.Array:
        """Return the numbers as an array of JAX's."""
        return jnp.array(numbers)

    def train(self, index: jax.Array) -> float:
        """Choose and normalise, forward, loss, backward, momentum step; the arrays before it are given away."""
        self.parameters, self.velocity, self.statistics, loss = self._step(
            self.parameters, self.velocity, self.statistics, self.images, self.labels, index
        )
        return float(loss)

    def infer(self, index: jax.Array) -> jax.Array:
        """Choose and normalise, forward."""
        return self._logits(self.parameters | self.statistics, self.images, index)[0].block_until_ready()


if __name__ == "__main__":
    sys.exit(protocol.main(JaxNet))
