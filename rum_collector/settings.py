"""Settings of the collector: one frozen object, from the environment and the command line.

Belongs here: every option with its meaning, its check and its default. Nothing else reads the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from rolloutobs.errors import ConfigurationError

__all__ = ["ENVIRONMENT_PREFIX", "HELP", "Settings", "from_env", "parse_option"]

ENVIRONMENT_PREFIX: Final = "ROLLOUTOBS_COLLECTOR_"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the collector accepts, where, and how much of it it keeps apart."""

    apps: tuple[str, ...] = ()
    """Apps whose beacons are accepted; others get 400. Empty: any, up to `max_apps`. The first one is meant
    by bodies that name no app; without any, those count as ``unknown``."""

    beacon_path: str = "/b"
    """Where the script posts. No "rum", "beacon" or "analytics" in it, for ad blockers match such words."""

    simple_path: str = "/api/metrics"
    """Where hand-written bodies go: one metric, its value in milliseconds, and the version."""

    script_path: str = "/rolloutobs.js"
    """Where the browser script is served. It posts to ``b`` beside itself unless its tag says otherwise."""

    max_body_bytes: int = 65_536
    """Longer bodies get 413. The default is what browsers allow all beacons of a page together."""

    max_apps: int = 20
    """Apps kept apart; further ones count as ``other``. Not used when `apps` is given."""

    max_versions: int = 50
    """Versions kept apart per app. A further one takes the place of the one that was idle longest, see
    `version_idle_seconds`; where none was, it counts as ``other``."""

    version_idle_seconds: int = 3600
    """Seconds without a beacon after which a version may lose its place, and its series, to a new one."""

    max_routes: int = 200
    """Routes kept apart per app; further ones count as ``other``."""

    max_events: int = 50
    """Names of business events kept apart per app; further ones count as ``other``."""

    max_fingerprints: int = 100
    """Different JavaScript errors kept apart per app and version; further ones count as ``other``."""

    max_label_sets: int = 2000
    """Sets of (app, version, track, route, device) kept apart in all: the bound on memory and on series.
    Full, versions idle for `version_idle_seconds` give theirs back; else route and device count as
    ``other``, in one set more per version and track."""

    max_views: int = 50_000
    """Beacons remembered (twice as many at most) to recognise one that is sent again."""

    host: str = "127.0.0.1"
    """Address to listen on; ``0.0.0.0`` in a container."""

    port: int = 8320
    """Port to listen on; 0 takes a free one."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigurationError: a path is not absolute or used twice, a bound is below 1, or the port is none.
        """
        paths = {name: getattr(self, name) for name in ("beacon_path", "simple_path", "script_path")}
        for name, path in paths.items():
            if not path.startswith("/") or path in _RESERVED:
                raise ConfigurationError(
                    f"{name} is {path!r}; use an absolute path other than /metrics, /healthz"
                )
        if len(set(paths.values())) != len(paths):
            raise ConfigurationError(
                f"paths must differ: {', '.join(f'{n} is {p!r}' for n, p in paths.items())}"
            )
        for field in fields(self):
            if field.name.startswith(("max_", "version_")) and getattr(self, field.name) < 1:
                raise ConfigurationError(f"{field.name} is {getattr(self, field.name)}; use at least 1")
        if not 0 <= self.port <= 65_535:
            raise ConfigurationError(f"port is {self.port}; use 0 to 65535")


_RESERVED: Final = frozenset({"/metrics", "/healthz"})

HELP: Final[Mapping[str, str]] = {
    "apps": "accept beacons of these apps only, comma-separated; the first is meant where none is named",
    "beacon_path": "where the browser script posts",
    "simple_path": 'where bodies like {"metric": "page_load_time", "value": 1234, "version": "1.2.0"} go',
    "script_path": "where the browser script is served",
    "max_body_bytes": "longer bodies get 413",
    "max_apps": "apps kept apart; further ones count as 'other'",
    "max_versions": "versions kept apart per app",
    "version_idle_seconds": "after so long without a beacon a version may lose its series to a new one",
    "max_routes": "routes kept apart per app",
    "max_events": "names of business events kept apart per app",
    "max_fingerprints": "different JavaScript errors kept apart per app and version",
    "max_label_sets": "sets of app, version, track, route and device kept apart in all",
    "max_views": "beacons remembered, to drop one that is sent again",
    "host": "address to listen on; 0.0.0.0 in a container",
    "port": "port to listen on; 0 takes a free one",
}
"""One line per setting, for ``--help`` and the docs."""


def parse_option(name: str, text: str, source: str) -> Any:
    """Return the value of the setting `name` written as `text`; `source` names where it was written.

    Raises:
        ConfigurationError: `text` is not a number where one is needed, or an app has no name.
    """
    default = _DEFAULTS[name]
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, str):
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(f"{source} is {text!r}; use a whole number") from None


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
        if name not in _DEFAULTS:
            known = ", ".join(ENVIRONMENT_PREFIX + known.upper() for known in _DEFAULTS)
            raise ConfigurationError(f"{variable} is no setting of the collector; use one of {known}")
        if text:
            given[name] = parse_option(name, text, variable)
    return given


def _is_service_link(variable: str, text: str) -> bool:
    """Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables."""
    if re.search(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)", variable):
        return True
    return re.match(r"(tcp|udp|sctp)://", text) is not None


_DEFAULTS: Final[Mapping[str, Any]] = {field.name: field.default for field in fields(Settings)}
