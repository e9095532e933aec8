"""Settings of the collector: one frozen object.

Belongs here: every setting with its meaning, its check and its default. Where their values come from is
`rum_collector.configuration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from typing import Any, Final

from rolloutobs.errors import ConfigurationError, SettingError
from rolloutobs.identity import Track

__all__ = ["DEFAULTS", "OPTIONS", "Settings", "known_version"]


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

    faro_path: str = "/collect"
    """Where Grafana's Faro SDK posts."""

    otlp_path: str = "/v1"
    """Below it are ``logs``, ``traces`` and ``metrics`` of OTLP/HTTP."""

    origins: tuple[str, ...] = ()
    """Origins of the pages that may post, such as ``https://shop.example.com``; others get 403. Empty: any.
    A body without an Origin, which no browser sends, is refused where this is set."""

    max_body_bytes: int = 65_536
    """Longer bodies get 413. The default is what browsers allow all beacons of a page together."""

    max_inflated_bytes: int = 1_048_576
    """What a gzip body may become; more gets 413. Counted while it is inflated."""

    body_seconds: int = 10
    """How long the head or the body of a request may take; slower ones get 408, or are cut off."""

    client_rate: float = 50.0
    """Bodies a second from one address (IPv6: from one /64); more get 429. Offices and mobile networks share
    one. Per worker."""

    client_burst: int = 500
    """Bodies that one address may send at once."""

    total_rate: float = 5000.0
    """Bodies a second from everybody together, per worker: about half of what one core can count."""

    total_burst: int = 10_000
    """Bodies that all together may send at once."""

    max_clients: int = 20_000
    """Addresses whose rate is remembered, hashed with a salt; the one that was silent longest makes room."""

    trusted_proxies: tuple[str, ...] = ()
    """Networks whose ``X-Forwarded-For`` is believed, such as ``10.0.0.0/8``: without them, all who come
    through an ingress look like one address."""

    count_bots: bool = False
    """Count crawlers and browsers that a program drives like people. For tests."""

    versions: tuple[str, ...] = ()
    """Versions that are out, as ``1.2.0``, ``1.2.0:canary`` or ``shop/1.2.0:canary``. Where these or
    `version_urls` are set, all others count as ``other``. The track is used where a beacon has none."""

    version_urls: tuple[str, ...] = ()
    """Addresses of ``/metrics`` of the app's processes, or of ``rolloutobs watch``, which knows all pods of a
    cluster: asked every 15 seconds which versions are out. A version stays known for two hours after nobody
    tells of it any more: pages of it are still open."""

    max_apps: int = 20
    """Apps kept apart; further ones count as ``other``. Not used when `apps` is given."""

    max_versions: int = 50
    """Versions kept apart per app. A further one takes the place of the one that was idle longest, see
    `version_idle_seconds`; where none was, it counts as ``other``."""

    version_idle_seconds: int = 3600
    """Seconds without a beacon after which a version may lose its place, and its series, to a new one."""

    max_routes: int = 200
    """Routes kept apart per app; further ones count as ``other``. A version that loses its place takes along
    those that only it had."""

    max_events: int = 50
    """Names of business events kept apart per app; further ones count as ``other``."""

    max_fingerprints: int = 100
    """Different JavaScript errors kept apart per app and version; further ones count as ``other``."""

    max_label_sets: int = 2000
    """Sets of (app, version, track, route, device) kept apart in all: the bound on memory and on series.
    Full, versions idle for `version_idle_seconds` give theirs back; else route and device count as
    ``other``, in one set more per version and track."""

    max_views: int = 262_144
    """Page views remembered, in 16 bytes each, to recognise a beacon that is sent again; and as many view
    tokens that were used, where there is a secret. Shared by all workers."""

    secret: tuple[str, ...] = field(default=(), repr=False)
    """What view tokens are signed with, from ``ROLLOUTOBS_SECRET`` (or ``ROLLOUTOBS_SECRET_FILE``) as in the
    app that serves the pages: only views that present a valid, unused one are evidence. All are accepted."""

    data_dir: str = ""
    """Folder where counts are kept, so that a killed or restarted collector goes on where it was. Empty: they
    last as long as the collector, and survive only the death of a worker."""

    forward_url: str = ""
    """An OpenTelemetry Collector (``http://otel-collector:4318``) to which errors and the traces of other
    agents are sent on. Empty: nothing is."""

    forward_max_bytes: int = 8_388_608
    """What may wait to be sent on; then the oldest is dropped, and counted."""

    source_maps: str = ""
    """Folder with source maps, as ``app-3f2a.js.map`` or ``1.2.0/app.js.map``; nothing is ever fetched."""

    last_scrape_seconds: int = 20
    """How long SIGTERM waits for one more scrape, where something was counted since the last one."""

    workers: int = 1
    """Processes that count; any of them answers a scrape for all."""

    host: str = "127.0.0.1"
    """Address to listen on; ``0.0.0.0`` in a container."""

    port: int = 8320
    """Port to listen on; 0 takes a free one."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigurationError: a path is used twice, or a version cannot be read.
            SettingError: a path is not absolute, a bound is too small, the port is none, a network or an
                address cannot be read.
        """
        self._check_paths()
        for bound in fields(self):
            least = _LEAST.get(bound.name, 1 if bound.name.startswith(("max_", "version_idle")) else None)
            # Not below it, and a number at all.
            if least is not None and not getattr(self, bound.name) >= least:
                text = f"{bound.name} is {getattr(self, bound.name)}; use at least {least}"
                raise SettingError(bound.name, text)
        if not 0 <= self.port <= 65_535:
            raise SettingError("port", f"port is {self.port}; use 0 to 65535")
        self._check_lists()

    def _check_lists(self) -> None:
        for network in self.trusted_proxies:
            try:
                ip_network(network, strict=False)
            except ValueError:
                text = f"trusted_proxies has {network!r}; use networks such as 10.0.0.0/8"
                raise SettingError("trusted_proxies", text) from None
        for name, urls in (("version_urls", self.version_urls), ("forward_url", (self.forward_url,))):
            for url in filter(None, urls):
                if not url.startswith(("http://", "https://")):
                    text = f"{name} has {url!r}, which is not an address; use http:// or https://"
                    raise SettingError(name, text)
        for entry in self.versions:
            try:
                known_version(entry)
            except ConfigurationError as error:
                raise SettingError("versions", str(error)) from None

    def _check_paths(self) -> None:
        paths = {name: getattr(self, name) for name in _PATHS}
        for name, path in paths.items():
            if not path.startswith("/") or path in _RESERVED:
                text = f"{name} is {path!r}; use an absolute path other than /metrics, /healthz"
                raise SettingError(name, text)
        if len(set(paths.values())) != len(paths):
            raise ConfigurationError(
                f"paths must differ: {', '.join(f'{n} is {p!r}' for n, p in paths.items())}"
            )


