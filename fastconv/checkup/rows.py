"""Checks of images and labels row by row: labels that say nothing, duplicates, test images among those of training."""

import hashlib
from collections.abc import Iterator

import numpy as np

from fastconv import terminal
from fastconv.checkup.findings import Finding
from fastconv.checkup.sampling import evenly

_COMPARED = 2000
_FEATURES = 1024
_RARE = 20.0
"""How many times a class may be smaller than the largest."""
_FEW = 0.001
"""Test images, as a share, that even famous data sets have in common with their training part."""
_COPIES = 0.01
"""Copies, as a share of all images, above which they decide what is learned."""


# -------------------------------------------------------------------------------------------------------------- labels


def check_labels(y: np.ndarray, classes: int) -> Finding:
    """Count the classes: labels that are all the same, classes without images, classes with few."""
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if wrong.size:
        return Finding(
            "labels",
            "fault",
            f"{wrong.size:,} of {len(y):,} are not from 0 to {classes - 1}, such as {y[wrong[0]]} at row {wrong[0]}; "
            f"the model has {terminal.count(classes, 'output')}",
            "number the classes from 0, and give the model an output for each",
        )
    counts = np.bincount(y, minlength=classes)
    there = np.flatnonzero(counts)
    if there.size == 1:
        evidence = f"all {len(y):,} are {there[0]}"
        return Finding("labels", "fault", evidence, "give images of other classes: there is nothing to tell apart")
    least, most = int(counts.argmin()), int(counts.argmax())
    shown = f"{len(y):,} of {there.size} classes, from {counts[least]:,} of class {least} to {counts[most]:,} of {most}"
    if there.size < classes:
        evidence = f"{shown}; the model has {classes} outputs"
        return Finding("labels", "note", evidence, f"add images of class {least}, or leave its output out")
    if counts[most] > _RARE * counts[least]:
        remedy = "weight the classes, CrossEntropyLoss(weight=...), and look at the balanced accuracy"
        return Finding("labels", "note", shown, remedy)
    return Finding("labels", "ok", shown)


def check_targets(y: np.ndarray) -> Finding:
    """Look at the targets of a regression: all the same, or far from the size that networks start with."""
    y = y.reshape(len(y), -1)
    spread, size = y.std(axis=0), float(np.abs(y).max())
    shown = f"{len(y):,} rows of {terminal.count(y.shape[1], 'number')}, from {y.min():.3g} to {y.max():.3g}"
    if not spread.any():
        return Finding("labels", "fault", f"{shown}: all rows are the same", "give targets that differ")
    if size > 100:
        evidence = f"{shown}; networks begin with outputs near 1"
        return Finding("labels", "note", evidence, "subtract the targets' mean and divide by their standard deviation")
    return Finding("labels", "ok", shown)


def check_labels_and_images(x: np.ndarray, y: np.ndarray) -> Finding | None:
    """Ask whether similar images have the same label, which labels that were shuffled do not; None for few images.

    Half of a sample answers for the other half, by the nearest mean of a class and by the nearest image.
    """
    rows = evenly(len(x), _COMPARED)
    labels = y[rows]
    flat = x[rows].reshape(len(rows), -1)
    features = flat[:, evenly(flat.shape[1], _FEATURES)].astype(np.float64)
    features = (features - features.mean(axis=0)) / (features.std() or 1.0)
    # Every second image of each class, so that sorted data have all classes on both sides.
    order = np.argsort(labels, kind="stable")
    known, asked = order[::2], order[1::2]
    chance = float(np.bincount(labels[asked]).max() / len(asked)) if len(asked) else 1.0
    if len(asked) < 50 or chance == 1.0:
        return None
    classes = np.unique(labels[known])
    means = np.stack([features[known][labels[known] == label].mean(axis=0) for label in classes])
    by_mean = classes[_nearest(features[asked], means)]
    by_image = labels[known][_nearest(features[asked], features[known])]
    found = max(float((by == labels[asked]).mean()) for by in (by_mean, by_image))
    needed = chance + 4 * float(np.sqrt(chance * (1 - chance) / len(asked)))
    shown = (
        f"the nearest of {len(known):,} images, or class mean, gives {found:.1%} of {len(asked):,} others their label; "
        f"the most frequent label is that of {chance:.1%}"
    )
    if found <= needed:
        return Finding(
            "labels and images",
            "fault",
            f"{shown}: labels do not follow from images",
            "look at some pairs: images or labels were shuffled, sorted or cut without the other",
        )
    return Finding("labels and images", "ok", shown)


