"""Test-time augmentation: several views of one image, whose probabilities are averaged."""

import numpy as np

from fastconv import shapes
from fastconv.augment.options import PRESETS, Augment, check_pixels, chosen
from fastconv.augment.packing import Augmentation, Packing

VIEWS = {
    "digits": Augment(rotate=4, scale=(0.96, 1.04), shear=2.5, shift=0.75),
    "fashion": Augment(crop=1, flip=True),
    "cifar": Augment(crop=2, padding_mode="reflect", flip=True),
}
"""What views undergo, for each preset of training: half its ranges, but at least a pixel, and nothing that bends or
hides parts of an image.

Of 3,773 digits held out, lenet5 got 26 wrong alone, 23 with 16 views of up to 10 degrees, a tenth of the size and 2
pixels, bent elastically, as it was trained, and 20 to 21 with half of that; without the bending its cross-entropy fell
by 7 %.
"""


def views(operation: str, x: object, tta: object, augment: Augment | str | None, seed: int = 0) -> list[Packing]:
    """Return what packs the views of ``x`` that come after the images themselves: ``tta - 1``, none of no images.

    What view k shows of image n is a pure function of (seed, k, n), where n is the image's place in ``x``: the same at
    any thread count and batch size.

    Parameters
    ----------
    operation : str
        For messages.
    x : uint8[N, C, H, W]
        Looked at only if there are such views.
    tta : int
        How many views in all, the image itself among them.
    augment : Augment or 'digits', 'fashion', 'cifar'
        What they undergo.  A preset's name means its milder form in ``VIEWS``.
    seed : int

    Raises
    ------
    ValueError
        If tta is below 1, there is no such preset, nothing says what views undergo, or they would be mixed with others.
    TypeError, ShapeError
        If x holds no uint8 images, or they are too small for their reflection.
    """
    if not isinstance(tta, int) or isinstance(tta, bool) or tta < 1:
        raise ValueError(f"{operation}: expected tta of at least 1, got {tta!r}")
    shapes.seed(operation, seed)
    options = chosen(operation, augment)
    if tta == 1 or (isinstance(x, np.ndarray) and x.shape[:1] == (0,)):
        return []
    if options is None:
        raise ValueError(
            f"{operation}: expected augment with tta={tta}, which says what views undergo: {', '.join(PRESETS)}, or an "
            "Augment"
        )
    if isinstance(augment, str):
        options = VIEWS[augment]
    if options.mixup:
        raise ValueError(f"{operation}: expected views of one image each, got mixup={options.mixup}")
    images = check_pixels(operation, x)
    run = Augmentation(options, images.shape[1:], np.arange(len(images)), seed)
    return [run.of_epoch(number) for number in range(1, tta)]
