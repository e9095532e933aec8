"""``rolloutobs-collector``: the collector behind uvicorn."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

from rolloutobs.errors import ConfigurationError, MissingExtraError
from rum_collector.settings import (
    DEFAULTS,
    ENVIRONMENT_PREFIX,
    HELP,
    OPTIONS,
    Settings,
    as_env,
    from_env,
    parse_option,
)

__all__ = ["main", "parser", "settings_from"]

_ADDING = ("apps", "origins", "trusted_proxies", "versions", "version_urls")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line: one option per setting."""
    result = argparse.ArgumentParser(
        prog="rolloutobs-collector",
        description="Counts what browsers measure per app, version, track and route, for Prometheus.",
        epilog=f"Each option is also read from the environment, as {ENVIRONMENT_PREFIX}PORT for --port; the "
        "command line wins. View tokens are signed with ROLLOUTOBS_SECRET, or ROLLOUTOBS_SECRET_FILE. "
        "Keep /metrics away from the internet: publish the other paths only.",
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


def option_of(setting: str) -> str:
    """Return the option of a setting."""
    return "--app" if setting == "apps" else "--" + setting.replace("_", "-")


def settings_from(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Return the settings of a command line and an environment.

    Raises:
        ConfigurationError: an option or a variable cannot be used.
        SystemExit: the command line is not understood, or asks for help.
    """
    given = from_env(environ)
    for name, text in vars(parser().parse_args(arguments)).items():
        if text is not None:
            given[name] = parse_option(name, ",".join(text) if name in _ADDING else text, option_of(name))
    return Settings(**given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the collector until SIGINT or SIGTERM; return 0 after a clean stop, 2 where it could not start."""
    try:
        settings = settings_from(sys.argv[1:] if arguments is None else arguments, os.environ)
        serve = _server()
    except ConfigurationError as error:
        print(f"rolloutobs-collector: {error}", file=sys.stderr)
        return 2
    # Workers are processes of their own, and are told by the environment.
    os.environ.update(as_env(settings))
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
        if error.name not in ("uvicorn", "msgspec", "httpx2"):
            raise
        raise MissingExtraError("collector", "rolloutobs-collector", str(error.name)) from None
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # One line per request to the OpenTelemetry Collector would drown what matters.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return serve


if __name__ == "__main__":
    raise SystemExit(main())
