"""``rolloutobs-collector``: the collector behind uvicorn."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import FrameType
from typing import TYPE_CHECKING

from rolloutobs.errors import ConfigurationError, MissingExtraError
from rum_collector.settings import ENVIRONMENT_PREFIX, HELP, Settings, from_env, parse_option

if TYPE_CHECKING:
    import uvicorn

__all__ = ["main", "parser", "settings_from"]

GRACE_SECONDS = 10
"""How long requests that are being answered may take after SIGTERM."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line: one option per setting."""
    result = argparse.ArgumentParser(
        prog="rolloutobs-collector",
        description="Counts what browsers measure per app, version, track and route, for Prometheus.",
        epilog=f"Each option is also read from the environment, as {ENVIRONMENT_PREFIX}PORT for --port; the "
        "command line wins. Keep /metrics away from the internet: publish the other paths only.",
    )
    for field in fields(Settings):
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        shown = f" (default: {default})" if default != "" else " (default: any)"
        metavar = "N" if isinstance(field.default, int) else "TEXT"
        # Every option may be repeated: the last one wins, but for --app, which adds.
        action = "append" if field.name == "apps" else "store"
        result.add_argument(
            _option(field.name),
            dest=field.name,
            action=action,
            metavar=metavar,
            help=HELP[field.name] + shown,
        )
    return result


def _option(setting: str) -> str:
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
            given[name] = parse_option(name, ",".join(text) if name == "apps" else text, _option(name))
    return Settings(**given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the collector until SIGINT or SIGTERM; return 0 after a clean stop, 2 where it could not start."""
    try:
        settings = settings_from(sys.argv[1:] if arguments is None else arguments, os.environ)
        server = _server(settings)
    except ConfigurationError as error:
        print(f"rolloutobs-collector: {error}", file=sys.stderr)
        return 2
    # uvicorn raises the signal once more after a clean stop: this command was asked to end, and did not fail.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopped)
    server.run()
    return 0 if server.started else 2


def _stopped(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _server(settings: Settings) -> uvicorn.Server:
    try:
        import uvicorn

        from rum_collector.app import create_app
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "msgspec"):
            raise
        raise MissingExtraError("collector", "rolloutobs-collector", str(error.name)) from None
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    return uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
