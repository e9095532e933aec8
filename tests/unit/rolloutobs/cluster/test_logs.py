"""Changes as OpenTelemetry log events."""

from inline_snapshot import snapshot
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from rolloutobs.cluster.logs import LogSink, log_sink
from tests.unit.rolloutobs.cluster.made import BEGAN, condition, deployment, event, progressing, replica_set


async def sent(changes):
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    sink = LogSink(provider)
    for change in changes:
        await sink.take(change)
    await sink.close()
    records = [item.log_record for item in exporter.get_finished_logs()]
    return [
        (r.event_name, r.timestamp / 1e9 - BEGAN, r.severity_text, r.body, dict(r.attributes))
        for r in records
    ]


async def test_every_change_is_an_event_with_what_it_is_about(played):
    refused = condition("ReplicaFailure", "True", "FailedCreate", 101, "exceeded quota")
    blocked = deployment("2.0", 2, [progressing("NewReplicaSetCreated", 101), refused])
    changes = played.begin(sets=[replica_set("1.0", 1, 0), replica_set("2.0", 2, 100)], deployments=[blocked])
    about = ("ReplicaSet", "shop-hash2.0")
    played.say("events", event("e", 2, about, "FailedCreate", 102, "Warning"))
    changes += played.state.settle(is_end=True)
    assert await sent(changes) == snapshot(
        [
            (
                "rolloutobs.rollout.started",
                100.0,
                "INFO",
                "deployment/shop: 1.0 to 2.0 begins",
                {
                    "k8s.namespace.name": "shop",
                    "rolloutobs.rollout.workload": "shop",
                    "rolloutobs.rollout.id": "uid-shop-2",
                    "rolloutobs.rollout.app": "shop",
                    "rolloutobs.rollout.from_version": "1.0",
                    "rolloutobs.rollout.to_version": "2.0",
                    "rolloutobs.rollout.phase": "progressing",
                    "rolloutobs.rollout.revision": 2,
                },
            ),
            (
                "rolloutobs.rollout.stuck",
                101.0,
                "WARN",
                "deployment/shop: 1.0 to 2.0 is stuck: FailedCreate: exceeded quota",
                {
                    "k8s.namespace.name": "shop",
                    "rolloutobs.rollout.workload": "shop",
                    "rolloutobs.rollout.id": "uid-shop-2",
                    "rolloutobs.rollout.app": "shop",
                    "rolloutobs.rollout.from_version": "1.0",
                    "rolloutobs.rollout.to_version": "2.0",
                    "rolloutobs.rollout.phase": "stuck",
                    "rolloutobs.rollout.revision": 2,
                },
            ),
            (
                "rolloutobs.kubernetes.event",
                102.0,
                "WARN",
                "ReplicaSet shop-hash2.0: FailedCreate: FailedCreate of shop-hash2.0",
                {
                    "k8s.namespace.name": "shop",
                    "rolloutobs.rollout.workload": "shop",
                    "rolloutobs.rollout.id": "uid-shop-2",
                    "rolloutobs.rollout.app": "shop",
                    "rolloutobs.rollout.from_version": "1.0",
                    "rolloutobs.rollout.to_version": "2.0",
                    "rolloutobs.rollout.phase": "stuck",
                    "rolloutobs.rollout.revision": 2,
                    "k8s.object.kind": "ReplicaSet",
                    "k8s.object.name": "shop-hash2.0",
                    "k8s.event.reason": "FailedCreate",
                    "k8s.event.count": 2,
                },
            ),
        ]
    )


def test_without_an_endpoint_there_is_none():
    assert log_sink({}) is None
