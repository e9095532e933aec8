"""Where one rollout ends and the next begins, over restarts and whatever is in the folder."""

from dataclasses import replace

import pytest

from rolloutobs.analysis.guardrails import Guardrails, Rollback
from rolloutobs.analysis.history import NOTHING, History
from rolloutobs.analysis.model import Decision, Reading, Sample, Verdict
from rolloutobs.analysis.report import Report
from rolloutobs.console.board import QUIET_SECONDS, Board
from rolloutobs.console.failures import Failures
from rolloutobs.console.keeping import Folder
from rolloutobs.console.metrics import Metrics
from rolloutobs.console.model import (
    GONE_SECONDS,
    Overriding,
    Rollout,
    RolloutOverError,
    Seen,
    Workload,
)
from rolloutobs.console.presence import Presence
from rolloutobs.console.standing import Hook, standing
from rolloutobs.errors import ConfigurationError
from rolloutobs.testing import FakeClock

SHOP = Workload("shop", "shop", "shop")
KEY = SHOP.key


def seen(decision, at, *, canary=True, exposures=100.0):
    requests = replace(NOTHING, canary_exposures=exposures)
    report = Report(
        "shop", at - 60, at, Verdict(decision, f"{decision.name}.", 60.0, "", (), requests), History()
    )
    return Seen(at, report, canary, None, answered=True)


@pytest.fixture
def clock():
    return FakeClock(1000.0)


@pytest.fixture
def board(tmp_path, clock):
    return made(tmp_path, clock)


def made(folder, clock, failures=None):
    found = Board(Folder(folder), clock, failures=failures)
    found.changes = []
    found.changed = found.changes.append
    found.put(SHOP)
    return found


def hook(board, hook, checksum="", phase="Progressing", message=""):
    return board.hook(KEY, hook, checksum, phase, message).status


def test_a_rollout_from_its_first_call_to_the_next_one(board, clock):
    assert hook(board, Hook.CONFIRM_ROLLOUT, "a") == 503
    assert board.get(KEY).rollout.id == "a"
    board.tell(KEY, 1, seen(Decision.HOLD, clock(), exposures=0.0))
    assert hook(board, Hook.CONFIRM_ROLLOUT, "a") == 200
    assert hook(board, Hook.PRE_ROLLOUT, "a") == 200
    assert board.get(KEY).rollout.number == 1
    steps = [hook(board, Hook.CONFIRM_TRAFFIC_INCREASE, "a") for _ in range(2)]
    assert steps == [200, 409]
    board.tell(KEY, 1, seen(Decision.ROLLBACK, clock()))
    assert hook(board, Hook.ROLLBACK, "a") == 200
    # An event may still have the last checksum, and begins nothing.
    assert hook(board, Hook.EVENT, "before", "Failed", "Canary failed!") == 200
    assert board.get(KEY).rollout.phase == ""
    assert hook(board, Hook.ROLLBACK, "b") == 409
    assert (board.get(KEY).rollout.number, board.get(KEY).seen) == (2, None)
    # A look that was under way says nothing about it.
    assert board.tell(KEY, 1, seen(Decision.ROLLBACK, clock())) is None
    assert hook(board, Hook.ROLLBACK, "b") == 409
    board.tell(KEY, 2, seen(Decision.PROMOTE, clock()))
    assert hook(board, Hook.CONFIRM_PROMOTION, "b") == 200
    assert hook(board, Hook.POST_ROLLOUT, "b", "Succeeded") == 200
    assert hook(board, Hook.CONFIRM_PROMOTION, "b") == 409
    # The same template once more: its first calls begin it.
    assert hook(board, Hook.CONFIRM_ROLLOUT, "b") == 200
    assert board.get(KEY).rollout == Rollout(
        3, clock(), "confirm-rollout was asked for with another rollout's id", "b", past=("a",)
    )
    assert board.changes == [KEY] * 3


