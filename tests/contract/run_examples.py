"""Runs the Python examples of a page, each as a program of its own would; prints what failed as JSON.

A program for `test_sdk_docs.py`: what examples do to a process (Django's settings, log configuration) shall
not reach other tests.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.S | re.M)


class Producer:
    """Takes what a Kafka producer takes."""

    def send(self, topic: str, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        assert all(isinstance(name, str) and isinstance(text, bytes) for name, text in headers)


def _given() -> dict[str, Any]:
    """Return what an example may use without having made it."""
    message = SimpleNamespace(topic="orders", headers=[("traceparent", b"")], partition=0, offset=1, key=None)
    return {"__name__": "shop", "consumer": [message], "handle": print, "producer": Producer()}


def main(page: Path) -> None:
    import django.conf

    from rolloutobs.testing import isolated_telemetry

    warnings.simplefilter("error")
    django.conf.settings.configure(ROOT_URLCONF="shop", ALLOWED_HOSTS=["*"], SECRET_KEY="not one")
    failed: dict[str, str] = {}
    text = page.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    for block in blocks:
        line = text[: block.start()].count("\n") + 2
        code = compile("\n" * (line - 1) + block[1], str(page), "exec")
        root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
        with isolated_telemetry():
            try:
                exec(code, _given())
            except BaseException:
                failed[str(line)] = traceback.format_exc()
        root.handlers = handlers
    sys.stdout.write("\n" + json.dumps({"ran": len(blocks), "failed": failed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
