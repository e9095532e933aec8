"""What a real control plane sent, replayed: changes, metrics and state at every step, in any order."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_snapshot import snapshot

from rolloutobs.cluster import page
from rolloutobs.cluster.figures import families
from rolloutobs.cluster.health import health
from rolloutobs.cluster.model import Phase
from rolloutobs.cluster.resources import RESOURCES
from rolloutobs.cluster.state import State
from tests.kubernetes_api import PLURALS, RECORDINGS, in_order, recording

KINDS = {resource.plural: resource.kind for resource in RESOURCES}
UID = "c39b3bc1-13c1-4631-8b03-b1d78bd0a812"
LISTED = {name: {plural: recording(name, plural) for plural in PLURALS} for name in RECORDINGS}
LINES = {name: list(in_order(name)) for name in RECORDINGS}


def begun(name):
    """Return the state at the beginning of a recording, and the past."""
    state = State()
    for plural, found in LISTED[name].items():
        for plain in found.listed:
            state.apply(KINDS[plural], "MODIFIED", plain)
    return state, state.begin()


def told(changes):
    return [
        (change.kind.value, int(change.time) % 100_000, change.text)
        for change in changes
        if change.event is None
    ]


def played(name, state, lines=None):
    found = [
        change
        for plural, line in (LINES[name] if lines is None else lines)
        for change in state.apply(KINDS[plural], line.word, line.plain)
    ]
    return found + state.settle(is_end=True)


def metrics(state, now=1_795_391_230.0):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families(state.workloads(), now)
        for sample in family.samples
    }


def value(state, name, **labels):
    wanted = {"namespace": "shop", "workload": "pay", **labels}
    return metrics(state).get((name, *sorted(wanted.items())))


def test_a_healthy_rollout_is_told_from_its_beginning_to_its_end():
    state, past = begun("01_healthy")
    assert told(past)[0] == ("started", 91182, "deployment/pay: 1.4.0 begins")
    assert told(past)[-1] == ("completed", 91186, "deployment/pay: 1.4.0 is complete")
    assert all(change.is_backfill for change in past)
    changes = played("01_healthy", state)
    assert not any(change.is_backfill for change in changes)
    assert told(changes) == snapshot(
        [
            ("started", 91188, "deployment/pay: 1.4.0 to 1.5.0 begins"),
            ("pod_started", 91188, "pay-644c65c544-w92fw (1.5.0) was created"),
            ("scaled", 91188, "deployment/pay: 1 of 4 pods are 1.5.0"),
            ("pod_ready", 91190, "pay-644c65c544-w92fw (1.5.0) is ready"),
            ("pod_started", 91192, "pay-644c65c544-5x47t (1.5.0) was created"),
            ("scaled", 91192, "deployment/pay: 2 of 4 pods are 1.5.0"),
            ("pod_ready", 91194, "pay-644c65c544-5x47t (1.5.0) is ready"),
            ("pod_started", 91196, "pay-644c65c544-t9rfc (1.5.0) was created"),
            ("scaled", 91196, "deployment/pay: 3 of 4 pods are 1.5.0"),
            ("pod_ready", 91198, "pay-644c65c544-t9rfc (1.5.0) is ready"),
            ("pod_started", 91200, "pay-644c65c544-6nzjs (1.5.0) was created"),
            ("scaled", 91200, "deployment/pay: 4 of 4 pods are 1.5.0"),
            ("pod_ready", 91202, "pay-644c65c544-6nzjs (1.5.0) is ready"),
            ("completed", 91204, "deployment/pay: 1.4.0 to 1.5.0 is complete"),
        ]
    )


def test_a_rollout_that_exceeds_its_deadline_is_stuck():
    state, past = begun("02_stuck")
    assert [kind for kind, *_ in told(past) if not kind.startswith("pod")] == ["started", "completed"]
    assert told(played("02_stuck", state)) == snapshot(
        [
            ("started", 91207, "deployment/pay: 1.5.0 to 1.6.0-bad begins"),
            ("pod_started", 91207, "pay-55cd44db8f-c5576 (1.6.0-bad) was created"),
            ("scaled", 91207, "deployment/pay: 1 of 4 pods are 1.6.0-bad"),
            ("stuck", 91220, "deployment/pay: 1.5.0 to 1.6.0-bad is stuck: ProgressDeadlineExceeded"),
        ]
    )
    (workload,) = state.workloads()
    assert (workload.rollout.phase, workload.rollout.reason) == (Phase.STUCK, "ProgressDeadlineExceeded")
    # "ready == desired" would say that all is well.
    assert (workload.replicas.ready, workload.replicas.available, workload.replicas.updated) == (4, 4, 1)
    assert workload.deadline == 1_795_391_220
    bad = [pod for pod in workload.pods if pod.trouble]
    assert [(pod.version, pod.trouble, pod.restarts) for pod in bad] == [("1.6.0-bad", "CrashLoopBackOff", 3)]


def test_an_undo_is_paired_with_what_it_undoes_however_quick_it_is():
    state, past = begun("03_rollback")
    assert [kind for kind, *_ in told(past) if not kind.startswith("pod")] == ["started", "stuck"]
    changes = [change for change in played("03_rollback", state) if change.event is None]
    assert told(changes) == snapshot(
        [
            ("rolled_back", 91223, "deployment/pay: 1.5.0 to 1.6.0-bad is taken back, 1.5.0 again"),
            ("started", 91223, "deployment/pay: 1.6.0-bad to 1.5.0 begins"),
            ("completed", 91223, "deployment/pay: 1.6.0-bad to 1.5.0 is complete"),
        ]
    )
    undone, back, complete = changes
    assert (undone.rollout.id, undone.rollout.phase) == (f"{UID}-3", Phase.ROLLED_BACK)
    assert undone.rollout.undone_by == undone.undoing.id == back.rollout.id == f"{UID}-4"
    assert back.rollout.undoes == complete.rollout.undoes == f"{UID}-3"


def test_the_undo_found_after_a_restart_is_the_same():
    before, _ = begun("03_rollback")
    played("03_rollback", before)
    state = State()
    for plural in PLURALS:
        last = {}
        found = LISTED["03_rollback"][plural]
        for plain in found.listed:
            last[plain["metadata"]["uid"]] = plain
        for line in found.lines:
            last[line.plain["metadata"]["uid"]] = line.plain
            if line.word == "DELETED":
                del last[line.plain["metadata"]["uid"]]
        for plain in last.values():
            state.apply(KINDS[plural], "MODIFIED", plain)
    past = [change for change in state.begin() if change.event is None]
    assert [(change.kind.value, change.rollout.id) for change in past] == [
        ("rolled_back", f"{UID}-3"),
        ("started", f"{UID}-4"),
        ("completed", f"{UID}-4"),
    ]
    assert metrics(state) == metrics(before)


def test_metrics_at_every_step_of_the_deployment():
    state, _ = begun("01_healthy")
    seen = []
    for plural, line in LINES["01_healthy"]:
        state.apply(KINDS[plural], line.word, line.plain)
        if plural == "deployments":
            now = (
                value(state, "rolloutobs_rollout_revision"),
                value(state, "rolloutobs_rollout_progress_ratio"),
                value(state, "rolloutobs_rollout_phase", phase="completed"),
                value(state, "rolloutobs_pods", app="pay", version="1.4.0", track=""),
                value(state, "rolloutobs_pods", app="pay", version="1.5.0", track=""),
            )
            seen += [now] if not seen or seen[-1] != now else []
    assert seen == snapshot(
        [
            (1, 1.0, 1.0, 4, None),
            (2, 0.0, 0.0, 4, 1),
            (2, 0.25, 0.0, 4, 1),
            (2, 0.25, 0.0, 4, 2),
            (2, 0.25, 0.0, 3, 2),
            (2, 0.5, 0.0, 3, 2),
            (2, 0.5, 0.0, 3, 3),
            (2, 0.5, 0.0, 2, 3),
            (2, 0.75, 0.0, 2, 3),
            (2, 0.75, 0.0, 2, 4),
            (2, 0.75, 0.0, 1, 4),
            (2, 1.0, 0.0, 1, 4),
            (2, 1.0, 1.0, 1, 4),
            (2, 1.0, 1.0, None, 4),
        ]
    )


def test_the_status_of_the_rollout_before_says_nothing_about_the_new_one():
    """For 40 ms after an undo the status is still that of the rollout that was stuck."""
    state, _ = begun("03_rollback")
    seen = []
    for plural, line in LINES["03_rollback"]:
        changes = state.apply(KINDS[plural], line.word, line.plain)
        if plural == "deployments":
            (workload,) = state.workloads()
            seen.append((workload.is_current, workload.rollout.revision, workload.rollout.phase.value))
            seen[-1] += (len([c for c in changes if c.event is None]),)
    assert seen == snapshot(
        [
            (False, 3, "stuck", 0),
            (False, 3, "stuck", 0),
            (True, 4, "progressing", 2),
            (True, 4, "completed", 1),
            (True, 4, "completed", 0),
        ]
    )


# --- any order of the kinds against each other, any number of lists in between ----------------------------


def outcome(changes):
    """Return what must not depend on how kinds are interleaved."""
    rollouts = sorted(told(changes))
    events = sorted(
        (c.key, c.event.workload, c.event.version, c.rollout.id) for c in changes if c.event is not None
    )
    return rollouts, events


@pytest.mark.parametrize("name", RECORDINGS)
@settings(max_examples=30)
@given(data=st.data())
def test_the_order_of_kinds_changes_nothing(name, data):
    state, past = begun(name)
    expected = outcome(played(name, state))
    other, other_past = begun(name)
    queues = {plural: [(p, line) for p, line in LINES[name] if p == plural] for plural in PLURALS}
    order = data.draw(st.permutations([plural for plural, _ in LINES[name]]))
    lines = [queues[plural].pop(0) for plural in order]
    changes = played(name, other, lines)
    assert outcome(changes) == expected
    assert metrics(other) == metrics(state)
    assert told(past) == told(other_past)


def paths(plain, path=()):
    """Yield the way to every key of nested mappings and lists."""
    items = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from paths(value, (*path, key))


def without(plain, path):
    copied = copy.deepcopy(plain)
    inner = copied
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return copied


@settings(max_examples=100)
@given(data=st.data())
def test_what_is_left_out_of_an_object_stops_nothing(data):
    """API servers leave out zeros, and old ones what is new: it is refused as a whole, or all goes on."""
    state, _ = begun("02_stuck")
    plural, line = data.draw(st.sampled_from(LINES["02_stuck"] + LINES["03_rollback"]))
    plain = line.plain
    for _ in range(data.draw(st.integers(1, 3))):
        plain = without(plain, data.draw(st.sampled_from(list(paths(plain)))))
    try:
        state.apply(KINDS[plural], line.word, plain)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    played("02_stuck", state)
    for workload in state.workloads():
        assert health(workload, 1_795_391_230.0).sentence
        assert page.detail(workload, [], 1_795_391_230.0, lambda text, style: text)
    assert metrics(state)


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_list_in_place_of_any_line_changes_nothing_in_the_end(name):
    """After a 410 the lines in between are lost, and the list is all there is."""
    state, _ = begun(name)
    whole = told(played(name, state))
    phases = {item for item in whole if item[0] not in ("scaled", "pod_started", "pod_ready")}
    for position in range(0, len(LINES[name]), 3):
        other, _ = begun(name)
        changes = played(name, other, LINES[name][:position])
        # Everything that happened meanwhile is in the lists.
        for plural in PLURALS:
            last = {plain["metadata"]["uid"]: plain for plain in LISTED[name][plural].listed}
            for line in LISTED[name][plural].lines:
                last[line.plain["metadata"]["uid"]] = line.plain
                if line.word == "DELETED":
                    del last[line.plain["metadata"]["uid"]]
            for plain in last.values():
                changes += other.apply(KINDS[plural], "MODIFIED", plain)
            changes += other.retain(KINDS[plural], set(last), "shop")
        assert metrics(other) == metrics(state)
        assert {item for item in told(changes) if item[0] in {kind for kind, *_ in phases}} == phases
