"""Training that goes on after its process was killed, with the bits it would have had: all its state in one file.

What an epoch does is a pure function of the seed, the epoch and the batch: the order of the images, their augmentation,
dropout's masks.  So the state is: weights and buffers, the optimiser's memory, averages, how many masks each Dropout
has drawn, what schedule and callbacks remember, the epochs' records, and the sums over the batches of the epoch that
runs.

The file is a safetensors file: arrays, and in its metadata everything else as JSON, with a SHA-256 of both.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from fastconv import io
from fastconv.augment import Augment
from fastconv.io import ModelFileError
from fastconv.losses import Loss
from fastconv.schedules import Followed
from fastconv.training.callbacks import Callback, Run
from fastconv.training.history import Record

_KIND, _WORDS = "fastconv_checkpoint", "checkpoint of fastconv"
_FORMAT = 1
_SECONDS = 30.0
_SHARE = 0.01
"""Of the time, what checkpoints may cost if nobody says how often there is to be one."""
_FIRST = 0.05
"""Seconds that the first is thought to take."""


class Checkpoint:
    """Where ``fit`` keeps what it needs to go on, and how often it does.

    ``fit(..., checkpoint=Checkpoint(path), resume=True)`` goes on from there if the file exists, and ends with the same
    weights and records as if it had never been interrupted, at any number of threads.

    Parameters
    ----------
    path : path
        The file; the one before is replaced once the new one is on the disk.
    every : float, optional
        Seconds from one to the next, to the end of a batch; 0 for each batch.  By default there is one at the end of
        each epoch and after 30 seconds, unless that took more than a hundredth of the time.  When training ends, or is
        stopped, there is one in any case.

    Raises
    ------
    ValueError
        If ``every`` is negative.
    """

    def __init__(self, path: str | os.PathLike[str], every: float | None = None) -> None:
        if every is not None and (isinstance(every, bool) or not isinstance(every, int | float) or not every >= 0):
            raise ValueError(f"Checkpoint: expected every as seconds of at least 0, or None, got {every!r}")
        self.path, self.every = Path(path), every

    def failed(self, error: OSError) -> None:
        """Take note that the file could not be written: training ends by the error, unless a subclass lets it go on."""
        raise error


@dataclass
class Totals:
    """Sums over the batches of an epoch that has begun."""

    loss: float = 0.0
    weight: float = 0.0
    """What the loss is to be divided by."""
    hits: int = 0
    seen: int = 0
    counted: bool = True
    """Whether the loss counts right answers."""
    factor: float = 1.0
    """The schedule's, in the last batch."""
    seconds: float = 0.0
    """Spent on these batches."""


