"""Scenarios for promtool: series by name, and at each time every alert that fires; all others are silent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from k8s.source.rules import ALERTS, GROUPS

FOLDER: Final = Path(__file__).parent / "scenarios"
NAMES: Final = sorted(path.stem for path in FOLDER.glob("*.yaml"))
_WORDS: Final = {
    "$app": 'namespace="shop", app="shop"',
    "$old": 'app="shop", version="1.1.0", track="stable"',
    "$new": 'app="shop", version="1.2.0", track="canary"',
    "$stable": 'namespace="shop", app="shop", version="1.1.0", track="stable"',
    "$canary": 'namespace="shop", app="shop", version="1.2.0", track="canary"',
    "$gate": 'namespace="shop", app="shop"',
    "$rum": 'namespace="monitoring"',
    "$deployment_of_watcher": 'namespace="shop", workload="shop"',
    "$server": 'namespace="rolloutobs", job="rolloutobs-serve"',
    "$watcher": 'namespace="rolloutobs", job="rolloutobs-watcher"',
    "$deployment": 'namespace="shop", deployment="shop"',
}


def read(name: str) -> dict[str, Any]:
    """Return a scenario with what it is based on; it may only change series that are there, or add some."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
    if "base" in found:
        found["series"] = {**read(found["base"])["series"], **found["series"]}
    for key, values in found["series"].items():
        # Not so many zeros: promtool reads one hexadecimal number.
        assert not re.search(r"\b(?<!\+)0x", str(values)), f"{name}: {key}: write 0+0x.. for zeros"
    return found


def firing(name: str) -> set[str]:
    """Return the alerts that fire in a scenario at some time."""
    return {alert for check in read(name)["checks"] for alert in check["firing"]}


def for_promtool(name: str, rules: Path) -> dict[str, Any]:
    """Return a scenario as promtool reads it."""
    found = read(name)
    interval = found.get("interval", "1m")
    series = [{"series": _filled(key), "values": str(values)} for key, values in found["series"].items()]
    return {
        "rule_files": [str(rules)],
        "evaluation_interval": interval,
        "group_eval_order": [group.name for group in GROUPS],
        "tests": [
            {
                "name": name,
                "interval": interval,
                "input_series": series,
                "alert_rule_test": [
                    {
                        "eval_time": check["at"],
                        "alertname": alert.name,
                        "exp_alerts": [
                            _expected(alert.name, labels) for labels in check["firing"].get(alert.name, ())
                        ],
                    }
                    for check in found["checks"]
                    for alert in ALERTS
                ],
            }
        ],
    }


def without_values(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return rule groups without descriptions: they contain values, of which the scenarios know nothing."""
    groups = [
        {
            **group,
            "rules": [
                {
                    **rule,
                    **(
                        {"annotations": {k: v for k, v in rule["annotations"].items() if k != "description"}}
                        if "alert" in rule
                        else {}
                    ),
                }
                for rule in group["rules"]
            ],
        }
        for group in rules["groups"]
    ]
    return {"groups": groups}


def _expected(alert: str, labels: str) -> dict[str, Any]:
    found = dict(re.findall(r'(\w+)="([^"]*)"', _filled(labels)))
    (rule,) = [each for each in ALERTS if each.name == alert]
    optional = r"{{ with \$labels\.(\w+) }}(.*?){{ \. }}{{ end }}"
    summary = re.sub(
        optional, lambda label: label[2] + found[label[1]] if label[1] in found else "", rule.summary
    )
    summary = re.sub(r"{{ \$labels\.(\w+) }}", lambda label: found[label[1]], summary)
    return {
        "exp_labels": {"severity": rule.severity.value, **found},
        "exp_annotations": {"summary": summary, "runbook_url": f"docs/runbook.md#{alert.lower()}"},
    }


def _filled(text: str) -> str:
    return re.sub(r"\$\w+", lambda word: _WORDS[word[0]], text)
