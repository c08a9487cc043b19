"""Numbers that are not finite stop training and are named; great, tiny and equal ones are computed rightly."""

import json
import re
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import fastconv as fc
from benchmarks import timing
from benchmarks.reliability import training
from benchmarks.reliability.promise import Outcome, Promise
from fastconv import data, io, reference
from fastconv.blocks import Blocks
from fastconv.training.callbacks import KeepBest, Run
from fastconv.training.checkpoint import _KIND, _WORDS
from fastconv.training.history import Record
from fastconv.training.run_folder import CHECKPOINT, METRICS, MODEL, RESULTS, Recorder, RunFolder, read_results

_ROUNDS = 9
_SLOWER = 1.5
"""How many times as long a step with denormal activations may take."""
_BEFORE_TIMING = 32
"""Cases with fewer than so many are those of the tests, which time nothing."""


def measure(seed: int, cases: int) -> Outcome:
    """Try kinds of numbers in turn, and time steps with denormal ones if there are many cases."""
    rng, failures = np.random.default_rng(seed), []
    kinds: list[Callable[[np.random.Generator, Path, int], str]] = [_planted, _values, _constant, _refused, _command]
    counts = dict.fromkeys(kinds, 0)
    stopped = 0
    for case in range(cases):
        kind = kinds[case % len(kinds)]
        with tempfile.TemporaryDirectory() as name:
            wrong = kind(rng, Path(name), case // len(kinds))
            stopped += kind is _command and not (Path(name) / "run" / METRICS).exists()
        counts[kind] += 1
        if wrong:
            failures.append(f"case {case}, {kind.__name__[1:]}: {wrong}")
    if counts[_command] and not stopped:
        failures.append(f"none of {counts[_command]} `fastconv train` at rates up to 1e38 stopped")
    slower, notes = "", ["the time of steps with denormal activations: only with more cases"]
    if cases >= _BEFORE_TIMING:
        ratio, notes = _denormal_time(), []
        slower = f"; a step with denormal activations takes {ratio:.2f} times as long as an ordinary one"
        if not ratio <= _SLOWER:
            failures.append(f"a step with denormal activations takes {ratio:.2f} times as long")
    figure = (
        f"{counts[_planted]} trainings stopped at the batch and named the layer where a number that is not finite was "
        f"planted, and kept the last good weights and files to the bit; {counts[_command]} `fastconv train` at rates "
        f"up to 1e38: {stopped} stopped with such a message, {counts[_command] - stopped} ended, and none left a model "
        f"that is not finite; {counts[_values]} times great logits and {counts[_constant]} times images without "
        f"differences, as in float64; {counts[_refused]} times data with NaN or infinities refused, by row{slower}"
    )
    return Outcome(figure, failures, notes)


# ---------------------------------------------------------------------------------------------- planted while training


class _Through(fc.Layer):
    """Passes images on, and a gradient back with infinity in it if asked to."""

    bad = False

    def plan(self, shape: tuple[int, ...], work: fc.Workspace) -> tuple[int, ...]:
        return shape

    def forward_blocks(self, x: Blocks, work: fc.Workspace, training: bool) -> Blocks:
        return x

    def backward_blocks(self, dy: Blocks, work: fc.Workspace, need_dx: bool) -> Blocks | None:
        if self.bad:
            dy.array[0, ..., 0] = np.inf
        return dy


class _Plant(fc.Callback):
    """Makes something bad before a batch of an epoch, and remembers weights at the beginning of each of both."""

    def __init__(self, epoch: int, batch: int, what: Callable[[], None]) -> None:
        self.where, self.what = (epoch, batch), what
        self.began: dict[str, np.ndarray] = {}
        self.before: dict[str, np.ndarray] = {}
        self.written: tuple[int, int, dict[str, np.ndarray]] | None = None
        """Epoch, batches of it and weights that the last checkpoint must have, or None if there can be none."""

    def on_epoch_begin(self, run: Run) -> None:
        self.began = run.model.state_dict()

    def on_batch_begin(self, run: Run) -> None:
        state = run.model.state_dict()
        if (run.epoch, run.batch) != (1, 0):  # there is one after each batch
            self.written = (run.epoch, run.batch, state) if run.batch else (run.epoch - 1, run.batches, state)
        if (run.epoch, run.batch + 1) == self.where:
            self.what()
        self.before = run.model.state_dict()


class _Remember(fc.Callback):
    """Keeps the best epoch's weights in its own way."""

    def __init__(self) -> None:
        self.best: tuple[float, dict[str, np.ndarray]] = -1.0, {}
        self.epochs = 0

    def on_epoch_end(self, run: Run, record: Record) -> None:
        self.epochs += 1
        if (record["val_acc"] or 0.0) > self.best[0]:
            self.best = record["val_acc"] or 0.0, run.model.state_dict()


_PLANTED = ("weight", "activation", "gradient", "data", "gradient of the last batch")


def _planted(rng: np.random.Generator, folder: Path, turn: int) -> str:
    """Plant what is not finite, at a random batch, and compare what is said and kept."""
    what = _PLANTED[turn % len(_PLANTED)]
    normalised, clipped = bool(rng.integers(2)), bool(rng.integers(2))
    through = _Through()
    layers = [fc.Conv2d(1, 4, 3), fc.BatchNorm2d(4) if normalised else fc.LeakyReLU(), fc.ReLU(), fc.MaxPool2d(2)]
    model = fc.Sequential(*layers, through, fc.Flatten(), fc.Linear(36, 8), fc.Tanh(), fc.Linear(8, 3), seed=turn)
    x, y = rng.standard_normal((48, 1, 8, 8)).astype(np.float32), np.arange(48) % 3
    x_val, y_val = rng.standard_normal((20, 1, 8, 8)).astype(np.float32), np.arange(20) % 3
    epoch, batch, batches = int(rng.integers(1, 4)), int(rng.integers(1, 4)), 3
    batch = batches if what == "gradient of the last batch" else batch

    row = int(rng.integers(48))
    # A gradient goes backwards: the normalisation's is the first that is bad.
    first = "1 BatchNorm2d" if normalised else "0 Conv2d"
    layer = {"weight": "6 Linear", "activation": "8 Linear", "data": None}.get(what, first)
    cause = {"weight": "weights", "activation": "activations", "data": "data"}.get(what, "gradients")

    def plant() -> None:
        if what == "weight":
            model.parameters()[-4].value[2, 5] = rng.choice([np.nan, np.inf])
        elif what == "activation":  # tanh is 1 at the most, so that the weights alone are too great
            model.parameters()[-2].value = np.full((3, 8), 3.3e38)
            model.parameters()[-3].value = np.full(8, 1e9)
        elif what == "data":
            x[:] = np.where(np.arange(48)[:, None, None, None] == row, np.nan, x)
        else:
            through.bad = True

    optimizer = fc.SGD(0.01, momentum=0.9, clip_norm=1.0 if clipped else None)
    run, seen, best, planted = RunFolder(folder / "run"), _Remember(), KeepBest(), _Plant(epoch, batch, plant)
    checkpoint = fc.Checkpoint(run.file(CHECKPOINT), every=0)
    try:
        model.fit(
            x, y, epochs=4, batch_size=16, optimizer=optimizer, schedule="constant", verbose=False, seed=turn,
            validation_data=(x_val, y_val), callbacks=[planted, best, Recorder(run, best), seen], checkpoint=checkpoint,
        )  # fmt: skip
    except fc.NotFiniteError as error:
        caught = error
    else:
        return f"{what}: training went on"
    # Bad weights that a bad gradient makes are found before the checkpoint that is written after each batch here; the
    # row with bad data may come in another batch, or epoch.
    if (caught.cause, caught.layer) != (cause, layer):
        return f"{what}: expected {cause} of {layer}, got {caught.cause} of {caught.layer}: {caught}"
    if (caught.epoch, caught.batch) != (epoch, batch) and what != "data":
        return f"{what}: planted in batch {batch} of epoch {epoch}: {caught}"
    told = caught.statistics
    if not 0 < told.not_finite <= 1 or told.least > told.greatest or str(told) not in str(caught):
        return f"{what}: other statistics than {told} in {caught}"
    if not re.search(r"% of [\dx]+ not finite", str(caught)) or f"batch {caught.batch} of 3" not in str(caught):
        return f"{what}: no statistics in {caught}"
    if what == "data" and f"image {row}" not in str(caught):
        return f"{what}: expected image {row} to be named: {caught}"
    wrong = _weights(model, planted, str(caught)) or _files(run, seen, planted)
    return f"{what}: {wrong}" if wrong else ""


def _weights(model: fc.Sequential, planted: _Plant, said: str) -> str:
    """Compare a model whose training was stopped with what the message says that it is."""
    state = model.state_dict()
    if not all(np.isfinite(array).all() for array in state.values()):
        return "the model's weights are not finite"
    if "the weights are those before this batch" in said:
        weights = {name for name, _ in model.named_parameters()}  # running statistics are those after it
        same = _same({name: array for name, array in state.items() if name in weights}, planted.before)
        return "" if same else "the weights are not those before the batch"
    if "the model has the weights with which this epoch began" in said:
        return "" if _same(state, planted.began) else "the weights are not those with which the epoch began"
    return f"nothing about the weights in {said}"


def _files(run: RunFolder, seen: _Remember, planted: _Plant) -> str:
    """Look at the files that a training that was stopped has left."""
    if seen.epochs != len(read_results(run.file(RESULTS))):
        return f"results.csv has not {seen.epochs} rows"
    if run.file(MODEL).exists() != (seen.epochs > 0):
        return f"a model was kept after {seen.epochs} epochs, or none"
    if seen.epochs and not _same(io.load(run.file(MODEL), layers=[_Through]).state_dict(), seen.best[1]):
        return "the model on disk is not the best epoch's"
    if run.file(CHECKPOINT).exists() != (planted.written is not None):
        return "a checkpoint before the first batch, or none after it"
    if planted.written is not None:
        epoch, batch, weights = planted.written
        text, tensors = io.read_tensors(run.file(CHECKPOINT), _KIND, _WORDS)
        state = json.loads(text)
        if (state["epoch"], state["batch"]) != (epoch, batch):
            return f"a checkpoint of batch {state['batch']} of epoch {state['epoch']}, not {batch} of {epoch}"
        if not all(np.isfinite(array).all() for array in tensors.values()):
            return "the checkpoint is not finite"
        if not _same({f"model.{name}": array for name, array in weights.items()}, tensors):
            return "the checkpoint's weights are not those after the last good batch"
    return ""


def _same(these: Mapping[str, np.ndarray], those: Mapping[str, np.ndarray]) -> bool:
    return all(np.array_equal(array, those[name]) for name, array in these.items())


# ------------------------------------------------------------------------------------------------ values of all sizes


def _values(rng: np.random.Generator, folder: Path, turn: int) -> str:
    """Compare losses of great logits, and their gradients, with those in float64."""
    scale, dtype = float(rng.choice([1e2, 1e4, 1e6])), [np.float32, np.float64][turn % 2]
    n, classes = int(rng.integers(1, 40)), int(rng.integers(2, 12))
    logits = (scale * rng.uniform(-1, 1, (n, classes))).astype(dtype)
    labels, smoothing = rng.integers(0, classes, n), float(rng.choice([0.0, 0.1]))
    target = rng.integers(0, 2, (n, classes)).astype(dtype)
    binary = reference.binary_cross_entropy(logits, target)
    found: list[tuple[fc.CrossEntropyLoss | fc.BCEWithLogitsLoss, Any, tuple[float, np.ndarray]]] = [
        (fc.CrossEntropyLoss(smoothing), labels, reference.cross_entropy(logits, labels, smoothing)),
        (fc.BCEWithLogitsLoss(), target, binary),
    ]
    for loss, aim, (value, gradient) in found:
        got, slope = loss.forward(logits, aim), loss.backward()
        eps = 8 * float(np.finfo(dtype).eps)
        if not abs(got - value) <= eps * max(1.0, abs(value)):
            return f"{type(loss).__name__} of logits to {scale:g}: expected {value!r}, got {got!r}"
        # A probability's error is that of the difference of two logits, which were rounded themselves.
        if not np.allclose(slope, gradient, rtol=eps * 4, atol=eps / n):
            return f"{type(loss).__name__} of logits to {scale:g}: gradients differ by {abs(slope - gradient).max():g}"
    return ""


def _constant(rng: np.random.Generator, folder: Path, turn: int) -> str:
    """Train on images that are all alike, or of one class alone, and compare a normalisation with float64."""
    level = float(rng.choice([0.0, 1e-30, 0.5, 3.0, 1e4]))
    x = np.full((int(rng.integers(1, 40)), 3, 4, 5), level, np.float32)
    layer = fc.BatchNorm2d(3)
    layer.parameters()[1].value = rng.standard_normal(3)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    y, dx = layer.forward(x, training=True), layer.backward(dy)
    weights = [np.asarray(parameter.value, np.float64) for parameter in layer.parameters()]
    if not np.allclose(y, weights[1][:, None, None], rtol=0, atol=1e-4 * max(1.0, level)):
        return f"BatchNorm2d of images that are all {level:g}: got {y.min():g} to {y.max():g}"
    expected = (dy - dy.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)) / np.sqrt(layer.eps)
    if not np.allclose(dx, expected, rtol=1e-4, atol=1e-3):
        return f"BatchNorm2d of images that are all {level:g}: its gradient differs by {abs(dx - expected).max():g}"

    dark = np.zeros((40, 1, 28, 28), np.uint8)
    labels = [np.arange(40) % 10, np.full(40, 7)][turn % 2]
    model = [fc.models.lenet5(), fc.models.create_for("tiny", (1, 28, 28), 10)][turn // 2 % 2]
    history = model.fit(dark, labels, epochs=2, batch_size=16, verbose=False, validation_data=(dark, labels))
    if not all(np.isfinite(record[name] or 0.0) for record in history for name in ("train_loss", "val_loss")):
        return f"images of zeros alone: {history}"
    if turn % 2 and not (model.predict(dark) == 7).all():
        return "one class alone was not learned"
    return ""


def _refused(rng: np.random.Generator, folder: Path, turn: int) -> str:
    """Give data with a number that is not finite, and look for its row in the message."""
    x, y = rng.standard_normal((30, 1, 6, 6)).astype(np.float32), np.arange(30) % 3
    bad = x.copy()
    row = int(rng.integers(30))
    bad[row, 0, 2, 3] = rng.choice([np.nan, np.inf, -np.inf])
    given = bad.astype(rng.choice([np.float32, np.float64]))
    if rng.random() < 0.3:  # finite until it becomes float32
        given = bad.astype(np.float64)
        given[row, 0, 2, 3] = 1e300
    model = fc.Sequential(fc.Flatten(), fc.Linear(36, 3))
    before = model.state_dict()
    calls: dict[str, Callable[[], object]] = {
        "fit": lambda: model.fit(given, y, epochs=1, verbose=False),
        "fit: validation_data": lambda: model.fit(x, y, epochs=1, verbose=False, validation_data=(given, y)),
        "predict": lambda: model.predict(given),
        "predict_proba": lambda: model.predict_proba(given),
        "evaluate": lambda: model.evaluate(given, y),
        "train_step": lambda: fc.train_step(model, fc.CrossEntropyLoss(), fc.SGD(0.1), given, y),
        "lr_find": lambda: fc.lr_find(model, given, y, steps=10),
    }
    for name, call in calls.items():
        try:
            with np.errstate(over="ignore"):
                call()
        except ValueError as error:
            if not str(error).startswith(f"{name}: x[{row}, 0, 2, 3] is "):
                return f"{name}: {error}"
        else:
            return f"{name} took {bad[row, 0, 2, 3]} in row {row}"
    if not _same(model.state_dict(), before):
        return "weights changed although the data were refused"
    line = int(rng.integers(2, 12))
    rows = ["label,pixel0,pixel1,pixel2,pixel3", *(f"{k % 2},1,2,3,4" for k in range(10))]
    rows[line - 1] = f"1,1,{rng.choice(['nan', 'inf', '-inf', 'NaN', '1e999'])},3,4"
    path = folder / "bad.csv"
    path.write_text("\n".join(rows) + "\n")
    try:
        data.load(path)
    except data.DataError as error:
        return "" if f"line {line}, column pixel1" in str(error) else str(error)
    return f"{rows[line - 1]} was taken for numbers"


# ------------------------------------------------------------------------------------------------------ as a user does


def _command(rng: np.random.Generator, folder: Path, turn: int) -> str:
    """Run ``fastconv train`` at a rate that is far too high, and look at its last line and at what it leaves."""
    train, _ = training.data(folder)
    rate = float(rng.choice([1e10, 1e20, 1e30, 1e38]))
    optimizer = ["sgd", "adam", "adamw", "rmsprop", "lion"][turn % 5]
    words = [str(train), "--lr", f"{rate:g}", "--optimizer", optimizer, "--epochs", "3", "--no-report", "--out", "run"]
    words += ["--model", ["lenet5", training.NET][turn // 2 % 2], "--schedule", "constant"]
    words += [[], ["--val", "0"], ["--ema", "0.9"]][turn % 3]
    code, said = training.finish(training.start(words, folder))
    last = said.strip().splitlines()[-1] if said.strip() else ""
    run = folder / "run"
    rows = read_results(run / RESULTS)
    if code == 0:  # the first steps of some do not overflow, and what comes then is finite
        model = fc.load(run / MODEL)
        if json.loads((run / "metrics.json").read_text())["epochs"] == 3 and _all_finite(model):
            return ""
    if code != 1 or not re.search(r"in epoch|after epoch", last) or not re.search(r"% of [\dx]+ not finite", last):
        return f"{optimizer} at {rate:g}: exit code {code}: {last[-400:]}"
    if "Traceback" in said:
        return f"{optimizer} at {rate:g}: {said[-400:]}"
    if (run / MODEL).exists() != (len(rows) > 0):
        return f"{optimizer} at {rate:g}: {len(rows)} epochs, and a model or none"
    if rows and not _all_finite(fc.load(run / MODEL)):
        return f"{optimizer} at {rate:g}: the model on disk is not finite"
    return ""


def _all_finite(model: fc.Sequential) -> bool:
    return all(np.isfinite(array).all() for array in model.state_dict().values())


# ---------------------------------------------------------------------------------------------------------------- time


def _denormal_time() -> float:
    """Return how many times as long a training step takes whose activations are denormal, of the slowest network."""
    digits = data.digits10k()
    chosen = np.arange(0, len(digits), len(digits) // 64)[:64]
    images, labels = digits.images[chosen] / np.float32(255), digits.labels[chosen]
    worst = 0.0
    small = [fc.Conv2d(1, 16, 3, padding=1), fc.ReLU(), fc.Conv2d(16, 32, 3), fc.ReLU(), fc.AvgPool2d(2)]
    for model in (fc.models.lenet5(), fc.Sequential(*small, fc.Flatten(), fc.Linear(5408, 10))):
        inside = np.abs(model[:4]((images * np.float32(1e-39)).astype(np.float32)))
        if not 0 < inside.max() < np.finfo(np.float32).tiny:
            raise RuntimeError(f"expected denormal activations, got up to {inside.max():g}")
        ratios: list[float] = []
        for _ in range(_ROUNDS):
            usual, tiny = (
                timing.seconds(lambda x=x, model=model: _still(model, x, labels), 0.2)
                for x in (images, (images * np.float32(1e-39)).astype(np.float32))
            )
            ratios.append(tiny / usual)
        worst = max(worst, statistics.median(ratios))
    return worst


def _still(model: fc.Sequential, x: np.ndarray, y: np.ndarray) -> float:
    return fc.train_step(model, fc.CrossEntropyLoss(), fc.SGD(0.0), x, y)


PROMISE = Promise(
    "Numbers that are not finite stop training and are named; great, tiny and equal ones are computed rightly",
    "NaN and infinity planted in data, weights, gradients and activations at random batches: `NotFiniteError` with "
    "epoch, batch, layer, least, greatest, mean and share; the model's weights are those that the message says, before "
    "the batch or the epoch, and those in model.safetensors and checkpoint and the rows of results.csv are those of "
    "the last good batch or epoch, to the bit. `fastconv train` at rates up to 1e38 with each optimiser. Logits to "
    "1e6, images of zeros, one class, constant features through BatchNorm, against float64. Data that are not finite "
    f"refused by row. Denormal activations, timed in the long form: at most {_SLOWER} times as long",
    measure,
    short=15,
    long=200,
)
