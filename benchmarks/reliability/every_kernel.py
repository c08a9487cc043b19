"""Every kernel once, on small shapes: what must meet every line of every kernel, and must stay inside every array.

``python -m benchmarks.reliability.every_kernel`` does it; what for is a matter of the environment, which may turn the
compiler off, or the checks of bounds on.
"""

import numpy as np

import fastconv as fc
from fastconv import functional as F
from fastconv import losses
from fastconv_kernels import convolution, memory, pieces, winograd_filter
from fastconv_kernels.exponential import exp, log

TESTS = (
    *("conv2d", "conv_transpose2d", "conv1d", "padding", "convolution", "memory", "pool2d", "linear", "activation"),
    *("elementwise", "adaptive", "resize", "loss", "optim", "averaging", "lanes", "augment", "bias", "guard_cells"),
    *("exactness", "batchnorm", "channelwise", "groupnorm", "branches", "many", "pieces", "crew", "operations"),
)
"""The tests of the kernels: tests/test_NAME.py."""
SLOW_TESTS = (
    *(f"test_{name}.py::test_gradcheck" for name in ("batchnorm", "channelwise", "groupnorm", "branches")),
    "test_pieces.py::test_the_gradients_of_a_chain_in_pieces",
)
"""Those among them that take longer without the compiler than all others together."""


