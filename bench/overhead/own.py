"""The subjects of `make bench`: the bare app, what is written by hand, and `instrument(app)`."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any

from bench.overhead import apps
from bench.overhead.subject import Built, Framework, Subject, Unavailable

__all__ = ["BARE", "FLOOR", "TENTH", "instrumented", "own_subjects", "shared"]

BARE, FLOOR, TENTH = "bare", "FLOOR", "instrument, 10 %"
_SERVICE = {"service": "bench", "version": "1.2.0", "track": "canary"}


def instrumented(ratio: float, framework: Framework = Framework.STARLETTE, **settings: Any) -> Built:
    """Return the bare app, instrumented, with spans to a real SDK whose exporter drops them."""
    from rolloutobs import Settings, instrument

    from bench.overhead.spans import Spans

    spans = Spans(ratio)
    app = instrument(
        apps.bare(framework), settings=Settings(**_SERVICE, **settings), tracer_provider=spans.provider
    )
    scrape = settings.get("metrics_path", "/metrics")
    recorded = spans.recorded if ratio else None
    return Built(app, recorded=recorded, settle=spans.settle, scrape=scrape)


def shared(ratio: float, framework: Framework = Framework.STARLETTE) -> Built:
    """Return the bare app, instrumented as one of several workers that share a folder."""
    from dataclasses import fields

    from rolloutobs import Settings

    if "metrics_dir" not in {field.name for field in fields(Settings)}:
        raise Unavailable("this version has no metrics_dir")
    folder = tempfile.mkdtemp(prefix="bench-")
    return instrumented(ratio, framework, metrics_dir=folder)


def own_subjects(framework: Framework, process: str) -> list[Subject]:
    """Return the subjects of one framework; `process` is the process they share, empty for one each."""

    def subject(name: str, make: Any, *arguments: Any, share: float = 1.0) -> Subject:
        return Subject(name, partial(make, *arguments, framework), framework, {}, process, share)

    return [
        subject(BARE, apps.bare_built, share=0.0),
        subject(f"{BARE} again (A/A)", apps.bare_built, share=0.0),
        subject("no-op wrapper and send", apps.no_op, share=0.0),
        subject("two calls, status unseen", apps.blind_floor),
        subject(FLOOR, apps.floor),
        subject("FLOOR, labels() each time", apps.labelled_floor),
        subject("instrument, 0 %", instrumented, 0.0, share=0.0),
        subject(TENTH, instrumented, 0.1, share=0.1),
        subject("instrument, 100 %", instrumented, 1.0),
        subject("instrument, 10 %, shared mmap", shared, 0.1, share=0.1),
    ]
