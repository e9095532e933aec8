"""To what an event of Kubernetes belongs, whenever it comes."""

from rolloutobs.cluster.state import State
from tests.unit.rolloutobs.cluster.conftest import short
from tests.unit.rolloutobs.cluster.made import (
    deployment,
    done,
    event,
    pod,
    progressing,
    replica_set,
)

OLD = replica_set("1.0", 1, 0)
NEW = replica_set("2.0", 2, 100)
COMPLETE = progressing("NewReplicaSetAvailable", 10)


def rounds(played, count=1):
    """Let time pass; return what is told."""
    return [change for _ in range(count) for change in played.state.settle()]


def told(played, *events):
    """Give events, wait, and return where they belong."""
    for each in events:
        assert played.say("events", each) == []
    return [places(change) for change in rounds(played, 10)]


def places(change):
    return change.event.uid, change.workload, change.event.version, change.rollout and change.rollout.revision


def running(played):
    return played.begin(deployments=[deployment("1.0", 1, [COMPLETE], **done())], sets=[OLD])


def test_events_that_are_listed_before_what_they_are_about_belong_to_it_all_the_same(played):
    about = ("Deployment", "shop")
    old = event("e1", 1, about, "ScalingReplicaSet", 40)
    twice = [event("e2", count, about, "ScalingReplicaSet", 100 + count) for count in (1, 2)]
    past = played.begin(
        events=[old, *twice],
        deployments=[deployment("2.0", 2, [progressing("ReplicaSetUpdated", 110)], updatedReplicas=1)],
        sets=[replica_set("1.0", 1, 0), replica_set("2.0", 2, 100)],
    )
    assert [short(change) for change in past if change.event is None] == [("started", 100, 2)]
    events = [change for change in past if change.event is not None]
    # The older one was before the rollout that goes on now.
    assert [short(change) for change in events] == [("event", 40, 0), ("event", 102, 2)]
    assert {(change.workload, change.is_backfill) for change in events} == {("shop", True)}
    assert told(played, twice[1]) == []


def test_an_event_is_told_once_for_each_count_and_knows_its_workload(played):
    running(played)
    first, again = (event("e1", count, ("Deployment", "shop"), "ScalingReplicaSet", 20) for count in (1, 2))
    assert told(played, first, first, again, first) == [("e1", "shop", "", 1)] * 2
    about = ("Pod", "shop-hash1.0-gone1")
    assert told(played, event("e2", 1, about, "Killing", 20)) == [("e2", "shop", "1.0", 1)]
    assert told(played, event("e3", 1, ("Node", "node-0"), "Rebooted", 20)) == [("e3", "", "", None)]


def test_an_event_that_overtakes_what_it_is_about_belongs_to_it(played):
    """Deployment, ReplicaSet and pod are new, and come on other watches."""
    running(played)
    abouts = (("Deployment", "cart"), ("ReplicaSet", "cart-hash3.0"), ("Pod", "cart-hash3.0-x"))
    for number, about in enumerate(abouts):
        played.say("events", event(f"e{number}", 1, about, "Created", 200))
    assert rounds(played, 3) == []
    played.say("deployments", deployment("3.0", 1, [progressing("NewReplicaSetCreated", 200)], name="cart"))
    played.say("sets", replica_set("3.0", 1, 200, owner="cart"))
    assert [places(change) for change in rounds(played)] == [
        ("e0", "cart", "", 1),
        ("e1", "cart", "3.0", 1),
        ("e2", "cart", "3.0", 1),
    ]
    assert rounds(played, 20) == []


def test_an_event_belongs_to_the_rollout_that_it_overtakes_and_to_none_that_is_later(played):
    running(played)
    about = ("Deployment", "shop")
    # The clock of who has told the second one is late.
    for uid, last in (("early", 100), ("late clock", 5)):
        played.say("events", event(uid, 1, about, "ScalingReplicaSet", last))
    played.say("sets", NEW)
    played.say("deployments", deployment("2.0", 2, [progressing("ReplicaSetUpdated", 100)]))
    played.say("events", event("second", 1, about, "ScalingReplicaSet", 101))
    # An undo in the same second or the next: what came before it is not of it.
    played.say("sets", replica_set("1.0", 3, 0, past="1"))
    played.say("deployments", deployment("1.0", 3, [progressing("NewReplicaSetAvailable", 102)], **done()))
    assert [places(change) for change in rounds(played, 2)] == [
        ("early", "shop", "", 2),
        ("late clock", "shop", "", 1),
        ("second", "shop", "", 2),
    ]


def test_an_event_of_what_nobody_watches_over_is_told_soon_and_so_is_one_of_many(played):
    running(played)
    played.say("pods", pod("backup-1", "", 100))
    played.say("events", event("job", 1, ("Pod", "backup-1"), "Started", 100))
    played.say("events", event("node", 1, ("Node", "n"), "Rebooted", 100))
    assert [places(change)[0] for change in rounds(played, 2)] == ["node"]
    assert [places(change)[0] for change in rounds(played, 8)] == ["job"]
    for number in range(1000):
        assert played.say("events", event(f"e{number}", 1, ("Pod", f"p{number}"), "Started", 100)) == []
    assert played.say("events", event("more", 1, ("Pod", "p"), "Started", 100)) == [("event", 100, 0)]
    assert len(played.state.settle(is_end=True)) == 1000


def test_an_event_whose_workload_is_gone_by_then_still_belongs_to_it(played):
    running(played)
    played.say("events", event("e", 1, ("Deployment", "shop"), "ScalingReplicaSet", 20))
    played.say("deployments", deployment("1.0", 1, [COMPLETE], **done()), "DELETED")
    assert [places(change) for change in rounds(played, 2)] == [("e", "shop", "", 1)]
    assert State().settle(is_end=True) == []
