"""Rollouts as traces: recorded ones, whole, and what becomes of them when a receiver or a watcher ends."""

import asyncio
from dataclasses import replace

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rolloutobs.cluster.delivery import Patience
from rolloutobs.cluster.model import Change, ChangeKind, Event, Phase, Pod, Rollout, WorkloadKind
from rolloutobs.cluster.stories import root_id, span_id, spans_of, trace_id
from rolloutobs.cluster.traces import TraceSink, trace_sink
from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Track
from tests.unit.rolloutobs.cluster.recorded import changes_of

ALL = ("01_healthy", "02_stuck", "03_rollback")
UID = "c39b3bc1-13c1-4631-8b03-b1d78bd0a812"
QUICK = Patience(first_seconds=0.001, most_seconds=0.001, close_seconds=30.0)


class Unreliable(SpanExporter):
    """Takes spans but for the first `failures` times, and never those of a rollout to `refused`."""

    def __init__(self, failures=0, refused=""):
        self.failures, self.refused, self.spans, self.is_shut = failures, refused, [], False

    def export(self, spans):
        if self.failures:
            self.failures -= 1
            return SpanExportResult.FAILURE
        if spans[0].attributes["rolloutobs.rollout.to_version"] == self.refused:
            return SpanExportResult.FAILURE
        self.spans += spans
        return SpanExportResult.SUCCESS

    def shutdown(self):
        self.is_shut = True


async def told(changes, exporter=None, patience=QUICK):
    """Return the spans of changes, and the sink that has sent them."""
    exporter = exporter or InMemorySpanExporter()
    sink = TraceSink(exporter, Resource({"service.name": "rolloutobs-watch"}), patience, linger_seconds=600.0)
    for change in changes:
        await sink.take(change)
    await sink.close()
    spans = exporter.spans if isinstance(exporter, Unreliable) else exporter.get_finished_spans()
    return list(spans), sink


def tree(spans):
    """Return traces as lines: name, seconds since the root began and to the end, what went wrong."""
    children = {}
    for span in spans:
        children.setdefault((span.context.trace_id, span.parent and span.parent.span_id), []).append(span)
    lines = []

    def show(span, depth, zero):
        start, end = ((time - zero) / 1e9 for time in (span.start_time, span.end_time))
        about = span.attributes
        words = [
            about.get("k8s.pod.name", ""),
            f"{about['rolloutobs.rollout.updated']} of {about['rolloutobs.rollout.desired']}"
            if "rolloutobs.rollout.updated" in about
            else "",
            about.get("rolloutobs.rollout.to_version", ""),
            about.get("rolloutobs.rollout.phase", ""),
            f"ERROR {span.status.description}" if span.status.description else "",
            *(f"! {event.name}" for event in span.events),
        ]
        lines.append(" ".join([f"{'  ' * depth}{span.name} {start:g}-{end:g}", *filter(None, words)]))
        for child in children.get((span.context.trace_id, span.context.span_id), ()):
            show(child, depth + 1, zero)

    for (_, parent), roots in children.items():
        for root in roots if parent is None else ():
            show(root, 0, root.start_time)
    assert len(lines) == len(spans), "every span has its parent"
    return lines


