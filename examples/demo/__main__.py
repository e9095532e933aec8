"""`python -m examples.demo errors`: what `make demo CANARY=errors` runs."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from examples.demo.processes import Processes, StartError
from examples.demo.rollout import Options, Rollout
from examples.demo.stories import STORIES, Story
from synthetic import browser

SCALE = """\
This is a rollout in a minute, so the numbers are a demo's, not production's: 1 s ticks, a short warm-up,
a large canary share and wide promotion margins (examples/demo/policy.yaml says which)."""


def main() -> int:
    """Tell a story; 0 if it ends as it should, 1 if it does not, 2 if it could not be told."""
    options, story = _parse(sys.argv[1:])
    print(f"rolloutobs demo, story {story.name!r}: {story.tells}\n{SCALE}\n", flush=True)
    if not options.browser:
        why = browser.unavailable_reason() or "--no-browser was given"
        print(f"- NO BROWSER ({why}):", flush=True)
        print("  visitors and the synthetic journey are left out; the rest runs", flush=True)
    try:
        verdict = asyncio.run(_tell(story, options))
    except StartError as error:
        print(f"\nThe demo could not run: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\nStopped; everything that was started is gone.", file=sys.stderr)
        return 130
    return _judge(story, verdict, options.folder)


async def _tell(story: Story, options: Options) -> Mapping[str, Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("runs in a task")
    # SIGINT, too: what a shell starts in the background ignores it, and so would Python then.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    options.folder.mkdir(parents=True, exist_ok=True)
    for old in ("verdict.json", "report.html"):
        (options.folder / old).unlink(missing_ok=True)
    async with Processes(options.folder / "logs") as processes:
        return await Rollout(story, options, processes).run()


def _judge(story: Story, verdict: Mapping[str, Any], folder: Path) -> int:
    """Print whether the story ended as it should, and return the exit code."""
    words = " ".join([str(verdict["reason"]), *map(str, verdict.get("holds", []))])
    wrong = []
    if verdict["decision"] != story.decision:
        wrong.append(f"the decision is {verdict['decision']}, not {story.decision}")
    elif story.decided_by and verdict["decided_by"] not in story.decided_by:
        wrong.append(f"{verdict['decided_by']!r} decided, not one of {', '.join(sorted(story.decided_by))}")
    elif story.reason_has not in words:
        wrong.append(f"the reason does not speak of {story.reason_has!r}")
    print(
        f"\nreport   {folder / 'report.html'}\nverdict  {folder / 'verdict.json'}\nlogs     {folder / 'logs'}"
    )
    if wrong:
        print(f"This story should end otherwise: {'; '.join(wrong)}.", file=sys.stderr)
        return 1
    print(f"The story {story.name!r} ended as it should: {story.decision}.")
    return 0


def _parse(argv: list[str]) -> tuple[Options, Story]:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Runs a live canary rollout of the shop on this machine and ends in a verdict.",
        epilog="stories:\n" + "\n".join(f"  {s.name:16} {s.tells} -> {s.decision}" for s in STORIES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("story", nargs="?", default="errors", choices=list(STORIES), metavar="STORY")
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder (default: build/demo)")
    parser.add_argument("--no-browser", action="store_true", help="leave out what needs a Chromium")
    parser.add_argument("--history", type=float, default=20.0, help="seconds of stable alone (default: 20)")
    parser.add_argument("--deadline", type=float, help="seconds the gate may watch (default: the story's)")
    given = parser.parse_args(argv)
    return (
        Options(
            folder=given.out,
            browser=not given.no_browser and browser.available(),
            history_seconds=given.history,
            deadline_seconds=given.deadline,
        ),
        STORIES[given.story],
    )


if __name__ == "__main__":
    sys.exit(main())
