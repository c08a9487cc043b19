"""The one error for data that cannot be used."""

_LONGEST = 40
"""Characters of what came that a message repeats."""


class DataError(ValueError):
    """A file, an array or an option of the data does not fit.

    The message is one line: the operation, where (file, line, column), what was expected and what came, how to mend
    it. Lines are counted as a text editor counts them, so the header of a CSV file is line 1.
    """

    def __init__(self, message: str) -> None:
        # File names may hold line ends; a message may not.
        super().__init__(" ".join(message.splitlines()))


def shown(value: bytes | str) -> str:
    """Return ``value`` quoted, shortened and with unprintable characters escaped, for a message."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")


def reason(error: Exception) -> str:
    """Return what ``error`` says, without the error number and the file name of an OSError."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