async def test_recorded_rollouts_are_told_whole():
    spans, sink = await told(changes_of(*ALL))
    assert tree(spans) == [
        "rollout 0-4 1.4.0 completed",
        "  pod start 0-2 pay-67f8ccbcb9-9g48m",
        "  pod readiness 2-2 pay-67f8ccbcb9-9g48m",
        "  pod start 0-2 pay-67f8ccbcb9-bnfcw",
        "  pod readiness 2-2 pay-67f8ccbcb9-bnfcw",
        "  pod start 0-2 pay-67f8ccbcb9-ftj6w",
        "  pod readiness 2-2 pay-67f8ccbcb9-ftj6w",
        "  pod start 0-2 pay-67f8ccbcb9-qv2dj",
        "  pod readiness 2-2 pay-67f8ccbcb9-qv2dj",
        "rollout 0-16 1.5.0 completed",
        "  scale 0-4 1 of 4",
        "    pod start 0-2 pay-644c65c544-w92fw",
        "    pod readiness 2-2 pay-644c65c544-w92fw",
        "  scale 4-8 2 of 4",
        "    pod start 4-6 pay-644c65c544-5x47t",
        "    pod readiness 6-6 pay-644c65c544-5x47t",
        "  scale 8-12 3 of 4",
        "    pod start 8-10 pay-644c65c544-t9rfc",
        "    pod readiness 10-10 pay-644c65c544-t9rfc",
        "  scale 12-16 4 of 4",
        "    pod start 12-14 pay-644c65c544-6nzjs",
        "    pod readiness 14-14 pay-644c65c544-6nzjs",
        "rollout 0-16 1.6.0-bad rolled_back ERROR ProgressDeadlineExceeded ! BackOff ! BackOff ! BackOff",
        "  scale 0-16 1 of 4",
        "    pod start 0-16 pay-55cd44db8f-c5576 ERROR never ready",
        "  stuck 13-16 ERROR ProgressDeadlineExceeded",
        "rollout 0-0 1.5.0 completed",
    ]
    assert sink.failures == 0
    stuck, undo = (s for s in spans if s.name == "rollout" and s.links)
    assert dict(stuck.attributes) == {
        "rolloutobs.rollout.id": f"{UID}-3",
        "k8s.namespace.name": "shop",
        "rolloutobs.rollout.workload": "pay",
        "rolloutobs.rollout.app": "pay",
        "rolloutobs.rollout.from_version": "1.5.0",
        "rolloutobs.rollout.to_version": "1.6.0-bad",
        "rolloutobs.rollout.phase": "rolled_back",
        "rolloutobs.rollout.revision": 3,
        "rolloutobs.rollout.undone_by": f"{UID}-4",
        "rolloutobs.rollout.reason": "ProgressDeadlineExceeded",
    }
    # Each of the two leads to the other.
    for span, other, word in ((stuck, undo, "undone by"), (undo, stuck, "undoes")):
        (link,) = span.links
        assert (link.context.trace_id, link.context.span_id) == (
            other.context.trace_id,
            other.context.span_id,
        )
        assert link.attributes == {"rolloutobs.rollout.link": word}


async def test_a_second_watcher_tells_the_same_spans():
    first, _ = await told(changes_of(*ALL))
    second, _ = await told(changes_of(*ALL))
    assert [span.to_json() for span in first] == [span.to_json() for span in second]
    # One that begins where the rollout is stuck knows its steps no more, and makes no others up.
    late, _ = await told(changes_of("03_rollback"))
    ids = {(span.context.trace_id, span.context.span_id) for span in first}
    assert {(span.context.trace_id, span.context.span_id) for span in late} <= ids
    assert [line for line in tree(late) if not line.startswith(" ")] == [
        "rollout 0-16 1.6.0-bad rolled_back ERROR ProgressDeadlineExceeded",
        "rollout 0-0 1.5.0 completed",
    ]


def test_ids_are_those_of_everybody_who_tells_the_rollout():
    assert f"{trace_id(f'{UID}-3'):032x}" == "7dfeb55056ae5c187152834a531f80a9"
    assert f"{root_id(f'{UID}-3'):016x}" == "44e968fdc155eb8f"
    assert root_id(f"{UID}-3") == span_id(f"{UID}-3", "rollout")
    assert len({trace_id(f"{UID}-3"), trace_id(f"{UID}-4"), trace_id(f"{UID}-31")}) == 3


# --- what does not happen in the recordings -------------------------------------------------------------

MADE = Rollout(
    UID, "shop", "shop", WorkloadKind.ROLLOUT, "shop", 7, "1.1.0", "1.2.0", 1000.0, Phase.PROGRESSING,
    desired=4, annotations={"rolloutobs.io/owner": "team-shop"},
)  # fmt: skip


