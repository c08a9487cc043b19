"""What holds for every operation that has a record: the oracle, PyTorch, exact identities, refusals."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.reliability.records import Record
from benchmarks.reliability.records.record import Expected, Sample
from fastconv import functional, layers

FLOATS = (np.float32, np.float64)


@dataclass
class Tally:
    """What the checks of one operation found."""

    cases: int = 0
    worst: float = 0.0
    """The largest error, in units of eps times the sum of the terms' absolute values, beside the oracle."""
    wrong: list[str] = field(default_factory=list)


def covered() -> tuple[set[str], set[str]]:
    """Return the public functions, and the layers, that must have a record."""
    found = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    return set(functional.__all__), found - {"Layer", "Parameter", "Workspace"}


def has_torch() -> bool:
    """Say whether PyTorch is there to compare with."""
    return importlib.util.find_spec("torch") is not None


def arrays_of(record: Record, sample: Sample, rng: np.random.Generator, dtype: Any) -> dict[str, np.ndarray]:
    """Fill a sample's arrays in a dtype; whole numbers stay what they are."""
    made: dict[str, np.ndarray] = {}
    for name, shape in sample.shapes.items():
        fill = record.fill.get(name)
        array = np.asarray(rng.standard_normal(shape) if fill is None else fill(rng, shape, sample.shapes))
        made[name] = array if array.dtype.kind == "i" else array.astype(dtype)
    return made


