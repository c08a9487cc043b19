"""The built-in digits."""

from dataclasses import replace
from importlib import resources

from fastconv.data.dataset import Dataset
from fastconv.data.npz import read_npz


def digits10k() -> Dataset:
    """Return 10,000 handwritten digits of MNIST, which come with the package.

    Returns
    -------
    Dataset
        images uint8[10000, 1, 28, 28], ink bright on 0; labels int64[10000], 0 to 9, *sorted*: shuffle before use.

    Notes
    -----
    Source, credit and licence: ``digits10k.LICENSE.md`` beside the file. Some of the images are in any test set made
    from MNIST, so a score on such a set means nothing for a model that was trained on these.
    """
    with resources.as_file(resources.files("fastconv.data") / "digits10k.npz") as path:
        return replace(read_npz(path), source="built-in digits")
