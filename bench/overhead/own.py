"""The subjects of `make bench`: the bare app, what is written by hand, and `instrument(app)`."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.overhead import apps
from bench.overhead.subject import Built, Framework, Subject, UnavailableError

__all__ = ["BARE", "FLOOR", "FULL", "SHARED", "TENTH", "ZERO", "instrumented", "own_subjects", "shared"]

BARE, FLOOR = "bare", "FLOOR"
ZERO, TENTH, FULL = "instrument, 0 %", "instrument, 10 %", "instrument, 100 %"
SHARED = "instrument, 10 %, shared mmap"
_SERVICE = {"service": "bench", "version": "1.2.0", "track": "canary"}


def instrumented(ratio: float, framework: Framework = Framework.STARLETTE, **settings: Any) -> Built:
    """Return the bare app, instrumented, with spans to a real SDK whose exporter drops them."""
    from bench.overhead.spans import Spans
    from rolloutobs import Settings, instrument

    spans = Spans(ratio)
    app = instrument(
        apps.bare(framework), settings=Settings(**_SERVICE, **settings), tracer_provider=spans.provider
    )
    scrape = settings.get("metrics_path", "/metrics")
    recorded = spans.recorded if ratio else None
    return Built(app, recorded=recorded, settle=spans.settle, scrape=scrape)


def shared(ratio: float, framework: Framework = Framework.STARLETTE) -> Built:
    """Return the bare app, instrumented as one of several workers that share a folder.

    Raises:
        UnavailableError: this version of ours keeps its counts in memory all the same.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    built = instrumented(ratio, framework, metrics_dir=str(folder))
    if not any(path.is_file() for path in folder.rglob("*")):
        shutil.rmtree(folder)
        raise UnavailableError("metrics_dir stays empty")
    return replace(built, close=partial(shutil.rmtree, folder, ignore_errors=True))


def own_subjects(framework: Framework) -> list[Subject]:
    """Return the subjects of one framework. They share a process: none of them patches anything, and two
    processes differ by a microsecond by the layout of their memory alone."""
    process = f"own {framework}"

    def subject(name: str, make: Any, *arguments: Any, share: float = 1.0) -> Subject:
        return Subject(name, partial(make, *arguments, framework), framework, {}, process, share)

    return [
        subject(BARE, apps.bare_built, share=0.0),
        subject(f"{BARE} again (A/A)", apps.bare_built, share=0.0),
        subject("no-op wrapper and send", apps.no_op, share=0.0),
        subject("two calls, status unseen", apps.blind_floor),
        subject(FLOOR, apps.floor),
        subject("FLOOR, labels() each time", apps.labelled_floor),
        subject(ZERO, instrumented, 0.0, share=0.0),
        subject(TENTH, instrumented, 0.1, share=0.1),
        subject(FULL, instrumented, 1.0),
        # Sharing is of the whole process, so it has one of its own.
        replace(subject(SHARED, shared, 0.1, share=0.1), process=""),
    ]
