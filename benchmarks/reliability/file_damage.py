"""What becomes of files on the way: bits flip, ends are missing, pieces move, numbers grow."""

from collections.abc import Callable

import numpy as np

_WORDS = (
    b"\0",
    b"\0" * 64,
    b"\xff\xfe\xfd",
    b"\xc3\x28\xf0\x9f",
    b"-1",
    b"99999999999999999999999999",
    b"1e400",
    b"NaN",
    b"Infinity",
    b"null",
    b"true",
    b'""',
    b"[[[[[[[[",
    b'{"a":',
    b"\r\n",
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b",",
)


def _flip(content: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(8 * len(content)))
        content[place // 8] ^= 1 << place % 8


def _cut(content: bytearray, rng: np.random.Generator) -> None:
    del content[int(rng.integers(len(content))) :]


def _remove(content: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(content)))
    del content[start : start + int(rng.integers(1, 65))]


def _insert(content: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(content) + 1))
    content[start:start] = rng.integers(0, 256, int(rng.integers(1, 65)), np.uint8).tobytes()


def _word(content: bytearray, rng: np.random.Generator) -> None:
    start, word = _early(content, rng), _WORDS[int(rng.integers(len(_WORDS)))]
    content[start : start + len(word) * int(rng.integers(2))] = word


def _digits(content: bytearray, rng: np.random.Generator) -> None:
    """Put another number in the place of one that is written in digits."""
    places = [place for place, byte in enumerate(content[:4096]) if 48 <= byte < 58]
    if places:
        place = places[int(rng.integers(len(places)))]
        content[place : place + 1] = str(int(rng.choice([0, 7, 256, 65536, 2**31, 2**40, 2**63]))).encode()


def _length(content: bytearray, rng: np.random.Generator) -> None:
    """Write a number of four or eight bytes, mostly where a header is."""
    size, start = int(rng.choice([4, 8])), _early(content, rng)
    number = int(rng.choice([0, 1, 255, 65536, 2**31 - 1, 2**31, 2**32 - 1]))
    order = "little" if rng.random() < 0.5 else "big"
    content[start : start + size] = number.to_bytes(size, order)


def _swap(content: bytearray, rng: np.random.Generator) -> None:
    first, second = (int(rng.integers(len(content))) for _ in range(2))
    size = int(rng.integers(1, 257))
    one, other = bytes(content[first : first + size]), bytes(content[second : second + size])
    content[first : first + len(one)], content[second : second + len(other)] = other, one


def _repeat(content: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(content)))
    content[start:start] = content[start : start + int(rng.integers(1, 4097))]


def _fill(content: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(content)))
    size = min(len(content) - start, int(rng.integers(1, 4097)))
    content[start : start + size] = bytes([int(rng.choice([0, 32, 255]))]) * size


def _early(content: bytearray, rng: np.random.Generator) -> int:
    return int(rng.integers(min(64, len(content)) if rng.random() < 0.5 else len(content)))


_KINDS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    *(_flip, _flip, _cut, _remove, _insert, _word, _digits, _length, _swap, _repeat, _fill),
)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Return content with one to three damages."""
    changed = bytearray(content)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if changed:
            _KINDS[int(rng.integers(len(_KINDS)))](changed, rng)
    return bytes(changed)
