"""The harness beside plain Playwright, and API-only pairs for each second of one core.

    python -m bench.checks [--rounds 5] [--pairs 300] [--docs]

To the first page is from the start of the process to the page's load, in alternating processes. The harness
walks two tracks where plain Playwright opens one page; its journeys are read, its browser is started and its
marks are set within that time. Pairs of API calls are counted by CPU seconds of the process, so that a busy
machine does not matter; the servers are processes of their own.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter

from synthetic.chromium import find_chromium
from synthetic.settings import BrowserSettings

DOCS = Path(__file__).parents[2] / "docs" / "synthetic.md"
_PLACE = re.compile(r"(<!-- bench:checks -->\n).*?(<!-- /bench:checks -->)", re.DOTALL)
_FIRST_PAGE = "first page"
_JOURNEYS = f"""
import sys

async def first(page, shop):
    await shop.open("/")
    print("{_FIRST_PAGE}", file=sys.stderr, flush=True)

async def ask(api, shop):
    async with shop.step("ask"):
        (await api.get("/")).raise_for_status()
"""


@contextmanager
def server(version: str, track: str) -> Iterator[str]:
    """Yield the URL of a small server that says who it is."""
    argv = [sys.executable, "-m", "bench.checks.server", version, track]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _line(process.stdout)
        finally:
            process.terminate()


def _line(lines: Iterator[str] | None) -> str:
    if lines is None:
        raise RuntimeError("the process has no pipe")
    return next(lines).strip()


def first_page(argv: Sequence[str]) -> float:
    """Return the seconds until a process says that its first page is there; it is left to end."""
    started = perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            if _FIRST_PAGE in line:
                took = perf_counter() - started
                for _ in process.stdout or ():
                    continue
                return took
    raise RuntimeError(f"no first page from {argv}")


def pairs_per_cpu_minute(argv: Sequence[str], pairs: int) -> float:
    """Return how many pairs a minute of one core makes, start and end of the process included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*argv, "--count", str(pairs)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return pairs * 60 / spent


def measure(rounds: int, pairs: int) -> list[tuple[str, str, str]]:
    """Return rows of (what, measured, wanted)."""
    with ExitStack() as stack:
        urls = [stack.enter_context(server(*who)) for who in (("1.1.0", "stable"), ("1.2.0", "canary"))]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "journeys.py").write_text(_JOURNEYS, encoding="utf-8")
        targets = ["--app", "bench", "--stable", urls[0], "--canary", urls[1]]

        def ours(journey: str) -> list[str]:
            return [sys.executable, "-m", "synthetic", "run", f"{folder}/journeys.py:{journey}", *targets]

        plain = [sys.executable, "-m", "bench.checks.plain", urls[0], find_chromium(BrowserSettings())]
        times = [(first_page(plain), first_page(ours("first"))) for _ in range(rounds)]
        ratio = statistics.median(own / bare for bare, own in times)
        bare, own = (statistics.median(column) for column in zip(*times, strict=True))
        a_minute = pairs_per_cpu_minute(ours("ask"), pairs)
    return [
        (
            "to the first page, beside plain Playwright",
            f"{ratio:.2f}x ({own:.2f} s, {bare:.2f} s)",
            "at most 1.5x",
        ),
        ("API-only pairs a minute of one core", f"{a_minute:,.0f}", "at least 1,000"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it where asked."""
    parser = argparse.ArgumentParser(prog="bench.checks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind (default: 5)")
    parser.add_argument("--pairs", type=int, default=300, help="pairs of API calls (default: 300)")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/synthetic.md")
    given = parser.parse_args(argv)
    rows = [("", "measured", "wanted"), ("---", "---", "---"), *measure(given.rounds, given.pairs)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    print(table, end="")
    if given.docs:
        text = DOCS.read_text(encoding="utf-8")
        if not _PLACE.search(text):
            print("no place for the table in docs/synthetic.md", file=sys.stderr)
            return 2
        DOCS.write_text(_PLACE.sub(lambda place: place[1] + table + place[2], text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
