"""``fastconv lr-find``: a learning rate to begin with, from a short training in which it grows."""

import argparse
from pathlib import Path

import numpy as np

from fastconv import terminal
from fastconv.commands.common import CompilingNotice, check_output, say_data, say_machine, use_threads
from fastconv.commands.errors import UsageError
from fastconv.commands.interrupts import Interrupts
from fastconv.commands.labels import labels_of, load_labelled
from fastconv.commands.model_file import check_name, new_model
from fastconv.plots.figures import new_figure
from fastconv.training import lr_find
from fastconv.training.normalize import normalization_of

_ROWS = 12
_ENDINGS = (".png", ".svg", ".pdf")


def run(arguments: argparse.Namespace, interrupts: Interrupts) -> int:
    """Say the losses at some of the rates, and the rate to try."""
    check_name(arguments.model)
    if arguments.plot is not None:
        _check_plot(arguments.plot)
    use_threads(arguments.threads)
    say_machine()
    dataset = load_labelled(arguments.data, arguments.size)
    labels = labels_of(dataset)
    say_data(dataset)
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
        found.plot(arguments.plot)
        terminal.say(f"wrote  {arguments.plot}")
    return 0


def _check_plot(name: str) -> None:
    """Find out before the test, not after it, what keeps a plot from being written under this very name."""
    path = Path(name)
    check_output(path, "--plot")
    if path.suffix.lower() not in _ENDINGS:
        raise UsageError(f"--plot: expected the name of a .png, .svg or .pdf file, got {name!r}; add such an ending")
    try:
        new_figure(1, 1)
    except ImportError as error:
        raise UsageError(f"--plot: {error}") from error
