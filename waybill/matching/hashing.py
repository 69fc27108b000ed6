"""Which bucket a consistent-hash exchange chooses: Erlang's hash and generator, as the plugin uses them.

The plugin (rabbit_exchange_type_consistent_hash.erl) lays the destinations on a row of buckets, as many for
each as its binding's weight, and takes one by a jump consistent hash, whose random numbers come from a
generator that is seeded with the key's hash. The pieces are `erlang:phash2/1`, portable by its definition,
whose core is Bob Jenkins' lookup2, and `rand:exs1024`, an xorshift generator by Sebastiano Vigna.
"""

from __future__ import annotations

from collections.abc import Iterator

_GOLDEN = 0x9E3779B9
_BINARY_SALT = 13 * _GOLDEN & 0xFFFFFFFF  # what distinguishes a binary from other terms in phash2
_PHASH2_MASK = (1 << 27) - 1
_U32 = (1 << 32) - 1
_U64 = (1 << 64) - 1
_SEED_MASK = (1 << 21) - 1
_SEED_FACTORS = ((2097131, 43), (2097133, 22), (2097143, 1))
_STATE_WORDS = 16

HASH_OF_UNDEFINED = 45914356
"""`erlang:phash2(undefined)`: what a message without the hashed header is hashed as."""


def phash2(data: bytes) -> int:
    """`erlang:phash2` of a binary, 0 to 2**27 - 1."""
    if not data:
        return _BINARY_SALT & _PHASH2_MASK
    a = b = _GOLDEN
    c = _BINARY_SALT
    whole = len(data) // 12 * 12
    for start in range(0, whole, 12):
        a = a + int.from_bytes(data[start : start + 4], "little") & _U32
        b = b + int.from_bytes(data[start + 4 : start + 8], "little") & _U32
        c = c + int.from_bytes(data[start + 8 : start + 12], "little") & _U32
        a, b, c = _mix(a, b, c)
    rest = data[whole:]
    a = a + int.from_bytes(rest[:4], "little") & _U32
    b = b + int.from_bytes(rest[4:8], "little") & _U32
    c = c + len(data) + (int.from_bytes(rest[8:], "little") << 8) & _U32  # its low byte is the length's
    return _mix(a, b, c)[2] & _PHASH2_MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for first, second, third in ((13, 8, 13), (12, 16, 5), (3, 10, 15)):
        a = (a - b - c & _U32) ^ c >> first
        b = (b - c - a & _U32) ^ (a << second & _U32)
        c = (c - a - b & _U32) ^ b >> third
    return a, b, c


def bucket(key: int, buckets: int) -> int:
    """The bucket, 0 to `buckets` - 1, that the jump consistent hash gives an integer."""
    if buckets == 1:
        return 0
    numbers = _uniform(key)
    chosen, ahead = -1, 0
    while ahead < buckets:
        chosen = ahead
        ahead = int((chosen + 1) / next(numbers))
    return chosen


def _uniform(key: int) -> Iterator[float]:
    """The numbers between 0 and 1 of `rand:seed_s(exs1024, {Key, Key, Key})`."""
    front, back = _seeded(key), list[int]()
    while True:
        if len(front) == 1:
            front, back = front + back, []
        first, second = front[0], front[1]
        second ^= second << 31 & _U64
        second ^= second >> 11
        first ^= first >> 30
        mixed = first ^ second
        front, back = [mixed, *front[2:]], [*back, front[0]]
        yield (mixed * 1181783497276652981 & _U64) / 2.0**64


def _seeded(key: int) -> list[int]:
    state = 1
    for factor, shift in _SEED_FACTORS:
        state |= ((((key & _SEED_MASK) + 1) * factor) & _SEED_MASK) << shift
    words: list[int] = []
    for _ in range(_STATE_WORDS):
        state ^= state >> 12
        state ^= state << 25 & _U64
        state ^= state >> 27
        words.insert(0, state * 2685821657736338717 & _U64)
    return words
