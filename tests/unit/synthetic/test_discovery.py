from __future__ import annotations

import textwrap

import pytest

from rolloutobs.errors import ConfigurationError
from synthetic.discovery import choose, find_journeys
from synthetic.starting import write_first_journey


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "_shared.py").write_text("raise RuntimeError('not to be imported')")
    (tmp_path / "deep" / "pay_flow.py").write_text(
        textwrap.dedent("""
        from synthetic.journey import journey

        @journey(tags=("smoke", "money"), timeout="7s", retries=2)
        async def pay(page, shop): ...

        async def stock(api, shop): ...

        async def _hidden(page, shop): ...
        async def other(left, right): ...
        def plain(page, shop): ...
        """)
    )
    return tmp_path


def test_a_folder(folder):
    pay, stock = find_journeys([str(folder)])
    assert (pay.name, pay.needs_browser, pay.tags, pay.timeout_seconds, pay.retries) == (
        "pay", True, ("smoke", "money"), 7.0, 2,
    )  # fmt: skip
    assert (stock.name, stock.needs_browser, stock.tags, stock.timeout_seconds) == ("stock", False, (), None)
    assert stock.place.endswith("deep/pay_flow.py")


@pytest.mark.parametrize(
    ("only", "tags", "names"),
    [([], [], "pay stock"), (["p*"], [], "pay"), (["stock"], ["smoke", "x"], None), ([], ["money"], "pay")],
)
def test_choosing(folder, only, tags, names):
    found = find_journeys([str(folder)])
    if names is None:
        with pytest.raises(ConfigurationError, match=r"there are: pay \(smoke money\), stock"):
            choose(found, only, tags)
    else:
        assert " ".join(journey.name for journey in choose(found, only, tags)) == names


def test_the_same_name_twice_and_no_journey_at_all(folder, tmp_path):
    file = str(folder / "deep" / "pay_flow.py")
    with pytest.raises(ConfigurationError, match="two journeys are called 'pay'"):
        find_journeys([file, f"{file}:pay"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"no journey in .*rolloutobs-synthetic init"):
        find_journeys([str(tmp_path / "empty")])


def test_a_first_journey_is_found_and_never_written_over(tmp_path):
    file = tmp_path / "journeys" / "first.py"
    write_first_journey(file)
    assert [journey.name for journey in find_journeys([str(file)])] == ["start_page", "start_page_answers"]
    with pytest.raises(ConfigurationError, match="exists already"):
        write_first_journey(file)
    with pytest.raises(ConfigurationError, match=r"ends in \.py"):
        write_first_journey(tmp_path / "first.txt")
