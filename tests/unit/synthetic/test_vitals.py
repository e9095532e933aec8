"""Web vitals in the lab: what Chromium measures of a page, budgets, and what pairs compare."""

from __future__ import annotations

import json
import re
import textwrap

import pytest

from rolloutobs.errors import ConfigurationError
from synthetic.__main__ import main
from synthetic.browser import open_browser, visit
from synthetic.journey import journey
from synthetic.vitals import PageVitals, Vital, comparable, over_budget, parse_budgets

SHIFT = """() => new Promise((done) => {
  // What comes before the first paint shifts nothing: again, until something has moved.
  const shift = () => {
    const block = document.createElement('div');
    block.style.height = '600px';
    document.body.prepend(block);
  };
  const timer = setInterval(shift, 100);
  const told = (list) => {
    if (list.getEntries().some((entry) => entry.value > 0.05)) {
      clearInterval(timer);
      done();
    }
  };
  new PerformanceObserver(told).observe({type: 'layout-shift'});
  shift();
})"""
LISTEN = """() => {
  window.interacted = new Promise((done) => {
    const told = (list) => { if (list.getEntries().some((entry) => entry.interactionId)) done(); };
    new PerformanceObserver(told).observe({type: 'event', durationThreshold: 40});
  });
}"""


async def look(page, shop):
    async with shop.step("open"):
        await shop.open("/")
        await page.get_by_text("Kettle").wait_for()


@pytest.mark.browser
async def test_what_a_page_does_is_measured(serve, shop_type):
    shop, other = serve(shop_type()), serve(shop_type())

    async def shake(page, shop):
        await look(page, shop)
        async with shop.step("buy"):
            await page.evaluate(SHIFT)
            await page.evaluate("""() => document.querySelector('button').addEventListener('click', () => {
              for (const start = performance.now(); performance.now() - start < 150;);
            })""")
            await page.evaluate(LISTEN)
            await page.get_by_role("button", name="Add to cart").first.click()
            # The check's own observer is older, and is told before this one.
            await page.evaluate("() => window.interacted.then(() => 'told')")
        async with shop.step("go on"):
            await shop.open("/?again=1")
        await page.goto(other.url)

    async with open_browser() as browser:
        seen = await visit(browser, shop.url, shake, marked=True)
        users = await visit(browser, shop.url, look)
    assert (seen.error, users.error) == ("", "")
    assert [(page.step, page.path) for page in seen.pages] == [("open", "/"), ("go on", "/")]
    first, second = (page.values for page in seen.pages)
    assert set(first) == set(Vital)
    assert 0 < first[Vital.TTFB] <= first[Vital.FCP] <= first[Vital.LCP] < 30
    assert first[Vital.INP] >= 0.15
    assert first[Vital.CLS] > 0.05
    assert set(second) >= {Vital.CLS, Vital.TTFB}
    assert Vital.INP not in second
    assert users.pages == ()


@pytest.mark.browser
def test_a_canary_that_misses_its_budget_fails_and_is_counted(serve, shop_type, tmp_path, capsys):
    file = tmp_path / "journeys.py"
    file.write_text(
        textwrap.dedent(f"""
        from synthetic.journey import journey

        @journey(vitals={{"lcp": "60s", "cls": 0.02}})
        async def look(page, shop):
            async with shop.step("open"):
                await shop.open("/")
                await page.get_by_text("Kettle").wait_for()
                if shop.track == "canary":
                    await page.evaluate({SHIFT!r})
        """)
    )
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    names = [tmp_path / name for name in ("out.json", "out.html")]
    argv = ["--stable", stable.url, "--canary", canary.url, "--json", str(names[0]), "--html", str(names[1])]
    assert main(["run", str(file), "--app", "shop", *argv, "--count", "2"]) == 1
    printed = capsys.readouterr().out
    missed = r"why: the cumulative layout shift of / was \d\.\d{3}, its budget is 0\.020"
    assert len(re.findall(missed, printed)) == 2
    assert re.search(r"web vitals, canary / stable: lcp \d+\.\d\d, .*cls \+\d\.\d\d", printed)
    found = json.loads(names[0].read_text())
    (page,) = found["pairs"][0]["canary"]["pages"]
    assert (page["step"], page["path"]) == ("open", "/")
    assert page["cls"] > 0.02
    assert found["checks"]["look"]["evidence"]["vitals"]["cls"]["difference"] > 0.02
    assert names[1].read_text().count('<p class="page">page /: ') == 4


def test_budgets():
    assert parse_budgets({"lcp": "2.5s", "inp": "200ms", "cls": 0.1}) == {
        Vital.LCP: 2.5,
        Vital.INP: 0.2,
        Vital.CLS: 0.1,
    }
    pages = [PageVitals("a", "/", {Vital.LCP: 1.0}), PageVitals("b", "/cart", {Vital.LCP: 3.0, Vital.CLS: 0})]
    assert over_budget(pages, {Vital.LCP: 3.0, Vital.CLS: 0.0}) == ""
    missed = over_budget(pages, {Vital.LCP: 2.5})
    assert missed == "the largest contentful paint of /cart was 3.00 s, its budget is 2.50 s"
    missing = over_budget(pages, {Vital.INP: 0.2})
    assert missing == "no page reported its interaction to next paint, whose budget is 200 ms"


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ({"fid": "1s"}, "use lcp, inp, cls, fcp, ttfb"),
        ({"lcp": "2.5"}, "the budget of lcp is '2.5'"),
        ({"cls": "much"}, "the budget of cls is 'much'"),
        ({"cls": -1.0}, "the budget of cls is -1.0"),
    ],
)
def test_budgets_that_are_none(budgets, words):
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        journey(vitals=budgets)


def test_only_pages_that_both_opened_are_compared():
    stable = [
        PageVitals("a", "/", {Vital.LCP: 1.0, Vital.INP: 0.1}),
        PageVitals("b", "/cart", {Vital.LCP: 2.0}),
        PageVitals("c", "/paid", {Vital.LCP: 9.0}),
    ]
    canary = [PageVitals("a", "/new", {Vital.LCP: 3.0}), PageVitals("b", "/cart", {Vital.LCP: 1.5})]
    assert comparable(stable, canary) == {Vital.LCP: (2.0, 3.0)}
    assert comparable(canary, stable) == {Vital.LCP: (3.0, 2.0)}
    assert comparable(stable, []) == {}
