"""The command line of `rolloutobs-synthetic`: its commands and options.

Belongs here: argparse, and nothing that runs. What options mean is `synthetic.checks`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TypeAlias

from rolloutobs.usage import Parser, add_version
from synthetic.endpoint import add_listen
from synthetic.load.options import add_load, add_users
from synthetic.targeting import add_routes

__all__ = ["make_parser", "option_rows"]


_EXIT_CODES = """
exit codes:
  0  the canary passed
  1  the canary failed what stable passed at the same time
  2  wrong usage or infrastructure: nothing ran, nothing answers, both tracks fail
  3  inconclusive: it is not proven that the wanted version answered
"""

_RUN = """\
Walk journeys through a real browser, against stable and canary at the same moment, in pairs.

A journey is an async function in a Python file (one whose first argument is 'api' needs no browser):

  async def checkout(page, shop):
      async with shop.step("open the shop"):
          await shop.open("/")
      async with shop.step("add to cart"):
          await page.get_by_role("button", name="Add to cart").first.click()

Every page and API answer has to prove who gave it (Server-Timing, as rolloutobs.instrument() sends it to
synthetic traffic, or what --identity names). An answer of the wrong version makes the run inconclusive, never
a pass.
"""
_RUN_EXAMPLES = """
examples:
  rolloutobs-synthetic run journeys/shop.py:checkout --app shop \\
      --stable http://127.0.0.1:8001 --canary http://127.0.0.1:8002 --canary-version 1.2.0
  rolloutobs-synthetic run journeys/ --list
  rolloutobs-synthetic run journeys/ --tag smoke --app shop --entry https://shop.example \\
      --canary-header 'X-Canary: always' --stable-header 'X-Canary: never' --retries 1 --html report.html
  rolloutobs-synthetic run journeys/ --app shop --entry https://shop.example --attempts 100
"""
_SERVE = """\
Run journeys again and again until stopped, and serve what they find to Prometheus: 'run' with --every 5m and
--listen :9300 where nothing else is said.
"""
_SERVE_EXAMPLES = """
example:
  rolloutobs-synthetic serve journeys/ --app shop --stable URL --canary URL --every 5m
"""
_INIT = """\
Write two first journeys: one opens the start page and sees that there is something, one needs no browser.
"""
_INIT_EXAMPLES = """
example:
  rolloutobs-synthetic init journeys/first.py
"""
_RAW = argparse.RawDescriptionHelpFormatter
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; what it parses has ``command``, the word."""
    parser: argparse.ArgumentParser = Parser(
        prog="rolloutobs-synthetic",
        description="Checks and loads against both tracks of a rollout.",
        epilog=_EXIT_CODES,
        formatter_class=_RAW,
    )
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_init(commands)
    _add_run(commands)
    _add_serve(commands)
    add_load(commands, _EXIT_CODES)
    add_users(commands)
    return parser


def option_rows() -> dict[str, list[tuple[str, str]]]:
    """Return (option, help) of every command, for the tables in the documentation."""
    commands = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    rows: dict[str, list[tuple[str, str]]] = {}
    for name, parser in commands.choices.items():
        rows[name] = [
            (" ".join(filter(None, [*action.option_strings[-1:], _metavar(action)])), _help(action))
            for action in parser._actions
            if action.dest != "help"
        ]
    return rows


def _metavar(action: argparse.Action) -> str:
    return "" if action.nargs == 0 else str(action.metavar or action.dest.upper())


def _help(action: argparse.Action) -> str:
    text = (action.help or "").replace("%(default)s", str(action.default))
    return f"{text} (required)".strip() if action.required and action.option_strings else text


def _add_init(commands: Commands) -> None:
    parser = commands.add_parser(
        "init", help="write a first journey", description=_INIT, epilog=_INIT_EXAMPLES, formatter_class=_RAW
    )
    parser.add_argument("file", metavar="FILE.py", type=Path, help="a file that does not exist yet")


def _add_run(commands: Commands) -> None:
    parser = commands.add_parser(
        "run", help="walk journeys in pairs", description=_RUN, epilog=_RUN_EXAMPLES + _EXIT_CODES,
        formatter_class=_RAW,
    )  # fmt: skip
    _add_checks(parser)
    parser.add_argument("--list", action="store_true", help="list the journeys that would run, and end")
    parser.add_argument("--every", help="start so often, e.g. 30s (default: run once)")
    add_listen(parser, " while pairs run")
    _add_outputs(parser)


def _add_serve(commands: Commands) -> None:
    parser = commands.add_parser(
        "serve", help="walk journeys all day long", description=_SERVE,
        epilog=_SERVE_EXAMPLES + _EXIT_CODES, formatter_class=_RAW,
    )  # fmt: skip
    _add_checks(parser)
    parser.add_argument("--every", default="5m", help="start so often (default: %(default)s)")
    add_listen(parser, "", ":9300")
    _add_outputs(parser)
    parser.set_defaults(list=False)


def _add_checks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "journeys", metavar="JOURNEY", nargs="+",
        help="FILE.py:FUNCTION or package.module:function, a file, or a folder with all its journeys",
    )  # fmt: skip
    choosing = parser.add_argument_group("which journeys")
    choosing.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="run these only, * and ? work (repeatable)",
    )
    choosing.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="run those with this tag only (repeatable)"
    )
    add_routes(parser)
    parser.add_argument(
        "--check", help="name of the check in metrics and reports (default: the function's; one journey only)"
    )
    parser.add_argument(
        "--timeout", default="30s", help="limit of one track's journey (default: %(default)s)"
    )
    parser.add_argument("--headed", action="store_true", help="show the browser's windows, to look on")
    parser.add_argument(
        "--slow", metavar="DURATION", help="pause so long before each action, to look on, e.g. 500ms"
    )
    parser.add_argument(
        "--retries", type=int, default=0, metavar="N",
        help="walk both tracks up to so many times more after a failure; passed on retry is an outcome "
        "of its own (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--count", type=int,
        help="end after so many pairs of each journey (default: 1; with --every: until stopped)",
    )  # fmt: skip
    parser.add_argument(
        "--error-rate", type=float, metavar="RATE",
        help="blame the canary only when chance would do so in this share of all sequences of pairs, e.g. "
        "0.05 (default: one pair is enough)",
    )  # fmt: skip


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    outputs = parser.add_argument_group("what is left")
    outputs.add_argument(
        "--artifacts", metavar="FOLDER", type=Path,
        help="keep screenshot, Playwright trace, console, network log and trace id of runs that do not pass",
    )  # fmt: skip
    outputs.add_argument(
        "--keep", type=int, default=20, metavar="N", help="so many failed runs there (default: %(default)s)"
    )
    outputs.add_argument("--json", metavar="FILE", type=Path, help="write results there, after each pair")
    outputs.add_argument("--junit", metavar="FILE", type=Path, help="write them as JUnit XML")
    outputs.add_argument("--html", metavar="FILE", type=Path, help="write them as one page, with pictures")
    outputs.add_argument(
        "--summary", metavar="FILE", type=Path,
        default=Path(os.environ["GITHUB_STEP_SUMMARY"]) if os.environ.get("GITHUB_STEP_SUMMARY") else None,
        help="append a summary in Markdown at the end (default: $GITHUB_STEP_SUMMARY)",
    )  # fmt: skip
    outputs.add_argument(
        "--push", metavar="URL",
        help="push metrics to this Pushgateway after each pair; a push replaces all of the one before",
    )  # fmt: skip
    outputs.add_argument(
        "--otlp", action="store_true", help="send metrics over OTLP, as OTEL_EXPORTER_OTLP_ENDPOINT etc. say"
    )
