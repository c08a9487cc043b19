"""``fastconv warmup``: the kernels compiled now, rather than at the first training."""

import argparse
from collections.abc import Iterable
from copy import deepcopy
from time import perf_counter

import numpy as np

from fastconv import models, optim, terminal
from fastconv.augment import PRESETS, Augment, Augmentation
from fastconv.averaging import EMA
from fastconv.commands.common import CompilingNotice, say_machine, use_threads
from fastconv.commands.errors import UsageError
from fastconv.commands.interrupts import Interrupts
from fastconv.losses import CrossEntropyLoss, Loss
from fastconv.optim import Optimizer
from fastconv.sequential import Sequential
from fastconv.shapes import Shape
from fastconv.training import train_step
from fastconv_kernels.tile import LANES

_LARGEST = 256  # Larger batches use the same tiles
_DIGIT = (1, 28, 28)


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Compile what the models need for 28x28 digits and any batch size, and say how long it took."""
    for name in arguments.models:
        if name not in models.NAMES:
            raise UsageError(f"MODEL: expected some of {', '.join(models.NAMES)}, got {name!r}")
    use_threads(arguments.threads)
    say_machine()
    began = perf_counter()
    sizes = [*range(LANES, _LARGEST + 1, LANES)]
    with CompilingNotice():
        for name in arguments.models:
            model = models.create_for(name, _DIGIT, 10)
            compile_kernels(model, _DIGIT, optim.by_name("sgd"), sizes, sizes, ema=EMA(), augment=PRESETS["digits"])
            for optimizer in optim.NAMES:
                compile_kernels(model, _DIGIT, optim.by_name(optimizer, clip_norm=1.0), [LANES], [])
            model.predict_proba(np.zeros((1, *_DIGIT), np.float32))
    terminal.say(f"ready: every kernel of {' and '.join(arguments.models)} in {perf_counter() - began:.1f} s")
    return 0


def compile_kernels(
    model: Sequential,
    image_shape: Shape,
    optimizer: Optimizer,
    trained: Iterable[int],
    predicted: Iterable[int],
    loss: Loss | None = None,
    ema: EMA | None = None,
    augment: Augment | None = None,
) -> None:
    """Compile, or load from the cache, what batches of these sizes need; a copy of the model is worked on.

    Parameters
    ----------
    model : Sequential
        Gives (N, classes) for uint8 images.
    image_shape : (C, H, W)
    optimizer : Optimizer
        Left as it is.
    trained, predicted : ints
        Batch sizes; zeros are left out.
    loss : Loss, optional
        By default ``CrossEntropyLoss()``.
    ema : EMA, optional
        Left as it is.
    augment : Augment, optional
        What the images of training undergo.
    """
    model, optimizer, ema = deepcopy(model), deepcopy(optimizer), deepcopy(ema)
    loss = CrossEntropyLoss() if loss is None else loss
    if ema is not None:
        ema.begin(model)
    images, labels = np.zeros((_LARGEST, *image_shape), np.uint8), np.zeros(_LARGEST, np.int64)
    for n in _distinct(trained):
        train_step(model, loss, optimizer, images[:n], labels[:n])
        if ema is not None:
            ema.update()
    if augment is not None:
        packing = Augmentation(augment, image_shape, np.arange(1), 0).of_epoch(1)
        y = model.run_batch(images[:1], None, False, packing)
        if packing.mixes:  # the loss of probabilities is a kernel of its own
            loss.of_blocks(y, packing.targets(labels, np.arange(1), y.array.shape[1], model.dtype))
    for n in _distinct(predicted):
        model.predict(images[:n])


def _distinct(sizes: Iterable[int]) -> list[int]:
    return sorted({min(size, _LARGEST) for size in sizes if size})
