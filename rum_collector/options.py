"""What the settings are called on a command line and in an environment, and one line of help for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rolloutobs import variables
from rum_collector.settings import DEFAULTS

__all__ = ["ENVIRONMENT_PREFIX", "HELP", "option_of", "parse_option", "variable_of"]

ENVIRONMENT_PREFIX: Final = "ROLLOUTOBS_COLLECTOR_"

HELP: Final[Mapping[str, str]] = {
    "apps": "accept beacons of these apps only, comma-separated; the first is meant where none is named",
    "beacon_path": "where the browser script posts",
    "simple_path": 'where bodies like {"metric": "page_load_time", "value": 1234, "version": "1.2.0"} go',
    "script_path": "where the browser script is served",
    "faro_path": "where Grafana's Faro SDK posts",
    "otlp_path": "below it are logs, traces and metrics of OTLP/HTTP",
    "origins": "origins of the pages that may post, comma-separated; others get 403",
    "max_body_bytes": "longer bodies get 413",
    "max_inflated_bytes": "what a gzip body may become; more gets 413",
    "body_seconds": "how long the head or the body of a request may take",
    "client_rate": "bodies a second from one address, per worker; more get 429",
    "client_burst": "bodies that one address may send at once",
    "total_rate": "bodies a second from everybody together, per worker",
    "total_burst": "bodies that all together may send at once",
    "max_clients": "addresses whose rate is remembered, hashed",
    "trusted_proxies": "networks whose X-Forwarded-For is believed, comma-separated; without any, nobody's",
    "count_bots": "count crawlers and browsers that a program drives like people; for tests",
    "versions": "versions that are out, as 1.2.0, 1.2.0:canary or shop/1.2.0:canary; others are 'other'",
    "version_urls": "/metrics of the app or rolloutobs watch, asked every 15 seconds which versions are out",
    "max_apps": "apps kept apart; further ones count as 'other'",
    "max_versions": "versions kept apart per app",
    "version_idle_seconds": "after so long without a beacon a version may lose its series to a new one",
    "max_routes": "routes kept apart per app",
    "max_events": "names of business events kept apart per app",
    "max_fingerprints": "different JavaScript errors kept apart per app and version",
    "max_label_sets": "sets of app, version, track, route and device kept apart in all",
    "max_views": "page views, and used tokens, remembered in 16 bytes each: none counts twice",
    "secret": "what view tokens are signed with; given as ROLLOUTOBS_SECRET or ROLLOUTOBS_SECRET_FILE only",
    "data_dir": "folder where counts are kept over a kill or a restart; without one they end with it",
    "forward_url": "OpenTelemetry Collector to which errors and traces are sent on; without one nothing is",
    "forward_max_bytes": "what may wait to be sent on; then the oldest is dropped and counted",
    "source_maps": "folder with source maps, as app.js.map or 1.2.0/app.js.map",
    "last_scrape_seconds": "how long SIGTERM waits for one more scrape",
    "workers": "processes that count",
    "host": "address to listen on; 0.0.0.0 in a container",
    "port": "port to listen on; 0 takes a free one",
}
"""One line per setting, for ``--help`` and the docs."""


def option_of(setting: str) -> str:
    """Return the option of a setting."""
    return "--app" if setting == "apps" else "--" + setting.replace("_", "-")


def variable_of(setting: str) -> str:
    """Return the environment variable of a setting."""
    return ENVIRONMENT_PREFIX + setting.upper()


def parse_option(name: str, text: str, source: str) -> Any:
    """Return the value of the setting `name` written as `text`; `source` names where it was written.

    Raises:
        ConfigurationError: `text` is not a number, or not yes or no, where one is needed.
    """
    default = DEFAULTS[name]
    if isinstance(default, tuple):
        return variables.words(source, text)
    if isinstance(default, bool):
        return variables.boolean(source, text)
    if isinstance(default, float):
        return variables.number(source, text)
    if isinstance(default, str):
        return text
    return variables.whole(source, text)
