"""The demo's stories, shortened: how one is run, and what holds for each."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from examples.demo.stories import STORIES

__all__ = ["WITHOUT_BROWSERS", "demo", "tell"]

WITHOUT_BROWSERS = ("slow", "trickle", "dependency")
"""What only the server's numbers tell."""

# Enough for what each story claims, and less than a person gets to watch.
SHORTER = {name: ["--history", "15"] for name in STORIES} | {
    "trickle": ["--history", "15", "--deadline", "45"],
    "dependency": ["--deadline", "45"],
}


async def demo(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start the demo as a user would."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.demo", "--out", str(folder), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def tell(name: str, folder: Path, *arguments: str) -> None:
    """Run the story to its end, and assert that it ends as it should."""
    process = await demo(folder, name, *SHORTER[name], *arguments)
    output, _ = await asyncio.wait_for(process.communicate(), 240)
    text = output.decode()
    assert process.returncode == 0, text
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["decision"] == STORIES[name].decision
    assert verdict["reason"] in text
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "<svg" in html
    assert "http-equiv" not in html
    for outside in ('src="http', 'href="http', "url(http"):
        assert outside not in html, "the report must not load anything"
