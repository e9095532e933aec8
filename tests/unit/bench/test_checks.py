"""The bench of checks runs, and its table has a place in the docs."""

from __future__ import annotations

import pytest

from bench.checks.__main__ import main


@pytest.mark.browser
def test_it_measures_both(monkeypatch, tmp_path, capsys):
    page = tmp_path / "synthetic.md"
    page.write_text("before\n<!-- bench:checks -->\nold\n<!-- /bench:checks -->\nafter\n")
    monkeypatch.setattr("bench.checks.__main__.DOCS", page)
    assert main(["--rounds", "1", "--pairs", "2", "--docs"]) == 0
    table = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [
        "| to the first page, beside plain Playwright",
        "| API-only pairs a minute of one core",
    ]
    assert page.read_text() == f"before\n<!-- bench:checks -->\n{table}<!-- /bench:checks -->\nafter\n"
