"""``fastconv summary``: a model's layers, sizes and parameters."""

import argparse

from fastconv import terminal
from fastconv.commands.interrupts import Interrupts
from fastconv.commands.model_file import find
from fastconv.commands.own_layers import own_layers


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Show the table."""
    found = find(arguments.model, own_layers(arguments.layers), arguments.input)
    terminal.say(found.model.summary(arguments.input or found.image_shape), wrap=False)
    return 0
