"""The stories that the demo can tell, as data: what is wrong with the canary, and how it should end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["STORIES", "Story"]


@dataclass(frozen=True, slots=True)
class Story:
    """One rollout: what is different about the canary, and the ending that proves the analysis right."""

    name: str
    tells: str
    """What is going on, in a sentence."""
    decision: str
    """``promote``, ``hold`` or ``rollback``."""
    decided_by: frozenset[str] = frozenset()
    """Signals that may decide; empty: any, or none."""
    reason_has: str = ""
    """Words that the verdict's sentence, or one of its holds, must contain."""
    canary: Mapping[str, str] = field(default_factory=dict)
    """Environment of the canary (`examples/shop/faults.py`)."""
    inventory_errors: float = 0.0
    """Share of requests, from 0 to 1, that the inventory fails once the canary has had some traffic."""
    router: Mapping[str, str] = field(default_factory=dict)
    """Environment of the router."""
    share: float = 0.5
    """Share of the traffic that the canary gets, from 0 to 1."""
    deadline_seconds: float = 110.0
    """How long the gate may watch from the canary's first request on."""


_ALL = (
    Story(
        name="errors",
        tells="1.2.0 fails one checkout in five; every other route is fine.",
        decision="rollback",
        decided_by=frozenset({"errors"}),
        reason_has="POST /checkout",
        canary={"SHOP_ERRORS": "POST /checkout=0.2"},
    ),
    Story(
        name="good",
        tells="1.2.0 is as good as 1.1.0.",
        decision="promote",
    ),
    Story(
        name="slow",
        tells="1.2.0 is slow now and then: one product in five takes half a second longer.",
        decision="rollback",
        decided_by=frozenset({"latency"}),
        reason_has="GET /product/{product_id}",
        canary={"SHOP_SLOW": "GET /product/{product_id}=0.2:0.5"},
    ),
    Story(
        name="broken-frontend",
        tells="1.2.0 answers every request well, but its page throws when a visitor pays: no 5xx at all.",
        decision="rollback",
        decided_by=frozenset({"js_errors", "conversions", "journey"}),
        canary={"SHOP_BROKEN_FRONTEND": "1"},
    ),
    Story(
        name="chunk",
        tells="1.2.0 works, but the router asks 1.1.0 for a script of its page: 404, and no other error.",
        decision="rollback",
        decided_by=frozenset({"resource_errors"}),
        reason_has="load",
        router={"ROUTER_STABLE_PATHS": "/static/chunks/"},
    ),
    Story(
        name="trickle",
        tells="1.2.0 gets 1 % of the traffic: too little to say anything.",
        decision="hold",
        reason_has="more",
        share=0.01,
        deadline_seconds=60.0,
    ),
    Story(
        name="dependency",
        tells="The inventory, which both versions use, fails half-way: 1.2.0 is not to blame.",
        decision="hold",
        reason_has="past",
        inventory_errors=0.35,
        deadline_seconds=60.0,
    ),
)

STORIES: Mapping[str, Story] = {story.name: story for story in _ALL}
