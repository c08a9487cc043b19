"""Every operation has a record and does what it says; ``python -m benchmarks.reliability operations`` tries more.

What the kernels' own tests do by hand, this does for all alike: oracle, PyTorch, exact identities, refusals.
"""

from dataclasses import replace

import numpy as np
import pytest
from peers import peer

import fastconv as fc
from benchmarks.reliability import checks
from benchmarks.reliability.records import RECORDS
from fastconv import functional as F

pytestmark = pytest.mark.usefixtures("few_tiles")
by_name = pytest.mark.parametrize("name", sorted({record.name for record in RECORDS}))


# Random numbers are each library's own.
WITHOUT_PYTORCH = {"Dropout", "Dropout2d"}


def named(name):
    return [record for record in RECORDS if record.name == name]


def test_every_public_function_and_every_layer_has_a_record():
    functions, layers = checks.covered()
    recorded = {name for record in RECORDS for name in (record.name, *record.covers)}
    assert not functions - recorded, "functions without a record: benchmarks/reliability/records/"
    assert not layers - recorded, "layers without a record: benchmarks/reliability/records/"
    assert len(functions) > 25
    assert len(layers) > 25


@by_name
def test_an_operation_is_right(name):
    """The samples by hand, two at random, and what must be refused."""
    (tally,) = checks.measure(named(name), seed=2, cases=2).values()
    assert not tally.wrong, "\n".join(tally.wrong)
    assert tally.cases > 4
    assert tally.alone == (checks.has_torch() and name in WITHOUT_PYTORCH)


# ------------------------------------------------------------------------------------------- and the checks find faults


def faults(name, **changes):
    record = replace(named(name)[0], **changes)
    (tally,) = checks.measure([record], seed=0, cases=2).values()
    return "\n".join(tally.wrong)


def test_a_wrong_output_is_found():
    wrong = lambda arrays, options: F.linear(**arrays) * (1 + 1e-5)  # noqa: E731
    assert "linear" in faults("linear", function=wrong)
    assert "ulp, expected at most" in faults("linear", function=wrong)


def test_a_wrong_gradient_is_found():
    class Wrong(fc.Flatten):
        def backward_blocks(self, dy, work, need_dx):
            dx = super().backward_blocks(dy, work, need_dx)
            dx.array[...] *= 1.0001
            return dx

    said = faults("Flatten", layer=lambda arrays, options: Wrong().to(arrays["x"].dtype))
    assert "gradient of x" in said
    assert "integers did not give integers" in said


@pytest.mark.parametrize("name", ["pad", "batch_norm", "linear"])
def test_an_output_that_is_not_pytorchs_is_found(name):
    """Of a function without a layer and a gradient, too."""
    peer("torch")
    (record,) = [each for each in named(name) if (each.layer is None) == (name != "linear")]
    other = replace(record, torch=lambda *given: record.torch(*given) * (1 + 1e-5))
    (tally,) = checks.measure([other], seed=0, cases=2).values()
    assert tally.torch > 2
    assert "the function beside PyTorch's" in "\n".join(tally.wrong)


def test_images_that_are_not_apart_are_found():
    assert "another order of images" in faults("relu", function=lambda a, o: F.relu(a["x"] - a["x"][:1]), layer=None)


def test_a_wrong_dtype_is_found():
    wide = lambda arrays, options: F.relu(**arrays).astype(np.float64)  # noqa: E731
    assert "float64(1, 1) for float32(1, 1)" in faults("relu", function=wide, layer=None)


def test_an_input_that_was_written_to_is_found():
    def careless(arrays, options):
        y = F.relu(arrays["x"])
        arrays["x"][...] = 0
        return y

    assert "x was written to" in faults("relu", function=careless, layer=None)


def test_what_is_not_linear_is_found():
    assert "not linear in x" in faults("relu", linear=("x",))


def test_a_call_that_should_be_refused_is_found():
    kinds = [(lambda: F.relu([1.0]), ValueError, "anything"), (lambda: F.relu(1.0), ValueError, "other words")]
    said = faults("relu", refusals=kinds)
    assert "expected ValueError with 'anything', got a result" in said
    assert "expected ValueError with 'other words', got ShapeError(" in said
