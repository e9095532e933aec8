"""``rolloutobs policy``: what decides, and with which numbers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from rolloutobs.analysis.presets import PRESETS
from rolloutobs.cli.options import read_policy, require

__all__ = ["add_parser", "run"]

_EPILOG: Final = """\
examples:
  rolloutobs policy show                       the defaults; nothing has to be configured
  rolloutobs policy show --policy mine.yaml    the defaults with what mine.yaml changes; also checks it
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("policy", help="show and check what decides")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = actions.add_parser(
        "show",
        help="print every setting with its value",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument("--policy", type=Path, metavar="FILE", help="a policy as YAML or TOML")
    show.add_argument(
        "--metrics", choices=tuple(PRESETS), default="default", help="on whose metrics (default: %(default)s)"
    )
    show.add_argument("--format", choices=("yaml", "json"), default="yaml", help="(default: %(default)s)")
    show.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the policy; what is printed can be given back with ``--policy``."""
    plain = read_policy(arguments.policy, metrics=arguments.metrics).to_mapping()
    if arguments.format == "json":
        sys.stdout.write(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
        return 0
    require("policy show", "yaml")
    import yaml

    sys.stdout.write(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100))
    return 0
