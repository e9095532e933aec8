"""The command ``rolloutobs``: one file per subcommand.

Belongs here: arguments, files, terminals, exit codes. Does not belong here: anything another program would
import.

Other packages add subcommands by the entry-point group ``rolloutobs.commands``: each entry point is a
function that takes what ``argparse.ArgumentParser.add_subparsers`` returned, adds a parser, and sets its
default ``run`` to a function from the parsed arguments to an exit code.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from rolloutobs.cli import (
    annotate,
    calibrate,
    compare,
    doctor,
    gate,
    identity,
    policy,
    render,
    replay,
    run,
    serve,
    simulate,
    status,
    watch,
)
from rolloutobs.cli.options import EXIT_CODES
from rolloutobs.errors import RolloutobsError
from rolloutobs.usage import USAGE, Parser, add_version

__all__ = ["COMMANDS", "main"]

GROUP: Final = "rolloutobs.commands"

Subparsers = Any
"""argparse gives the type no public name."""

COMMANDS: Final[Sequence[Callable[[Subparsers], None]]] = (
    annotate.add_parser,
    calibrate.add_parser,
    compare.add_parser,
    doctor.add_parser,
    gate.add_parser,
    identity.add_parser,
    policy.add_parser,
    render.add_parser,
    replay.add_parser,
    run.add_parser,
    serve.add_parser,
    simulate.add_parser,
    status.add_parser,
    watch.add_parser,
)

_EPILOG: Final = f"""\
examples:
  rolloutobs gate --app shop --scrape stable:8000 --scrape canary:8000
  rolloutobs gate --app shop --prometheus http://prometheus:9090 --html report.html
  rolloutobs compare --app shop --prometheus http://prometheus:9090 --window 30m
  rolloutobs simulate --rps 10 --share 0.05
  rolloutobs calibrate --app shop --prometheus http://prometheus:9090 --last 6h
  rolloutobs replay --app shop --prometheus http://prometheus:9090 2026-11-20T10:00Z/45m
  rolloutobs annotate start --key shop-1.2.0 --text 'shop 1.1.0 -> 1.2.0'
  rolloutobs serve --workloads workloads.yaml --state state/
  rolloutobs policy show
  rolloutobs render --app shop --image registry.example.com/shop:1.1.0
  rolloutobs status deployment/shop -n shop
  rolloutobs watch --namespace shop
  rolloutobs identity
  rolloutobs doctor --url localhost:8000
  rolloutobs run -- uvicorn shop:app --workers 4

{EXIT_CODES.replace("exit codes:", "exit codes of compare and gate:")}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code; an expected error is one line on stderr."""
    parser = _parser(_entry_points())
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (RolloutobsError, OSError) as error:
        print(f"rolloutobs: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("rolloutobs: interrupted", file=sys.stderr)
        return USAGE
    except Exception:
        # Python's own exit code for it is 1, which here means: roll back.
        traceback.print_exc()
        return USAGE


def _parser(plugins: Sequence[EntryPoint]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="rolloutobs",
        description="Is the new version worse than the old one?",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_parser in COMMANDS:
        add_parser(subparsers)
    for plugin in plugins:
        _add_plugin(plugin, subparsers)
    return parser


def _entry_points() -> Sequence[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda entry: entry.name)


def _add_plugin(plugin: EntryPoint, subparsers: Subparsers) -> None:
    """Add another package's command; one that is broken must not take the others along."""
    try:
        plugin.load()(subparsers)
    except Exception as error:
        print(
            f"rolloutobs: the command {plugin.name!r} ({plugin.value}) cannot be loaded: {error}",
            file=sys.stderr,
        )
