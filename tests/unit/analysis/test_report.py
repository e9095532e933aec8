"""The reports of one analysis, whole, against golden files; and the page in a real browser."""

import json
import os
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from rolloutobs._version import __version__
from rolloutobs.analysis.history import History, Recorder, thinned
from rolloutobs.analysis.markdown import to_markdown
from rolloutobs.analysis.model import (
    Decision,
    Evidence,
    HistogramPair,
    MetricVerdict,
    Missing,
    Outcome,
    PairCount,
    Ratio,
    Side,
    StratumVerdict,
    Tick,
    Verdict,
)
from rolloutobs.analysis.page import to_html
from rolloutobs.analysis.report import Override, Report, bar, exit_code, to_json, to_mapping, to_text
from synthetic.browser import find_chromium
from synthetic.settings import BrowserSettings

GOLDEN = Path(__file__).parents[2] / "golden" / "report"
CHECKOUT = (("method", "POST"), ("route", "/checkout"))
PRODUCT = (("method", "GET"), ("route", "/product/{id}"))
BOUNDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
INFINITE = float("inf")


def metrics(at):
    """Return the verdict's metrics after `at` seconds: errors go wrong, latency stays fine, no views seen."""
    share = at / 60
    errors = MetricVerdict(
        signal="errors",
        title="5xx answers",
        outcome=Outcome.FAIL if share >= 1 else Outcome.INCONCLUSIVE,
        required=True,
        total=PairCount(31, 410, 12, 640),
        evidence=(
            Evidence(Side.ROLLBACK, 6.4 * share, 6.0),
            Evidence(Side.GUARD, -2.0 * share, 6.9),
            Evidence(Side.PROMOTE, -INFINITE if share < 0.3 else -1.5, 3.0),
        ),
        ratio=Ratio(4.03, 1.9, INFINITE, 0.99),
        worst=(
            StratumVerdict(CHECKOUT, PairCount(29, 60, 10, 95), 7.25, Ratio(4.6, 2.1, 11.0, 0.99)),
            StratumVerdict(PRODUCT, PairCount(2, 350, 2, 545), -0.4, Ratio(1.56, 0.1, 20.0, 0.99)),
        ),
    )
    latency = MetricVerdict(
        signal="latency",
        title="slow answers",
        outcome=Outcome.PASS,
        required=True,
        total=PairCount(22, 410, 36, 640),
        evidence=(Evidence(Side.ROLLBACK, -1.2, 6.0), Evidence(Side.PROMOTE, 4.5 * share, 3.0)),
        ratio=Ratio(0.954, 0.6, 1.4, 0.99),
        worst=(),
        bound=0.1,
    )
    unseen = MetricVerdict(
        signal="js_errors",
        title="page views with JavaScript errors",
        outcome=Outcome.INCONCLUSIVE,
        required=False,
        total=PairCount(0, 0, 0, 0),
        evidence=(Evidence(Side.ROLLBACK, -0.0, 6.7), Evidence(Side.PROMOTE, 0.0, 3.0)),
        ratio=Ratio(None, None, None, 0.99),
        worst=(),
        note="no page views were seen",
    )
    return errors, latency, unseen


def verdict(at=60.0, decision=Decision.ROLLBACK):
    return Verdict(
        decision=decision,
        reason="ROLLBACK after 60 s: canary 1.2.0 answers 5xx on POST /checkout 4.6x as often as stable.",
        at=at,
        decided_by="errors",
        metrics=metrics(at),
        requests=PairCount(31, 410, 12, 640),
        canary_version="1.2.0",
        stable_version="1.1.0",
    )


