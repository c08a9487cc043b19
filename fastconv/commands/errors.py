"""The error of a command that cannot do what its options ask for."""


class UsageError(ValueError):
    """An option, or what it names, cannot be used; the message is one line that says what, where and how to mend it."""
