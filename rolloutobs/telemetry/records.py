"""The bytes of a file of cells: how records are written, and read while their owner goes on counting.

A header of 32 bytes, then records of a multiple of 8 bytes each, all in the byte order of the machine::

    header   magic 8s | format u32 | process id u32 | bytes in use u64 | token u64
    record   size u32 | kind u16 | unused u16 | index of the definition u32 | bytes of text u32
             text (JSON, padded to 8) | payload

A record is complete before the header says that it is in use, and none is ever moved or taken away: a reader
that has seen a record knows it for good, and reads only its payload again. The payload of a number is one
double; of a histogram the sum, the count of each bucket, then one exemplar of 48 bytes for each bucket.
"""

from __future__ import annotations

import json
import secrets
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rolloutobs.telemetry.cells import Definition, Exemplar, Kind, Merge

__all__ = [
    "EXEMPLAR_BYTES",
    "HEADER_BYTES",
    "USED",
    "DamagedError",
    "Entry",
    "FamilyKey",
    "Layout",
    "cell_record",
    "definition_record",
    "exemplar_bytes",
    "file_bytes",
    "header",
    "note_record",
    "payload_bytes",
    "read_exemplar",
    "token_of",
    "used_bytes",
]

FamilyKey = tuple[str, str]
"""Book and name."""
MAGIC = b"rolloobs"
FORMAT = 1
_HEADER = struct.Struct("=8sIIQQ")
HEADER_BYTES = _HEADER.size
USED = struct.Struct("@Q")
"""At `USED_OFFSET`; native, so that it is written in one piece."""
USED_OFFSET = 16
_RECORD = struct.Struct("=IHHII")
_DEFINITION, _CELL, _NOTE = 1, 2, 3
_DOUBLE = 8
# Trace id (high, low), span id, value, Unix time in seconds, CRC-32 of all these.
_EXEMPLAR = struct.Struct("=QQQdd")
_CHECK = struct.Struct("=II")
EXEMPLAR_BYTES = _EXEMPLAR.size + _CHECK.size
_LOW = (1 << 64) - 1


class DamagedError(ValueError):
    """The bytes are not what this module writes; what was read before the damage is good."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell in a file."""

    key: FamilyKey
    definition: Definition
    values: tuple[str, ...]
    """Label values, in the order of the definition's label names."""
    offset: int
    """Of its payload, in bytes; a multiple of 8."""


@dataclass(slots=True)
class Layout:
    """What is where in a file; grows with the file."""

    entries: list[Entry] = field(default_factory=list)
    notes: list[Any] = field(default_factory=list)
    """Other content, as JSON gives it."""
    end: int = HEADER_BYTES
    """Up to here the file is known."""
    _definitions: list[tuple[FamilyKey, Definition]] = field(default_factory=list)

    def extend(self, data: bytes) -> None:
        """Read the records that came since the last call.

        Args:
            data: the file from its beginning.

        Raises:
            DamagedError: the records do not fit together, or are cut short; the good ones before are kept.
        """
        used = used_bytes(data)
        end = min(used, len(data))
        while self.end < end:
            try:
                size, kind, _, index, length = _RECORD.unpack_from(data, self.end)
                start = self.end + _RECORD.size
                if size % _DOUBLE or size < _RECORD.size + length or self.end + size > end:
                    raise DamagedError(f"a record of {size} bytes at byte {self.end} of {end}")
                text = json.loads(data[start : start + length])
                self._take(kind, index, text, (start + _padded(length), self.end + size))
            except (struct.error, ValueError, IndexError, TypeError, RecursionError) as error:
                raise DamagedError(f"the record at byte {self.end} cannot be read: {error!r}") from error
            self.end += size
        if end < used:
            raise DamagedError(f"cut short: {end} bytes of {used}")

    def _take(self, kind: int, index: int, text: Any, payload: tuple[int, int]) -> None:
        if kind == _NOTE:
            self.notes.append(text)
        elif kind == _DEFINITION:
            self._definitions.append(_definition(text))
        elif kind == _CELL:
            key, definition = self._definitions[index]
            values = tuple(text)
            if len(values) != len(definition.label_names) or not all(isinstance(v, str) for v in values):
                raise DamagedError(f"{definition.name} has the label values {values!r}")
            if payload[1] - payload[0] != payload_bytes(definition):
                raise DamagedError(f"{definition.name} has {payload[1] - payload[0]} bytes")
            self.entries.append(Entry(key, definition, values, payload[0]))
        else:
            raise DamagedError(f"unknown kind of record {kind}")


