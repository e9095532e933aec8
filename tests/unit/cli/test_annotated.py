"""What `rolloutobs serve --cluster` knows of the annotations of a cluster, over whatever goes wrong."""

import asyncio

from rolloutobs.analysis.guardrails import Guardrails, Rollback
from rolloutobs.cli.annotated import Annotated
from rolloutobs.console.failures import Failures
from tests.kubernetes_api import served
from tests.unit.rolloutobs.cluster.made import canary, deployment, progressing

SHOP, OTHER = ("shop", "shop"), ("shop", "other")
UNREAD = Guardrails(Rollback.UNSAFE, "its annotations cannot be read")


def written(name, **annotations):
    said = {f"rolloutobs.io/{key}": value for key, value in annotations.items()}
    return deployment("1.0.0", 1, [progressing("NewReplicaSetAvailable")], name=name, annotations=said)


def test_rails_are_as_they_were_last_read_and_unsafe_before_they_were(tmp_path):
    failures = Failures()
    with served(tmp_path / "kubeconfig") as cluster:
        found = Annotated(cluster.connection(), failures)
        cluster.put("canaries", [])
        cluster.forbidden.add("canaries")
        asyncio.run(found.reread())
        assert (found.of(SHOP), failures.totals()["cluster"]) == (UNREAD, 1)
        assert found.failed.startswith("annotations cannot be read: missing right: list")

        cluster.forbidden.clear()
        marked = canary("Progressing", "c1", 0.0)
        marked["metadata"]["annotations"] = {"rolloutobs.io/rollback": "unsafe: migration 42"}
        cluster.put("canaries", [marked])
        cluster.put(
            "deployments", [written("shop", owner="ann"), written("other", rollback="no", owner="bob")]
        )
        asyncio.run(found.reread())
        # Flagger's target is a part of its Canary, on which it is written.
        assert (found.of(SHOP), found.failed) == (Guardrails(Rollback.UNSAFE, "migration 42"), "")
        why = "rolloutobs.io/rollback is 'no'; use 'safe', 'unsafe' or 'unsafe: why'"
        assert found.of(OTHER) == Guardrails(Rollback.UNSAFE, why, "bob")
        assert found.of(("shop", "nothing")) == Guardrails()

        # Without the CRD there are Deployments only, and a cluster that is away changes nothing.
        cluster.absent.add("canaries")
        cluster.put("deployments", [written("shop", owner="ann")])
        asyncio.run(found.reread())
        assert found.of(SHOP) == Guardrails(owner="ann")
    asyncio.run(found.reread())
    assert (found.of(SHOP), failures.totals()["cluster"]) == (Guardrails(owner="ann"), 2)
