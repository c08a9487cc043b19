"""One epoch of ``fit``: its steps, and what it is measured by."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from fastconv.augment import Augmentation
from fastconv.data import permutation
from fastconv.losses import Loss
from fastconv.schedules import Followed
from fastconv.training.callbacks import Callback, Run
from fastconv.training.checkpoint import Keeper, Totals
from fastconv.training.checks import Given
from fastconv.training.evaluation import measure
from fastconv.training.guard import Batch, Guard
from fastconv.training.history import Record
from fastconv.training.step import checked_step


@dataclass
class Epoch:
    """What the epochs of a training are made of; ``run`` says which of them it is."""

    run: Run
    loss: Loss
    schedule: Followed
    given: Given
    batch_size: int
    seed: int
    augmentation: Augmentation | None
    watchers: Sequence[Callback]
    keeper: Keeper | None
    guard: Guard

    def train(self, totals: Totals) -> float:
        """Take a step for each batch that is left of the epoch, and add what came of it to ``run`` and ``totals``.

        Returns
        -------
        float
            The learning rate of the last step.

        Raises
        ------
        NotFiniteError
            If a loss, a weight or the gradients' norm is not finite.
        OSError
            If a checkpoint cannot be written.
        """
        run, x, size = self.run, self.given.x, self.batch_size
        self.guard.remember()
        for watcher in self.watchers:
            watcher.on_epoch_begin(run)
        order = self.given.train[permutation(run.images, self.seed, run.epoch)]
        packing = self.augmentation and self.augmentation.of_epoch(run.epoch)
        batch, rate = Batch(x, order[:size], packing), run.optimizer.lr * totals.factor
        began = perf_counter() - totals.seconds
        for start in range(run.batch * size, run.images, size):
            run.progress = ((run.epoch - 1) * run.batches + run.batch) / (run.epochs * run.batches)
            for watcher in self.watchers:
                watcher.on_batch_begin(run)
            totals.factor = self.schedule(run.progress)
            batch, rate = Batch(x, order[start : start + size], packing), run.optimizer.lr * totals.factor
            self._step(batch, rate, totals)
            for watcher in self.watchers:
                watcher.on_batch_end(run)
            totals.seconds = perf_counter() - began
            if run.stop or run.finish:
                break
            if self.keeper is not None and run.batch < run.batches and self.keeper.is_due(epoch_ended=False):
                self.guard.check(batch, rate)
                self.keeper.write(totals)
        self.guard.check(batch, rate)
        return rate

    def _step(self, batch: Batch, rate: float, totals: Totals) -> None:
        run = self.run
        x, index, packing, _ = batch
        wanted = self.given.target[index]
        if packing and packing.mixes:
            shape = run.model.output_shape((index.shape[0], *x.shape[1:]))
            mixed = packing.targets(self.given.target, index, shape[1], run.model.dtype)
            wanted = self.loss.check_target(mixed, shape)
        result = checked_step(run.model, self.loss, run.optimizer, x, index, wanted, totals.factor, packing)
        for what, number in (("loss", result.value), ("gradients' norm", run.optimizer.norm)):
            if not np.isfinite(number):
                self.guard.stop(f"the {what} is {number} in", run.batch + 1, batch, rate)
        if run.ema is not None:
            run.ema.update()
        run.batch += 1
        run.loss = result.value
        counts = index.shape[0] if result.weight is None else result.weight
        totals.loss, totals.weight = totals.loss + result.value * counts, totals.weight + counts
        totals.seen, totals.counted = totals.seen + index.shape[0], result.hits is not None
        totals.hits += result.hits or 0

    def measure(self, totals: Totals, rate: float) -> Record | None:
        """Validate, with the averages of the weights if there are any, and return the record that callbacks have seen.

        None if somebody sets ``run.stop`` before it is validated.

        Raises
        ------
        NotFiniteError
            If the validation loss is not finite.
        """
        run = self.run
        with self.guard.measuring(run.ema):
            loss, accuracy = None, None
            if self.given.held_out is not None:
                measured = self._validate(self.given.held_out, rate)
                if measured is None:
                    return None
                loss, accuracy = measured
            run.seconds += totals.seconds
            record = Record(
                epoch=run.epoch,
                time=run.seconds,
                train_loss=totals.loss / totals.weight,
                train_acc=totals.hits / totals.seen if totals.counted else None,
                val_loss=loss,
                val_acc=accuracy,
                lr=run.optimizer.lr * totals.factor,
                images_per_s=totals.seen / totals.seconds,
            )
            run.history.append(record)
            for watcher in self.watchers:
                watcher.on_epoch_end(run, record)
        return record

    def _validate(self, held_out: np.ndarray, rate: float) -> tuple[float, float | None] | None:
        run, x, target = self.run, self.given.x_val, self.given.target_val
        measured = measure(run.model, self.loss, x, held_out, target, wanted=lambda: not run.stop)
        if measured is not None and not np.isfinite(measured[0]):
            what = f"the validation loss is {measured[0]} after"
            self.guard.stop(what, run.batch, Batch(x, held_out, training=False), rate)
        return measured
