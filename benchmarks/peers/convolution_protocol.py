"""What a peer does with the convolutions of ``benchmarks.shapes``.  Imports no library under comparison.

The first line on stdout, ``{"version": name and version}``, says that all is imported.  From then on a line on stdin is
a question in JSON, ``{"shape": number, "seconds": how long to time, "save": path for the results}``, and a line on
stdout its answer: the seconds of one call in each direction.  The process ends with its input.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from benchmarks import shapes, timing
from benchmarks.shapes import Shape

Ways = Mapping[str, Sequence[Callable[[], Any]]]


class Peer(Protocol):
    """A library's convolutions."""

    version: str
    """The library and its version."""

    def ways(self, shape: Shape) -> Ways:
        """Return the ways to compute each direction; the fastest counts."""
        ...

    def array(self, result: Any) -> np.ndarray:
        """Return what one of them returned, as NumPy's NCHW or OIHW."""
        ...


def main(peer: Peer) -> int:
    """Answer the questions."""
    print(json.dumps({"version": peer.version}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        ways = peer.ways(shapes.ALL[question["shape"]])
        results = {direction: peer.array(some[0]()) for direction, some in ways.items()}
        np.savez(question["save"], allow_pickle=False, **results)
        seconds = {
            direction: min(timing.seconds(way, question["seconds"]) for way in some) for direction, some in ways.items()
        }
        print(json.dumps(seconds), flush=True)
    return 0
