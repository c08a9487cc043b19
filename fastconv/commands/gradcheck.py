"""``fastconv gradcheck``: every gradient of a model beside finite differences."""

import argparse

import numpy as np

from fastconv import terminal
from fastconv.commands.common import CompilingNotice
from fastconv.commands.interrupts import Interrupts
from fastconv.commands.model_file import find
from fastconv.commands.own_layers import own_layers
from fastconv.gradient_check import GradientError, gradcheck

_IMAGES = 2
_ELEMENTS = 100
"""Of each array, drawn at random: a second for LeNet-5, where all of them would take ten minutes."""


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Say that they agree, or which element does not."""
    found = find(arguments.model, own_layers(arguments.layers), arguments.input)
    shape = arguments.input or found.image_shape
    found.model.output_shape((_IMAGES, *shape))  # says what does not fit before anything is compiled
    x = np.random.default_rng(0).standard_normal((_IMAGES, *shape))
    with CompilingNotice():
        try:
            report = gradcheck(found.model, x, max_elements=_ELEMENTS)
        except GradientError as error:
            terminal.say(f"{found.name}: {error}")
            return 1
    terminal.say(f"{found.name}: {report}")
    return 0
