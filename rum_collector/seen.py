"""What was counted already: a table of fixed size that all workers share.

Each key has 32 bits, one for each thing that counts once. Memory is 16 bytes per key and never more; a full
bucket gives up the entry that is over first. What is given up is remembered as one moment: whoever must not
count anything twice then takes everything that could have been forgotten for used.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Final

from rolloutobs.telemetry.worker_file import claim

__all__ = ["SeenTable", "key_of", "key_of_text"]

_WAYS: Final = 8
"""Entries of a bucket: what is forgotten early is the oldest of so many, not of all."""
_ENTRY_BYTES: Final = 16
_HEADER: Final = Struct("=8sQQ")
"""Magic, number of buckets, and until when forgotten entries would have counted (Unix seconds)."""
_HEADER_BYTES: Final = 64
_MAGIC: Final = b"ROSEEN1\0"
_BITS: Final = 32


def key_of(*parts: object) -> int:
    """Return 64 bits that stand for `parts`: the same in every process.

    Among a million of them two are equal with a chance of 3e-8.
    """
    return key_of_text("\0".join(map(str, parts)))


def key_of_text(text: str) -> int:
    """Return the key of a single part."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


class SeenTable:
    """Keys with 32 bits each, in memory or in a file that workers share.

    Args:
        size: keys that are kept; rounded up to a power of two.
        path: of the file, made where it is missing or of another size; ``None``: this process only.
        strict: take for used what may have been forgotten. Else it counts as new.

    Raises:
        OSError: the file cannot be made, or there is no room for it.
    """

    def __init__(self, size: int, path: Path | None = None, *, strict: bool = False) -> None:
        self._buckets = 1 << max(size // _WAYS - 1, 0).bit_length()
        self._strict = strict
        # Two workers that look at the same eight entries within a microsecond may forget one of them: two
        # system calls for each beacon are too much for a table that forgets anyway.
        self._is_locked = strict and path is not None
        self._descriptor = -1
        length = _HEADER_BYTES + self._buckets * _WAYS * _ENTRY_BYTES
        if path is None:
            self._map = mmap.mmap(-1, length)
            self._begin(length)
        else:
            self._descriptor = _opened(path, length)
            self._map = mmap.mmap(self._descriptor, length)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            self._begin(length)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        # 64 bits of key, 32 of expiry and 32 of what is used, as two views of the same memory.
        self._keys = memoryview(self._map).cast("Q")
        self._marks = memoryview(self._map).cast("I")

    def _begin(self, length: int) -> None:
        found = _HEADER.unpack_from(self._map)
        if found[:2] == (_MAGIC, self._buckets):
            return
        if any(found[0]):
            # Of another size. What is new is zero: writing that once more would take 20 ms, and the memory.
            self._map[_HEADER_BYTES:] = bytes(length - _HEADER_BYTES)
        _HEADER.pack_into(self._map, 0, _MAGIC, self._buckets, 0)

    def use(self, key: int, bits: int, expires: float, now: float) -> int:
        """Set `bits` of `key`, and return those that were not set before.

        Args:
            key: as `key_of` makes them.
            bits: one or more of 32.
            expires: until when the key has to be remembered, in Unix seconds.
            now: Unix time in seconds.
        """
        if not self._is_locked:
            return self._use(key, bits, int(expires), int(now))
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            return self._use(key, bits, int(expires), int(now))
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _use(self, key: int, bits: int, expires: int, now: int) -> int:
        keys, marks = self._keys, self._marks
        start = (_HEADER_BYTES >> 3) + (key & (self._buckets - 1)) * _WAYS * 2
        known = keys[start : start + 2 * _WAYS : 2].tolist()
        if key in known:
            mark = 2 * (start + 2 * known.index(key)) + 3
            used = marks[mark]
            marks[mark] = used | bits
            return bits & ~used
        if self._strict and expires <= keys[2]:
            return 0
        ends = marks[2 * start + 2 : 2 * (start + 2 * _WAYS) : 4].tolist()
        first = min(ends)
        if first > now:
            keys[2] = max(keys[2], first)
        at = start + 2 * ends.index(first)
        keys[at] = key
        marks[2 * at + 2] = expires
        marks[2 * at + 3] = bits
        return bits

    def forgets_before(self) -> int:
        """Return until when (Unix seconds) forgotten entries would have counted; 0: none is forgotten."""
        return int(self._keys[2])


def _opened(path: Path, length: int) -> int:
    flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        if os.fstat(descriptor).st_size != length:
            # Another worker of the same settings makes the same of it.
            os.ftruncate(descriptor, length)
            # A mapping of a file that the disk has no room for would kill the process.
            claim(descriptor, 0, length)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
