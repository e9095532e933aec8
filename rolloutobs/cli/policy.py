"""``rolloutobs policy``: what decides, and with which numbers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rolloutobs.analysis.loading import flat
from rolloutobs.analysis.presets import PRESETS
from rolloutobs.analysis.provenance import source_of
from rolloutobs.cli.options import policy_lines, read_policy, require
from rolloutobs.lines import yaml_lines

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
        help="print every setting with its value, and where that comes from",
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
    sys.stdout.write(_commented(plain, arguments))
    return 0


def _commented(plain: Mapping[str, Any], arguments: argparse.Namespace) -> str:
    """Return the policy as YAML: above each setting what it means, beside it where its value comes from."""
    import yaml

    from rolloutobs.analysis.policy import Policy
    from rolloutobs.cli.explaining import explained

    # Lines are not folded: a comment must not end up inside a text.
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=10_000)
    defaults, values = (flat(each) for each in (Policy().to_mapping(), plain))
    path: Path | None = arguments.policy
    given = {} if path is None else policy_lines(path.read_text(encoding="utf-8"), path)
    lines = text.splitlines()
    for setting, line in yaml_lines(text).items():
        value = values.get(setting)
        if setting in values and value == defaults.get(setting, value) and setting not in given:
            comment = source_of(setting)
        elif setting in given:
            known = f", instead of {defaults[setting]!r}" if setting in defaults else ""
            comment = f"{path.name if path else ''}, line {given[setting]}{known}"
        else:
            comment = f"--metrics {arguments.metrics}" if setting in values else source_of(setting)
        if comment:
            lines[line - 1] += f"  # {comment}"
    return explained("\n".join(lines))
