"""Stories that only the server's numbers tell, and the demo's end when it is interrupted.

They are a file of their own, because ``make test`` runs files of whole rollouts beside each other.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.stories import WITHOUT_BROWSERS, demo, tell

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", WITHOUT_BROWSERS)
async def test_the_story_ends_as_it_should(name: str, tmp_path: Path) -> None:
    await tell(name, tmp_path, "--no-browser")


async def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    process = await demo(tmp_path, "good", "--no-browser")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        async for line in process.stdout:
            if b"the gate watches" in line:
                break
    children = _children(process.pid)
    assert len(children) >= 7
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130
    assert [pid for pid in children if _alive(pid)] == []


def _children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
