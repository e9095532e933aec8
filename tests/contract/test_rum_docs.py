"""docs/rum.md names every key of a beacon, every attribute of the tag and every call of the script."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from rum_collector import beacon

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rum.md").read_text(encoding="utf-8")
SOURCES = "".join(file.read_text() for file in (ROOT / "rum_collector" / "browser" / "src").glob("*.ts"))


def section(title: str) -> str:
    _, _, rest = PAGE.partition(f"\n## {title}\n")
    assert rest, title
    return rest.partition("\n## ")[0]


def first_column(title: str) -> set[str]:
    """Return what stands in the first cells of a section's tables, as code."""
    cells = re.findall(r"^\| (`[^|]+`) \|", section(title), re.M)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def test_the_beacon_s_keys() -> None:
    read = {field.encode_name for field in msgspec.structs.fields(beacon._WireBeacon)}
    assert first_column("The beacon") == read
    # And the script sends every one of them, in the one object that it writes.
    _, _, sent = SOURCES.partition("const body: {[key: string]: unknown} = {")
    assert set(re.findall(r"^ +(\w+):", sent.partition("\n    };")[0], re.M)) == read


def test_the_tag_s_attributes() -> None:
    asked = set(re.findall(r"\bdata\.(\w+)", SOURCES)) | {"version", "track", "synthetic"}
    assert {name.removeprefix("data-") for name in first_column("The script tag")} == asked


def test_the_page_s_calls() -> None:
    calls = {name.partition("(")[0].removeprefix("rolloutobs.") for name in first_column("The page's side")}
    assert calls == set(re.findall(r"^  (\w+)\(.*\): void;", SOURCES[SOURCES.index("interface Api") :], re.M))