class Keeper:
    """Writes and reads the checkpoints of one training.

    Parameters
    ----------
    checkpoint : Checkpoint
    plan : dict
        What the training is; one that goes on must be the same.
    run : Run
    schedule : Followed
    watchers : sequence of Callback
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: Mapping[str, Any],
        run: Run,
        schedule: Followed,
        watchers: Sequence[Callback],
    ) -> None:
        self._checkpoint, self._run, self._schedule = checkpoint, run, schedule
        self._plan = json.loads(json.dumps(plan))  # as it will be read
        self._watchers = _named(watchers)
        self._last, self._cost = perf_counter(), _FIRST

    def begin(self, resume: bool) -> Totals | None:
        """Look at the file that is there: go on from it, or refuse to replace it.

        Returns
        -------
        Totals or None
            Of an epoch that has begun.

        Raises
        ------
        ValueError
            If there is a file and training is not to go on, or it is of another training.
        ModelFileError
            If it is no checkpoint, or is damaged.
        """
        path = self._checkpoint.path
        if not path.exists():
            return None
        if not resume:
            raise ValueError(
                f"fit: {path}: there is a checkpoint; go on from it with resume=True, remove it, or name another"
            )
        text, tensors = io.read_tensors(path, _KIND, _WORDS)
        try:
            state = _joined(json.loads(text), tensors)
            if state["format"] != _FORMAT:
                raise ModelFileError(f"{path}: expected a checkpoint of format {_FORMAT}, got {state['format']}")
            self._compare(state["plan"])
            return self._restore(state)
        except ModelFileError:
            raise
        except (KeyError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError) as error:
            raise ModelFileError(f"{path}: no such checkpoint as this version writes ({error!r})") from error

    def is_due(self, epoch_ended: bool) -> bool:
        """Whether it is time for the next."""
        every, passed = self._checkpoint.every, perf_counter() - self._last
        if every is not None:
            return passed >= every
        return passed >= max(0.0 if epoch_ended else _SECONDS, self._cost / _SHARE)

    def write(self, totals: Totals | None) -> None:
        """Write a checkpoint; if that fails, the one before stays, and ``Checkpoint.failed`` says what comes of it."""
        began = perf_counter()
        tensors: dict[str, np.ndarray] = {}
        text = json.dumps(_parted(self._state(totals), "", tensors))
        try:
            io.write_tensors(self._checkpoint.path, _KIND, text, tensors)
        except OSError as error:
            self._checkpoint.failed(error)
        self._last = perf_counter()
        self._cost = self._last - began

    def _state(self, totals: Totals | None) -> dict[str, Any]:
        run, schedule = self._run, self._schedule
        remembered = {name: watcher.state_dict() for name, watcher in self._watchers.items()}
        return {
            "format": _FORMAT,
            "plan": self._plan,
            "epoch": run.epoch,
            "batch": run.batch,
            "totals": totals and asdict(totals),
            "seconds": run.seconds,
            "history": list(run.history),
            # What ends an epoch early will be noticed again by whoever goes on in its middle.
            "stopped": run.history.stopped if totals is None else None,
            "model": dict(run.model.named_state()),
            "dropout": [layer.passes for layer in run.model.dropouts()],
            "optimizer": run.optimizer.state_dict(run.model),
            "ema": run.ema and run.ema.state_dict(),
            "schedule": schedule.state_dict(),
            "callbacks": {name: state for name, state in remembered.items() if state},
        }

    def _compare(self, plan: dict[str, Any]) -> None:
        """Raise ValueError if the checkpoint is of another training."""
        for name in [*plan, *self._plan]:
            was, wanted = plan.get(name), self._plan.get(name)
            if was != wanted:
                shown = "" if max(len(str(was)), len(str(wanted))) > 80 else f": expected {was}, got {wanted}"
                raise ValueError(f"fit: {self._checkpoint.path}: a checkpoint of another training, whose {name} "
                                 f"is not this one's{shown}")  # fmt: skip

    def _restore(self, state: dict[str, Any]) -> Totals | None:
        run, schedule, totals = self._run, self._schedule, state["totals"]
        unknown = set(state["callbacks"]) - set(self._watchers)
        if unknown:
            raise ValueError(
                f"fit: {self._checkpoint.path}: expected callbacks {', '.join(state['callbacks'])} as when it was "
                f"written, got {', '.join(self._watchers) or 'none'}"
            )
        run.model.load_state_dict(state["model"])
        for layer, passes in zip(run.model.dropouts(), state["dropout"], strict=True):
            layer.passes = passes
        run.optimizer.load_state_dict(run.model, state["optimizer"])
        if run.ema is not None:
            run.ema.load_state_dict(state["ema"])
        schedule.load_state_dict(state["schedule"])
        for name, remembered in state["callbacks"].items():
            self._watchers[name].load_state_dict(remembered)
        run.history[:] = [Record(**record) for record in state["history"]]
        run.history.stopped = state["stopped"]
        run.finish = run.history.stopped is not None
        run.epoch, run.batch, run.seconds = state["epoch"], state["batch"], state["seconds"]
        if totals is None:
            return None
        run.epoch -= 1  # which the loop adds again
        return Totals(**totals)


def plan_of(
    run: Run,
    loss: Loss,
    schedule: Followed,
    augment: Augment | None,
    seed: int,
    batch_size: int,
    arrays: Sequence[np.ndarray | None],
) -> dict[str, Any]:
    """Return what makes a training what it is, ``arrays`` being its data: as JSON, to be compared."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{None if array is None else (array.dtype.str, array.shape)}\n".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return {
        "epochs": run.epochs,
        "batch_size": batch_size,
        "images": run.images,
        "seed": seed,
        "data": digest.hexdigest(),
        "model": io.describe(run.model),
        "normalization": run.model.normalization,
        "dtype": str(run.model.dtype),
        "loss": _options(loss),
        "optimizer": {"class": type(run.optimizer).__name__, **run.optimizer.config()},
        "schedule": schedule.config(),
        "ema": run.ema and {"decay": run.ema.decay, "warmup": run.ema.warmup},
        "augment": augment and asdict(augment),
    }


def _options(thing: object) -> dict[str, Any]:
    """Return an object's class and public attributes, as JSON holds them."""
    public = {name: value for name, value in vars(thing).items() if not name.startswith("_")}
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in public.items()}
    return {"class": type(thing).__name__, **plain}


def _named(watchers: Sequence[Callback]) -> dict[str, Callback]:
    """Return callbacks by the name of their class, numbered where there are several."""
    named: dict[str, Callback] = {}
    for watcher in watchers:
        name = kind = type(watcher).__name__
        number = 1
        while name in named:
            number += 1
            name = f"{kind} {number}"
        named[name] = watcher
    return named


def _parted(tree: Any, path: str, tensors: dict[str, np.ndarray]) -> Any:
    """Move all arrays of a tree into ``tensors``, and return what is left, as JSON holds it."""
    if isinstance(tree, np.ndarray):
        tensors[path] = tree
        return {"$array": path}
    if isinstance(tree, Mapping):
        return {name: _parted(value, f"{path}.{name}" if path else name, tensors) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_parted(value, f"{path}.{number}", tensors) for number, value in enumerate(tree)]
    return tree.item() if isinstance(tree, np.generic) else tree


def _joined(tree: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    """Undo ``_parted``."""
    if isinstance(tree, dict):
        if tree.keys() == {"$array"}:
            return tensors[tree["$array"]]
        return {name: _joined(value, tensors) for name, value in tree.items()}
    return [_joined(value, tensors) for value in tree] if isinstance(tree, list) else tree
