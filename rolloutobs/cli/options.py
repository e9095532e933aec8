"""What the commands that compare have in common: where to read, which policy, how often.

Nothing heavy is imported here: ``rolloutobs --help`` works on the bare install.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from rolloutobs.analysis.policy import Policy

__all__ = ["EXIT_CODES", "add_sources", "output_file", "read_policy", "require", "seconds", "write"]

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


def output_file(text: str) -> Path:
    """Return a path that can be written to: an hour of watching must not end in a missing folder."""
    path = Path(text)
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder of {text!r} does not exist")
    return path


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where to read and what decides."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--scrape",
        action="append",
        metavar="ADDRESS",
        help="read the /metrics of this process; host:port means http://host:port/metrics. Give it once for "
        "every process: each pod of both tracks, the real-user collector, the synthetic checks",
    )
    where.add_argument(
        "--prometheus", metavar="URL", help="read from this Prometheus (or Thanos, Mimir) instead"
    )
    parser.add_argument("--app", default="", help="compare only metrics with this label app (service.name)")
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="what decides, as YAML or TOML (rolloutobs policy show)"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="TIME",
        help="limit of one read (default: the interval, at least 2s and at most 5s)",
    )


def require(command: str, *modules: str) -> None:
    """Check that the analysis extra is installed.

    Raises:
        MissingExtraError: one of `modules` is not; its message is the ``pip install`` line.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("analysis", f"rolloutobs {command}", module)


def read_policy(path: Path | None, command: str = "policy") -> Policy:
    """Return the policy in the file at `path`, or the default one.

    Raises:
        ConfigurationError: the file cannot be read, or what it says is wrong.
        MissingExtraError: it is YAML, and PyYAML is not installed.
    """
    from rolloutobs.analysis.policy import Policy

    if path is None:
        return Policy()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the policy {str(path)!r}: {error}") from None
    try:
        return Policy.from_mapping(_parse(text, path, command))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


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
