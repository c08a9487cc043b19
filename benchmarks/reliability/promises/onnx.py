"""Agreement with the standard."""

import importlib.util

from benchmarks.reliability import standard
from benchmarks.reliability.promise import Outcome, Promise


def measure(seed: int, cases: int) -> Outcome:
    """Run all cases of the standard that are ours; there is nothing to draw, and always the same number."""
    if importlib.util.find_spec("onnx") is None:
        return Outcome("not tried: onnx is not installed", [], ["the cases, which come with the onnx package"])
    found = standard.run()
    failed = [f"{name}: {why}" for name, why in found.failed.items()]
    eligible = len(found.passed) + len(failed)
    figure = (
        f"{len(found.passed)} of {eligible} eligible cases passed, of {eligible + len(found.not_ours)} of our nodes"
    )
    notes = [f"{count} cases: {rule}" for rule, count in found.rules().most_common()]
    notes.append(f"outputs beyond the first of {len(found.first_only)} passed cases: masks, places and statistics")
    notes.append(f"{found.without} cases of nodes that fastconv does not have, or of several nodes")
    return Outcome(figure, failed, notes)


PROMISE = Promise(
    "agreement with the standard",
    "the tests of single nodes that ONNX carries, for every node that is an operation of ours, by a backend on "
    "`functional`; what is not eligible has a rule that says why",
    measure,
    short=1,
    long=1,
)
