"""A network in JAX, each step one compiled call.  Imports no fastconv, so it may run in another environment."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import machine, nets
from benchmarks.peers import protocol

Arrays = dict[str, jax.Array]


def _apply(layer: nets.Layer, number: int, parameters: Arrays, x: jax.Array) -> jax.Array:
    match layer:
        case nets.Conv2d(_, _, _, padding):
            weight, pads = parameters[f"{number}.weight"], ((padding, padding), (padding, padding))
            y = lax.conv_general_dilated(x, weight, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
            return y + parameters[f"{number}.bias"]
        case nets.ReLU():
            return jax.nn.relu(x)
        case nets.MaxPool2d(size):
            # The gradient of lax.reduce_window takes so long that training takes a sixth (LeNet-5) to nearly a half
            # (3x3 nets) more time with it; forward it is as fast.
            n, height, width, channels = x.shape
            return x.reshape(n, height // size, size, width // size, size, channels).max((2, 4))
        case nets.Flatten():
            return x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        case nets.Linear():
            return x @ parameters[f"{number}.weight"].T + parameters[f"{number}.bias"]


def _logits(net: nets.Net, parameters: Arrays, images: jax.Array, index: jax.Array) -> jax.Array:
    x = (images[index].astype(jnp.float32) - 255 * protocol.MEAN) / (255 * protocol.STD)
    for number, layer in enumerate(net.layers):
        x = _apply(layer, number, parameters, x)
    return x


def _mean_loss(net: nets.Net, parameters: Arrays, images: jax.Array, labels: jax.Array, index: jax.Array) -> jax.Array:
    scores = jax.nn.log_softmax(_logits(net, parameters, images, index))
    return -jnp.take_along_axis(scores, labels[index, None], 1).mean()


def _step(
    net: nets.Net, parameters: Arrays, velocity: Arrays, images: jax.Array, labels: jax.Array, index: jax.Array
) -> tuple[Arrays, Arrays, jax.Array]:
    loss, gradient = jax.value_and_grad(partial(_mean_loss, net))(parameters, images, labels, index)
    velocity = jax.tree.map(lambda v, g: protocol.MOMENTUM * v + g, velocity, gradient)
    return jax.tree.map(lambda p, v: p - protocol.LR * v, parameters, velocity), velocity, loss


class JaxNet:
    """The same work as fastconv's; attributes and ``index`` as in ``protocol.Peer``.

    Images are NHWC: in training that takes a tenth (LeNet-5) to a fifth (3x3 nets) less time than NCHW, and in
    inference as much or less.
    """

    version = f"jax {jax.__version__}"

    def __init__(self, net: nets.Net, images: np.ndarray, labels: np.ndarray, weights: protocol.Weights) -> None:
        self.parameters = {
            name: jnp.array(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)
            for name, value in weights.items()
        }
        self.velocity = jax.tree.map(jnp.zeros_like, self.parameters)
        self.images, self.labels = jnp.array(images.transpose(0, 2, 3, 1)), jnp.array(labels)
        self.threads = machine.cores()  # what XLA takes
        self.works: protocol.Works = {"training": self.train, "inference": self.infer}
        self._step = jax.jit(partial(_step, net), donate_argnums=(0, 1))
        self._logits = jax.jit(partial(_logits, net))

    def index(self, numbers: np.ndarray) -> jax.Array:
        """Return the numbers as an array of JAX's."""
        return jnp.array(numbers)

    def train(self, index: jax.Array) -> float:
        """Choose and normalise, forward, loss, backward, momentum step; the arrays before it are given away."""
        self.parameters, self.velocity, loss = self._step(
            self.parameters, self.velocity, self.images, self.labels, index
        )
        return float(loss)

    def infer(self, index: jax.Array) -> jax.Array:
        """Choose and normalise, forward."""
        return self._logits(self.parameters, self.images, index).block_until_ready()


if __name__ == "__main__":
    sys.exit(protocol.main(JaxNet))