def test_a_name_is_given_to_the_rollout_under_way(board, clock):
    board.tell(KEY, 1, seen(Decision.PROMOTE, clock()))
    found = board.speak_of(KEY, "hash").rollout
    assert found == Rollout(1, 0.0, "nothing was known before", "hash", judged="promote/promote")
    assert board.speak_of(KEY, "").rollout.number == 1
    # But not to one whose canary is gone, nor to one that had traffic before the first call about it.
    board.over(KEY, 1, RolloutOverError("the canary is 2 now, and was 1", 990.0))
    assert board.get(KEY).rollout == Rollout(2, 990.0, "the canary is 2 now, and was 1", past=("hash",))
    board.tell(KEY, 2, seen(Decision.PROMOTE, clock(), canary=False))
    assert board.speak_of(KEY, "hash-2").rollout.number == 3
    board.over(KEY, 3, RolloutOverError("the canary is 3 now, and was 2", 990.0))
    board.tell(KEY, 4, seen(Decision.PROMOTE, clock()))
    assert hook(board, Hook.PRE_ROLLOUT, "hash-3") == 200
    assert board.get(KEY).rollout.number == 5
    assert board.hook(("no", "body"), Hook.ROLLBACK, "a", "", "") is None


def test_who_goes_on_asking_about_the_rollout_before_disturbs_nobody(board, clock, tmp_path):
    """Two pipelines ask, the older of which has not noticed that it is out of date."""
    assert board.speak_of(KEY, "a").rollout.id == "a"
    board.speak_of(KEY, "b")
    board.tell(KEY, 2, seen(Decision.PROMOTE, clock()))
    for _ in range(3):
        clock.advance(599)
        board.tell(KEY, 2, seen(Decision.PROMOTE, clock()))
        stale = standing(board.speak_of(KEY, "a"), clock())
        assert (stale.decision, stale.sentence) == (
            Decision.HOLD,
            "HOLD: the rollout is over (replaced by b).",
        )
        assert hook(board, Hook.CONFIRM_TRAFFIC_INCREASE, "a") == 409
        assert standing(board.speak_of(KEY, "b"), clock()).decision is Decision.PROMOTE
    assert made(tmp_path, clock).speak_of(KEY, "a").rollout.phase == "replaced by b"
    # But a template that is rolled out once more begins: by its first calls, or when nobody asks about the
    # other.
    assert hook(board, Hook.PRE_ROLLOUT, "a") == 200
    assert board.get(KEY).rollout.past == ("b",)
    clock.advance(601)
    assert board.speak_of(KEY, "b").rollout.number == 4


def test_everything_but_looks_survives_a_restart(board, clock, tmp_path):
    hook(board, Hook.PRE_ROLLOUT, "a")
    board.tell(KEY, 1, seen(Decision.HOLD, clock(), exposures=0.0))
    hook(board, Hook.CONFIRM_TRAFFIC_INCREASE, "a")
    board.override(KEY, Overriding(Decision.HOLD, "why", "ann", clock(), clock() + 60), "ann", "why")
    again = made(tmp_path, clock)
    before, after = board.get(KEY), again.get(KEY)
    assert (after.rollout, after.happenings) == (before.rollout, before.happenings)
    assert after.seen is None
    assert list(Folder(tmp_path).keys()) == [KEY]