def header(pid: int, used: int, token: int) -> bytes:
    """Return the first `HEADER_BYTES` of a file of process `pid` with `used` bytes in use.

    A random `token` (64 bits) tells this file from all others, of its name and of its inode too: both come
    back.
    """
    return _HEADER.pack(MAGIC, FORMAT, pid, used, token)


def token_of(data: bytes) -> int | None:
    """Return the token of a file, or of its header; ``None`` where it is cut short."""
    return int(_HEADER.unpack_from(data)[4]) if len(data) >= HEADER_BYTES else None


def used_bytes(data: bytes) -> int:
    """Return how many bytes of a file are in use; `data` is the file, or just its header.

    Raises:
        DamagedError: it is no file of ours.
    """
    if len(data) < HEADER_BYTES:
        raise DamagedError(f"{len(data)} bytes only")
    magic, version, _, used, _ = _HEADER.unpack_from(data)
    if magic != MAGIC or version != FORMAT or used < HEADER_BYTES or used % _DOUBLE:
        raise DamagedError(f"begins with {data[:HEADER_BYTES]!r}")
    return int(used)


def definition_record(book: str, definition: Definition) -> bytes:
    """Return the record of a family; cells refer to it by its place among the definitions of the file."""
    d = definition
    text = [book, d.kind.value, d.name, d.documentation, d.label_names, d.bounds, d.merge.value]
    return _record(_DEFINITION, 0, text, b"")


def cell_record(index: int, values: Sequence[str], payload: bytes) -> bytes:
    """Return the record of a cell of definition `index`; its payload is at the end."""
    return _record(_CELL, index, list(values), payload)


def note_record(content: Any) -> bytes:
    """Return the record of `content`, which is anything that JSON can hold."""
    return _record(_NOTE, 0, content, b"")


def file_bytes(pid: int, records: Sequence[bytes]) -> bytes:
    """Return a whole file."""
    body = b"".join(records)
    return header(pid, HEADER_BYTES + len(body), secrets.randbits(64)) + body


def payload_bytes(definition: Definition) -> int:
    """Return the size of the payload of a cell."""
    if definition.kind is not Kind.HISTOGRAM:
        return _DOUBLE
    return _DOUBLE + (len(definition.bounds) + 1) * (_DOUBLE + EXEMPLAR_BYTES)


def exemplar_bytes(exemplar: Exemplar) -> bytes:
    """Return the `EXEMPLAR_BYTES` of one exemplar."""
    trace = exemplar.trace_id
    body = _EXEMPLAR.pack(
        trace >> 64 & _LOW, trace & _LOW, exemplar.span_id & _LOW, exemplar.value, exemplar.timestamp
    )
    return body + _CHECK.pack(zlib.crc32(body), 0)


def read_exemplar(data: bytes, offset: int) -> Exemplar | None:
    """Return the exemplar at `offset`; ``None`` where there is none yet, or where it was being written."""
    high, low, span, value, timestamp = _EXEMPLAR.unpack_from(data, offset)
    if not timestamp:
        return None
    check, _ = _CHECK.unpack_from(data, offset + _EXEMPLAR.size)
    if check != zlib.crc32(data[offset : offset + _EXEMPLAR.size]):
        return None
    return Exemplar(high << 64 | low, span, value, timestamp)


def _record(kind: int, index: int, content: Any, payload: bytes) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode("ascii")
    padding = bytes(_padded(len(text)) - len(text))
    size = _RECORD.size + len(text) + len(padding) + len(payload)
    return _RECORD.pack(size, kind, 0, index, len(text)) + text + padding + payload


def _padded(length: int) -> int:
    return -(-length // _DOUBLE) * _DOUBLE


def _definition(text: Any) -> tuple[FamilyKey, Definition]:
    book, kind, name, documentation, label_names, bounds, merge = text
    if not all(isinstance(word, str) for word in (book, name, documentation, *label_names)):
        raise DamagedError(f"no definition: {text!r}")
    definition = Definition(
        Kind(kind), name, documentation, tuple(label_names), tuple(map(float, bounds)), Merge(merge)
    )
    return (book, name), definition
