"""`python -m bench.overhead`: measures, prints tables, and says which targets are kept.

The method is in `bench.overhead.rounds`, `.loopback`, `.exposition` and `.imports`; docs/performance.md says
what the figures mean. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench.overhead.exposition import exposition
from bench.overhead.imports import imports
from bench.overhead.loopback import loopback
from bench.overhead.own import BARE, FLOOR, FULL, SHARED, TENTH, ZERO
from bench.overhead.peers import METRICS_ONLY
from bench.overhead.pieces import pieces
from bench.overhead.rounds import Plan, Row, measure
from bench.overhead.subject import Framework
from bench.overhead.table import Table, Target, as_json, as_text, write_docs
from bench.overhead.tables import OWN, PEERS
from bench.overhead.tables import table as subjects_of
from bench.overhead.traffic import CASES

Answer = tuple[list[Table], list[Target]]
PLAIN, MANY, CALLED = CASES
# The targets of the issue, as multiples of FLOOR.
AT_MOST = {ZERO: 3.0, TENTH: 3.5, FULL: 10.0}
OVER_LOOPBACK = (
    BARE,
    f"{BARE} again (A/A)",
    FLOOR,
    ZERO,
    TENTH,
    FULL,
    "starlette-exporter",
    "otel-asgi, 10 %, one span, metrics",
)


def _table(name: str, title: str, rows: list[Row]) -> Table:
    def line(row: Row) -> tuple[str, ...]:
        figures = (row.added_us, row.median_us, row.process_us)
        return (row.subject, *(f"{us:.1f}" for us in figures), f"{row.ratio:.2f}")

    return Table(name, title, ("", "added us", "median", "all threads", "x FLOOR"), tuple(map(line, rows)))


def _requests(plan: Plan) -> Answer:
    """Starlette, with 3 and 15 headers, and called by an instrumented service."""
    results = measure(subjects_of(OWN, Framework.STARLETTE), tuple(CASES), plan)
    tables = [_table(f"starlette-{i}", f"Starlette, {case}", results[case]) for i, case in enumerate(CASES)]
    rows = {case: {row.subject: row for row in results[case]} for case in CASES}
    plain = rows[PLAIN]
    targets = [Target(f"{name}, times FLOOR", plain[name].ratio, most) for name, most in AT_MOST.items()]
    flat = rows[MANY][TENTH].added_us / plain[TENTH].added_us
    targets.append(Target("15 headers, times 3 headers (10 %)", flat, 1.1))
    if SHARED in plain:
        shared = plain[SHARED].added_us / plain[TENTH].added_us
        targets.append(Target("shared mmap, times a single process (10 %)", shared, 1.3))
    return tables, targets


def _fastapi(plan: Plan) -> Answer:
    """FastAPI, 3 headers."""
    rows = measure(subjects_of(OWN, Framework.FASTAPI), (PLAIN,), plan)[PLAIN]
    return [_table("fastapi", f"FastAPI, {PLAIN}", rows)], []


def _peers(plan: Plan) -> Answer:
    """Starlette and the other tools, each in a process of its own, with 3 and 15 headers."""
    results = measure(subjects_of(PEERS, Framework.STARLETTE), (PLAIN, MANY), plan)
    tables = [
        _table(f"peers-starlette-{i}", f"Starlette and peers, {case}", rows)
        for i, (case, rows) in enumerate(results.items())
    ]
    return tables, _cheaper(results[PLAIN])


def _fastapi_peers(plan: Plan) -> Answer:
    """FastAPI and the other tools, 3 headers."""
    rows = measure(subjects_of(PEERS, Framework.FASTAPI), (PLAIN,), plan)[PLAIN]
    return [_table("peers-fastapi", f"FastAPI and peers, {PLAIN}", rows)], _cheaper(rows)


def _cheaper(rows: list[Row]) -> list[Target]:
    added = {row.subject: row.added_us for row in rows}
    return [
        Target(f"us of {TENTH}, times those of {peer}", added[TENTH] / added[peer], 1.0)
        for peer in METRICS_ONLY
        if peer in added
    ]


def _loopback(plan: Plan) -> Answer:
    """uvicorn over loopback, a process each; with two peers where they are installed."""
    every = subjects_of(PEERS, Framework.STARLETTE)
    chosen = [subject for subject in every if subject.name in OVER_LOOPBACK]
    return [loopback(chosen, max(2, plan.rounds // 5), plan.requests * 2)], []


PARTS: dict[str, Callable[[Plan], Answer]] = {
    "requests": _requests,
    "fastapi": _fastapi,
    "peers": _peers,
    "peers-fastapi": _fastapi_peers,
    "loopback": _loopback,
    "exposition": lambda plan: exposition(plan.series, max(2, plan.rounds // 8)),
    "imports": lambda plan: imports(max(2, plan.rounds // 8)),
    "pieces": lambda plan: pieces(plan.rounds),
}
USUAL = ("requests", "fastapi", "exposition", "imports", "pieces", "loopback")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: {' '.join(USUAL)}"
    )
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--requests", type=int, default=200, help="per slice")
    parser.add_argument("--series", type=int, default=10_000, help="of the scrape")
    parser.add_argument("--gc", action="store_true", help="let the garbage collector run inside of slices")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/performance.md")
    options = parser.parse_args(argv)
    unknown = set(options.parts) - PARTS.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    plan = Plan(options.rounds, options.requests, options.gc, options.series)
    tables: list[Table] = []
    targets: list[Target] = []
    for part in options.parts or USUAL:
        more, promised = PARTS[part](plan)
        print("\n\n".join(map(as_text, more)), end="\n\n", flush=True)
        tables += more
        targets += promised
    print("\n".join(map(str, targets)))
    if options.json:
        options.json.write_text(as_json(tables, targets), encoding="utf-8")
    if options.docs:
        for name in write_docs(tables):
            print(f"no place for {name} in docs/performance.md", file=sys.stderr)
    return 0 if all(target.kept for target in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
