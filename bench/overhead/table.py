"""Results as tables: text for a terminal, Markdown for `docs/performance.md`, JSON for a later comparison."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Table", "Target", "as_json", "as_text", "write_docs"]

DOCS = Path(__file__).parents[2] / "docs" / "performance.md"


@dataclass(frozen=True)
class Table:
    """One answer."""

    name: str
    """Its place in the docs: between ``<!-- bench:NAME -->`` and ``<!-- /bench -->``."""
    title: str
    columns: tuple[str, ...]
    """The first one names the rows."""
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Target:
    """What was promised, and what was measured."""

    promise: str
    value: float
    at_most: float

    @property
    def kept(self) -> bool:
        """Whether it was kept."""
        return self.value <= self.at_most

    def __str__(self) -> str:
        word = "within" if self.kept else "ABOVE"
        return f"{self.promise}: {self.value:.2f}, {word} the target of {self.at_most:g}"


def as_text(table: Table) -> str:
    """Return the table with aligned columns."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]

    def aligned(line: Sequence[str]) -> str:
        cells = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        return "  ".join([line[0].ljust(widths[0]), *cells]).rstrip()

    return "\n".join([table.title, *map(aligned, lines)])


def _as_markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rule = "|" + "---|" + "---:|" * (len(table.columns) - 1)
    return "\n".join([line(table.columns), rule, *map(line, table.rows)])


def as_json(tables: Sequence[Table], targets: Sequence[Target]) -> str:
    """Return everything as JSON."""
    return json.dumps(
        {
            "tables": {table.name: asdict(table) for table in tables},
            "targets": [{**asdict(target), "kept": target.kept} for target in targets],
        },
        indent=1,
    )


def write_docs(tables: Sequence[Table], page: Path = DOCS) -> list[str]:
    """Put the tables in their places in `page`; return the names of those that have none."""
    text = page.read_text(encoding="utf-8")
    homeless = []
    for table in tables:
        place = re.compile(rf"(<!-- bench:{re.escape(table.name)} -->\n).*?(<!-- /bench -->)", re.S)
        body = _as_markdown(table)
        text, found = place.subn(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", text)
        if not found:
            homeless.append(table.name)
    page.write_text(text, encoding="utf-8")
    return homeless
