"""The tables of kubernetes.md about ``rolloutobs serve``, made from the code.

Each function returns the text of one table, for cog to print.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rolloutobs.analysis.guardrails import Guardrails, Rollback
from rolloutobs.analysis.history import NOTHING, History
from rolloutobs.analysis.model import Decision, Verdict
from rolloutobs.analysis.report import Report
from rolloutobs.cli.workloads import KEYS
from rolloutobs.console.model import Rollout, Seen, Status, Workload
from rolloutobs.console.standing import Hook, answer

__all__ = ["hooks", "keys"]

_UNSAFE = Guardrails(Rollback.UNSAFE)


def _status(decision: Decision | None, *, canary: float = 100.0, **changes: Any) -> Status:
    workload = Workload("shop", "shop", "shop", rails=changes.pop("rails", Guardrails()))
    if decision is None:
        return Status(workload, Rollout(1, 0.0, ""))
    requests = replace(NOTHING, canary_exposures=canary)
    verdict = Verdict(decision, f"{decision.name}.", 1.0, "", (), requests)
    seen = Seen(0.0, Report("shop", 0.0, 0.0, verdict, History()), True, None, True)
    return Status(workload, Rollout(1, 0.0, ""), seen=seen, answered=0.0)


_CASES = {
    "promote": _status(Decision.PROMOTE),
    "hold": _status(Decision.HOLD),
    "rollback": _status(Decision.ROLLBACK),
    "rollback, unsafe": _status(Decision.ROLLBACK, rails=_UNSAFE),
    "no traffic yet": _status(Decision.HOLD, canary=0.0),
    "cannot look": _status(None),
}
_MEANS = {
    Hook.CONFIRM_ROLLOUT: "begins the evidence; no waits, before the canary has a pod",
    Hook.PRE_ROLLOUT: "begins the evidence; no waits, and counts as a failed check",
    Hook.ROLLOUT: "no counts as a failed check, `threshold` of which roll back",
    Hook.CONFIRM_TRAFFIC_INCREASE: "no waits at the present weight",
    Hook.CONFIRM_PROMOTION: "no waits at the highest weight",
    Hook.ROLLBACK: "**yes rolls back**",
    Hook.POST_ROLLOUT: "ends the evidence",
    Hook.EVENT: "a line in the log of the page",
}


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def hooks() -> str:
    """Return what each of Flagger's webhooks is told."""
    lines = [_row(["type", *_CASES, "what it does"]), _row(["---"] * (len(_CASES) + 2))]
    for hook, means in _MEANS.items():
        told = [answer(hook, status, 0.0).status for status in _CASES.values()]
        lines.append(_row([f"`{hook.value}`", *(f"yes {n}" if n <= 202 else f"no {n}" for n in told), means]))
    return "\n".join(lines)


def keys() -> str:
    """Return what an entry of the file of workloads may say."""
    lines = [_row(["key", "meaning"]), _row(["---"] * 2)]
    return "\n".join([*lines, *(_row([f"`{key}`", text]) for key, text in KEYS.items())])
