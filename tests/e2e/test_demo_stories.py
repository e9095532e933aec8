"""Every story of the demo, shortened, through real processes, sockets and (for most) a real browser."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from examples.demo.stories import STORIES

pytestmark = [pytest.mark.slow, pytest.mark.browser]


async def _demo(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.demo", "--out", str(folder), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


# Enough for what each story claims, and less than a person gets to watch.
SHORTER = {name: ["--history", "15"] for name in STORIES} | {
    "trickle": ["--history", "15", "--deadline", "45"],
    "dependency": ["--deadline", "45"],
}


@pytest.mark.parametrize("name", list(STORIES))
async def test_the_story_ends_as_it_should(name: str, tmp_path: Path) -> None:
    process = await _demo(tmp_path, name, *SHORTER[name])
    output, _ = await asyncio.wait_for(process.communicate(), 240)
    text = output.decode()
    assert process.returncode == 0, text
    verdict = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    story = STORIES[name]
    assert verdict["decision"] == story.decision
    assert verdict["reason"] in text
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<svg" in html
    assert "http-equiv" not in html
    for outside in ('src="http', 'href="http', "url(http"):
        assert outside not in html, "the report must not load anything"


async def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    process = await _demo(tmp_path, "good", "--no-browser")
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
