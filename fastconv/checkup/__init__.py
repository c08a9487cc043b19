"""What ``fastconv doctor`` and ``fc.doctor`` look for, a file for each subject.

Of the machine ``machine`` and ``pools``; of the data ``rows`` and ``preprocessing``; of the model ``start``, ``flow``
and ``slopes``; of training ``learning`` and ``history``.  Each check is a function that returns a ``Finding``, or
several, and draws whatever it draws from a seed.  The package is not called doctor, because importing a sub-package of
that name would put it in the place of the function ``fc.doctor``.
"""

from fastconv.checkup.examination import doctor as doctor
from fastconv.checkup.findings import Finding as Finding
from fastconv.checkup.findings import Report as Report