def tick(start, canary):
    latency = {PRODUCT: HistogramPair(BOUNDS, (0, 9, 20, 4, 1, 0, 0), (1, 14, 28, 7, 3, 0, 1))}
    counts = {CHECKOUT: PairCount(5, 10, 2, 16), PRODUCT: PairCount(0, 58, 0, 90)}
    if not canary:
        counts = {CHECKOUT: PairCount(0, 0, 3, 26), PRODUCT: PairCount(0, 0, 1, 120)}
        latency = {PRODUCT: HistogramPair(BOUNDS, (0,) * 7, (1, 20, 40, 10, 3, 0, 1))}
    stale = frozenset({"canary"}) if start == 20 else frozenset()
    return Tick(start, start + 10, {"errors": counts}, {"latency": latency}, stale=stale)


def history():
    recorder = Recorder()
    for start in (-20, -10):
        recorder.tick(tick(start, canary=False), None)
    for start in range(0, 60, 10):
        recorder.tick(tick(start, canary=True), verdict(start + 10.0))
    le = {"0.5": 0, "1.0": 10, "2.5": 30, "4.0": 38, "+Inf": 40}
    recorder.displays(
        {
            "page_views": {("canary",): 40, ("stable",): 60},
            "vitals": {
                ("canary", "lcp", "good"): 30,
                ("canary", "lcp", "needs-improvement"): 8,
                ("canary", "lcp", "poor"): 2,
                ("stable", "lcp", "good"): 60,
            },
            "vital_LCP": {("canary", bound): n for bound, n in le.items()},
            "js_errors": {("canary", "a81f"): 7, ("stable", "77e0"): 1},
            "events": {("canary", "checkout", "ok"): 20, ("stable", "checkout", "ok"): 31},
            "synthetic_runs": {
                ("canary", "buy", "", "fail"): 3,
                ("canary", "buy", "", "pass"): 2,
                ("stable", "buy", "", "pass"): 5,
                ("canary", "buy", "pay", "fail"): 3,
            },
            "synthetic_durations": {("stable", "buy", "", "1.0"): 4, ("stable", "buy", "", "+Inf"): 5},
        }
    )
    return recorder.history({"a81f": "TypeError: total is not a <function>"})


def report(**changes):
    made = Report("shop", 1_790_000_000.0, 1_790_000_090.0, verdict(), history())
    return replace(made, **changes)


def held():
    return replace(
        verdict(40.0, Decision.HOLD),
        reason="HOLD after 40 s: canary 1.2.0 has had 410 requests; about 900 more are needed.",
        holds=("not every target of canary answered the last time",),
        missing=(
            Missing("errors", "5xx answers are not proven to be within the margin", 4.5, 180.0, 900.0, 0.6),
            Missing("latency", "no requests of the canary were seen yet"),
        ),
    )