def test_a_decision_is_told_once_over_restarts_and_while_its_source_is_away(clock, tmp_path):
    told = []

    def started():
        found = Board(Folder(tmp_path), clock, lambda status, line: told.append((line.kind, line.text)))
        found.put(SHOP)
        return found

    for _ in range(2):
        board = started()
        board.tell(KEY, 1, seen(Decision.ROLLBACK, clock()))
        # Prometheus is away for longer than a look is good for, and comes back.
        clock.advance(1000)
        away = replace(seen(Decision.ROLLBACK, clock() - 1000), answered=False, failed=("refused",))
        board.tell(KEY, 1, away)
        assert board.hook(KEY, Hook.ROLLBACK, "", "", "").status == 503
        board.tell(KEY, 1, seen(Decision.ROLLBACK, clock()))
    assert told == [("verdict", "ROLLBACK.")]
    # A person's, and its end, are told as what they are; the end comes without anybody.
    board.override(KEY, Overriding(Decision.HOLD, "why", "ann", clock(), clock() + 60), "ann", "why")
    board.tell(KEY, 1, seen(Decision.ROLLBACK, clock()))
    clock.advance(61)
    board.tell(KEY, 1, seen(Decision.ROLLBACK, clock()))
    board.hook(KEY, Hook.POST_ROLLOUT, "", "Failed", "")
    board.tell(KEY, 1, seen(Decision.ROLLBACK, clock()))
    assert told[1:] == [("override", "hold: why"), ("verdict", "ROLLBACK."), ("over", "Flagger says: Failed")]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"serve": 2}', '{"serve": 1, "rollout": {}, "happenings": []}']
)
def test_a_damaged_file_begins_anew_with_a_number_that_no_evidence_has(text, board, clock, tmp_path):
    folder = Folder(tmp_path)
    folder.state_file(KEY, 7).write_text("evidence")
    (tmp_path / "shop" / "shop.rollout.json").write_text(text)
    found = made(tmp_path, clock).get(KEY).rollout
    assert found.number == 8
    assert "cannot be read" in found.why
    folder.state_file(KEY, 8)
    assert not folder.state_file(("shop", "shop"), 7).exists()


def test_a_folder_that_cannot_be_written_is_told_and_counted(clock, tmp_path):
    failures = Failures()
    board = made(tmp_path, clock, failures)
    (tmp_path / "shop").write_text("a file where a folder has to be")
    hook(board, Hook.PRE_ROLLOUT, "a")
    assert "the state cannot be written" in board.unsaved
    assert failures.totals()["state"] == 1
    with pytest.raises(ConfigurationError, match="is not there, or cannot be written to"):
        Folder(tmp_path / "nowhere")


def test_environments_that_come_and_go_leave_nothing_behind(clock, tmp_path):
    board = made(tmp_path, clock)
    names = {name: Workload("pr-42", name, name, is_listed=False) for name in ("gone", "rolling", "blind")}
    for workload in names.values():
        board.put(workload)
    metrics = Metrics(board, Failures(), clock)
    for key in (KEY, *(workload.key for workload in names.values())):
        board.tell(key, 1, seen(Decision.PROMOTE, clock(), canary=key[1] == "rolling"))
        Folder(tmp_path).state_file(key, 1).write_text("evidence")
        metrics.answered(key, "rollback", 409)
    clock.advance(QUIET_SECONDS)
    board.tell(names["blind"].key, 1, replace(seen(Decision.HOLD, clock(), canary=False), answered=False))
    assert board.drop_quiet() == []
    clock.advance(1)
    # One with an entry of its own stays, as does one of which nobody knows whether it has a canary.
    assert board.drop_quiet() == [("pr-42", "gone")]
    assert {status.workload.name for status in board.all()} == {"shop", "rolling", "blind"}
    assert set(Folder(tmp_path).keys()) == {KEY, names["rolling"].key, names["blind"].key}
    assert not list((tmp_path / "pr-42").glob("gone*"))
    assert 'workload="gone"' not in metrics.text().decode()
    # A look that was under way has left its evidence, which is of no use by then.
    Folder(tmp_path).state_file(("pr-42", "gone"), 1).write_text("evidence")
    board.put(names["gone"])
    assert board.get(("pr-42", "gone")).rollout.number == 2


def test_a_workload_that_cannot_be_followed_is_told_once(board, clock):
    board.tell(KEY, 1, seen(Decision.PROMOTE, clock()))
    for _ in range(3):
        board.fail(KEY, 1, "several apps")
    assert [each.kind for each in board.get(KEY).happenings] == ["verdict", "trouble"]
    board.tell(KEY, 1, seen(Decision.PROMOTE, clock()))
    status = board.get(KEY)
    assert (status.trouble, status.happenings[-1].text) == ("", "it can be looked at again")
    board.over(KEY, 1, RolloutOverError("the evidence is begun anew: damaged", 0.0, is_same=True))
    again = Rollout(2, 0.0, "the evidence is begun anew: damaged", judged="promote/promote")
    assert board.get(KEY).rollout == again


