"""What holds, and what Flagger is told, in every situation."""

from dataclasses import replace

import pytest

from rolloutobs.analysis.guardrails import Guardrails, Rollback
from rolloutobs.analysis.history import NOTHING, History
from rolloutobs.analysis.model import Decision, Verdict
from rolloutobs.analysis.report import Report
from rolloutobs.console.model import Overriding, Rollout, Seen, Status, Workload
from rolloutobs.console.standing import Hook, answer, standing

NOW = 1000.0
SAFE = Workload("shop", "shop", "shop", interval_seconds=15.0)
UNSAFE = replace(SAFE, rails=Guardrails(Rollback.UNSAFE, "migration 42", "team-db"))


def seen(decision, *, canary=True, exposures=100.0, gone=None, **changes):
    requests = replace(NOTHING, canary_exposures=exposures)
    verdict = Verdict(decision, f"{decision.name}: words.", 60.0, "", (), requests)
    report = Report("shop", NOW - 60, NOW, verdict, History())
    return Seen(NOW, report, canary, None if gone is None else NOW - gone, answered=True, **changes)


def status(found, workload=SAFE, *, answered=NOW, **rollout):
    return Status(workload, Rollout(1, 0.0, "it began", **rollout), seen=found, answered=answered)


def by(decision, until=NOW + 1):
    return Overriding(decision, "it has to be", "ann", NOW - 10, until)


SITUATIONS = {
    "promote": status(seen(Decision.PROMOTE)),
    "hold": status(seen(Decision.HOLD)),
    "rollback": status(seen(Decision.ROLLBACK)),
    "unsafe": status(seen(Decision.ROLLBACK), UNSAFE),
    "unsafe, and done by hand": status(seen(Decision.ROLLBACK), UNSAFE, overriding=by(Decision.ROLLBACK)),
    "no traffic yet": status(seen(Decision.HOLD, exposures=0.0)),
    "no traffic after the first step": status(seen(Decision.HOLD, exposures=0.0), first_step=NOW - 60),
    "its weight is 0": status(seen(Decision.HOLD, exposures=0.0, weight=0.0), first_step=NOW - 60),
    "first look not over": status(None),
    "old": status(seen(Decision.PROMOTE), answered=NOW - 71),
    "old rollback": status(seen(Decision.ROLLBACK), answered=NOW - 71),
    "nearly old": status(seen(Decision.PROMOTE), answered=NOW - 70),
    "never read": status(None, answered=None),
    "cannot be followed": replace(status(seen(Decision.PROMOTE)), trouble="several apps"),
    "promoted, canary gone": status(seen(Decision.PROMOTE, canary=False)),
    "bad, canary gone": status(seen(Decision.ROLLBACK, canary=False, gone=299.0)),
    "bad, canary gone for long": status(seen(Decision.ROLLBACK, canary=False, gone=300.0)),
    "unsafe, canary gone for long": status(seen(Decision.ROLLBACK, canary=False, gone=7200.0), UNSAFE),
    "bad, canary dead with traffic": status(seen(Decision.ROLLBACK, canary=False, gone=900.0, weight=0.1)),
    "over": status(seen(Decision.PROMOTE), phase="Succeeded"),
    "bad and over": status(seen(Decision.ROLLBACK), phase="Failed"),
    "frozen by hand": status(seen(Decision.PROMOTE), overriding=by(Decision.HOLD)),
    "promoted by hand": status(seen(Decision.HOLD), overriding=by(Decision.PROMOTE)),
    "promoted by hand, blind": status(None, answered=None, overriding=by(Decision.PROMOTE)),
    "promoted by hand, canary gone": status(
        seen(Decision.HOLD, canary=False), overriding=by(Decision.PROMOTE)
    ),
    "promoted by hand, too long ago": status(seen(Decision.HOLD), overriding=by(Decision.PROMOTE, NOW)),
}
HOOKS = tuple(Hook)
#            confirm-rollout, pre-rollout, rollout, traffic-increase, promotion, post-rollout, rollback, event
TOLD = {
    "promote": ("promote", 200, 200, 200, 200, 200, 200, 409, 200),
    "hold": ("hold", 200, 200, 200, 409, 409, 200, 409, 200),
    "rollback": ("rollback", 200, 200, 409, 409, 409, 200, 200, 200),
    "unsafe": ("hold", 200, 200, 200, 409, 409, 200, 409, 200),
    "unsafe, and done by hand": ("rollback", 409, 409, 409, 409, 409, 200, 200, 200),
    "no traffic yet": ("hold", 200, 200, 200, 200, 409, 200, 409, 200),
    "no traffic after the first step": ("hold", 200, 200, 200, 409, 409, 200, 409, 200),
    "its weight is 0": ("hold", 200, 200, 200, 200, 409, 200, 409, 200),
    "first look not over": ("hold", 200, 200, 200, 409, 409, 200, 409, 200),
    "old": ("hold", 503, 503, 200, 503, 503, 200, 503, 200),
    "old rollback": ("hold", 503, 503, 200, 503, 503, 200, 503, 200),
    "nearly old": ("promote", 200, 200, 200, 200, 200, 200, 409, 200),
    "never read": ("hold", 503, 503, 200, 503, 503, 200, 503, 200),
    "cannot be followed": ("hold", 503, 503, 200, 503, 503, 200, 503, 200),
    "promoted, canary gone": ("hold", 200, 200, 200, 409, 409, 200, 409, 200),
    "bad, canary gone": ("rollback", 200, 200, 409, 409, 409, 200, 200, 200),
    "bad, canary gone for long": ("hold", 200, 200, 200, 409, 409, 200, 409, 200),
    "unsafe, canary gone for long": ("hold", 200, 200, 200, 409, 409, 200, 409, 200),
    "bad, canary dead with traffic": ("rollback", 200, 200, 409, 409, 409, 200, 200, 200),
    "over": ("hold", 200, 200, 200, 409, 409, 200, 409, 200),
    "bad and over": ("hold", 200, 200, 200, 409, 409, 200, 409, 200),
    "frozen by hand": ("hold", 409, 409, 200, 409, 409, 200, 409, 200),
    "promoted by hand": ("promote", 200, 200, 200, 200, 200, 200, 409, 200),
    "promoted by hand, blind": ("promote", 503, 503, 200, 200, 200, 200, 503, 200),
    "promoted by hand, canary gone": ("hold", 409, 409, 200, 409, 409, 200, 409, 200),
    "promoted by hand, too long ago": ("hold", 200, 200, 200, 409, 409, 200, 409, 200),
}


