"""What guard rails say, and what becomes of a decision under them."""

import json
from dataclasses import replace

import pytest

from rolloutobs.analysis.guardrails import Guarded, Guardrails, Rollback, guarded
from rolloutobs.analysis.markdown import to_markdown
from rolloutobs.analysis.model import Decision
from rolloutobs.analysis.page import to_html
from rolloutobs.analysis.report import Override, exit_code, to_json, to_text
from rolloutobs.errors import ConfigurationError
from tests.unit.analysis.test_report import golden, promoted, report

UNSAFE = Guardrails(Rollback.UNSAFE, "migration 42 drops orders.note", "team-shop")
NO_OWNER = Guardrails(Rollback.UNSAFE)


@pytest.mark.parametrize(
    ("annotations", "wanted"),
    [
        ({}, Guardrails()),
        ({"rolloutobs.io/rollback": "safe", "other/key": "unsafe"}, Guardrails()),
        ({"rolloutobs.io/rollback": "unsafe"}, NO_OWNER),
        (
            {
                "rolloutobs.io/rollback": " unsafe : migration 42 drops orders.note ",
                "rolloutobs.io/owner": " team-shop ",
            },
            UNSAFE,
        ),
    ],
)
def test_annotations_are_read(annotations, wanted):
    assert Guardrails.from_annotations(annotations) == wanted


@pytest.mark.parametrize("value", ["", "Unsafe", "no", "unsafe because"])
def test_a_word_that_nobody_knows_is_an_error(value):
    with pytest.raises(ConfigurationError) as caught:
        Guardrails.from_annotations({"rolloutobs.io/rollback": value})
    assert str(caught.value) == f"rolloutobs.io/rollback is {value!r}; use 'safe', 'unsafe' or 'unsafe: why'"


def test_of_two_the_more_careful_one_holds_whichever_comes_first():
    option = Guardrails(owner="ann")
    assert option.over(UNSAFE) == replace(UNSAFE, owner="ann")
    assert UNSAFE.over(option) == UNSAFE
    assert Guardrails().over(Guardrails(owner="team-shop")) == Guardrails(owner="team-shop")
    assert Guardrails.unread("the API refuses", "ann") == Guardrails(
        Rollback.UNSAFE, "the API refuses", "ann"
    )


@pytest.mark.parametrize(
    ("decision", "rails", "wanted"),
    [
        (Decision.ROLLBACK, Guardrails(), Guarded(Decision.ROLLBACK, "why.")),
        (Decision.PROMOTE, UNSAFE, Guarded(Decision.PROMOTE, "why.")),
        (Decision.HOLD, UNSAFE, Guarded(Decision.HOLD, "why.")),
        (
            Decision.ROLLBACK,
            UNSAFE,
            Guarded(
                Decision.HOLD,
                "HOLD, and page team-shop: rolling back is marked as unsafe (migration 42 drops "
                "orders.note), so a person has to decide. The evidence: why.",
                is_page=True,
            ),
        ),
        (
            Decision.ROLLBACK,
            NO_OWNER,
            Guarded(
                Decision.HOLD,
                "HOLD, and page a person: rolling back is marked as unsafe, so a person has to decide. "
                "The evidence: why.",
                is_page=True,
            ),
        ),
    ],
)
def test_only_an_unsafe_rollback_becomes_a_page(decision, rails, wanted):
    assert guarded(decision, "why.", rails) == wanted


def test_a_page_in_every_report():
    paged = report(rails=UNSAFE)
    assert (paged.decision, paged.is_page, exit_code(paged.decision)) == (Decision.HOLD, True, 3)
    golden("out-page.txt", to_text(paged))
    golden("out-page.md", to_markdown(paged))
    told = json.loads(to_json(paged))
    keys = ("decision", "exit_code", "page", "owner", "guard_rails", "decided_by", "reason")
    assert {key: told[key] for key in keys} == {
        "decision": "hold",
        "exit_code": 3,
        "page": True,
        "owner": "team-shop",
        "guard_rails": {"rollback": "unsafe", "why": "migration 42 drops orders.note"},
        "decided_by": "errors",
        "reason": paged.reason,
    }
    page = to_html(paged)
    assert '<header class="rollback">\n<p class="badge">HOLD, PAGE</p>' in page
    assert "<div><dt>owner</dt><dd>team-shop</dd></div>" in page


def test_an_owner_is_named_where_nothing_is_unsafe():
    owned = report(rails=Guardrails(owner="team-shop"))
    assert (owned.decision, owned.is_page) == (Decision.ROLLBACK, False)
    assert to_text(owned).startswith("shop (owner: team-shop): canary 1.2.0 against stable 1.1.0, ")
    assert " of stable. Owner: team-shop.\n" in to_markdown(owned)


def test_a_person_may_roll_back_what_no_machine_may():
    by_ann = Override(Decision.ROLLBACK, "the table is still there", "by ann", "ann")
    by_checks = Override(Decision.ROLLBACK, "a journey failed", "by synthetic checks", is_person=False)
    person, checks = (report(rails=UNSAFE, override=each) for each in (by_ann, by_checks))
    assert (person.decision, person.is_page) == (Decision.ROLLBACK, False)
    assert person.reason.startswith("ROLLBACK by ann (the table is still there); the evidence by then: ")
    assert json.loads(to_json(person))["override"] == {
        "decision": "rollback",
        "reason": "the table is still there",
        "who": "ann",
        "evidence_decision": "rollback",
    }
    assert (checks.decision, checks.is_page) == (Decision.HOLD, True)
    assert checks.reason.endswith(
        "The evidence: ROLLBACK by synthetic checks (a journey failed); the evidence by then: "
        f"{report().reason}"
    )


def test_a_bake_that_turns_bad_is_guarded_too():
    held = replace(promoted(decision=Decision.ROLLBACK), rails=UNSAFE)
    assert (held.decision, held.is_page) == (Decision.HOLD, True)
    assert held.reason.startswith("HOLD, and page team-shop: rolling back is marked as unsafe")
    assert json.loads(to_json(held))["bake"]["outcome"] == "rollback"