def run() -> None:
    """Launch them all."""
    rng = np.random.default_rng(0)
    model = fc.Sequential(
        fc.Conv2d(2, 3, 3, stride=2, padding=1),
        fc.ReLU(),
        fc.MaxPool2d(2, 1),
        fc.Conv2d(3, 2, 1, padding=1),
        fc.ReLU(),
        fc.AvgPool2d(2),
        fc.Dropout(0.5),
        fc.AvgPool2d(1, count_include_pad=False),
        fc.Flatten(),
        fc.Linear(8, 4),
        fc.ReLU(),
        fc.ReLU(),
        fc.Linear(4, 3),
    )
    pixels, labels = rng.integers(0, 256, (17, 2, 8, 8)).astype(np.uint8), rng.integers(0, 3, 17)
    special = fc.Sequential(
        fc.Conv2d(2, 22, 3, padding=1),
        fc.Conv2d(22, 22, 3, padding=1),
        fc.ReLU(),  # Winograd's, of odd size
        fc.Conv2d(22, 22, 3, padding=1, groups=22),
        fc.ReLU(),
        fc.Conv2d(22, 3, 1),
        fc.ReLU(),
        fc.Flatten(),
        fc.Linear(189, 3),
    )
    for n in (1, 9):  # cut into pieces, and not
        odd = rng.integers(0, 256, (n, 2, 7, 9)).astype(np.uint8)
        fc.train_step(special, fc.CrossEntropyLoss(), fc.SGD(0.1), odd, labels[:n])
    for stride in (1, 2):
        chain = fc.Conv2d(2, 2, 3, stride, padding=1, groups=2, bias=False)
        between = fc.Sequential(fc.BatchNorm2d(2), fc.ReLU(), chain, fc.BatchNorm2d(2), fc.Conv2d(2, 2, 1))
        between.backward(between.forward(rng.standard_normal((3, 2, 10, 11)), training=True))
    geometry = convolution.Geometry((20, 20, 3, 3), (9, 9), (7, 7), (1, 1), (0, 0), (1, 1), 1, np.dtype(float))
    one, kernel, dy = np.ones((1, 20, 9, 9, 16)), np.ones((20, 20, 3, 3)), np.ones((1, 20, 7, 7, 16))
    convolution.backward_input(geometry, 1)(dy, kernel, one)
    convolution.backward_filter(geometry, 1)(dy, one, kernel[None])
    forward = convolution.forward(geometry, 1)
    forward(one, kernel, np.ones(20), dy, False)
    convolution.backward(geometry, 1, forward)(dy, one, kernel, kernel[None], one)
    convolution.backward_input(geometry)(dy, kernel, one, np.ones(20), True)
    geometry = convolution.Geometry((30, 30, 3, 3), (8, 8), (8, 8), (1, 1), (1, 1), (1, 1), 1, np.dtype(float))
    wide, sums = np.ones((2, 30, 8, 8, 16)), np.empty((1, 36, 8, 8, 16))
    convolution.backward_filter(geometry)(wide[:1], wide[:1], np.empty((1, 30, 30, 3, 3)))
    odd_dy, elements = np.ones((2, 30, 7, 7, 16)), memory.scratch((12, 16, 3, 64), float)
    winograd_filter.winograd_filter_products(odd_dy, wide, sums, (1, 1), elements)
    winograd_filter.winograd_filter_gradient(sums, np.empty((2, 30, 30, 3, 3)))
    cut = pieces.Spread(1, 4, 4, (8, 8), (2, 2))
    cut.pooled((2, 2), (4, 4))
    cut.pooled((3, 3), (2, 2))
    around = fc.Sequential(fc.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), fc.Flatten(), fc.Linear(126, 3))
    fc.train_step(around, fc.CrossEntropyLoss(), fc.SGD(0.1), odd, labels[:9])
    around.backward_batch(losses.CrossEntropyLoss().of_blocks(around.run_batch(odd, None, True), labels[:9]).dy, True)
    for mode in ("constant", "circular", "replicate"):
        F.pad(odd, (1, 0, -1, 2), mode)
    for optimizer in (fc.SGD(0.1, 0.9, True), fc.Adam(clip_norm=1.0), fc.RMSprop(centered=True), fc.Lion()):
        fc.train_step(model, fc.CrossEntropyLoss(0.1), optimizer, pixels, labels)
    fc.train_step(fc.Sequential(fc.Softmax()), fc.MSELoss(), fc.SGD(), np.ones((2, 3)), np.zeros((2, 3)))
    model.backward_batch(losses.MSELoss().of_blocks(model.run_batch(pixels, None, True), np.zeros((17, 3))).dy, True)
    branched = fc.Sequential(
        fc.Conv2d(2, 3, 1),
        fc.BatchNorm2d(3),
        fc.ReLU(),
        fc.Residual(fc.Conv2d(3, 3, 1)),
        fc.ReLU(),
        fc.Residual(fc.BatchNorm2d(3)),
        fc.ReLU(),
        fc.GroupNorm(1, 3),
        fc.Concat(fc.ReLU(), fc.MaxPool2d(1)),
        fc.Flatten(),
        fc.Linear(384, 3),
    )
    fc.train_step(branched, fc.CrossEntropyLoss(), fc.SGD(0.1), pixels, labels)
    branched(pixels)
    losses.CrossEntropyLoss()(np.ones((2, 3)), np.eye(2, 3, 1))
    for loss in (losses.L1Loss(), losses.HuberLoss(), losses.BCEWithLogitsLoss()):
        loss(np.full((2, 3), 5.0), np.zeros((2, 3)))
        loss(np.full((2, 3), 0.5), np.zeros((2, 3)))
    ema = fc.EMA()
    ema.begin(model)
    ema.update()
    softmax = fc.Softmax()
    softmax.backward(softmax.forward(np.ones((2, 3)), training=True))
    F.log_softmax(np.ones((2, 3)))
    curves = [fc.LeakyReLU(), fc.ELU(), fc.Sigmoid(), fc.SiLU(), fc.GELU(), fc.GELU("tanh"), fc.Tanh(), fc.Hardswish()]
    sizes = [fc.AdaptiveAvgPool2d(2), fc.AdaptiveMaxPool2d(2), fc.Upsample(4, mode="bilinear"), fc.ZeroPad2d(1)]
    strided = fc.Sequential(fc.ConvTranspose2d(2, 2, 3, 2, groups=2), fc.ReLU())
    for layer in [*curves, *sizes, strided, fc.PReLU(), fc.LogSoftmax(), fc.Dropout2d()]:
        layer.backward(layer.forward(rng.standard_normal((17, 2, 3, 3)), training=True))
    for layer in curves:
        layer.to(float).forward(np.ones((1, 1)))
    everything = {"elastic": (4, 2), "crop": 1, "padding_mode": "reflect", "flip": True, "cutout": 2, "contrast": 1}
    for turn, options in ((180, everything), (180, {"mixup": 1.0})):
        fc.augment.Augment(rotate=turn, **options).apply(pixels[..., :3], np.arange(17), 1)
    for x in (-1e3, 1e3, 1.0, np.inf, 0.0):
        exp(x)
        log(abs(x))


if __name__ == "__main__":
    run()
