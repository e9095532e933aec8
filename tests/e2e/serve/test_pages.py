"""The live pages in a real browser."""

from __future__ import annotations

import os

import pytest
from playwright.sync_api import expect, sync_playwright

from synthetic.browser import find_chromium
from synthetic.settings import BrowserSettings
from tests.e2e.serve.servers import LIMIT_SECONDS, TOKEN, Console, Pods


@pytest.mark.browser
def test_the_pages_keep_themselves_fresh(console: Console, pods: Pods) -> None:
    """Without being loaded again, on a phone in the dark, and they say so when the server is gone."""
    console.until(lambda: not console.verdict("on-screen")[1]["rollout"]["has_canary"])
    with sync_playwright() as playwright:
        executable = find_chromium(BrowserSettings.from_env(os.environ), playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": 390, "height": 844},
            color_scheme="dark",
            http_credentials={"username": "sre", "password": TOKEN},
        )
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{console.port}/")
        page.evaluate("window.first = true")
        card = page.locator(".card", has_text="on-screen")
        expect(card).to_contain_text("NO CANARY", timeout=LIMIT_SECONDS * 1000)
        pods.set("on-screen", version="1.2.0", bad=0.5)
        console.decided("on-screen", "rollback")
        expect(card).to_contain_text("ROLLBACK after", timeout=LIMIT_SECONDS * 1000)
        assert page.evaluate("window.first") is True
        card.locator("a").click()
        expect(page.locator("header")).to_contain_text("ROLLBACK after")
        expect(page.locator(".log")).to_contain_text("verdict")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        call = {"namespace": "shop", "workload": "on-screen", "reason": "<b>we know</b>", "who": "ann"}
        console.post("/v1/override", {**call, "decision": "hold"})
        # What the timer does, and what coming back to the page does, now.
        page.evaluate("refresh()")
        expect(page.locator("header")).to_contain_text(
            "HOLD by ann (<b>we know</b>)", timeout=LIMIT_SECONDS * 1000
        )
        console.stop()
        page.evaluate("refresh()")
        expect(page.locator(".strip.lost")).to_contain_text(
            "the server does not answer", timeout=LIMIT_SECONDS * 1000
        )
        assert errors == []
        browser.close()
    console.start()
