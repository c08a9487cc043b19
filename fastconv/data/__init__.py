"""Data: the readers, the built-in digits, the order of training and the submission file.

Importing this loads neither pandas nor numba; pandas is loaded by the first CSV file.
"""

from typing import TYPE_CHECKING

from fastconv.lazy import lazily

if TYPE_CHECKING:
    from fastconv.data.dataset import Dataset as Dataset
    from fastconv.data.digits import digits10k as digits10k
    from fastconv.data.errors import DataError as DataError
    from fastconv.data.idx import read_idx as read_idx
    from fastconv.data.idx import read_idx_folder as read_idx_folder
    from fastconv.data.image_folder import read_images as read_images
    from fastconv.data.kaggle import read_csv as read_csv
    from fastconv.data.loading import load as load
    from fastconv.data.npz import read_npz as read_npz
    from fastconv.data.order import permutation as permutation
    from fastconv.data.order import split as split
    from fastconv.data.submission import write_submission as write_submission

_NAMES = {
    "fastconv.data.dataset": ("Dataset",),
    "fastconv.data.digits": ("digits10k",),
    "fastconv.data.errors": ("DataError",),
    "fastconv.data.idx": ("read_idx", "read_idx_folder"),
    "fastconv.data.image_folder": ("read_images",),
    "fastconv.data.kaggle": ("read_csv",),
    "fastconv.data.loading": ("load",),
    "fastconv.data.npz": ("read_npz",),
    "fastconv.data.order": ("permutation", "split"),
    "fastconv.data.submission": ("write_submission",),
}

__getattr__, __dir__, __all__ = lazily(__name__, _NAMES)
