"""Frozen dataclasses from plain mappings (YAML, TOML, JSON) and back, with messages that name the key.

Belongs here: types and their coercion, which know no particular dataclass. What a value may be is its class's
business.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from rolloutobs.errors import ConfigurationError, SettingError

__all__ = ["flat", "from_plain", "in_ranges", "share_of", "to_plain", "updated"]

_NUMBERS = {float: "a number", int: "a whole number"}


def share_of(text: str) -> float:
    """Return the share in ``0.05`` or ``5%``, from 0 to 1.

    Raises:
        ValueError: it is none.
    """
    number = text.strip()
    share = float(number[:-1]) / 100 if number.endswith("%") else float(number)
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is not a share of the traffic; use 0.05 or 5%")
    return share


def updated(default: Any, mapping: object, where: str) -> Any:
    """Return the dataclass instance `default` with the fields that `mapping` gives.

    Args:
        default: what holds where `mapping` says nothing.
        mapping: plain data, keyed by field name.
        where: path of `mapping` for messages, e.g. ``"signals.errors"``; the empty string at the top.

    Raises:
        SettingError: an unknown key, or a value of the wrong type.
    """
    hints = _hints(default.__class__)
    given = _mapping(mapping, where, hints)
    values = {}
    for key, value in given.items():
        old = getattr(default, key)
        path = f"{where}.{key}" if where else key
        merge = is_dataclass(old) and isinstance(value, Mapping)
        values[key] = updated(old, value, path) if merge else from_plain(hints[key], value, path)
    return _named(where, lambda: replace(default, **values))


def from_plain(kind: Any, value: object, where: str) -> Any:
    """Return `value` as an instance of the annotation `kind`.

    Understands dataclasses, enums of strings, numbers, booleans, strings, ``X | None``, ``tuple[X, ...]`` and
    ``Mapping[str, X]``.

    Raises:
        SettingError: `value` does not fit; the message shows `where`, the value and what would.
    """
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        inner = next(each for each in get_args(kind) if each is not type(None))
        return None if value is None else from_plain(inner, value, where)
    if origin is tuple:
        return tuple(from_plain(get_args(kind)[0], each, where) for each in _list(value, where))
    if origin is not None and issubclass(origin, Mapping):
        pairs = _mapping(value, where, None)
        return {key: from_plain(get_args(kind)[1], each, f"{where}.{key}") for key, each in pairs.items()}
    return _scalar(kind, value, where)


def to_plain(value: Any) -> Any:
    """Return dataclasses as dicts, enums as their strings, tuples as lists, all the way down."""
    if is_dataclass(value):
        return {each.name: to_plain(getattr(value, each.name)) for each in fields(value) if each.init}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {key: to_plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [to_plain(each) for each in value]
    return value


def flat(plain: object, path: str = "") -> dict[str, object]:
    """Return the leaves of nested mappings by dotted path; an empty mapping is a leaf."""
    if not isinstance(plain, Mapping) or not plain:
        return {path: plain}
    found: dict[str, object] = {}
    for key, each in plain.items():
        found.update(flat(each, f"{path}.{key}" if path else key))
    return found


def in_ranges(owner: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check that each field of `owner` is between its two limits, both included; ``None`` passes.

    Raises:
        SettingError: a field is not, or is NaN; the message names it.
    """
    for name, (low, high) in ranges.items():
        value = getattr(owner, name)
        if value is not None and not low <= value <= high:
            raise SettingError(name, f"{name} is {value!r}; use a number from {low:g} to {high:g}")


def _scalar(kind: Any, value: object, where: str) -> Any:
    if is_dataclass(kind):
        return _new(kind, value, where)
    if issubclass(kind, StrEnum):
        if isinstance(value, str) and value in list(kind):
            return kind(value)
        words = ", ".join(map(repr, map(str, kind)))
        raise SettingError(where, f"{where} is {value!r}; use one of {words}")
    if kind in _NUMBERS:
        return _number(kind, value, where)
    if not isinstance(value, kind):
        what = "true or false" if kind is bool else "a text"
        raise SettingError(where, f"{where} is {value!r}; use {what}")
    return value


def _number(kind: type[float], value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or kind(value) != value:
        raise SettingError(where, f"{where} is {value!r}; use {_NUMBERS[kind]}")
    return kind(value)


def _new(kind: Any, value: object, where: str) -> Any:
    hints = _hints(kind)
    given = _mapping(value, where, hints)
    values = {key: from_plain(hints[key], each, f"{where}.{key}") for key, each in given.items()}
    missing = [f.name for f in fields(kind) if f.init and f.name not in values and not _has_default(f)]
    if missing:
        raise SettingError(where, f"{where} lacks {', '.join(missing)}; add what is missing")
    return _named(where, lambda: kind(**values))


def _named(where: str, make: Any) -> Any:
    """Call `make`; a complaint of the class about its own fields gets the path in front."""
    try:
        return make()
    except ConfigurationError as error:
        setting = error.setting if isinstance(error, SettingError) else ""
        path = ".".join(part for part in (where, setting) if part)
        raise SettingError(path, f"{where}: {error}" if where else str(error)) from None


def _has_default(each: Any) -> bool:
    return (
        type(each.default).__name__ != "_MISSING_TYPE"
        or type(each.default_factory).__name__ != "_MISSING_TYPE"
    )


def _mapping(value: object, where: str, known: Mapping[str, object] | None) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise SettingError(where, f"{where or 'the policy'} is {value!r}; use a mapping of names to values")
    for key in value:
        if known is not None and key not in known:
            path = f"{where}.{key}" if where else key
            raise SettingError(path, f"{path} is not a setting; use one of {', '.join(sorted(known))}")
    return value


def _list(value: object, where: str) -> Sequence[object]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise SettingError(where, f"{where} is {value!r}; use a list")
    return value


@lru_cache(maxsize=64)
def _hints(kind: type) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind) if each.init}