# --- by what is read ----------------------------------------------------------------------------------------


def reading(at, *versions, failed=None):
    samples = tuple(Sample("n", {"track": "canary", "version": v}, 1.0) for v in versions)
    return Reading(
        at, {"pod": (Sample("n", {"track": "stable", "version": "0"}, 1.0), *samples)}, failed or {}
    )


def test_another_version_is_another_rollout_and_an_overlap_is_none():
    presence = Presence(Rollout(1, 0.0, ""))
    presence.note(reading(10), is_decided=False)
    assert not presence.has_canary
    presence.note(reading(20, "1"), is_decided=False)
    presence.note(reading(30, "1", "2"), is_decided=True)
    presence.note(reading(40, "2"), is_decided=True)
    with pytest.raises(RolloutOverError, match=r"the canary is 3 now, and was 1, 2") as over:
        presence.note(reading(50, "3"), is_decided=False)
    assert over.value.since == 40


def returned(gone, *, is_decided):
    """A canary is there, is not to be read, and is gone for so many seconds."""
    presence = Presence(Rollout(1, 0.0, ""), "1")
    presence.note(reading(10, "1"), is_decided=False)
    presence.note(Reading(20, {}, {"pod": "refused"}), is_decided=is_decided)
    presence.note(reading(21, failed={"other": "refused"}), is_decided=is_decided)
    assert presence.gone_since is None
    presence.note(reading(100), is_decided=is_decided)
    presence.note(reading(100 + GONE_SECONDS / 2), is_decided=is_decided)
    assert presence.gone_since == 100
    presence.note(reading(100 + gone, "1"), is_decided=is_decided)
    return presence.gone_since


def test_a_pod_that_was_never_the_canarys_hides_no_canary_that_is_gone():
    stable = (Sample("n", {"track": "stable", "version": "0"}, 1.0),)
    presence = Presence(Rollout(1, 0.0, ""), "1")
    presence.note(Reading(10, {**reading(10, "1").targets, "lost": stable}), is_decided=True)
    presence.note(reading(20, failed={"lost": "refused", "unknown": "refused"}), is_decided=True)
    assert presence.gone_since is None
    for at in (30, 40):
        presence.note(reading(at, failed={"lost": "refused"}), is_decided=True)
    assert presence.gone_since == 30


def test_a_version_that_comes_back_after_it_was_decided_is_another_rollout():
    assert returned(299, is_decided=True) is None
    assert returned(301, is_decided=False) is None
    with pytest.raises(RolloutOverError, match="the canary 1 is back after 301 s"):
        returned(301, is_decided=True)


def test_what_is_written_on_a_workload_holds_as_soon_as_it_is_read(tmp_path, clock):
    written = {}
    found = Board(Folder(tmp_path), clock, annotated=lambda key: written.get(key, Guardrails()))
    found.put(replace(SHOP, rails=Guardrails(owner="team-file")))
    found.tell(KEY, 1, seen(Decision.ROLLBACK, clock()))
    assert hook(found, Hook.ROLLBACK) == 200
    written[KEY] = Guardrails(Rollback.UNSAFE, "migration 42", "team-shop")
    found.guard()
    found.guard()
    assert hook(found, Hook.ROLLBACK) == 409
    status = found.get(KEY)
    assert status.rails == Guardrails(Rollback.UNSAFE, "migration 42", "team-file")
    told = [(line.kind, line.text.partition(":")[0]) for line in status.happenings[-2:]]
    assert told == [
        ("settings", "its annotations say that rolling back is unsafe (migration 42)"),
        ("verdict", "HOLD, and page team-file"),
    ]
    # Another entry in the file changes nothing of it, and it is taken back as it has come.
    found.put(SHOP)
    assert found.get(KEY).rails.owner == "team-shop"
    written.clear()
    found.guard()
    assert hook(found, Hook.ROLLBACK) == 200
