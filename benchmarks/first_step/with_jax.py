"""From nothing to the end of LeNet-5's first training step, in JAX, jitted as one function."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SHAPES = [(6, 1, 5, 5), (16, 6, 5, 5), (400, 120), (120, 84), (84, 10)]


def logits(parameters, x):
    """Return the model's output for images float[N, 1, 28, 28]."""
    (k1, b1), (k2, b2), *linear = parameters
    for k, b, padding in ((k1, b1, 2), (k2, b2, 0)):
        x = lax.conv_general_dilated(x, k, (1, 1), [(padding, padding)] * 2) + b[:, None, None]
        x = lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    x = x.reshape(len(x), -1)
    for w, b in linear[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ linear[-1][0] + linear[-1][1]


@jax.jit
def step(parameters, velocity, x, y):
    """Return parameters and velocity after a step of SGD with momentum, and the loss."""

    def loss(parameters):
        log_p = jax.nn.log_softmax(logits(parameters, x.astype(jnp.float32) / 255))
        return -jnp.take_along_axis(log_p, y[:, None], 1).mean()

    value, gradients = jax.value_and_grad(loss)(parameters)
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradients)
    return jax.tree.map(lambda p, v: p - 0.01 * v, parameters, velocity), velocity, value


rng = np.random.default_rng(0)
parameters = [
    (rng.standard_normal(shape, np.float32) * 0.1, np.zeros(shape[0 if len(shape) == 4 else 1], np.float32))
    for shape in SHAPES
]
velocity = jax.tree.map(np.zeros_like, parameters)
x, y = rng.integers(0, 256, (64, 1, 28, 28), np.uint8), rng.integers(0, 10, 64)
parameters, velocity, value = step(parameters, velocity, x, y)
float(value)
