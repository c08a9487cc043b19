"""Training: the step, the loop, what watches it, and what it leaves behind."""

from fastconv.training.callbacks import Callback as Callback
from fastconv.training.callbacks import KeepBest as KeepBest
from fastconv.training.errors import TrainingError as TrainingError
from fastconv.training.evaluation import evaluate as evaluate
from fastconv.training.fit import fit as fit
from fastconv.training.history import History as History
from fastconv.training.step import train_step as train_step
