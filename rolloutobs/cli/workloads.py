"""The file that says what ``rolloutobs serve`` watches.

An entry has the options of ``rolloutobs gate`` that say where to read and which series are which side, with
``_`` for ``-``, and what only a workload has: its name, its owner. A mistake is told with its line.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import yaml

from rolloutobs.analysis._http import base_url
from rolloutobs.cli.options import read_policy, seconds
from rolloutobs.cli.rails import add_rails, rails_of
from rolloutobs.cli.sources import add_sources, add_weight
from rolloutobs.console.model import Key, Workload
from rolloutobs.errors import ConfigurationError, SettingError
from rolloutobs.lines import line_of, yaml_lines

__all__ = ["KEYS", "WorkloadFile"]

# Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ (RFC 1123)
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_MOST_UNLISTED: Final = 500
_SOURCES: Final = ("prometheus", "scrape", "targets")
_WEIGHTS: Final = ("weight", "weight_file", "weight_query")
_FIXED: Final = frozenset({"by_version", "canary_version", "stable_version"})
"""Which version is the canary changes with every rollout."""
_FILES: Final = frozenset({"policy", "targets", "weight_file", "bearer_token_file", "basic_auth_file"}) | {
    "ca",
    "cert",
    "key",
}
"""Relative to the folder of the file."""
_TOP: Final = ("defaults", "unlisted", "workloads")


def _actions() -> Mapping[str, argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    add_sources(parser)
    add_weight(parser)
    add_rails(parser)
    parser.add_argument("--interval", type=seconds, default=15.0, help="time between looks (15s)")
    return {each.dest: each for each in parser._actions}


def _told(action: argparse.Action) -> str:
    return (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")


_ALL: Final = _actions()
_ACTIONS: Final = {name: each for name, each in _ALL.items() if name not in _FIXED}
_OWN: Final[Mapping[str, str]] = {
    "namespace": "where it is; with `name`, what callers name it by",
    "name": "of the Deployment, Rollout or Canary",
    "match": "only series of the Prometheus that satisfy this selector (default: the label `namespace` is "
    "its own); `{}` for all",
    "notify": "address that decisions and overrides are posted to, as JSON",
}
KEYS: Final[Mapping[str, str]] = {**_OWN, **{name: _told(each) for name, each in _ACTIONS.items()}}
"""What an entry may say, and what that means."""


@dataclass(slots=True)
class _Read:
    """What a file said when it was last good."""

    workloads: dict[Key, Workload] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()
    stamp: object = None


class WorkloadFile:
    """The workloads in a file, which is read again when it, or a policy that it names, changes.

    Args:
        path: a YAML file.

    Raises:
        ConfigurationError: it cannot be read or used; the message has the line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unlisted: dict[Key, Workload] = {}
        self.failed = ""
        """Why it could not be read again; empty: it could. What was there before holds."""
        self._read = self._load()

    @property
    def workloads(self) -> Mapping[Key, Workload]:
        """Return all of them, those without an entry too that have been asked for."""
        return {**self._unlisted, **self._read.workloads}

    def reread(self) -> bool:
        """Read the file again if it has changed; return whether there is something new."""
        try:
            if self._stamp(self._read) == self._read.stamp:
                self.failed = ""
                return False
            self._read = self._load()
            self._unlisted = {key: made for key in self._unlisted if (made := self._made(key))}
        except (ConfigurationError, OSError) as error:
            self.failed = str(error)
            return False
        self.failed = ""
        return True

    def cover(self, key: Key) -> Workload | None:
        """Return a workload that has no entry but is one of those that `unlisted` allows; ``None``: it is
        not."""
        found = self.workloads.get(key)
        if found is not None or len(self._unlisted) >= _MOST_UNLISTED:
            return found
        made = self._made(key)
        if made is not None:
            self._unlisted[key] = made
        return made

    def uncover(self, key: Key) -> None:
        """Forget one that has no entry, until it is asked for again."""
        self._unlisted.pop(key, None)

    def _made(self, key: Key) -> Workload | None:
        if not all(_NAME.fullmatch(part) for part in key):
            return None
        if not any(fnmatchcase(key[0], pattern) for pattern in self._read.unlisted):
            return None
        entry = {**self._read.defaults, "namespace": key[0], "name": key[1]}
        return replace(self._workload(entry, "defaults"), is_listed=False)

    # --- reading -------------------------------------------------------------------------------------------

    def _load(self) -> _Read:
        try:
            text = self._path.read_text(encoding="utf-8")
            plain = yaml.safe_load(text) or {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read the workloads {str(self._path)!r}: {error}") from None
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{self._path}: is not YAML: {' '.join(str(error).split())}") from None
        lines: Mapping[str, int] = {}
        try:
            lines = yaml_lines(text)
            return self._checked(plain)
        except SettingError as error:
            line = line_of(error.setting, lines)
            where = str(self._path) if line is None else f"{self._path}, line {line}"
            raise ConfigurationError(f"{where}: {error}") from None
        except ConfigurationError as error:
            raise ConfigurationError(f"{self._path}: {error}") from None

    def _checked(self, plain: object) -> _Read:
        if not isinstance(plain, Mapping):
            raise ConfigurationError(f"holds {type(plain).__name__}; use a mapping with {', '.join(_TOP)}")
        for key in plain:
            if key not in _TOP:
                raise SettingError(str(key), f"{key} is nothing that stands here; use {', '.join(_TOP)}")
        found = _Read()
        found.defaults = dict(_mapping(plain.get("defaults") or {}, "defaults"))
        for key in ("namespace", "name"):
            if key in found.defaults:
                raise SettingError(f"defaults.{key}", f"{key} is no default; it belongs to one workload")
        found.unlisted = tuple(_texts(plain.get("unlisted") or [], "unlisted"))
        for number, entry in enumerate(_list(plain.get("workloads") or [], "workloads")):
            where = f"workloads.{number}"
            made = self._workload(_over(found.defaults, _mapping(entry, where)), where)
            if made.key in found.workloads:
                raise SettingError(
                    where, f"{made.namespace}/{made.name} has an entry already; keep one of them"
                )
            found.workloads[made.key] = made
        self._check_defaults(found)
        found.stamp = self._stamp(found)
        return found

    def _check_defaults(self, found: _Read) -> None:
        if found.unlisted:
            self._workload({**found.defaults, "namespace": "some", "name": "thing"}, "defaults")
        elif not found.workloads:
            raise ConfigurationError("names no workload; add one to workloads, or namespaces to unlisted")

    def _workload(self, entry: Mapping[str, Any], where: str) -> Workload:
        for key in entry:
            if key not in KEYS:
                raise SettingError(
                    f"{where}.{key}", f"{key} is nothing that a workload has; {_nearby(str(key))}"
                )
        names = {key: _name(entry, key, where) for key in ("namespace", "name")}
        options = {name: each.default for name, each in _ALL.items()}
        options["app"] = names["name"]
        for key, value in entry.items():
            if key in _ACTIONS:
                path = f"{where}.{key}"
                options[key] = self._resolved(key, _converted(_ACTIONS[key], _filled(value, names), path))
        _one_of(entry, _SOURCES, where, needed=True)
        _one_of(entry, _WEIGHTS, where, needed=False)
        options["match"] = _filled(
            _text(entry, "match", where, f'{{namespace="{names["namespace"]}"}}'), names
        )
        self._check_policy(options, where)
        return Workload(
            namespace=names["namespace"],
            name=names["name"],
            app=str(options["app"]),
            interval_seconds=float(options["interval"]),
            rails=rails_of(argparse.Namespace(**options)),
            notify=_address(entry, where),
            options=options,
        )

    def _resolved(self, key: str, value: Any) -> Any:
        return self._path.parent / value if key in _FILES and value is not None else value

    def _check_policy(self, options: dict[str, Any], where: str) -> None:
        path = options["policy"]
        try:
            read_policy(path, "serve", options["metrics"])
        except ConfigurationError as error:
            raise SettingError(f"{where}.policy", str(error)) from None
        options["policy_stamp"] = _stamp(path) if path else None

    def _stamp(self, found: _Read) -> object:
        policies = {
            str(each.options["policy"]) for each in found.workloads.values() if each.options["policy"]
        }
        if found.defaults.get("policy"):
            policies.add(str(self._path.parent / str(found.defaults["policy"])))
        return (_stamp(self._path), *((path, _stamp(Path(path))) for path in sorted(policies)))


def _stamp(path: Path) -> object:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


# --- values -----------------------------------------------------------------------------------------------


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SettingError(where, f"{where} is {value!r:.60}; use a mapping")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise SettingError(where, f"{where} is {value!r:.60}; use a list")
    return value


def _texts(value: object, where: str) -> list[str]:
    found = _list(value, where)
    for each in found:
        if not isinstance(each, str):
            raise SettingError(where, f"{where} has {each!r}; use texts")
    return found


def _text(entry: Mapping[str, Any], key: str, where: str, default: str = "") -> str:
    value = entry.get(key, default)
    if not isinstance(value, str):
        raise SettingError(f"{where}.{key}", f"{key} is {value!r:.60}; use a text")
    return value


def _address(entry: Mapping[str, Any], where: str) -> str:
    value = _text(entry, "notify", where)
    try:
        return base_url(value) if value else ""
    except ConfigurationError as error:
        raise SettingError(f"{where}.notify", f"notify: {error}") from None


def _name(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = _text(entry, key, where)
    if not value:
        raise SettingError(where, f"{key} is missing")
    if not _NAME.fullmatch(value):
        raise SettingError(f"{where}.{key}", f"{key} is {value!r}; use a name as Kubernetes has them")
    return value


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    """Return `value` with ``{namespace}`` and ``{name}`` replaced, in texts and lists of them."""
    if isinstance(value, list):
        return [_filled(each, names) for each in value]
    if not isinstance(value, str):
        return value
    for key, name in names.items():
        value = value.replace(f"{{{key}}}", name)
    return value


def _converted(action: argparse.Action, value: Any, path: str) -> Any:
    """Return `value` as the option of the command line would have it."""
    name = path.rpartition(".")[2]
    if isinstance(action, argparse._AppendAction):
        return _texts([value] if isinstance(value, str) else value, path)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise SettingError(path, f"{name} is {value!r:.60}; use a text or a number")
    if action.choices is not None and value not in action.choices:
        raise SettingError(path, f"{name} is {value!r}; use {', '.join(map(str, action.choices))}")
    convert: Any = action.type or str
    try:
        return convert(str(value))
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise SettingError(path, f"{name}: {error}") from None


def _over(defaults: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return `entry` with what it leaves to the defaults: one that has a source of its own needs no other."""
    groups = [set(keys) for keys in (_SOURCES, _WEIGHTS) if not entry.keys().isdisjoint(keys)]
    replaced = set().union(*groups)
    return {**{key: value for key, value in defaults.items() if key not in replaced}, **entry}


def _one_of(entry: Mapping[str, Any], keys: tuple[str, ...], where: str, *, needed: bool) -> None:
    given = [key for key in keys if key in entry]
    if len(given) > 1:
        raise SettingError(
            f"{where}.{given[1]}", f"{given[0]} and {given[1]} exclude each other; keep one of them"
        )
    if needed and not given:
        raise SettingError(
            where, f"nothing says where to read; add one of {', '.join(keys)}, here or to defaults"
        )


def _nearby(key: str) -> str:
    if key.replace("-", "_") in KEYS:
        return f"write {key.replace('-', '_')}"
    if key in _FIXED:
        return "the canary's version changes with every rollout: use the label track, or canary and stable"
    return f"there are {', '.join(KEYS)}"
