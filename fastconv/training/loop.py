"""The training loop."""

from collections.abc import Sequence
from os import PathLike

import numpy as np

from fastconv import optim, schedules
from fastconv.augment import Augment, Augmentation, chosen
from fastconv.augment.options import check_pixels
from fastconv.averaging import EMA
from fastconv.losses import Loss
from fastconv.optim import Optimizer
from fastconv.schedules import Schedule
from fastconv.sequential import Sequential
from fastconv.training.callbacks import Callback, Run
from fastconv.training.checkpoint import Checkpoint, Keeper, Totals, plan_of
from fastconv.training.checks import check_helpers, checked_data, checked_loss, checked_options
from fastconv.training.epoch import Epoch
from fastconv.training.guard import Guard
from fastconv.training.history import History, Record
from fastconv.training.progress import Estimate
from fastconv.training.room_for import check_room


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
    checkpoint: Checkpoint | str | PathLike[str] | None = None,
    resume: bool = False,
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
        Print one line an epoch, and once how long training will take.
    augment : Augment, 'digits', 'fashion', 'cifar' or None
        What becomes of uint8 images before they are trained on, anew in each epoch; none are changed in validation.
    stratify : bool
        Hold out the same fraction of each class.
    split_seed : int, optional
        What the split is drawn by in the place of ``seed``, so that models of other seeds hold out the same images.
    checkpoint : Checkpoint or path, optional
        Where to keep, as training goes on, what is needed to go on with it in another process.
    resume : bool
        Go on from the checkpoint if there is one, with the same bits as if training had never been interrupted.

    Returns
    -------
    History
        A list of one record an epoch.

    Raises
    ------
    ShapeError, TypeError, ValueError
        If arguments do not fit together; nothing was trained then.
    ModelFileError
        If the checkpoint to go on from is damaged.
    OSError
        If a checkpoint cannot be written or read; the one before is still there.
    NoRoomError
        If there is not enough memory; nothing was trained then.
    NotFiniteError
        If a loss, a weight, or with ``clip_norm`` the gradients' norm, is not finite.  The message says where the first
        such number is; the weights are those before that step, or those of the epoch's beginning if they are not finite
        any more.
    """
    epochs, batch_size, seed = checked_options(epochs, batch_size, seed)
    check_helpers(optimizer, schedule, ema, callbacks)
    loss = checked_loss("fit", loss, model)
    optimizer = optim.by_name(optimizer) if isinstance(optimizer, str) else optimizer
    rates = schedules.followed(schedule)
    options = chosen("fit", augment)
    drawn_by = seed if split_seed is None else split_seed
    given = checked_data(model, loss, x, y, validation_split, validation_data, drawn_by, stratify)
    train, held_out = given.train, given.held_out
    augmentation = options and Augmentation(options, check_pixels("fit", given.x).shape[1:], train, seed)
    n, measured = len(train), 0 if held_out is None else len(held_out)
    check_room("fit", model, given.x.shape[1:], n, measured, batch_size, optimizer, ema, model.is_planned)

    run = Run(model, optimizer, epochs, -(-n // batch_size), n, validated=held_out is not None, ema=ema)
    watchers = [*callbacks, *([_Lines()] if verbose else [])]
    rates.check(run.validated)
    model.reseed_dropout(seed)
    keeper, totals = None, None
    if checkpoint is not None:
        validation = (None, None) if validation_data is None else (given.x_val, given.target_val)
        arrays = (given.x, given.target, train, held_out, *validation)
        plan = plan_of(run, loss, rates, options, seed, batch_size, arrays)
        kept = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
        keeper = Keeper(kept, plan, run, rates, watchers)
        totals = keeper.begin(resume)
    if ema is not None:
        ema.begin(model)
    epoch = Epoch(run, loss, rates, given, batch_size, seed, augmentation, watchers, keeper, Guard(run))
    for watcher in watchers:
        watcher.on_train_begin(run)

    while run.epoch < epochs and not (run.stop or run.finish):
        run.epoch += 1
        if totals is None:
            totals, run.batch = Totals(), 0
        rate = epoch.train(totals)
        if run.stop and (run.batch < run.batches or held_out is not None):
            break
        record = epoch.measure(totals, rate)
        if record is None:
            break
        rates.after_epoch(record)
        totals = None
        if keeper is not None and run.epoch < epochs and not run.stop and keeper.is_due(epoch_ended=True):
            keeper.write(totals)
    if keeper is not None:
        keeper.write(totals)
    if ema is not None:
        ema.finish()
    for watcher in watchers:
        watcher.on_train_end(run)
    return run.history


class _Lines(Callback):
    """One plain line an epoch, and before them how long training will take if that is more than a moment."""

    def on_train_begin(self, run: Run) -> None:
        self._estimate = Estimate(run)

    def on_batch_end(self, run: Run) -> None:
        self._tell(self._estimate.line(run))

    def _tell(self, line: str | None) -> None:
        if line is not None:
            print(line, flush=True)  # noqa: T201 - what verbose asks for

    def on_epoch_end(self, run: Run, record: Record) -> None:
        self._tell(self._estimate.line(run, epoch_ended=True))
        parts = [f"epoch {record['epoch']}/{run.epochs}", f"train_loss {record['train_loss']:.4f}"]
        measured = ("train_acc",) if record["val_loss"] is None else ("val_loss", "val_acc")
        parts += [f"{name} {record[name]:.4f}" for name in measured if record[name] is not None]
        print("  ".join([*parts, f"{record['images_per_s']:,.0f} img/s"]))  # noqa: T201 - what verbose asks for

    def on_train_end(self, run: Run) -> None:
        kept = run.history.kept
        if run.history.stopped is not None:
            print(run.history.stopped)  # noqa: T201 - what verbose asks for
        elif kept is not None and kept < run.epoch:
            print(f"the weights of epoch {kept} are kept")  # noqa: T201 - what verbose asks for
