"""Data: the readers, the built-in digits, the order of training and the submission file.

Importing this loads neither pandas nor numba; pandas is loaded by the first CSV file.
"""

from fastconv.data.dataset import Dataset
from fastconv.data.digits import digits10k
from fastconv.data.errors import DataError
from fastconv.data.idx import read_idx, read_idx_folder
from fastconv.data.image_folder import read_images
from fastconv.data.kaggle import read_csv
from fastconv.data.loading import load
from fastconv.data.npz import read_npz
from fastconv.data.order import permutation, split
from fastconv.data.submission import write_submission

__all__ = [
    "DataError",
    "Dataset",
    "digits10k",
    "load",
    "permutation",
    "read_csv",
    "read_idx",
    "read_idx_folder",
    "read_images",
    "read_npz",
    "split",
    "write_submission",
]