def golden(name, text):
    """Compare with a golden file; with ROLLOUTOBS_UPDATE_GOLDEN set, write it. Read the diff first."""
    path = GOLDEN / name
    text = text.replace(__version__, "VERSION")
    if os.environ.get("ROLLOUTOBS_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_text():
    golden("out-rollback.txt", to_text(report(), worst=True))


def test_text_of_a_hold():
    notes = ("http://10.0.0.9:8000/metrics: no answer within 5 s",)
    golden("out-hold.txt", to_text(report(verdict=held(), notes=notes, interrupted=True)))


def test_markdown():
    golden("out-rollback.md", to_markdown(report()))


def test_markdown_of_a_hold():
    notes = ("http://10.0.0.9:8000/metrics: no answer within 5 s",)
    golden("out-hold.md", to_markdown(report(verdict=held(), notes=notes)))


def test_markdown_lets_nothing_in():
    evil = replace(verdict(), reason="ROLLBACK: <img src=x> [a](http://x) | @everyone\n# big")
    text = to_markdown(report(verdict=evil, app="<b>"))
    assert "<img" not in text
    assert "<b>" not in text
    assert "[a](" not in text
    assert "\n# big" not in text
    assert "@everyone" not in text


def test_json():
    golden("out-rollback.json", to_json(report()))


def test_json_of_a_hold_has_what_is_missing_and_no_infinity():
    made = json.loads(to_json(report(verdict=held(), interrupted=True)))
    assert (made["decision"], made["exit_code"], made["interrupted"]) == ("hold", 3, True)
    assert made["missing"][0] == {
        "signal": "errors",
        "reason": "5xx answers are not proven to be within the margin",
        "nats": 4.5,
        "eta_seconds": 180.0,
        "canary_exposures": 900.0,
        "canary_share": 0.6,
    }
    assert made["missing"][1]["nats"] is None
    assert made["metrics"][0]["ratio"]["high"] is None
    assert made["history"][2]["evidence"]["errors"]["promote"] is None


def test_page():
    style = re.compile(r"<style>.*?</style>", re.DOTALL)
    golden("out-rollback.html", style.sub("<style></style>", to_html(report())))


@pytest.mark.parametrize("made", [report(), report(verdict=held(), notes=("x",), interrupted=True)])
def test_the_page_needs_nothing_from_elsewhere(made):
    page = to_html(made)
    assert not re.search(r"<script|<link|<img|@import|url\(|src=|https?://", page)
    assert "prefers-color-scheme: dark" in page


def test_the_page_of_nothing():
    nothing = Verdict(Decision.HOLD, "HOLD after 5 s: nothing", 0.0, "", (), PairCount(0, 0, 0, 0))
    page = to_html(Report("", 0.0, 5.0, nothing, History()))
    assert "No signal has been compared" in page
    assert "<svg" not in page


def test_names_from_the_network_are_text_and_not_markup():
    evil = '"><script>alert(1)</script>'
    strata = {(("route", evil),): PairCount(1, 2, 3, 4)}
    histograms = {"latency": {(("route", evil),): HistogramPair((0.1, 0.2), (1, 2, 3), (1, 2, 3))}}
    past = History(
        history().moments, {"errors": strata}, histograms, {"js_errors": {("canary", evil): 1}}, {evil: evil}
    )
    page = to_html(report(app=evil, history=past, notes=(evil,)))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(("decision", "code"), [("promote", 0), ("rollback", 1), ("hold", 3)])
def test_exit_codes(decision, code):
    assert exit_code(Decision(decision)) == code


@pytest.mark.parametrize(
    ("share", "drawn"),
    [
        (-1, "····"),
        (0, "····"),
        (0.5, "██··"),
        (0.53, "██▏·"),
        (1, "████"),
        (9, "████"),
        (float("nan"), "····"),
    ],
)
def test_bars(share, drawn):
    assert bar(share, 4) == drawn


def test_a_long_history_is_thinned_and_keeps_its_sums():
    recorder = Recorder()
    for start in range(10_001):
        recorder.tick(Tick(start, start + 1, {"errors": {(): PairCount(1, 2, 3, 4)}}), None)
    made = recorder.history()
    assert len(made.moments) <= 4000
    assert sum(m.counts["errors"].canary_exposures for m in made.moments) == 20_002
    assert (made.moments[0].start, made.moments[-1].end) == (0, 10_001)
    few = thinned(made.moments, 7)
    assert len(few) <= 7
    assert sum(m.counts["errors"].stable_exposures for m in few) == 40_004
    assert all(a.end == b.start for a, b in pairwise(few))
    assert made.strata["errors"] == {(): PairCount(10_001, 20_002, 30_003, 40_004)}


def test_histograms_with_other_bounds_are_added_over_shared_ones():
    recorder = Recorder()
    for pair in (
        HistogramPair((0.1, 0.5, 1.0), (1, 2, 3, 4), (1, 1, 1, 1)),
        HistogramPair((0.1, 0.25, 1.0), (5, 6, 7, 8), (0, 1, 0, 1)),
    ):
        recorder.tick(Tick(0, 1, {}, {"latency": {(): pair}}), None)
    assert recorder.history().histograms["latency"][()] == HistogramPair((0.1, 1.0), (6, 18, 12), (1, 3, 2))


def test_the_schema_is_one():
    made = to_mapping(report())
    assert made["schema"] == 1
    assert made["tool"] == f"rolloutobs {__version__}"
    assert made["began"] == "2026-09-21T13:33:20+00:00" or made["began"].endswith("+00:00")


@pytest.mark.browser
async def test_the_page_in_a_browser(tmp_path):
    """No request, no complaint, no sideways scrolling, in both themes, wide and narrow."""
    from playwright.async_api import async_playwright

    path = tmp_path / "report.html"
    path.write_text(to_html(report()), encoding="utf-8")
    complaints, requests = [], []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(BrowserSettings.from_env(os.environ)),
            args=["--no-sandbox", "--disable-gpu"],
        )
        backgrounds = set()
        for scheme, width in (("light", 1280), ("dark", 1280), ("light", 420)):
            page = await browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            await page.goto(path.as_uri())
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            assert await page.locator("svg.plot").count() == 5
            backgrounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        await browser.close()
    assert complaints == []
    assert set(requests) == {path.as_uri()}
    assert len(backgrounds) == 2


