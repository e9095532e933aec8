"""The generated files: their texts, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from k8s.source.dashboards import BOARDS
from k8s.source.dashboards.drawing import draw
from k8s.source.dashboards.model import Board
from k8s.source.rules import GROUPS, Alert, Group, Recording

__all__ = ["FOLDER", "prometheus_rule", "rule_groups", "texts", "write"]

FOLDER: Final = Path(__file__).resolve().parent.parent
RUNBOOK: Final = "docs/runbook.md"
"""Where the runbook is; put the address under which your team reads it in front."""
_HEADER: Final = "# Written by `python -m k8s.source` from k8s/source; not by hand.\n"


class _Dumper(yaml.SafeDumper):
    """Long expressions keep their lines."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def rule_groups(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the content of a rule file of Prometheus."""
    return {"groups": [{"name": g.name, "rules": [_rule(rule) for rule in g.rules]} for g in groups]}


def prometheus_rule(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the same for the Prometheus Operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "rolloutobs", "labels": {"app.kubernetes.io/name": "rolloutobs"}},
        "spec": rule_groups(groups),
    }


def _rule(rule: Recording | Alert) -> dict[str, Any]:
    if isinstance(rule, Recording):
        return {"record": rule.name, "expr": rule.expression}
    durations = {"for": rule.hold_seconds, "keep_firing_for": rule.keep_seconds}
    return {
        "alert": rule.name,
        "expr": rule.expression,
        **{key: f"{seconds // 60}m" for key, seconds in durations.items() if seconds},
        "labels": {"severity": rule.severity.value},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": f"{RUNBOOK}#{rule.name.lower()}",
        },
    }


def texts() -> Mapping[str, str]:
    """Return the text of every generated file, by its path below `FOLDER`."""
    recordings = [g for g in GROUPS if all(isinstance(rule, Recording) for rule in g.rules)]
    alerts = [g for g in GROUPS if g not in recordings]
    return {
        "rules/recording.yaml": _yaml(rule_groups(recordings)),
        "rules/alerts.yaml": _yaml(rule_groups(alerts)),
        "rules/prometheusrule.yaml": _yaml(prometheus_rule(GROUPS)),
        **{f"dashboards/{board.name}.json": f"{json.dumps(_drawn(board), indent=2)}\n" for board in BOARDS},
    }


def _drawn(board: Board) -> dict[str, Any]:
    """Return a dashboard with links to all the others."""
    return draw(board, [(other.name, other.title) for other in BOARDS if other is not board])


def _yaml(content: Mapping[str, Any]) -> str:
    return _HEADER + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def write() -> None:
    """Write every generated file."""
    for path, text in texts().items():
        (FOLDER / path).write_text(text, encoding="utf-8")
