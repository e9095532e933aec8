"""Commands, stories and links in the README and the docs are real."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from examples.demo.stories import STORIES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = {
    "rolloutobs": "rolloutobs.cli",
    "rolloutobs-collector": "rum_collector",
    "rolloutobs-synthetic": "synthetic",
}
COMMAND = r"(?:rolloutobs|rolloutobs-collector|rolloutobs-synthetic) [^#|&;\n]+"
BLOCK = re.compile(r"```([a-z]*)\n(.*?)```|((?:^    [^\n]*\n)+)", flags=re.S | re.M)


def _commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for language, fenced, indented in re.findall(BLOCK, text):
            # What follows a prompt is typed; the rest of a console is what was printed.
            prompt = re.escape("$ ") if language == "console" else "(?:[$] )?"
            commands = re.findall(rf"^\s*{prompt}({COMMAND})", fenced or indented, flags=re.M)
            found += [(page.name, command.strip()) for command in commands]
    return found


@cache
def _help(*argv: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr; many pages use the same commands, so each is asked once."""
    done = subprocess.run(
        [sys.executable, "-m", *argv, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_there_are_commands_to_check() -> None:
    assert len(_commands()) >= 5


@pytest.mark.parametrize(("page", "command"), _commands())
def test_every_option_of_a_documented_command_exists(page: str, command: str) -> None:
    # What follows "--" is another program's.
    program, *words = command.partition(" -- ")[0].split()
    subcommand = [w for w in words[:2] if re.fullmatch(r"[a-z]+", w)]
    code, text, error = _help(MODULES[program], *subcommand)
    assert code == 0, f"{page}: {command}\n{error}"
    options = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
    known = set(re.findall(r"--[a-z][a-z0-9-]*", text))
    assert options <= known, f"{page}: {command} uses {options - known}"


def test_the_readme_tells_every_story() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \|.*\| (ROLLBACK|PROMOTE|HOLD)", readme, flags=re.M)
    assert {name: word.lower() for name, word in rows} == {s.name: s.decision for s in STORIES.values()}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "CANARY=" + "|".join(STORIES) in makefile


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_lead_to_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", text):
        assert anchor in _anchors(page.parent / target if target else page), f"{page.name}: {target}#{anchor}"


@cache
def _anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}
