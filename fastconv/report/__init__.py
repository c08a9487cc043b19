"""``report.html``: one page that shows what a run was, what came of it, and what it looks like."""

from fastconv.report.writing import PLOTS as PLOTS
from fastconv.report.writing import write as write