def test_every_situation_is_listed():
    assert TOLD.keys() == SITUATIONS.keys()


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_holds_and_what_flagger_is_told(name):
    found = SITUATIONS[name]
    told = (standing(found, NOW).decision.value, *(answer(hook, found, NOW).status for hook in HOOKS))
    assert told == TOLD[name]


def test_sentences():
    found = {name: standing(each, NOW) for name, each in SITUATIONS.items()}
    assert {name: each.sentence for name, each in found.items()} == {
        "promote": "PROMOTE: words.",
        "hold": "HOLD: words.",
        "rollback": "ROLLBACK: words.",
        "unsafe": "HOLD, and page team-db: rolling back is marked as unsafe (migration 42), so a person has "
        "to decide. The evidence: ROLLBACK: words.",
        "unsafe, and done by hand": "ROLLBACK by ann (it has to be); the evidence by then: ROLLBACK: words.",
        "no traffic yet": "HOLD: words.",
        "no traffic after the first step": "HOLD: words.",
        "its weight is 0": "HOLD: words.",
        "first look not over": "HOLD: the first look at this rollout is not over yet.",
        "old": "HOLD: the last finished look was 71 s ago.",
        "old rollback": "HOLD: the last finished look was 71 s ago.",
        "nearly old": "PROMOTE: words.",
        "never read": "HOLD: nothing has been read yet.",
        "cannot be followed": "HOLD: several apps.",
        "promoted, canary gone": "HOLD: there is no canary now. The last look at it said: PROMOTE: words.",
        "bad, canary gone": "ROLLBACK: words.",
        "bad, canary gone for long": "HOLD: there has been no canary for 5 min. The last look at it said: "
        "ROLLBACK: words.",
        "unsafe, canary gone for long": "HOLD: there has been no canary for 2.0 h. The last look at it said: "
        "HOLD, and page team-db: rolling back is marked as unsafe (migration 42), so a person has to decide. "
        "The evidence: ROLLBACK: words.",
        "bad, canary dead with traffic": "ROLLBACK: words.",
        "over": "HOLD: the rollout is over (Succeeded). The last look at it said: PROMOTE: words.",
        "bad and over": "HOLD: the rollout is over (Failed). The last look at it said: ROLLBACK: words.",
        "frozen by hand": "HOLD by ann (it has to be); the evidence by then: PROMOTE: words.",
        "promoted by hand": "PROMOTE by ann (it has to be); the evidence by then: HOLD: words.",
        "promoted by hand, blind": "PROMOTE by ann (it has to be); nothing is known: nothing has been read "
        "yet.",
        "promoted by hand, canary gone": "HOLD: there is no canary now. The last look at it said: PROMOTE by "
        "ann (it has to be); the evidence by then: HOLD: words.",
        "promoted by hand, too long ago": "HOLD: words.",
    }
    assert [name for name, each in found.items() if each.is_page] == ["unsafe"]


def test_only_a_canary_without_traffic_gets_its_first_step():
    found = SITUATIONS["no traffic yet"]
    assert [hook for hook in Hook if answer(hook, found, NOW).is_first_step] == [
        Hook.CONFIRM_TRAFFIC_INCREASE
    ]
    others = [each for name, each in SITUATIONS.items() if name not in ("no traffic yet", "its weight is 0")]
    assert not any(answer(hook, each, NOW).is_first_step for each in others for hook in Hook)
