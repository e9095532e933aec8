"""The JSON of requests and answers. Pure.

Fields are added to an answer under the same `SCHEMA`, and removed or changed under the next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rolloutobs.analysis.model import Decision
from rolloutobs.analysis.report import Report, to_mapping
from rolloutobs.console.model import Key, Overriding, Status
from rolloutobs.console.standing import WORDS, standing

__all__ = ["SCHEMA", "BadRequestError", "FlaggerCall", "OverrideCall", "error", "evidence", "verdict"]

SCHEMA: Final = 1

_LEFT_OUT: Final = frozenset(
    {
        "schema",
        "tool",
        "exit_code",
        "history",
        "displays",
        "bake",
        "override",
        "app",
        "page",
        "owner",
        "guard_rails",
    }
)
_LONG: Final = 500
"""Characters of a text that somebody sends."""
_OVERRIDE_SECONDS: Final = 3600.0
"""How long an override lasts where nobody says it."""
_LONGEST_OVERRIDE_SECONDS: Final = 86400.0


class BadRequestError(ValueError):
    """A body or a parameter cannot be used; the message says what would be."""


@dataclass(frozen=True, slots=True)
class FlaggerCall:
    """The body of one of Flagger's webhooks.

    Source: https://github.com/fluxcd/flagger/blob/main/pkg/apis/flagger/v1beta1/canary.go
    (``CanaryWebhookPayload``)
    """

    key: Key
    phase: str
    checksum: str
    message: str
    """Of an event; else empty."""

    @classmethod
    def read(cls, body: bytes) -> FlaggerCall:
        """Return what a body says.

        Raises:
            BadRequestError: it names no workload.
        """
        plain = _mapping(body)
        metadata = plain.get("metadata")
        message = metadata.get("eventMessage", "") if isinstance(metadata, Mapping) else ""
        return cls(
            (_text(plain, "namespace"), _text(plain, "name")),
            _text(plain, "phase", needed=False),
            _text(plain, "checksum", needed=False),
            str(message)[:_LONG],
        )


@dataclass(frozen=True, slots=True)
class OverrideCall:
    """The body of an override."""

    key: Key
    decision: Decision | None
    """``None``: the evidence decides again."""
    reason: str
    who: str
    seconds: float

    @classmethod
    def read(cls, body: bytes) -> OverrideCall:
        """Return what a body says.

        Raises:
            BadRequestError: something is missing or wrong.
        """
        plain = _mapping(body)
        word = _text(plain, "decision")
        if word != "none" and word not in set(Decision):
            raise BadRequestError(f"decision is {word!r}; use promote, hold, rollback or none")
        seconds = plain.get("seconds", _OVERRIDE_SECONDS)
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, int | float)
            or not 0 < seconds <= _LONGEST_OVERRIDE_SECONDS
        ):
            raise BadRequestError(
                f"seconds is {seconds!r}; use a number up to {_LONGEST_OVERRIDE_SECONDS:.0f}"
            )
        return cls(
            (_text(plain, "namespace"), _text(plain, "workload")),
            None if word == "none" else Decision(word),
            _text(plain, "reason"),
            _text(plain, "who"),
            float(seconds),
        )

    def overriding(self, now: float) -> Overriding | None:
        """Return it as it holds from `now` on."""
        if self.decision is None:
            return None
        return Overriding(self.decision, self.reason, self.who, now, now + self.seconds)


def _mapping(body: bytes) -> Mapping[str, Any]:
    try:
        plain = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from None
    if not isinstance(plain, Mapping):
        raise BadRequestError("the body is no JSON object")
    return plain


def _text(plain: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
    value = plain.get(name, "")
    if not isinstance(value, str) or len(value) > _LONG or not value.isprintable():
        raise BadRequestError(
            f"{name} is {value!r:.80}; use a text of one line, of {_LONG} characters at most"
        )
    if needed and not value.strip():
        raise BadRequestError(f"{name} is missing")
    return value.strip()


# --- answers ----------------------------------------------------------------------------------------------


def error(message: str) -> dict[str, Any]:
    """Return the body of an answer that is none."""
    return {"schema": SCHEMA, "error": message}


def verdict(status: Status, now: float, found_evidence: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return everything that is known about a workload, and what holds now.

    Args:
        status: what is known.
        now: Unix time.
        found_evidence: what `evidence` returned of the last look; ``None``: there was none.
    """
    found = standing(status, now)
    workload, rollout, seen = status.workload, status.rollout, status.seen
    return {
        "schema": SCHEMA,
        "verdict": WORDS[found.decision],
        "decision": found.decision.value,
        "sentence": found.sentence,
        "trouble": found.trouble or None,
        "namespace": workload.namespace,
        "workload": workload.name,
        "app": workload.app or None,
        "owner": status.rails.owner or None,
        "page": found.is_page,
        "guard_rails": {"rollback": status.rails.rollback.value, "why": status.rails.why or None},
        "rollout": {
            "number": rollout.number,
            "id": rollout.id or None,
            "began": _timestamp(rollout.began),
            "why": rollout.why,
            "phase": rollout.phase or None,
            "has_canary": bool(seen and seen.has_canary),
        },
        "override": _override(rollout.overriding, now),
        "looked": _timestamp(status.answered),
        "age_seconds": None if status.answered is None else round(max(now - status.answered, 0.0), 3),
        "evidence_decision": found.evidence.value if found.evidence else None,
        "evidence": found_evidence,
        "log": [
            {"at": _timestamp(each.at), "kind": each.kind, "text": each.text, "by": each.by or None}
            for each in status.happenings
        ],
    }


def evidence(report: Report) -> dict[str, Any]:
    """Return the gate's JSON report without its long parts, which the page shows."""
    plain = to_mapping(report)
    return {name: value for name, value in plain.items() if name not in _LEFT_OUT}


def _override(overriding: Overriding | None, now: float) -> dict[str, Any] | None:
    if overriding is None:
        return None
    return {
        "decision": overriding.decision.value,
        "reason": overriding.reason,
        "who": overriding.who,
        "at": _timestamp(overriding.at),
        "until": _timestamp(overriding.until),
        "holds": now < overriding.until,
    }


def _timestamp(at: float | None) -> str | None:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") if at else None
