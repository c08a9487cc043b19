"""Whether there is memory for what is to be done, before it is begun: a process that takes too much is killed."""

from collections.abc import Mapping

from fastconv_kernels import limits

_MB = 2**20
SMALL = 16 * _MB
"""What is not worth asking for: Python and Numba take several times as much."""


class NoRoomError(MemoryError):
    """There is less memory than is needed; the message says how much for what, how much is free, and what may help."""


def check(operation: str, needs: Mapping[str, float], remedy: str, free: limits.Limit | None = None) -> None:
    """Raise NoRoomError unless there is memory for all.

    Parameters
    ----------
    operation : str
        Begins the message.
    needs : dict of str to float
        Bytes, by what they are for: 'batches of 64 images'.
    remedy : str
        Ends the message.
    free : Limit, optional
        What was free, where it was asked for earlier.
    """
    total = sum(needs.values())
    if total < SMALL:
        return
    free = limits.free_memory() if free is None else free
    if free is not None and total > free.most:
        raise NoRoomError(refusal(operation, needs, remedy, free))


def refusal(operation: str, needs: Mapping[str, float], remedy: str, free: limits.Limit | None) -> str:
    """Return the message of ``check``."""
    total = sum(needs.values())
    parts = ", ".join(
        f"{amount / _MB:,.0f} for {what}" for what, amount in sorted(needs.items(), key=lambda need: -need[1])
        if amount >= total / 100
    )  # fmt: skip
    least = "no more is free" if free is None else f"{free.most / _MB:,.0f} MB are free by {free.by}"
    return f"{operation}: not enough memory: about {total / _MB:,.0f} MB are needed ({parts}), and {least}; {remedy}"
