"""Training: the step, the loop, what watches it, and what it leaves behind."""

from typing import TYPE_CHECKING

from fastconv.lazy import lazily

if TYPE_CHECKING:
    from fastconv.training.callbacks import Callback as Callback
    from fastconv.training.callbacks import EarlyStopping as EarlyStopping
    from fastconv.training.callbacks import KeepBest as KeepBest
    from fastconv.training.callbacks import TimeBudget as TimeBudget
    from fastconv.training.checkpoint import Checkpoint as Checkpoint
    from fastconv.training.errors import NotFiniteError as NotFiniteError
    from fastconv.training.errors import TrainingError as TrainingError
    from fastconv.training.evaluation import evaluate as evaluate
    from fastconv.training.history import History as History
    from fastconv.training.loop import fit as fit
    from fastconv.training.rate_test import RateTest as RateTest
    from fastconv.training.rate_test import lr_find as lr_find
    from fastconv.training.step import train_step as train_step

_NAMES = {
    "fastconv.training.callbacks": ("Callback", "EarlyStopping", "KeepBest", "TimeBudget"),
    "fastconv.training.checkpoint": ("Checkpoint",),
    "fastconv.training.errors": ("NotFiniteError", "TrainingError"),
    "fastconv.training.evaluation": ("evaluate",),
    "fastconv.training.loop": ("fit",),
    "fastconv.training.history": ("History",),
    "fastconv.training.rate_test": ("RateTest", "lr_find"),
    "fastconv.training.step": ("train_step",),
}

__getattr__, __dir__, __all__ = lazily(__name__, _NAMES)
