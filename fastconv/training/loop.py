"""The training loop."""

from collections.abc import Sequence
from contextlib import nullcontext
from time import perf_counter

import numpy as np

from fastconv import optim, schedules
from fastconv.augment import Augment, Augmentation, chosen
from fastconv.augment.options import check_pixels
from fastconv.averaging import EMA
from fastconv.data import permutation, split
from fastconv.layers import Softmax
from fastconv.losses import CrossEntropyLoss, Loss
from fastconv.optim import Optimizer
from fastconv.schedules import ReduceOnPlateau, Schedule
from fastconv.sequential import Sequential
from fastconv.training.callbacks import Callback, Run
from fastconv.training.errors import TrainingError
from fastconv.training.evaluation import measure
from fastconv.training.history import History, Record
from fastconv.training.step import checked_step


def fit(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    *,
    epochs: int = 10,
    batch_size: int = 64,
    loss: Loss | None = None,
    optimizer: Optimizer | str = "sgd",
    schedule: Schedule | str = "one-cycle",
    validation_split: float = 0.0,
    validation_data: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
    ema: EMA | None = None,
    callbacks: Sequence[Callback] = (),
    verbose: bool = True,
    augment: Augment | str | None = None,
    stratify: bool = False,
    split_seed: int | None = None,
) -> History:
    """Train a model on labelled images.

    Parameters
    ----------
    model : Sequential
        Its last layer gives what the loss takes: one logit a class.
    x : uint8 or float, (N, C, H, W), (N, C, L) or (N, features)
        uint8 images stay uint8 until the first kernel, which normalises them by ``model.normalization``.
    y : int[N]
        Labels from 0 to classes - 1, or whatever else the loss takes.
    epochs, batch_size : int
        Every epoch visits every image once; the last batch may be smaller.
    loss : Loss, optional
        What is made small, and what the images held out are measured by; ``CrossEntropyLoss()`` if None.
    optimizer : Optimizer or 'sgd', 'adam', 'adamw', 'rmsprop', 'lion'
    schedule : function of progress, or one of the names in ``schedules.NAMES``
        What multiplies the learning rate at each step.
    validation_split : float
        The fraction of x and y to hold out, drawn by ``seed``.
    validation_data : (x, y) or None
        Images to validate on instead.
    seed : int
        For the order of the images, the split, augmentation and dropout's masks.  The initial weights have their own.
    ema : EMA, optional
        An average of the weights over the steps, which is what is validated and what the model holds at the end.
    callbacks : sequence of Callback
    verbose : bool
        Print one line an epoch.
    augment : Augment, 'digits', 'fashion', 'cifar' or None
        What becomes of uint8 images before they are trained on, anew in each epoch; none are changed in validation.
    stratify : bool
        Hold out the same fraction of each class.
    split_seed : int, optional
        What the split is drawn by in the place of ``seed``, so that models of other seeds hold out the same images.

    Returns
    -------
    History
        A list of one record an epoch.

    Raises
    ------
    ShapeError, TypeError, ValueError
        If arguments do not fit together; nothing was trained then.
    TrainingError
        If the loss, or with ``clip_norm`` the gradients' norm, is not finite; the weights are those before that step.
    """
    for name, number in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"fit: expected {name} of at least 1, got {number!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"fit: expected seed as a whole number of at least 0, got {seed!r}")
    if validation_split and validation_data is not None:
        raise ValueError("fit: expected validation_split or validation_data, got both")
    loss = CrossEntropyLoss() if loss is None else loss
    if not isinstance(loss, Loss):
        raise TypeError(f"fit: expected loss to be a Loss, such as CrossEntropyLoss(), got {type(loss).__name__}")
    if isinstance(loss, CrossEntropyLoss) and model.layers and isinstance(model.layers[-1], Softmax):
        raise ValueError(
            "fit: expected a model that ends in logits, got one that ends in Softmax; leave that layer out"
        )
    optimizer = optim.by_name(optimizer) if isinstance(optimizer, str) else optimizer
    schedule = schedules.by_name(schedule) if isinstance(schedule, str) else schedule
    options = chosen("fit", augment)

    x = model.check_images("fit", x)
    if x.shape[0] == 0:
        raise ValueError(f"fit: expected at least one image, got x of shape {x.shape}")
    target = loss.check_target(y, model.output_shape(x.shape))
    everything = np.arange(x.shape[0])
    if validation_data is not None:
        x_val = model.check_images("fit: validation_data", validation_data[0])
        if x_val.shape[0] == 0:
            raise ValueError(f"fit: expected at least one validation image, got shape {x_val.shape}")
        target_val = loss.check_target(validation_data[1], model.output_shape(x_val.shape))
        train, held_out = everything, np.arange(x_val.shape[0])
    else:
        x_val, target_val = x, target
        classes = target if stratify else None
        drawn_by = seed if split_seed is None else split_seed
        parts = split(x.shape[0], validation_split, drawn_by, classes) if validation_split else (everything, None)
        train, held_out = parts
    augmentation = options and Augmentation(options, check_pixels("fit", x).shape[1:], train, seed)

    n = train.shape[0]
    batches = -(-n // batch_size)
    run = Run(model, optimizer, epochs, batches, n, validated=held_out is not None, ema=ema)
    watchers = [*callbacks, *([_Lines()] if verbose else [])]
    if isinstance(schedule, ReduceOnPlateau):
        schedule.check(run.validated)
    if ema is not None:
        ema.begin(model)
    model.reseed_dropout(seed)
    for watcher in watchers:
        watcher.on_train_begin(run)

    seconds = 0.0
    while run.epoch < epochs and not (run.stop or run.finish):
        run.epoch += 1
        run.batch = 0
        for watcher in watchers:
            watcher.on_epoch_begin(run)
        order = train[permutation(n, seed, run.epoch)]
        packing = augmentation and augmentation.of_epoch(run.epoch)
        total, weight, hits, seen, factor = 0.0, 0.0, 0, 0, 1.0
        counted = True
        began = perf_counter()
        for start in range(0, n, batch_size):
            index = order[start : start + batch_size]
            run.progress = ((run.epoch - 1) * batches + run.batch) / (epochs * batches)
            for watcher in watchers:
                watcher.on_batch_begin(run)
            factor = schedule(run.progress)
            wanted = target[index]
            if packing and packing.mixes:
                shape = model.output_shape((index.shape[0], *x.shape[1:]))
                wanted = loss.check_target(packing.targets(target, index, shape[1], model.dtype), shape)
            result = checked_step(model, loss, optimizer, x, index, wanted, factor, packing)
            for what, number in (("loss", result.value), ("gradients' norm", optimizer.norm)):
                if not np.isfinite(number):
                    raise TrainingError(
                        f"fit: the {what} is {number} in epoch {run.epoch}, batch {run.batch + 1} of {batches}, at "
                        f"learning rate {optimizer.lr * factor:g}; the weights are those before this batch. "
                        "A smaller learning rate usually helps"
                    )
            if ema is not None:
                ema.update()
            run.batch += 1
            run.loss = result.value
            counts = index.shape[0] if result.weight is None else result.weight
            total, weight, seen = total + result.value * counts, weight + counts, seen + index.shape[0]
            counted = result.hits is not None
            hits += result.hits or 0
            for watcher in watchers:
                watcher.on_batch_end(run)
            if run.stop or run.finish:
                break
        if run.stop and run.batch < batches:
            break
        spent = perf_counter() - began
        seconds += spent
        with nullcontext() if ema is None else ema.applied():
            val_loss, val_acc = (None, None) if held_out is None else measure(model, loss, x_val, held_out, target_val)
            record = Record(
                epoch=run.epoch,
                time=seconds,
                train_loss=total / weight,
                train_acc=hits / seen if counted else None,
                val_loss=val_loss,
                val_acc=val_acc,
                lr=optimizer.lr * factor,
                images_per_s=seen / spent,
            )
            run.history.append(record)
            for watcher in watchers:
                watcher.on_epoch_end(run, record)
        if isinstance(schedule, ReduceOnPlateau):
            schedule.after_epoch(record)
    if ema is not None:
        ema.finish()
    for watcher in watchers:
        watcher.on_train_end(run)
    return run.history


class _Lines(Callback):
    """One plain line an epoch."""

    def on_epoch_end(self, run: Run, record: Record) -> None:
        parts = [f"epoch {record['epoch']}/{run.epochs}", f"train_loss {record['train_loss']:.4f}"]
        measured = ("train_acc",) if record["val_loss"] is None else ("val_loss", "val_acc")
        parts += [f"{name} {record[name]:.4f}" for name in measured if record[name] is not None]
        print("  ".join([*parts, f"{record['images_per_s']:,.0f} img/s"]))  # noqa: T201 - what verbose asks for

    def on_train_end(self, run: Run) -> None:
        if run.history.stopped is not None:
            print(run.history.stopped)  # noqa: T201 - what verbose asks for
