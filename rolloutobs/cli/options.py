"""What the commands that compare have in common: time spans, files, the policy. Sources are in `sources`.

Nothing heavy is imported here: ``rolloutobs --help`` works on the bare install.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.analysis.presets import PRESETS
from rolloutobs.errors import ConfigurationError, MissingExtraError, SettingError
from rolloutobs.lines import line_of, toml_lines, yaml_lines

if TYPE_CHECKING:
    from rolloutobs.analysis.policy import Policy

__all__ = [
    "EXIT_CODES",
    "address",
    "output_file",
    "policy_lines",
    "read_policy",
    "require",
    "seconds",
    "share",
    "write",
]

EXIT_CODES: Final = """\
exit codes:
  0  promote: the canary is proven to be within its margins
  1  rollback: the canary is proven to be worse
  2  usage or infrastructure: nothing could be compared
  3  hold: not decided"""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Return a time span such as ``15s``, ``1.5m``, ``1h`` or ``90`` (seconds) in seconds; it is above 0."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip())
    if found is None or found[2] not in _UNITS or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time span; use for example 15s, 5m or 1h")
    return float(found[1]) * _UNITS[found[2]]


def share(text: str) -> float:
    """Return a share of the traffic such as ``0.05`` or ``5%``, above 0 and below 1."""
    from rolloutobs.analysis.loading import share_of

    try:
        found = share_of(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of the traffic; use 0.05 or 5%")
    return found


def address(text: str) -> tuple[str, int]:
    """Return host and port of ``host:port``, ``:port`` (all addresses) or ``[::1]:port``.

    Raises:
        ConfigurationError: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(
            f"{text!r} is nothing to listen on; use host:port, or :port for all addresses"
        )
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - what ":port" means


def output_file(text: str) -> Path:
    """Return a path that can be written to: an hour of watching must not end in a missing folder."""
    path = Path(text)
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder of {text!r} does not exist")
    return path


def require(command: str, *modules: str, extra: str = "analysis") -> None:
    """Check that an extra is installed.

    Raises:
        MissingExtraError: one of `modules` is not; its message is the ``pip install`` line.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(extra, f"rolloutobs {command}", module)


def read_policy(path: Path | None, command: str = "policy", metrics: str = "default") -> Policy:
    """Return the policy in the file at `path`, or the default one, on the metrics of a preset.

    Raises:
        ConfigurationError: the file cannot be read, or what it says is wrong.
        MissingExtraError: it is YAML, and PyYAML is not installed.
    """
    from rolloutobs.analysis.policy import Policy

    preset = {"signals": PRESETS[metrics]}
    if path is None:
        return Policy.from_mapping(preset)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the policy {str(path)!r}: {error}") from None
    try:
        given = _parse(text, path, command)
        lines = policy_lines(text, path)
        return Policy.from_mapping(_over(preset, given))
    except SettingError as error:
        line = line_of(error.setting, lines)
        where = str(path) if line is None else f"{path}, line {line}"
        raise ConfigurationError(f"{where}: {error}") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def policy_lines(text: str, path: Path) -> Mapping[str, int]:
    """Return the line of each setting in the `text` of the file at `path`, which parses."""
    return toml_lines(text) if path.suffix == ".toml" else yaml_lines(text)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with what `above` says; labels belong together and are replaced as a whole."""
    merged = dict(below)
    for key, value in above.items():
        old = below.get(key)
        deeper = isinstance(old, Mapping) and isinstance(value, Mapping) and key != "labels"
        merged[key] = _over(old, value) if deeper else value  # type: ignore[arg-type]
    return merged


def _parse(text: str, path: Path, command: str) -> dict[str, Any]:
    try:
        found = tomllib.loads(text) if path.suffix == ".toml" else _parse_yaml(text, command)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"is not TOML: {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"holds {type(found).__name__}; use a mapping, as rolloutobs policy show prints it"
        )
    return found


def _parse_yaml(text: str, command: str) -> object:
    require(command, "yaml")
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(f"is not YAML: {' '.join(str(error).split())}") from None


def write(path: Path, text: str) -> None:
    """Write a report so that a reader sees the old one or the new one, never half of it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
