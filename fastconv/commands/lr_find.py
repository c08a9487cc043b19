"""``fastconv lr-find``: a learning rate to begin with, from a short training in which it grows."""

import argparse

import numpy as np

from fastconv import terminal
from fastconv.commands.common import CompilingNotice, say_machine, use_threads
from fastconv.commands.errors import UsageError
from fastconv.commands.interrupts import Interrupts
from fastconv.commands.labels import labels_of, load_labelled
from fastconv.commands.model_file import check_name, new_model
from fastconv.training import lr_find
from fastconv.training.normalize import normalization_of

_ROWS = 12


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Say the losses at some of the rates, and the rate to try."""
    check_name(arguments.model)
    use_threads(arguments.threads)
    say_machine()
    dataset = load_labelled(arguments.data, arguments.size)
    labels = labels_of(dataset)
    model = new_model(arguments.model, dataset, arguments.seed)
    model.normalization = normalization_of(dataset.images, np.arange(len(dataset)))
    with CompilingNotice():
        found = lr_find(
            model,
            dataset.images,
            labels,
            optimizer=arguments.optimizer,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
        )
    terminal.say("      rate    loss")
    for number in np.unique(np.linspace(0, len(found.rates) - 1, _ROWS).astype(int)).tolist():
        terminal.say(f"{found.rates[number]:10.2g}  {found.smoothed[number]:6.3f}")
    terminal.say(f"the loss falls most steeply at --lr {found.suggestion:.2g}")
    if arguments.plot is not None:
        try:
            found.plot(arguments.plot)
        except ImportError as error:
            raise UsageError(f"--plot: {error}") from error
        terminal.say(f"wrote  {arguments.plot}")
    return 0
