"""Classes' names as a plot can write them."""

from collections.abc import Sequence

LONGEST = 24


def short(name: str, longest: int = LONGEST) -> str:
    """Return a name on one line and no longer than so many letters; what cannot be written becomes '?'."""
    text = " ".join(name.encode("utf-8", "replace").decode().split())
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if len(text) <= longest:
        return text
    end = longest // 3  # long names often differ in their ends
    return f"{text[: longest - 1 - end]}…{text[-end:]}"


def class_names(operation: str, classes: Sequence[str] | None, count: int, longest: int = LONGEST) -> list[str]:
    """Return a name for each of ``count`` classes: the given ones, shortened, or their numbers.

    Raises
    ------
    ValueError
        If there are not as many names.
    """
    if classes is None:
        return [str(number) for number in range(count)]
    if isinstance(classes, str) or len(classes) != count:
        raise ValueError(f"{operation}: expected {count} names of classes, got {len(classes)}")
    return [short(str(name), longest) for name in classes]
