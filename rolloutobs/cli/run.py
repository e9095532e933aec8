"""``rolloutobs run``: start any Python server, with every app in it instrumented."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any, Final

from rolloutobs.errors import ConfigurationError
from rolloutobs.settings import Settings

__all__ = ["add_parser", "run"]

_EPILOG: Final = """\
Does what instrument(app) does, without a line of code, in the server and in all of its workers: Starlette,
FastAPI, Litestar, Quart, Django and Flask under any server, and any other ASGI app under uvicorn. Settings
come from the environment (rolloutobs identity shows what would be found). An app that calls instrument()
itself keeps what it asked for. Under opentelemetry-instrument, or with its operator, nothing is needed but
an installed rolloutobs; ROLLOUTOBS_AUTO=false keeps it out.

examples:
  ROLLOUTOBS_VERSION=1.2.0 rolloutobs run -- uvicorn shop:app --workers 4
  rolloutobs run -- gunicorn -k uvicorn_worker.UvicornWorker -w 4 shop:app
  rolloutobs run -- python manage.py runserver
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "run",
        help="start a server with every app in it instrumented",
        usage="rolloutobs run -- COMMAND [ARGUMENT ...]",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to start")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Become the command.

    Raises:
        ConfigurationError: no command is given, it cannot be found, or a variable cannot be used.
    """
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise ConfigurationError("nothing to start; try: rolloutobs run -- uvicorn shop:app")
    # Here, where someone looks, and not only in the log of each worker.
    Settings.from_env(os.environ)
    program = shutil.which(command[0])
    if program is None:
        raise ConfigurationError(f"{command[0]!r} is not on the PATH and no file that can be run")
    os.execve(program, command, environment(dict(os.environ)))  # noqa: S606 - that is the command


def environment(environ: dict[str, str]) -> dict[str, str]:
    """Return `environ` in which every Python activates us when it starts."""
    import rolloutobs.zero_code

    site = str(Path(rolloutobs.zero_code.__file__).parent / "site")
    rest = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != site]
    return {**environ, "PYTHONPATH": os.pathsep.join([site, *rest])}
