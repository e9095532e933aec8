"""What Argo Rollouts' web provider measures."""

from __future__ import annotations

from tests.e2e.serve.servers import Console, Pods


def test_argo_measures_all_three_verdicts(console: Console, pods: Pods) -> None:
    """As its web provider does: 2xx, `$.verdict`, and two conditions of which neither is inconclusive."""

    def measured(rollout: str) -> str:
        code, answer = console.verdict("argo", rollout)
        if not 200 <= code < 300:
            return "Error"
        return {"pass": "Successful", "fail": "Failed"}.get(answer["verdict"], "Inconclusive")

    pods.set("argo", version="1.2.0")
    console.until(lambda: measured("hash-1") == "Successful")
    pods.set("argo", version="1.3.0", bad=0.5)
    assert measured("hash-2") == "Inconclusive"
    console.until(lambda: measured("hash-2") == "Failed")
    # Nobody has given the next one a name; its version alone begins it anew.
    pods.set("argo", version="1.4.0", bad=0.0)
    found = console.until(lambda: (f := console.verdict("argo")[1])["verdict"] == "pass" and f)
    assert found["rollout"]["id"] is None
    assert found["rollout"]["why"] == "the canary is 1.4.0 now, and was 1.3.0"
    assert found["evidence"]["canary_version"] == "1.4.0"
