"""The list of errors that workers share: nobody's lines are lost when one of them drops a version."""

from __future__ import annotations

from pathlib import Path

import pytest

from rum_collector.errorbook import ErrorBook, Known


def error(version: str, name: str) -> Known:
    return Known("shop", version, name, f"{name}: x is null", "app.js:1:2")


def book(path: Path) -> ErrorBook:
    found = ErrorBook(lambda problem: pytest.fail(str(problem)))
    found.keep_in(path)
    return found


def test_who_drops_a_version_keeps_what_others_have_written_since(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    one, other = book(path), book(path)
    one.add(error("1", "A"))
    other.add(error("2", "B"))
    one.forget(("shop", "1"))
    assert book(path).known() == [error("2", "B")]


def test_a_file_in_the_place_of_another_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    one, other = book(path), book(path)
    one.add(error("1", "A"))
    other.refresh()
    one.forget(("shop", "1"))
    # Longer than what the other one has read of the file before.
    one.add(error("2", "a longer name"))
    other.refresh()
    assert error("2", "a longer name") in other.known()