def _nearest(asked: np.ndarray, known: np.ndarray) -> np.ndarray:
    return ((known * known).sum(axis=1) - 2 * (asked @ known.T)).argmin(axis=1)


# ---------------------------------------------------------------------------------------------------------- duplicates


def _digests(x: np.ndarray) -> Iterator[bytes]:
    for row in np.ascontiguousarray(x):
        yield hashlib.blake2b(row.data, digest_size=16).digest()


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.tobytes()


def check_duplicates(x: np.ndarray, y: np.ndarray) -> Finding:
    """Find rows that are copies of earlier ones, byte by byte, among all rows; worse if their labels differ."""
    first: dict[bytes, int] = {}
    copies: list[tuple[int, int]] = []
    for row, digest in enumerate(_digests(x)):
        before = first.setdefault(digest, row)
        if before != row and _same(x[before], x[row]):
            copies.append((before, row))
    torn = [(a, b) for a, b in copies if not np.array_equal(y[a], y[b])]
    shown = f"{len(copies):,} of {len(x):,} rows are copies of earlier ones"
    if torn:
        a, b = torn[0]
        evidence = f"{shown}, {len(torn):,} of them with another label, such as rows {a} and {b}"
        return Finding("duplicate rows", "fault", evidence, "keep one of each, with the right label")
    if copies:
        a, b = copies[0]
        evidence = f"{shown}, such as rows {a} and {b}"
        remedy = "keep one of each: copies count twice, and a random split puts them on both sides"
        return Finding("duplicate rows", "fault" if len(copies) > _COPIES * len(x) else "note", evidence, remedy)
    return Finding("duplicate rows", "ok", f"none of {len(x):,} rows is a copy of another (all were compared)")


def check_leakage(x: np.ndarray, x_test: np.ndarray) -> Finding:
    """Find test rows that are training rows too, byte by byte, among all rows; floats as the shorter of two dtypes."""
    if x.dtype != x_test.dtype and x.dtype.kind == x_test.dtype.kind == "f":
        dtype = min(x.dtype, x_test.dtype, key=lambda dtype: dtype.itemsize)
        x, x_test = x.astype(dtype), x_test.astype(dtype)
    if x.dtype != x_test.dtype or x.shape[1:] != x_test.shape[1:]:
        kinds = [f"{part.dtype} of shape {part.shape[1:]}" for part in (x, x_test)]
        evidence = f"not looked for: rows are {kinds[0]} in training, {kinds[1]} in the test"
        return Finding("leakage", "note", evidence, "give both as they were before they were scaled, cut or cast")
    first = {digest: row for row, digest in enumerate(_digests(x))}
    leaked = [
        (row, first[digest])
        for row, digest in enumerate(_digests(x_test))
        if digest in first and _same(x[first[digest]], x_test[row])
    ]
    shown = f"{len(leaked):,} of {len(x_test):,} test rows are training rows too"
    if leaked:
        a, b = leaked[0]
        evidence = f"{shown}, such as test row {a}, which is training row {b}"
        remedy = "take them out of the training rows: a score on them says nothing"
        return Finding("leakage", "fault" if len(leaked) > _FEW * len(x_test) else "note", evidence, remedy)
    return Finding("leakage", "ok", f"{shown} (all were compared)")
