"""The policy: defaults that need nothing, data in and out, and messages that name the key."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from rolloutobs.analysis.model import Decision
from rolloutobs.analysis.policy import Kind, Past, Policy, RealUsers, Required, Selector, Signal
from rolloutobs.analysis.simulate import Route, World, run
from rolloutobs.errors import ConfigurationError

CHECKOUTS: dict[str, Any] = {
    "title": "completed checkouts",
    "kind": "conversion",
    "exposures": {"metric": "rum_page_views_total", "labels": {"synthetic": ""}},
    "events": {"metric": "rum_events_total", "labels": {"event": "checkout", "outcome": "ok"}},
    "strata": ["route"],
}


def test_defaults_compare_servers_browsers_and_checks() -> None:
    policy = Policy()
    assert [each.name for each in policy.signals] == [
        "errors", "latency", "operations", "restarts", "log_errors", "js_errors", "resource_errors", "lcp",
        "inp", "cls", "fcp", "ttfb", "journey",
    ]  # fmt: skip
    assert [each.name for each in policy.signals if each.is_required] == ["errors", "latency"]
    errors = policy.signal("errors")
    assert errors.events == Selector("http_requests_total", {"status": "~5..", "synthetic": ""})
    assert errors.strata == ("method", "route")


def test_weights_and_guard_share_out_alpha_among_those_that_may_roll_back() -> None:
    hold, all_in = Policy(), Policy(real_users=RealUsers.ROLLBACK)
    assert "js_errors" not in hold.rollback_weights
    assert "js_errors" in all_in.rollback_weights
    for policy in (hold, all_in):
        assert sum(policy.rollback_weights.values()) + policy.guard_weight == pytest.approx(1.0)
    study = Policy().only("errors", "latency")
    assert study.rollback_weights == pytest.approx({"errors": 0.45, "latency": 0.45})


def test_mapping_round_trip() -> None:
    changed = Policy.from_mapping(
        {
            "alpha": 0.02,
            "real_users": "rollback",
            "past": {"windows_seconds": [10, 20]},
            "signals": {
                "errors": {"margin_difference": 0.01, "required": "yes"},
                "journey": None,
                "checkouts": CHECKOUTS,
            },
        }
    )
    assert Policy.from_mapping(changed.to_mapping()) == changed
    assert Policy.from_mapping(Policy().to_mapping()) == Policy()
    assert changed.past == Past(windows_seconds=(10.0, 20.0))
    assert changed.signal("errors").margin_difference == 0.01
    assert changed.signal("errors").margin_ratio == Policy().signal("errors").margin_ratio
    assert changed.signal("errors").required is Required.YES
    assert [each.name for each in changed.signals] == [
        "errors", "latency", "operations", "restarts", "log_errors", "js_errors", "resource_errors", "lcp",
        "inp", "cls", "fcp", "ttfb", "checkouts",
    ]  # fmt: skip


def test_mapping_is_plain_data_with_every_setting() -> None:
    mapping = Policy().to_mapping()
    assert set(mapping) == {each.name for each in fields(Policy)} - {"compared"}
    assert set(mapping["signals"]["errors"]) == {each.name for each in fields(Signal)} - {"name"}
    assert mapping["signals"]["errors"]["kind"] == "ratio"
    assert type(mapping["signals"]["errors"]["kind"]) is str
    assert mapping["past"]["windows_seconds"] == [60.0, 300.0]


def test_what_browsers_post_is_known_by_its_metric() -> None:
    signal = Policy.from_mapping({"signals": {"checkouts": CHECKOUTS}}).signal("checkouts")
    assert signal.kind is Kind.CONVERSION
    assert signal.is_from_browsers
    assert not signal.needs_pods
    assert signal.lag == 60.0
    assert not Policy().may_roll_back(signal)


def test_the_traffic_signal_may_change_along_with_the_signals() -> None:
    policy = Policy.from_mapping({"traffic": "latency", "signals": {"errors": None}})
    assert policy.traffic == "latency"


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"alpha": 2}, r"alpha is 2.0; use a number from 1e-09 to 0.5"),
        ({"alpha": float("nan")}, r"alpha is nan; use"),
        ({"alhpa": 0.1}, r"alhpa is not a setting; use one of alpha, assume_independent"),
        ({"strata_limit": 2.5}, r"strata_limit is 2.5; use a whole number"),
        ({"assume_independent": "no"}, r"assume_independent is 'no'; use true or false"),
        ({"tick_seconds": True}, r"tick_seconds is True; use a number"),
        ({"real_users": "maybe"}, r"real_users is 'maybe'; use one of 'hold', 'signed', 'rollback'"),
        ({"past": {"windows_seconds": 3}}, r"past.windows_seconds is 3; use a list"),
        ({"past": {"windows_seconds": [0]}}, r"past: windows_seconds is \(0.0,\); use lengths above 0"),
        ({"exceedance_low": 0.9}, r"exceedance_low is 0.9; use less than exceedance_high, which is 0.75"),
        ({"traffic": "gold"}, r"there is no signal 'gold' in the policy; it has 'errors'"),
        (
            {"traffic": "journey", "signals": {"errors": None, "latency": None}},
            r"none of the signals \['operations', 'restarts', .*\] is required, so promotion",
        ),
        ({"signals": ["errors"]}, r"signals is \['errors'\]; use a mapping from names"),
        ({"signals": {"errors": {"margin_ratio": "a"}}}, r"signals.errors.margin_ratio is 'a'; use a number"),
        ({"signals": {"errors": {"margin": 1}}}, r"signals.errors.margin is not a setting; use one of"),
        ({"signals": {"errors": {"weight": 0}}}, r"signals.errors: weight is 0.0; use a number"),
        ({"signals": {"errors": {"events": None}}}, r"signals.errors: events of errors is missing"),
        ({"signals": {"errors": {"phrase": "{x}"}}}, r"signals.errors: phrase is '\{x\}'"),
        ({"signals": {"errors": {"kind": "sum"}}}, r"signals.errors.kind is 'sum'; use one of 'ratio'"),
        ({"signals": {"latency": {"guard_ratio": 5}}}, r"signals.latency: guard_ratio of latency is 5.0"),
        ({"signals": {"gold": {"title": "x"}}}, r"signals.gold lacks kind, exposures"),
        ({"signals": {"gold": {"name": "x"}}}, r"signals.gold is .*, without a name of its own"),
        ({"signals": {"gold": {**CHECKOUTS, "events": 3}}}, r"signals.gold.events is 3; use a mapping"),
        (
            {"signals": {"gold": {**CHECKOUTS, "events": {"metric": "x", "labels": {"a": 1}}}}},
            r"signals.gold.events.labels.a is 1; use a text",
        ),
        (
            {"signals": dict.fromkeys(each.name for each in Policy().signals)},
            r"signals are \[\]; give at least one",
        ),
    ],
)
def test_a_mistake_is_named(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Policy.from_mapping(mapping)


# --- what a failing signal leads to -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "decision", "words"),
    [
        ("rollback", Decision.ROLLBACK, "answers 5xx"),
        ("pause", Decision.HOLD, "on_failure: pause"),
        ("log", Decision.PROMOTE, "is not worse"),
    ],
)
def test_a_failing_signal_leads_to_what_its_tier_says(tier, decision, words):
    policy = Policy.from_mapping(
        {
            "promote_alpha": 0.05,
            "signals": {"errors": {"on_failure": tier}, "js_errors": None, "journey": None},
        }
    )
    world = World(rps=1000.0, seconds=600.0, routes=(Route(canary_errors=0.02),))
    found = run(policy, world, 1, explain=True)
    assert found.decision is decision
    assert words in found.reason


def test_what_only_logs_is_not_required():
    policy = Policy.from_mapping({"signals": {"errors": {"on_failure": "log"}}})
    assert not policy.signal("errors").is_required
    assert "errors" not in policy.rollback_weights
    assert not policy.has_guard(policy.signal("errors"))
    with pytest.raises(ConfigurationError, match="what decides nothing is not required"):
        Policy.from_mapping({"signals": {"errors": {"on_failure": "log", "required": "yes"}}})
    with pytest.raises(ConfigurationError, match="none of the signals"):
        Policy.from_mapping(
            {"signals": {each.name: {"on_failure": "log"} for each in Policy().signals if each.is_required}}
        )
