"""Tests in the style of pytest-playwright, as teams have them, walked in pairs."""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
import threading

import pytest

from rolloutobs.errors import ConfigurationError
from synthetic.__main__ import main
from synthetic.discovery import find_journeys
from synthetic.journey import CheckFailedError
from synthetic.sync import run_sync

FILE = '''
import re

import pytest
from playwright.sync_api import Dialog, Page, Route, expect

pytestmark = pytest.mark.browser


def add_to_cart(page: Page) -> None:
    """A helper in another place may use expect as well."""
    page.get_by_role("button", name="Add to cart").first.click()
    expect(page.get_by_text("1 in the cart")).to_be_visible()


@pytest.mark.load
def test_checkout(page: Page, base_url: str, shop) -> None:
    with shop.step("open"):
        page.goto("/")
        assert page.url == base_url + "/"
        expect(page).to_have_title(re.compile("shop"))
        expect(page.get_by_role("listitem")).to_have_count(2)
        assert [each.inner_text()[:3] for each in page.get_by_role("listitem").all()] == ["Han", "Ket"]
    add_to_cart(page)
    with shop.step("check out"):
        with page.expect_response(lambda answer: "/checkout" in answer.url) as answered:
            page.get_by_role("button", name="Check out").click()
        expect(page.get_by_text("Thank you.")).to_be_visible(timeout=4000)
        assert answered.value.ok


def test_talks_back(page: Page, context) -> None:
    """Handlers call Playwright themselves, while the test waits."""
    heard: list[str] = []

    def answer(dialog: Dialog) -> None:
        heard.append(dialog.message)
        dialog.accept("Ada")

    def made_up(route: Route) -> None:
        route.fulfill(json=["made up"], headers={"access-control-allow-origin": "*"})

    page.on("dialog", answer)
    page.route("**/made-up", made_up)
    page.goto("/")
    assert page.evaluate("() => prompt('who?')") == "Ada"
    assert heard == ["who?"]
    fetched = page.evaluate("() => fetch('http://elsewhere.test/made-up').then(it => it.json())")
    assert fetched == ["made up"]
    with context.expect_page() as opened:
        page.evaluate("() => { window.open('/?again'); }")
    assert opened.value.url.endswith("/?again") or opened.value.wait_for_url("**/?again") is None
    assert opened.value.context == page.context == context
    with pytest.raises(ValueError, match="Unsupported type"):
        expect("no locator")


def test_handler_that_fails(page: Page) -> None:
    def fail(request) -> None:
        raise ValueError("in a handler")

    page.on("request", fail)
    page.goto("/")
    page.get_by_text("Kettle").wait_for()


async def test_in_async(page, context) -> None:
    await page.goto("/")
    assert context is page.context
'''


@pytest.mark.browser
def test_a_file_of_tests_is_walked_in_pairs(serve, shop_type, tmp_path, capsys):
    file = tmp_path / "test_shop.py"
    file.write_text(FILE)
    stable = serve(shop_type())
    canary = serve(shop_type(version="1.2.0", track="canary", checkout_status=500))
    out = tmp_path / "out.json"
    argv = ["run", str(file), "--app", "shop", "--stable", stable.url, "--canary", canary.url]
    more = ["--canary-version", "1.2.0", "--json", str(out), "--timeout", "30s"]
    code = main([*argv, *more, "--artifacts", str(tmp_path / "kept")])
    printed = capsys.readouterr().out
    assert code == 1, printed
    found = {pair["check"]: pair for pair in json.loads(out.read_text())["pairs"]}
    verdicts = {check: pair["verdict"] for check, pair in found.items()}
    assert verdicts == {
        "test_checkout": "canary failed",
        "test_talks_back": "pass",
        "test_handler_that_fails": "both failed",
        "test_in_async": "pass",
    }, printed
    checkout = found["test_checkout"]
    assert [step["name"] for step in checkout["stable"]["steps"]] == ["open", "check out"]
    assert checkout["canary"]["reason"].startswith(
        "check out: AssertionError: Locator expected to be visible"
    )
    assert found["test_handler_that_fails"]["canary"]["reason"] == "ValueError: in a handler"
    kept = {path.name for path in tmp_path.glob("kept/test_checkout*/*")}
    assert kept == {"run.json", "console.txt", "screenshot.png", "trace.zip", "network.har"}
    # As any other journey: marked, and each answer says who gave it.
    assert [headers["baggage"] for headers in canary.asked("POST /api/checkout")] == ["synthetic=test"]
    assert [pair["canary"]["identity"] for pair in found.values()] == ["right"] * 4


def test_marks_are_tags(tmp_path, capsys):
    file = tmp_path / "test_shop.py"
    file.write_text(FILE)
    assert main(["run", str(file), "--list", "--tag", "load"]) == 0
    assert re.fullmatch(r"test_checkout +browser +browser load +\S+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class TestShop:\n    def test_it(self, page): ...", "the tests of TestShop are in a class"),
        (
            "def test_it(page, cart): ...",
            "test_it wants cart; a test gets page, context, base_url, shop only",
        ),
        (
            "import pytest\n@pytest.mark.parametrize('n', [1])\ndef test_it(page): ...",
            "test_it is marked parametrize, which only pytest itself can do",
        ),
        (
            "import pytest\n@pytest.fixture(autouse=True)\ndef clean(): ...\ndef test_it(page): ...",
            "has a fixture with autouse, which does not run here",
        ),
    ],
)
def test_what_only_pytest_can_do_is_an_error(tmp_path, text, words):
    file = tmp_path / "test_it.py"
    file.write_text(textwrap.dedent(text))
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        find_journeys([str(file)])


def test_a_conftest_that_would_run_by_itself_is_an_error(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "import pytest\n@pytest.fixture(autouse = True)\ndef clean(): ...\n"
    )
    (tmp_path / "test_it.py").write_text("def test_it(page): ...\n")
    with pytest.raises(ConfigurationError, match=r"conftest.py has a fixture with autouse"):
        find_journeys([f"{tmp_path / 'test_it.py'}:test_it"])


class Slow:
    """What is async, as a page is: `run_sync` has it wait for nothing else."""

    async def __aenter__(self) -> None: ...

    async def forever(self) -> None:
        await asyncio.Event().wait()


async def test_a_test_whose_time_is_up_is_told_so_and_gets_no_answer_any_more():
    told: list[str] = []
    ended = threading.Event()

    def test(page):
        for _ in range(2):
            try:
                page.forever()
            except CheckFailedError as problem:
                told.append(str(problem))
        ended.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await run_sync(test, page=Slow())
    assert await asyncio.to_thread(ended.wait, 30)
    assert told == ["stopped: the time of the run was up"] * 2


@pytest.mark.parametrize(
    ("problem", "caught"), [(ValueError("wrong"), ValueError), (StopIteration("odd"), CheckFailedError)]
)
async def test_what_a_test_raises_is_raised(problem, caught):
    def test():
        raise problem

    with pytest.raises(caught, match=str(problem)):
        await run_sync(test)