def change(kind, time, rollout=MADE, **more):
    return Change(kind, time, "shop", "shop", "", rollout, **more)


def pod(name, **more):
    return Pod("shop", name, f"uid-{name}", "shop", "1.2.0", Track.CANARY, "abc", **more)


DONE = replace(MADE, phase=Phase.COMPLETED, ended=1200.0)


async def test_pauses_weights_and_pods_that_come_late():
    weighted = replace(MADE, updated=1, weight_ratio=0.25)
    spans, _ = await told(
        [
            change(ChangeKind.STARTED, 1000.0),
            change(ChangeKind.SCALED, 1010.0, weighted),
            change(ChangeKind.POD_STARTED, 1010.0, pod=pod("a", created=1010.0)),
            change(ChangeKind.PAUSED, 1020.0, replace(weighted, phase=Phase.PAUSED, reason="a step")),
            change(ChangeKind.RESUMED, 1080.0, weighted),
            change(ChangeKind.SCALED, 1090.0, replace(MADE, updated=4, weight_ratio=1.0)),
            change(ChangeKind.COMPLETED, 1200.0, DONE),
            # Another watch tells of it after the end.
            change(
                ChangeKind.POD_READY, 1015.0, DONE,
                pod=pod("a", created=1010.0, started=1012.0, ready_since=1015.0, restarts=1),
            ),
        ]
    )  # fmt: skip
    assert tree(spans) == [
        "rollout 0-200 1.2.0 completed",
        "  scale 10-90 1 of 4",
        "    pod start 10-12 a",
        "    pod readiness 12-15 a",
        "  scale 90-200 4 of 4",
        "  paused 20-80",
    ]
    root, step, *_ = spans
    assert root.attributes["rolloutobs.rollout.owner"] == "team-shop"
    assert step.attributes["rolloutobs.rollout.weight_ratio"] == 0.25
    start = next(span for span in spans if span.name == "pod start")
    assert start.attributes["rolloutobs.pod.restarts"] == 1


async def test_what_was_given_up_and_goes_on_is_told_again_as_another_span_of_the_trace():
    exporter = InMemorySpanExporter()
    sink = TraceSink(exporter, Resource({}), QUICK, linger_seconds=0.0)
    aborted = replace(MADE, phase=Phase.ROLLED_BACK, ended=1050.0, reason="aborted")
    await sink.take(change(ChangeKind.STARTED, 1000.0))
    await sink.take(change(ChangeKind.ROLLED_BACK, 1050.0, aborted))
    async with asyncio.timeout(30):
        while not exporter.get_finished_spans():
            await asyncio.sleep(0.001)
    # Pods of what has been told are no story.
    await sink.take(change(ChangeKind.POD_READY, 1040.0, aborted, pod=pod("a", created=1001.0)))
    await sink.take(change(ChangeKind.RESUMED, 1100.0))
    await sink.take(change(ChangeKind.COMPLETED, 1200.0, DONE))
    await sink.close()
    first, second = exporter.get_finished_spans()
    assert tree([first]) == ["rollout 0-50 1.2.0 rolled_back ERROR aborted"]
    assert tree([second]) == ["rollout 0-200 1.2.0 completed"]
    assert first.context.trace_id == second.context.trace_id
    assert first.context.span_id != second.context.span_id


async def test_what_had_completed_and_is_taken_back_is_not_told_twice():
    exporter = InMemorySpanExporter()
    sink = TraceSink(exporter, Resource({}), QUICK, linger_seconds=0.0)
    await sink.take(change(ChangeKind.COMPLETED, 1200.0, DONE))
    async with asyncio.timeout(30):
        while not exporter.get_finished_spans():
            await asyncio.sleep(0.001)
    undone = replace(DONE, phase=Phase.ROLLED_BACK, undone_by=f"{UID}-8")
    await sink.take(change(ChangeKind.ROLLED_BACK, 2000.0, undone))
    await sink.close()
    assert tree(exporter.get_finished_spans()) == ["rollout 0-200 1.2.0 completed"]


