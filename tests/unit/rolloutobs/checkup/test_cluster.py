import pytest

from rolloutobs.checkup.answers import Row, rows_of
from rolloutobs.checkup.cluster import QUERIES, check
from rolloutobs.checkup.model import Level
from rolloutobs.errors import SourceError


def answers(**rows):
    return {name: rows.get(name, []) for name in QUERIES}


IDENTITY = Row({"app": "shop", "version": "1.2.0", "track": "canary"}, 3.0)


def test_all_is_well():
    findings = check(answers(identities=[IDENTITY]))
    assert [f for f in findings if f.level is Level.BAD] == []
    assert findings[0].what == "app 'shop', version '1.2.0', track 'canary': 3 instances"


def test_nothing_is_scraped():
    (found,) = [f for f in check(answers()) if f.level is Level.BAD]
    assert found.subject == "apps"


@pytest.mark.parametrize("label", ["exported_app", "exported_version", "exported_track"])
def test_labels_that_were_renamed(label):
    rows = {label: [Row({"job": "shop", "namespace": "prod", label: "1.2.0"}, 2.0)]}
    (found,) = [f for f in check(answers(identities=[IDENTITY], **rows)) if f.level is Level.BAD]
    assert found.subject == "honorLabels"
    assert f"job 'shop' in 'prod': {label} is '1.2.0'" in found.what
    assert "overrideHonorLabels" in found.advice


def test_troubles():
    findings = check(
        answers(
            identities=[Row({"app": "shop", "version": "unknown"}, 1.0)],
            anonymous=[Row({"job": "web"}, 2.0)],
            down=[Row({"job": "web"}, 4.0)],
            errors=[Row({"app": "shop", "version": "1", "where": "export"}, 7.0)],
            overflow=[Row({"app": "shop", "version": "1", "metric": "orders_total"}, 1.0)],
        )
    )
    bad = {f.subject: f.what for f in findings if f.level is Level.BAD}
    assert set(bad) == {"version", "labels", "targets", "internal errors", "overflow"}
    assert "4 targets" in bad["targets"]
    assert "7 failures of telemetry in 15 minutes (export)" in bad["internal errors"]


def test_rows_of_an_answer():
    element = {"metric": {"app": "shop"}, "value": [1700000000.1, "3"]}
    assert rows_of({"status": "success", "data": {"resultType": "vector", "result": [element]}}) == [
        Row({"app": "shop"}, 3.0)
    ]


@pytest.mark.parametrize(
    "answer", [{}, [], None, {"status": "error", "error": "bad query"}, {"status": "success", "data": {}}]
)
def test_what_is_no_answer(answer):
    with pytest.raises(SourceError, match="Prometheus"):
        rows_of(answer)
