"""Plots: what training did, what the model confuses, what it has learned, and what it was shown.

Each function takes arrays or what training returned, and returns a matplotlib ``Figure`` that a notebook shows as it is
and that ``figure.savefig("name.png")`` writes.  Nothing global changes: neither matplotlib's backend nor its settings.
Importing this does not load matplotlib, which comes with ``pip install "fastconv[plot]"``.
"""

from fastconv.plots.confusion import confusion as confusion
from fastconv.plots.contact_sheet import augmentation as augmentation
from fastconv.plots.curves import curves as curves
from fastconv.plots.figures import png as png
from fastconv.plots.filters import filters as filters
from fastconv.plots.mistakes import Mistake as Mistake
from fastconv.plots.mistakes import find_mistakes as find_mistakes
from fastconv.plots.mistakes import worst_errors as worst_errors
from fastconv.plots.rates import rates as rates