# --- a bake -------------------------------------------------------------------------------------------


def promoted(**changes):
    """Return a promotion with a bake after it, in which nothing was found unless `changes` say so."""
    first = replace(verdict(decision=Decision.PROMOTE), decided_by="", reason="PROMOTE after 60 s: fine.")
    calm = replace(verdict(600.0, Decision.HOLD), reason="HOLD after 10 min: x", decided_by="")
    bake = Report("shop", 1_790_000_090.0, 1_790_000_690.0, replace(calm, **changes), history())
    return report(verdict=first, bake=bake)


def test_a_bake_in_which_nothing_is_found_leaves_the_promotion():
    made = promoted()
    assert made.decision is Decision.PROMOTE
    assert made.reason == (
        "PROMOTE after 60 s: fine. Nothing against it in a bake of 10 min: it had 410 requests, beside 640 "
        "of stable 1.1.0."
    )
    assert json.loads(to_json(made))["bake"]["outcome"] == "promote"


def test_a_rollback_in_the_bake_is_the_decision():
    made = promoted(decision=Decision.ROLLBACK, decided_by="errors", reason="ROLLBACK after 10 min: bad.")
    assert (made.decision, made.decided_by) == (Decision.ROLLBACK, "errors")
    assert made.reason == (
        "ROLLBACK after 10 min: bad. That was in the bake: it had been promoted after 60 s."
    )
    golden("out-bake.txt", to_text(made))
    told = json.loads(to_json(made))
    assert (told["decision"], told["decided_by"], told["exit_code"]) == ("rollback", "errors", 1)
    assert (told["bake"]["outcome"], told["bake"]["decided_by"]) == ("rollback", "errors")
    page = to_html(made)
    assert page.index("The bake, after promotion") < page.index("The rollout, until it was promoted")


def test_a_bake_that_compared_nothing_or_was_stopped_holds():
    nothing = promoted(requests=PairCount(0, 410, 0, 0))
    assert nothing.decision is Decision.HOLD
    assert "compared nothing (it had 410 requests, beside 0 of stable 1.1.0): keep" in nothing.reason
    stopped = promoted()
    stopped = replace(stopped, bake=replace(stopped.bake, interrupted=True))
    assert stopped.decision is Decision.HOLD
    assert "canary 1.2.0 was promoted after 60 s, and the bake was stopped after 10 min" in stopped.reason


def test_a_promotion_by_hand_is_baked_too():
    by_hand = replace(promoted(), override=Override(Decision.PROMOTE, "Ann: hotfix"))
    assert by_hand.decision is Decision.PROMOTE
    assert by_hand.reason.startswith(
        "PROMOTE by hand (Ann: hotfix); the evidence by then: PROMOTE after 60 s"
    )
