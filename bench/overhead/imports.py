"""What importing `rolloutobs` adds to the start of an app that imports the OpenTelemetry SDK anyway.

Each sample is a new interpreter that imports the SDK and Starlette, then takes the CPU time of each further
step; the first decile over the interpreters is shown. Bytecode is cached, as in an image that ran once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

from bench.overhead.rounds import first_decile
from bench.overhead.table import Table, Target

__all__ = ["imports"]

CHILD = """
import json, sys
from time import process_time
from starlette.applications import Starlette
before = process_time()
import opentelemetry.propagate, opentelemetry.sdk.resources
import opentelemetry.sdk.trace, opentelemetry.sdk.trace.export
marks = [before, process_time()]
if "prometheus" in sys.argv:
    import prometheus_client
    marks = [before, process_time()]
import rolloutobs
marks.append(process_time())
from rolloutobs import Settings, instrument
marks.append(process_time())
app = Starlette()
instrument(app, settings=Settings(service="bench", version="1.2.0"))
marks.append(process_time())
print(json.dumps([(b - a) * 1e3 for a, b in zip(marks, marks[1:])]))
"""
STEPS = ("import the SDK", "import rolloutobs", "from rolloutobs import instrument", "instrument(app)")
WITHOUT, WITH = "after the SDK", "after the SDK and prometheus_client"
# The target, in milliseconds.
AT_MOST_MS = 15.0


def _sample(cache: str, *arguments: str) -> list[float]:
    command = [sys.executable, "-W", "ignore", "-c", CHILD, *arguments]
    # Bytecode is kept, whatever this machine's own setting.
    env = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=env)
    found: list[float] = json.loads(done.stdout)
    return found


def imports(rounds: int = 15) -> tuple[list[Table], list[Target]]:
    """Return the milliseconds of each step."""
    samples: dict[str, list[list[float]]] = {WITHOUT: [], WITH: []}
    with tempfile.TemporaryDirectory(prefix="bench-") as cache:
        _sample(cache)
        for _ in range(rounds):
            samples[WITHOUT].append(_sample(cache))
            samples[WITH].append(_sample(cache, "prometheus"))
    low = {
        base: [first_decile([sample[i] for sample in found]) for i in range(len(STEPS))]
        for base, found in samples.items()
    }
    rows = tuple((step, *(f"{low[base][i]:.1f}" for base in samples)) for i, step in enumerate(STEPS))
    table = Table("imports", "milliseconds of CPU at start-up", ("", WITHOUT, WITH), rows)
    promises = {
        "import rolloutobs, ms": low[WITHOUT][1],
        "import rolloutobs and instrument, with prometheus_client imported anyway, ms": sum(low[WITH][1:3]),
    }
    return [table], [Target(promise, value, AT_MOST_MS) for promise, value in promises.items()]
