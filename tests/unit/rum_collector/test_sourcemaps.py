from __future__ import annotations

import json
from pathlib import Path

from rum_collector.sourcemaps import SourceMaps

# Line 1, column 0 is a.ts 1:0; column 10 is b.ts 5:3; line 3, column 2 is b.ts 6:1.
MAP = {"version": 3, "sources": ["webpack:///src/a.ts", "../lib/b.ts?x=1"], "mappings": "AAAA,UCIG;;EACF"}


def maps(folder: Path) -> tuple[SourceMaps, list[BaseException]]:
    reported: list[BaseException] = []
    return SourceMaps(folder, reported.append), reported


def test_places_are_found_in_their_sources(tmp_path: Path) -> None:
    (tmp_path / "app.js.map").write_text(json.dumps(MAP))
    found, reported = maps(tmp_path)
    assert found.resolve("1", "app.js:1:1") == "src/a.ts:1:1"
    assert found.resolve("1", "app.js:1:10") == "src/a.ts:1:1"
    assert found.resolve("1", "app.js:1:11") == "lib/b.ts:5:4"
    assert found.resolve("1", "app.js:1:500") == "lib/b.ts:5:4"
    assert found.resolve("1", "app.js:3:3") == "lib/b.ts:6:2"
    # Nothing is said of these.
    for place in ("app.js:2:1", "app.js:3:1", "app.js:99:1", "app.js:0:0", "other.js:1:1", "", "x"):
        assert found.resolve("1", place) == place
    assert reported == []


def test_the_map_of_the_version_is_before_that_of_all(tmp_path: Path) -> None:
    (tmp_path / "app.js.map").write_text(json.dumps(MAP))
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "app.js.map").write_text(json.dumps({**MAP, "sources": ["new.ts", "b.ts"]}))
    found, _ = maps(tmp_path)
    assert found.resolve("1", "app.js:1:1") == "src/a.ts:1:1"
    assert found.resolve("2", "app.js:1:1") == "new.ts:1:1"


def test_nothing_leads_out_of_the_folder_and_broken_maps_are_told(tmp_path: Path) -> None:
    (tmp_path / "secret.js.map").write_text(json.dumps(MAP))
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / "bad.js.map").write_text("{")
    (folder / "odd.js.map").write_text(json.dumps({**MAP, "mappings": "!!!"}))
    found, reported = maps(folder)
    assert found.resolve("..", "secret.js:1:1") == "secret.js:1:1"
    assert found.resolve("1", "../secret.js:1:1") == "../secret.js:1:1"
    assert found.resolve("1", "bad.js:1:1") == "bad.js:1:1"
    assert found.resolve("1", "odd.js:1:1") == "odd.js:1:1"
    assert len(reported) == 2
    assert SourceMaps(None, reported.append).resolve("1", "a.js:1:1") == "a.js:1:1"
