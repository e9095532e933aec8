from __future__ import annotations

import asyncio

import pytest

from rolloutobs.errors import ConfigurationError
from synthetic.discovery import load_journey
from synthetic.journey import CheckFailedError, StepResult, Walk, first_line


class Clock:
    def __init__(self, *ticks: float) -> None:
        self.ticks = list(ticks)

    def __call__(self) -> float:
        return self.ticks.pop(0)


class Answer:
    def __init__(self, status: int) -> None:
        self.status = status


class Page:
    def __init__(self, answer: Answer | None) -> None:
        self.answer = answer
        self.went: list[str] = []

    async def goto(self, url: str) -> Answer | None:
        self.went.append(url)
        return self.answer


async def test_steps_are_timed_and_named():
    walk = Walk("http://shop", "canary", None, Clock(0.0, 1.5, 2.0, 2.25))
    async with walk.step("open"):
        assert walk.steps == ()
    async with walk.step("pay"):
        pass
    assert walk.steps == (StepResult("open", 1.5), StepResult("pay", 0.25))


async def test_a_failed_step_is_recorded_even_when_the_journey_catches_it():
    walk = Walk("http://shop", "", None, Clock(0, 1, 1, 2))
    with pytest.raises(AssertionError):
        async with walk.step("total"):
            raise AssertionError("12 is not 13")
    with pytest.raises(CheckFailedError):
        async with walk.step("pay"):
            raise CheckFailedError("no receipt\nsecond line")
    assert [step.error for step in walk.steps] == ["AssertionError: 12 is not 13", "no receipt"]


async def test_a_step_that_is_cut_off_by_the_runs_limit_says_so():
    walk = Walk("http://shop", "", None, Clock(0, 1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), walk.step("hang"):
            await asyncio.Event().wait()
    assert walk.steps == (StepResult("hang", 1, "stopped: the time of the run was up"),)


async def test_a_step_without_a_name_would_be_the_whole_journey():
    with pytest.raises(ConfigurationError, match="empty name"):
        async with Walk("http://shop", "", None).step(""):
            pass


async def test_open_goes_to_the_target_and_refuses_error_pages():
    page = Page(Answer(200))
    await Walk("http://shop/eu", "", page).open("/cart")
    await Walk("http://shop/eu", "", Page(None)).open()
    assert page.went == ["http://shop/eu/cart"]
    with pytest.raises(CheckFailedError, match="/cart answered 503"):
        await Walk("http://shop", "", Page(Answer(503))).open("/cart")


def test_first_lines():
    assert first_line(ValueError("a\nb")) == "ValueError: a"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(TimeoutError("waited long\nlog")) == "waited long"
    playwrights = 'Locator.click: Timeout 4000ms exceeded.\nCall log:\n  - waiting for locator("x")\n'
    assert (
        first_line(TimeoutError(playwrights))
        == 'Locator.click: Timeout 4000ms exceeded, waiting for locator("x")'
    )
    assert len(first_line(ValueError("x" * 999))) == 300


def test_a_journey_from_a_file_may_import_its_neighbours(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", ["/nowhere"])
    (tmp_path / "neighbour_of_the_journey.py").write_text("NAME = 'x'\n")
    file = tmp_path / "shop.py"
    file.write_text(
        "import neighbour_of_the_journey\nasync def buy(page, shop): return neighbour_of_the_journey.NAME\n"
    )
    journey = load_journey(f"{file}:buy")
    assert journey.name == "buy"
    assert asyncio.run(journey.walk(None, Walk("u", "", None))) == "x"


def test_what_is_no_journey_says_what_there_is(journey_file):
    with pytest.raises(ConfigurationError, match=r"no journey 'chekout'.*found: checkout, order$"):
        load_journey(f"{journey_file}:chekout")
    with pytest.raises(ConfigurationError, match="no journey 'not_a_journey'"):
        load_journey(f"{journey_file}:not_a_journey")


@pytest.mark.parametrize("spec", ["", "checkout", "shop.py", ":checkout", "shop.py:"])
def test_a_spec_needs_file_and_function(spec):
    with pytest.raises(ConfigurationError, match=r"use FILE\.py:FUNCTION"):
        load_journey(spec)


def test_files_that_are_missing_or_broken(tmp_path):
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_journey(f"{tmp_path}/none.py:buy")
    (tmp_path / "broken.py").write_text("import not_a_module_anywhere\n")
    with pytest.raises(ConfigurationError, match="cannot be imported: ModuleNotFoundError"):
        load_journey(f"{tmp_path}/broken.py:buy")
    with pytest.raises(ConfigurationError, match="cannot be imported"):
        load_journey("not_a_module_anywhere:buy")
