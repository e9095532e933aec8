"""Runs the cells and prints their tables; `--save` keeps what came out."""

from __future__ import annotations

import argparse
import fcntl
import json
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bench.rollouts import table
from bench.rollouts.cells import CELLS, Cell
from bench.rollouts.play import play


def main() -> None:
    """Run the cells that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.rollouts", description=__doc__)
    parser.add_argument("wanted", nargs="*", help="groups or scenarios (default: all)")
    parser.add_argument("--runs", type=int, help="rollouts a cell (default: what is published)")
    parser.add_argument("--rps", type=float, nargs="*", help="only these rates")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--save", action="store_true", help=f"into {table.RESULTS.name}, cell by cell")
    given = parser.parse_args()
    unknown = set(given.wanted) - {c.group for c in CELLS} - {c.scenario for c in CELLS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    jobs = [
        (cell, rps)
        for cell in CELLS
        if not given.wanted or {cell.group, cell.scenario} & set(given.wanted)
        for rps in cell.rps
        if not given.rps or rps in given.rps
    ]
    found: dict[str, Any] = {}
    with ProcessPoolExecutor(given.processes) as pool:
        futures = [
            (cell, rps, pool.submit(play, cell, rps, given.runs or cell.runs_at(rps), given.seed))
            for cell, rps in jobs
        ]
        for cell, rps, future in futures:
            outcome = future.result()
            found.setdefault(cell.scenario, {})[f"{rps:g}"] = outcome
            print(_progress(cell, rps, outcome), flush=True)
            if given.save:
                _keep(cell, rps, outcome)
    print()
    print(table.everything(found))


def _progress(cell: Cell, rps: float, outcome: dict[str, Any]) -> str:
    _, ours = next(iter(outcome["policies"].items()))
    return f"{cell.scenario:32} {rps:6g} rps  {ours}  {outcome['cpu_seconds']} s"


def _keep(cell: Cell, rps: float, outcome: dict[str, Any]) -> None:
    # Several of these commands may run at once, on different cells.
    with table.RESULTS.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        kept = json.loads(file.read() or "{}")
        kept.setdefault(cell.scenario, {})[f"{rps:g}"] = outcome
        file.truncate(0)
        lines = (
            f"{json.dumps(name)}: {json.dumps(each, sort_keys=True)}" for name, each in sorted(kept.items())
        )
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
