"""Augmentation: training images moved, bent, tinted, cut and mixed at random, anew in every epoch.

What becomes of an image is a pure function of the seed, the epoch and the image's number: the same at any thread count
and batch size, and after a resume.  It happens in the kernel that packs a batch (``fastconv_kernels/augment.py``).
"""

from fastconv.augment.options import PRESETS as PRESETS
from fastconv.augment.options import Augment as Augment
from fastconv.augment.options import chosen as chosen
from fastconv.augment.packing import Augmentation as Augmentation
from fastconv.augment.packing import Packing as Packing
from fastconv.augment.sheet import preview as preview
from fastconv.augment.views import VIEWS as VIEWS
from fastconv.augment.views import views as views
