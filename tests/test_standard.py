"""ONNX's tests of single nodes.  The group runs where ``onnx`` is installed; no case is left out without a rule."""

import numpy as np
import pytest
from peers import peer

from benchmarks.reliability import standard

onnx = peer("onnx")
pytestmark = pytest.mark.onnx

# Of the version that CI installs: cases that pass, that are not ours, and whose nodes are not ours.
COUNTS = {"1.23.2": (143, 147, 1594)}


@pytest.fixture(scope="module")
def found():
    return standard.run()


def test_what_is_eligible_agrees(found):
    assert not found.failed, "\n".join(f"{name}: {why}" for name, why in found.failed.items())
    assert len(found.passed) > 100


# All cases of these have a reason not to count: one axis, another slope, no probabilities.
NEVER = {"NegativeLogLikelihoodLoss", "PRelu", "Sum"}


def test_every_node_that_we_have_is_met(found):
    """A node all of whose cases are left out would show nothing."""
    assert set(standard.NODES) - found.nodes == NEVER


def test_the_numbers_of_cases_are_known(found):
    if onnx.__version__ not in COUNTS:
        pytest.skip(f"numbers of cases are known for onnx {', '.join(COUNTS)}, not {onnx.__version__}")
    assert (len(found.passed), len(found.not_ours), found.without) == COUNTS[onnx.__version__]


def test_a_wrong_result_is_found(monkeypatch):
    monkeypatch.setitem(standard.NODES, "Tanh", lambda node: [np.tanh(node.inputs[0]) * np.float32(1.01)])
    assert set(standard.run().failed) == {"test_tanh", "test_tanh_example"}


def test_a_case_without_data_does_not_pass(monkeypatch):
    load = standard._load
    monkeypatch.setattr(standard, "_load", lambda case, onnx: (load(case, onnx)[0], []))
    found = standard.run()
    assert not found.passed
    assert set(found.failed.values()) == {"AssertionError: no data to compare with"}
