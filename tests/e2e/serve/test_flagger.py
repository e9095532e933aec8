"""Flagger's sequences of calls, for all three verdicts."""

from __future__ import annotations

import re
from typing import Any

from tests.e2e.serve.servers import NO, YES, Console, Pods


def test_flagger_promotes_a_good_version_and_begins_anew_with_the_next(console: Console, pods: Pods) -> None:
    console.until(lambda: console.hook("confirm-rollout", "good") == YES)
    # The target is scaled up, and has no traffic.
    pods.set("good", version="1.2.0", counts={})
    console.until(lambda: console.hook("pre-rollout", "good") == YES)
    assert console.hook("confirm-promotion", "good") == NO
    console.until(lambda: console.hook("confirm-traffic-increase", "good") == YES)
    console.decided("good", "promote")
    assert console.hooks("good") == {
        "rollback": NO,
        "rollout": YES,
        "confirm-traffic-increase": YES,
        "confirm-promotion": YES,
    }
    again = console.decided("good", "promote")
    assert again["rollout"]["id"] == "c1"
    pods.set("good", version="")
    assert console.hook("post-rollout", "good", phase="Succeeded") == YES
    assert console.hook("confirm-promotion", "good") == NO
    # The next one: what is known of the last says nothing about it, from the first call on.
    assert console.hook("confirm-rollout", "good", "c2") == YES
    assert set(console.hooks("good", "c2").values()) <= {NO, YES}
    assert console.hook("confirm-promotion", "good", "c2") == NO
    code, fresh = console.verdict("good")
    assert (code, fresh["verdict"], fresh["rollout"]["id"]) == (200, "inconclusive", "c2")
    assert fresh["rollout"]["number"] > again["rollout"]["number"]


def test_flagger_rolls_back_a_bad_version(console: Console, pods: Pods) -> None:
    pods.set("bad", version="1.2.0", bad=0.5)
    after = console.decided("bad", "rollback")
    sentence = after["sentence"]
    expected = {"rollback": YES, "rollout": NO, "confirm-traffic-increase": NO, "confirm-promotion": NO}
    assert console.hooks("bad") == expected
    (notified,) = console.until(lambda: [each for each in pods.posted if each["decision"] == "rollback"])
    assert (notified["event"], notified["owner"]) == ("verdict", "team-shop")
    assert notified["text"] == f"team-shop: bad in shop: {sentence}"
    assert console.hook("post-rollout", "bad", phase="Failed") == YES
    assert console.hook("rollback", "bad") == NO
    assert normal(console.verdict("bad")[1]) == {
        "schema": "#",
        "verdict": "inconclusive",
        "decision": "hold",
        "sentence": f"HOLD: the rollout is over (Failed). The last look at it said: {normal(sentence)}",
        "trouble": None,
        "namespace": "shop",
        "workload": "bad",
        "app": "bad",
        "owner": "team-shop",
        "page": False,
        "guard_rails": {"rollback": "safe", "why": None},
        "rollout": {
            "number": "#",
            "id": "c#",
            "began": None,
            "why": "nothing was known before",
            "phase": "Failed",
            "has_canary": True,
        },
        "override": None,
        "looked": "#-#-#T#:#:#+#:#",
        "age_seconds": "#",
        "evidence_decision": "rollback",
        "evidence": normal(after["evidence"]),
        "log": normal(console.verdict("bad")[1]["log"]),
    }
    kinds = [each["kind"] for each in console.verdict("bad")[1]["log"]]
    assert kinds[-1] == "over"
    assert set(kinds) == {"verdict", "over"}


def normal(value: Any) -> Any:
    """Replace every number, in texts too."""
    if isinstance(value, dict):
        return {key: normal(each) for key, each in value.items() if key != "history"}
    if isinstance(value, list):
        return [normal(each) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "#"
    return re.sub(r"\d[\d.,]*\d|\d", "#", value) if isinstance(value, str) else value


def test_a_hold_pauses_and_a_rollback_that_is_unsafe_pages(console: Console, pods: Pods) -> None:
    pods.set("held", version="1.2.0", bad=0.5)
    found = console.decided("held", "rollback")
    assert found["sentence"].startswith(
        "HOLD, and page team-db: rolling back is marked as unsafe (migration 42), so a person has to decide."
    )
    paused = {"rollback": NO, "rollout": YES, "confirm-traffic-increase": NO, "confirm-promotion": NO}
    assert console.hooks("held") == paused
    labels = 'app="held",namespace="shop",owner="team-db",workload="held"'
    assert f"rolloutobs_gate_rollback_held{{{labels}}} 1.0" in console.get("/metrics", "").text
    call = {
        "namespace": "shop",
        "workload": "held",
        "decision": "rollback",
        "reason": "42 is undone",
        "who": "ann",
    }
    assert console.post("/v1/override", {**call, "reason": " "}).json()["error"] == "reason is missing"
    assert console.post("/v1/override", call, token="another-token-entirely").status_code == 401
    decided = console.post("/v1/override", call).json()
    assert decided["decision"] == "rollback"
    assert decided["sentence"].startswith("ROLLBACK by ann (42 is undone); the evidence by then: ROLLBACK")
    assert {key: decided["override"][key] for key in ("decision", "reason", "who", "holds")} == {
        "decision": "rollback",
        "reason": "42 is undone",
        "who": "ann",
        "holds": True,
    }
    assert console.hook("rollback", "held") == YES
    taken_back = console.post("/v1/override", {**call, "decision": "none", "reason": "too early"}).json()
    assert taken_back["override"] is None
    told = [
        (each["kind"], each["text"], each["by"]) for each in taken_back["log"] if each["kind"] == "override"
    ]
    assert told == [
        ("override", "rollback: 42 is undone", "ann"),
        ("override", "no override any more: too early", "ann"),
    ]
    assert console.hooks("held") == paused