async def test_what_has_not_ended_is_not_told():
    spans, sink = await told([change(ChangeKind.STARTED, 1000.0)])
    assert (spans, sink.failures) == ([], 0)


async def test_events_of_no_rollout_that_goes_on_are_no_story():
    event = Event("e", "shop", "Pod", "a", "BackOff", "m", "Warning", 1, 1.0, 1.0)
    loose = Change(ChangeKind.EVENT, 1.0, "shop", "", "x", None, event=event)
    spans, _ = await told([loose, change(ChangeKind.EVENT, 1.0, DONE, event=event)])
    assert spans == []


async def test_a_pod_that_crashes_for_a_day_is_one_event_with_its_last_count():
    def crash(uid, count):
        event = Event(uid, "shop", "Pod", "a", "BackOff", "m", "Warning", count, 1001.0, 1000.0 + count)
        return change(ChangeKind.EVENT, 1000.0 + count, event=event)

    crashes = [crash("e", count) for count in range(1, 9000)]
    others = [crash(f"other-{n}", 1) for n in range(100)]
    spans, sink = await told(
        [change(ChangeKind.STARTED, 1000.0), *crashes, *others, change(ChangeKind.COMPLETED, 90_000.0, DONE)]
    )
    (root,) = spans
    assert len(root.events) == 32
    assert max(event.attributes["k8s.event.count"] for event in root.events) == 8999
    assert sink.failures == 0


async def test_a_rollout_of_very_many_pods_says_how_many_spans_it_is_told_without():
    pods = [
        change(ChangeKind.POD_READY, 1001.0, pod=pod(f"p{n:04}", created=1001.0, ready_since=1002.0))
        for n in range(1100)
    ]
    spans, _ = await told(
        [change(ChangeKind.STARTED, 1000.0), *pods, change(ChangeKind.COMPLETED, 1200.0, DONE)]
    )
    assert len(spans) == 1001
    assert spans[0].attributes["rolloutobs.rollout.spans_left_out"] == 100


def test_nothing_is_told_of_no_changes():
    assert spans_of([]) == ()


# --- the receiver ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("failures", [3, 100])
async def test_a_receiver_that_is_away_is_tried_again_and_each_trace_comes_once(failures):
    """However long it is away."""
    spans, sink = await told(changes_of(*ALL), Unreliable(failures))
    whole, _ = await told(changes_of(*ALL))
    assert sorted(s.context.span_id for s in spans) == sorted(s.context.span_id for s in whole)
    assert sink.failures == failures


async def test_a_trace_that_is_never_taken_holds_up_no_other_and_is_given_up():
    spans, sink = await told(changes_of(*ALL), Unreliable(refused="1.6.0-bad"))
    assert len([span for span in spans if span.name == "rollout"]) == 3
    assert sink.failures == 20


async def test_what_waits_is_bounded_and_the_end_comes_all_the_same(caplog):
    exporter = Unreliable(failures=1_000_000)
    patience = Patience(first_seconds=60.0, most_seconds=60.0, most_waiting=2, close_seconds=0.05)
    _, sink = await told(changes_of(*ALL), exporter, patience)
    # Two did not fit, two were left, and there may have been time for an attempt.
    assert sink.failures >= 4
    assert exporter.is_shut
    assert "too many are waiting" in caplog.text


# --- where it is configured -----------------------------------------------------------------------------


@pytest.mark.parametrize("environ", [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}])
def test_without_an_exporter_there_is_no_sink(environ):
    assert trace_sink(environ) is None


async def test_an_endpoint_is_all_that_is_needed():
    sink = trace_sink({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert isinstance(sink, TraceSink)
    await sink.close()


def test_a_wrong_variable_is_an_error():
    with pytest.raises(ConfigurationError):
        trace_sink({"ROLLOUTOBS_TRACK": "blue", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
