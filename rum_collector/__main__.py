"""``rolloutobs-collector``: the collector behind uvicorn."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from rolloutobs.errors import ConfigurationError, MissingExtraError
from rolloutobs.usage import Parser, add_version
from rum_collector.configuration import CONFIG, Configured, configured, tell
from rum_collector.options import ENVIRONMENT_PREFIX, HELP, option_of, parse_option, variable_of
from rum_collector.settings import DEFAULTS, OPTIONS, Settings

__all__ = ["configured_by", "main", "parser"]

_ADDING = ("apps", "origins", "trusted_proxies", "versions", "version_urls")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line: one option per setting."""
    result = Parser(
        prog="rolloutobs-collector",
        description="Counts what browsers measure per app, version, track and route, for Prometheus.",
        epilog=f"Each option is also read from the environment, as {ENVIRONMENT_PREFIX}PORT for --port, and "
        "from the file, as port = 8320; the command line wins over the environment, and that over the file. "
        "View tokens are signed with ROLLOUTOBS_SECRET, or ROLLOUTOBS_SECRET_FILE. "
        "Keep /metrics away from the internet: publish the other paths only.",
    )
    add_version(result)
    result.add_argument(
        "--config", metavar="FILE", help=f"a TOML file with settings (also {variable_of(CONFIG)})"
    )
    result.add_argument(
        "--check-config",
        action="store_true",
        help="print every setting, and where its value comes from, and end: 0 if they can be used, else 2",
    )
    for name in OPTIONS:
        default = DEFAULTS[name]
        shown = ",".join(default) if isinstance(default, tuple) else default
        text = HELP[name] + (f" (default: {shown})" if shown not in ("", False) else _NOTHING.get(name, ""))
        if isinstance(default, bool):
            result.add_argument(option_of(name), dest=name, action="store_const", const="true", help=text)
            continue
        result.add_argument(
            option_of(name),
            dest=name,
            # Every option may be repeated: the last one wins, but for lists, which grow.
            action="append" if name in _ADDING else "store",
            metavar="N" if isinstance(default, int | float) else "TEXT",
            help=text,
        )
    return result


_NOTHING: Mapping[str, str] = {"apps": " (default: any)", "origins": " (default: any)"}


def configured_by(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> Configured:
    """Return the settings of a parsed command line and an environment.

    Raises:
        ConfigurationError: an option, a variable or the file cannot be used.
    """
    given = {}
    for name in (CONFIG, *OPTIONS):
        text, option = arguments[name], option_of(name)
        if text is not None:
            text = ",".join(text) if name in _ADDING else text
            given[name] = option, text if name == CONFIG else parse_option(name, text, option)
    return configured(environ, given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the collector until SIGINT or SIGTERM; return 0 after a clean stop, 2 where it could not start."""
    options = parser().parse_args(arguments)
    try:
        found = configured_by(vars(options), os.environ)
        if options.check_config:
            sys.stdout.write(found.text())
            return 0
        settings = found.settings
        serve = _server()
    except ConfigurationError as error:
        print(f"rolloutobs-collector: {error}", file=sys.stderr)
        return 2
    # Workers are processes of their own, and are told by the environment.
    tell(os.environ, settings)
    # uvicorn raises the signal once more after a clean stop: this command was asked to end, and did not fail.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopped)
    try:
        return 0 if serve(settings) else 2
    except OSError as error:
        print(f"rolloutobs-collector: {error}", file=sys.stderr)
        return 2


def _stopped(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _server() -> Callable[[Settings], bool]:
    try:
        from rum_collector.serving import serve
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "httptools", "msgspec", "httpx2"):
            raise
        raise MissingExtraError("collector", "rolloutobs-collector", str(error.name)) from None
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # One line per request to the OpenTelemetry Collector would drown what matters.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return serve


if __name__ == "__main__":
    raise SystemExit(main())
