"""Where the settings' values come from: a file, over it the environment, over that the command line.

The file is TOML, for which Python brings its own reader: the collector's image needs no parser of YAML.
Belongs here: reading, and who wins. What a value may be is `rum_collector.settings`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rolloutobs import variables
from rolloutobs.errors import ConfigurationError, SettingError
from rolloutobs.lines import line_of, toml_lines
from rum_collector.options import ENVIRONMENT_PREFIX, parse_option, variable_of
from rum_collector.settings import DEFAULTS, OPTIONS, Settings

__all__ = ["CONFIG", "Configured", "configured", "from_env", "from_file", "tell"]

CONFIG: Final = "config"
"""Names the file: as an option and as a variable."""
_SECRET: Final = "ROLLOUTOBS_SECRET"  # noqa: S105 - the name of the variable


@dataclass(frozen=True, slots=True)
class Configured:
    """Settings, and where those come from that are not the defaults."""

    settings: Settings
    sources: Mapping[str, str]
    """A file with its line, a variable or an option, by setting."""

    def text(self) -> str:
        """Return every setting as a file has it, with where its value comes from; never the secret."""
        lines = []
        for name in OPTIONS:
            source = self.sources.get(name)
            lines.append(
                f"{name} = {_toml(getattr(self.settings, name))}{f'  # {source}' if source else ''}\n"
            )
        return "".join(lines)


def configured(environ: Mapping[str, str], arguments: Mapping[str, tuple[str, Any]]) -> Configured:
    """Return the settings that a process is told.

    Args:
        environ: its environment; ``ROLLOUTOBS_COLLECTOR_CONFIG`` names a file.
        arguments: options of the command line with their values, by setting; ``config`` names a file, too.

    Raises:
        ConfigurationError: something cannot be read, or used.
    """
    path = str(arguments[CONFIG][1] if CONFIG in arguments else environ.get(variable_of(CONFIG), ""))
    given, sources = from_file(Path(path)) if path else ({}, {})
    for name, value in from_env(environ).items():
        given[name], sources[name] = value, _SECRET if name == "secret" else variable_of(name)
    for name, (option, value) in arguments.items():
        if name != CONFIG:
            given[name], sources[name] = value, option
    try:
        return Configured(Settings(**given), sources)
    except SettingError as error:
        source = sources.get(error.setting, "")
        if path and source.startswith(path):
            raise ConfigurationError(f"{source}: {error}") from None
        raise


def from_file(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings in the file at `path`, and the line of each.

    Raises:
        ConfigurationError: it cannot be read, is not TOML, or has something that is no setting, or is not
            of its kind; the message has the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the configuration {str(path)!r}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    lines = toml_lines(text)
    given, sources = {}, {}
    for name, value in found.items():
        sources[name] = f"{path}, line {line_of(name, lines)}"
        try:
            given[name] = _checked(name, value)
        except ConfigurationError as error:
            raise ConfigurationError(f"{sources[name]}: {error}") from None
    return given, sources


def _checked(name: str, value: object) -> Any:
    if name == "secret":
        raise ConfigurationError(f"a secret is not kept in this file; use {_SECRET} or {_SECRET}_FILE")
    if name not in OPTIONS:
        near = difflib.get_close_matches(name, OPTIONS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(OPTIONS)}"
        raise ConfigurationError(f"{name!r} is no setting of the collector; {hint}")
    default = DEFAULTS[name]
    if isinstance(default, tuple):
        parts = [value] if isinstance(value, str) else value
        if isinstance(parts, list) and all(isinstance(part, str) for part in parts):
            return variables.words(name, ",".join(parts))
        raise ConfigurationError(f"{name} is {value!r}; use a list of texts")
    # In TOML as in Python, true is no number, and 1 may stand where 1.0 may.
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if type(value) not in kinds:
        raise ConfigurationError(f"{name} is {value!r}; use {_KINDS[type(default)]}")
    return float(value) if isinstance(value, int) and isinstance(default, float) else value


_KINDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        # The escapes of a basic string. Source: TOML 1.0, "String".
        escaped = re.sub(r'["\\\x00-\x1f\x7f]', lambda found: f"\\u{ord(found[0]):04x}", value)
        return f'"{escaped}"'
    return str(value).lower()


def from_env(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that `environ` gives, by name; an empty variable counts as not given.

    Kubernetes puts the address of a Service called rolloutobs-collector into variables with our prefix, as in
    ``ROLLOUTOBS_COLLECTOR_PORT=tcp://10.0.0.1:80``: those are passed over.

    Raises:
        ConfigurationError: a variable cannot be read, or starts with our prefix and is no setting.
    """
    given: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or _is_service_link(variable, text):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name == CONFIG:
            continue
        if name not in OPTIONS:
            known = ", ".join(map(variable_of, OPTIONS))
            raise ConfigurationError(f"{variable} is no setting of the collector; use one of {known}")
        if text:
            given[name] = parse_option(name, text, variable)
    secret = variables.secrets(environ, _SECRET)
    if secret:
        given["secret"] = secret
    return given


def tell(environ: MutableMapping[str, str], settings: Settings) -> None:
    """Write `settings` into `environ`, but for the secret, which is there: how workers are told.

    What was there is taken out, the file too: an option may have set back to its default what they say.
    """
    for name in (CONFIG, *OPTIONS):
        environ.pop(variable_of(name), None)
    for name in OPTIONS:
        value = getattr(settings, name)
        if value != DEFAULTS[name]:
            environ[variable_of(name)] = ",".join(value) if isinstance(value, tuple) else str(value)


def _is_service_link(variable: str, text: str) -> bool:
    """Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables."""
    if re.search(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)", variable):
        return True
    return re.match(r"(tcp|udp|sctp)://", text) is not None
