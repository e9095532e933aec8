"""Stories of the demo through real processes, sockets and a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.demo.stories import STORIES
from tests.e2e.stories import WITHOUT_BROWSERS, tell

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.mark.parametrize("name", [name for name in STORIES if name not in WITHOUT_BROWSERS])
async def test_the_story_ends_as_it_should(name: str, tmp_path: Path) -> None:
    await tell(name, tmp_path)
