"""Places in minified scripts, found in their sources: source maps from a folder, and from nowhere else.

Source of the format: ECMA-426, "Source map", version 3.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

__all__ = ["SourceMaps"]

_DIGITS: Final = {
    character: number
    for number, character in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
_MAX_MAP_BYTES: Final = 64 << 20
_MAX_MAPS: Final = 16
"""Maps kept in memory; an error is looked up once per version."""
Line = tuple[list[int], list[tuple[int, int, int]]]
"""Columns of the script, ascending, and for each: source, line and column, from zero."""


class SourceMaps:
    """The source maps of one folder: ``<file>.map``, or ``<version>/<file>.map``.

    Args:
        folder: where they are; ``None``: nowhere.
        report: told of maps that cannot be read.
    """

    def __init__(self, folder: Path | None, report: Callable[[BaseException], None]) -> None:
        self._folder = folder
        self._report = report
        self._map = lru_cache(maxsize=_MAX_MAPS)(self._read)

    def resolve(self, version: str, place: str) -> str:
        """Return where `place` (``file:line:column``) is in its source, as ``file:line:column``.

        `place` itself where there is no map, or nothing in it about that place.
        """
        if self._folder is None or place.count(":") != 2:
            return place
        file, line, column = place.split(":")
        for path in self._candidates(version, file):
            found = self._map(path)
            if found is not None:
                return _position(found, int(line) - 1, int(column) - 1) or place
        return place

    def _candidates(self, version: str, file: str) -> Iterator[Path]:
        # What browsers say must never lead out of the folder.
        folder = self._folder
        if folder is None or not _is_name(file):
            return
        if _is_name(version):
            yield folder / version / f"{file}.map"
        yield folder / f"{file}.map"

    def _read(self, path: Path) -> tuple[list[str], list[Line]] | None:
        try:
            if not path.is_file() or path.stat().st_size > _MAX_MAP_BYTES:
                return None
            found = json.loads(path.read_bytes())
            return _sources(found), list(_lines(str(found["mappings"])))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            self._report(error)
            return None


def _is_name(text: str) -> bool:
    return bool(text) and text not in (".", "..") and not set(text) & {"/", "\\", "\0"}


def _sources(found: dict[str, Any]) -> list[str]:
    # The last folders of a path tell enough, and no more than that fits into a label.
    return ["/".join(str(source).split("?")[0].split("/")[-2:])[-80:] for source in found["sources"]]


def _lines(mappings: str) -> Iterator[Line]:
    source = line = column = 0
    for group in mappings.split(";"):
        generated = 0
        columns: list[int] = []
        places: list[tuple[int, int, int]] = []
        for segment in filter(None, group.split(",")):
            fields = list(_numbers(segment))
            generated += fields[0]
            if len(fields) >= 4:
                source, line, column = source + fields[1], line + fields[2], column + fields[3]
                columns.append(generated)
                places.append((source, line, column))
        yield columns, places


def _numbers(segment: str) -> Iterator[int]:
    """Yield the numbers of a base64 VLQ: six bits a digit, the highest says that more follow, the lowest of
    the whole is the sign.
    """
    value = shift = 0
    for character in segment:
        digit = _DIGITS[character]
        value |= (digit & 31) << shift
        if digit & 32:
            shift += 5
            continue
        yield -(value >> 1) if value & 1 else value >> 1
        value = shift = 0


def _position(found: tuple[list[str], list[Line]], line: int, column: int) -> str:
    sources, lines = found
    if not 0 <= line < len(lines):
        return ""
    columns, places = lines[line]
    index = bisect_right(columns, column) - 1
    if index < 0:
        return ""
    source, source_line, source_column = places[index]
    if not 0 <= source < len(sources):
        return ""
    return f"{sources[source]}:{source_line + 1}:{source_column + 1}"