def check(record: Record, sample: Sample, seed: int, dtype: Any, tally: Tally, torch: bool = False) -> None:
    """Try one sample in one dtype; what is wrong is added to the tally."""
    tally.cases += 1
    where = f"{record.name} {dict(sample.shapes)} {dict(sample.options)} {np.dtype(dtype)}, seed {seed}"
    try:
        _against_oracle(record, sample, np.random.default_rng(seed), dtype, tally, torch, where)
        if record.apart:
            _images_apart(record, sample, np.random.default_rng(seed), dtype)
        _identities(record, sample, np.random.default_rng(seed), dtype)
    except Exception as error:  # whatever comes out of an operation that should have worked
        tally.wrong.append(
            f"{where}: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        )


def refusals(record: Record, tally: Tally) -> None:
    """Try the calls that must be refused."""
    for call, kind, piece in record.refusals:
        tally.cases += 1
        try:
            call()
        except Exception as error:  # any other kind is what is looked for
            if not isinstance(error, kind) or piece not in str(error):
                tally.wrong.append(f"{record.name}: expected {kind.__name__} with {piece!r}, got {error!r}")
        else:
            tally.wrong.append(f"{record.name}: expected {kind.__name__} with {piece!r}, got a result")


# --------------------------------------------------------------------------------------------------- against the oracle


def _against_oracle(
    record: Record, sample: Sample, rng: np.random.Generator, dtype: Any, tally: Tally, torch: bool, where: str
) -> None:
    arrays = arrays_of(record, sample, rng, dtype)
    exact = {name: array if array.dtype.kind == "i" else array.astype(np.float64) for name, array in arrays.items()}
    before = {name: array.copy() for name, array in arrays.items()}
    options = dict(sample.options)
    expected = record.forward(exact, options)
    outputs: dict[str, np.ndarray] = {}
    if record.function is not None:
        outputs["the function"] = record.function(arrays, options)
    layer = None
    if record.layer is not None:
        layer = record.layer(arrays, options)
        outputs["the layer"] = layer.forward(arrays["x"], training=True)
    for name, output in outputs.items():
        _compare(f"{where}: {name}", output, expected, dtype, tally)
    if len({output.tobytes() for output in outputs.values()}) > 1:
        tally.wrong.append(f"{where}: function and layer differ")

    dy = rng.standard_normal(expected.value.shape).astype(dtype)
    found: Mapping[str, np.ndarray] = {}
    if layer is not None and expected.value.size:
        found = {"x": layer.backward(dy)} | {name: p.grad for name, p in layer.named_parameters()}
    elif record.loss is not None:
        loss, dy = record.loss(options | {k: v for k, v in arrays.items() if k == "weight"}), np.ones((), dtype)
        loss(arrays["x"], arrays["target"])
        found = {"x": loss.backward()}
    if found:
        gradients = record.backward(dy.astype(np.float64), exact, options)
        for name, gradient in gradients.items():
            _compare(f"{where}: gradient of {name}", found[name], gradient, dtype, tally)
        if torch and record.torch is not None:
            _against_torch(record, exact, options, dy, expected, gradients, found, outputs, where, dtype, tally)
    for name, array in arrays.items():
        if not np.array_equal(array, before[name]):
            tally.wrong.append(f"{where}: {name} was written to")


def _compare(
    where: str, output: np.ndarray, expected: Expected, dtype: Any, tally: Tally, counted: bool = True
) -> None:
    wanted = np.float64 if expected.eps else dtype
    if output.dtype != wanted or output.shape != expected.value.shape:
        tally.wrong.append(f"{where}: {output.dtype}{output.shape} for {np.dtype(wanted)}{expected.value.shape}")
        return
    unit = np.finfo(dtype)
    error = np.abs(output - expected.value)
    step = (expected.eps or unit.eps) * expected.magnitude + unit.smallest_subnormal
    ulps = float((error / step).max(initial=0))
    if counted:
        tally.worst = max(tally.worst, ulps)
    if not ulps <= expected.units:
        tally.wrong.append(f"{where}: {ulps:.3g} ulp, expected at most {expected.units:.3g}")


def _against_torch(
    record: Record,
    exact: Mapping[str, np.ndarray],
    options: Mapping[str, Any],
    dy: np.ndarray,
    expected: Expected,
    gradients: Mapping[str, Expected],
    found: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    where: str,
    dtype: Any,
    tally: Tally,
) -> None:
    """Compare with PyTorch in float64, from the same arrays: its rounding is beside ours that of another oracle."""
    import torch

    assert record.torch is not None
    tensors = {name: torch.tensor(array, requires_grad=name in gradients) for name, array in exact.items()}
    result = record.torch(torch, tensors, options)
    if result is None:  # which PyTorch refuses
        return
    result.backward(torch.tensor(dy.astype(np.float64)))
    again = Expected(
        result.detach().numpy(), expected.magnitude, record.torch_cancels * max(expected.units, 1), expected.eps
    )
    for name, output in outputs.items():
        _compare(f"{where}: {name} beside PyTorch's", output, again, dtype, tally, counted=False)
    for name, gradient in gradients.items():
        theirs = tensors[name].grad
        again = Expected(
            theirs.numpy(), gradient.magnitude, record.torch_cancels * max(gradient.units, 1), gradient.eps
        )
        _compare(f"{where}: gradient of {name} beside PyTorch's", found[name], again, dtype, tally, counted=False)


# ----------------------------------------------------------------------------------------------------- exact identities


def _run(record: Record, arrays: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> np.ndarray:
    if record.function is not None:
        return record.function(arrays, options)
    assert record.layer is not None
    return record.layer(arrays, options).forward(arrays["x"], training=True)


def _images_apart(record: Record, sample: Sample, rng: np.random.Generator, dtype: Any) -> None:
    """Check that another order of the images is another order of the outputs, to the bit."""
    arrays = arrays_of(record, sample, rng, dtype)
    order = rng.permutation(len(arrays["x"]))
    y = _run(record, arrays, sample.options)
    again = _run(record, arrays | {"x": arrays["x"][order]}, sample.options)
    assert np.array_equal(again, y[order]), "another order of images is not another order of outputs"


def _identities(record: Record, sample: Sample, rng: np.random.Generator, dtype: Any) -> None:
    """Check linearity, adjointness and movement, with == where all numbers are small integers."""
    if not record.exact:
        return
    options = dict(sample.options)
    if "value" in options:
        options["value"] = 0.0

    def integers(shape: tuple[int, ...]) -> np.ndarray:
        return rng.integers(-4, 5, shape).astype(dtype)

    arrays = {name: integers(shape) for name, shape in sample.shapes.items()}
    without_bias = {name: array for name, array in arrays.items() if name != "bias"}
    y = _run(record, without_bias, options)
    for name in record.linear:
        other = integers(arrays[name].shape)
        sums = _run(record, without_bias | {name: 3 * arrays[name] - other}, options)
        parts = 3 * y - _run(record, without_bias | {name: other}, options)
        assert np.array_equal(sums, parts), f"not linear in {name}"
    if record.adjoint and record.layer is not None and y.size:
        layer = record.layer(without_bias, options)
        assert np.array_equal(layer.forward(arrays["x"], training=True), y)
        dy = integers(y.shape)
        gradients = {"x": layer.backward(dy)} | {name: p.grad for name, p in layer.named_parameters()}
        for name in record.adjoint:
            assert _inner(y, dy) == _inner(arrays[name], gradients[name]), f"<A {name}, dy> is not <{name}, A^T dy>"
    if record.moved is not None and y.size:
        larger, (down, across) = record.moved(sample)
        arrays = {name: integers(shape) for name, shape in larger.shapes.items()}
        y = _run(record, arrays, larger.options)
        moved = _run(record, arrays | {"x": np.ascontiguousarray(arrays["x"][:, :, down:, across:])}, larger.options)
        assert np.array_equal(moved, y[:, :, 1:, 1:]), "does not move with the image"


def _inner(a: np.ndarray, b: np.ndarray) -> int:
    """Return <a, b> in whole numbers."""
    assert (a == np.rint(a)).all(), "integers did not give integers"
    assert (b == np.rint(b)).all(), "integers did not give integers"
    return int(np.sum(a.astype(np.int64) * b.astype(np.int64)))


def measure(records: list[Record], seed: int, cases: int, by_hand: bool = True) -> dict[str, Tally]:
    """Check every record's refusals, its samples by hand and so many at random; return a tally an operation."""
    tallies: dict[str, Tally] = {}
    torch = has_torch()
    if torch:
        import torch as module

        module.set_num_threads(1)  # its threads spin while they wait
    for record in records:
        tally = tallies.setdefault(record.name, Tally())
        refusals(record, tally)
        for sample in record.by_hand if by_hand else ():
            for dtype in FLOATS:
                check(record, sample, seed, dtype, tally, torch)
        for number in range(cases):
            # Each case has a seed of its own, which repeats it.
            own = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
            check(record, record.draw(np.random.default_rng(own)), own, FLOATS[number % 2], tally, torch)
    return tallies