def known_version(entry: str) -> tuple[str, str, Track]:
    """Return app (empty: every app), version and track of an entry of ``versions``.

    Raises:
        ConfigurationError: there is no version in it, or a track that does not exist.
    """
    before, slash, after = entry.rpartition("/")
    version, colon, track = after.rpartition(":")
    if not colon:
        version, track = after, ""
    if not version or (slash and not before):
        raise ConfigurationError(f"versions has {entry!r}; use entries such as shop/1.2.0:canary")
    return before, version, Track.parse(track, "the track in versions")


_PATHS: Final = ("beacon_path", "simple_path", "script_path", "faro_path", "otlp_path")
_LEAST: Final = {
    "body_seconds": 1,
    "client_rate": 0.001,
    "client_burst": 1,
    "total_rate": 0.001,
    "total_burst": 1,
    "forward_max_bytes": 1,
    "last_scrape_seconds": 0,
    "workers": 1,
}
_RESERVED: Final = frozenset({"/metrics", "/healthz"})

DEFAULTS: Final[Mapping[str, Any]] = {
    setting.name: () if setting.name == "secret" else setting.default for setting in fields(Settings)
}
"""The default of every setting."""
OPTIONS: Final = tuple(name for name in DEFAULTS if name != "secret")
"""Settings that a file or an option gives: a secret there would be seen by others."""
