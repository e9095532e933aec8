"""Restarts between the calls of a rollout."""

from __future__ import annotations

import signal

from tests.e2e.serve.servers import NO, YES, Console, Pods


def test_all_three_verdicts_hold_over_a_stop_and_a_kill(console: Console, pods: Pods) -> None:
    """Evidence, ids, overrides and logs are in the folder."""
    names = {"kept-good": "promote", "kept-bad": "rollback", "kept-held": "rollback", "kept-by-hand": "hold"}
    for name, decision in names.items():
        version = "" if name == "kept-by-hand" else "1.2.0"
        pods.set(name, version=version, bad=0.5 if decision == "rollback" else 0.0)

    def told() -> dict[str, dict[str, int]]:
        return {name: console.hooks(name, f"{name}-1") for name in names}

    paused = {"rollback": NO, "rollout": YES, "confirm-traffic-increase": NO, "confirm-promotion": NO}
    expected = {
        "kept-good": {**paused, "confirm-traffic-increase": YES, "confirm-promotion": YES},
        "kept-bad": {**paused, "rollback": YES, "rollout": NO},
        "kept-held": paused,
        "kept-by-hand": {**paused, "rollback": YES, "rollout": NO},
    }
    call = {"namespace": "shop", "workload": "kept-by-hand", "reason": "it burns", "who": "ann"}
    assert console.post("/v1/override", {**call, "decision": "rollback"}).status_code == 200
    for number in (signal.SIGTERM, signal.SIGKILL, None):
        before = {name: console.decided(name, decision) for name, decision in names.items()}
        assert told() == expected
        argo = {name: console.verdict(name, f"{name}-1")[1]["verdict"] for name in names}
        assert argo == {
            "kept-good": "pass",
            "kept-bad": "fail",
            "kept-held": "inconclusive",
            "kept-by-hand": "fail",
        }
        if number is None:
            continue
        assert console.stop(number) == (0 if number is signal.SIGTERM else -number)
        console.start()
        after = {name: console.decided(name, decision) for name, decision in names.items()}
        for name in names:
            assert after[name]["rollout"] == before[name]["rollout"] | {"id": f"{name}-1"}
            assert after[name]["override"] == before[name]["override"]
        # A rollback is final, to the letter.
        assert after["kept-bad"]["sentence"] == before["kept-bad"]["sentence"]
