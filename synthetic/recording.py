"""What Chromium recorded of a walk that failed: Playwright's trace and the network's log, without secrets.

Belongs here: starting and stopping both, and the folder in which they are until they are kept.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthetic.journey import first_line
from synthetic.redaction import Secrets
from synthetic.scrubbing import HAR, scrubbed_har, scrubbed_trace

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

__all__ = ["HIDE", "TRACE", "Recording"]

log = logging.getLogger(__name__)

TRACE = "trace.zip"
HIDE = """([values, hidden]) => {
  const clean = (text) => values.reduce((left, value) => left.split(value).join(hidden), text);
  const hide = (root) => {
    for (const field of root.querySelectorAll('input, textarea')) {
      if (clean(field.value) !== field.value) { field.type = 'text'; field.value = clean(field.value); }
    }
    const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = texts.nextNode(); node; node = texts.nextNode()) {
      if (clean(node.data) !== node.data) node.data = clean(node.data);
    }
    for (const element of root.querySelectorAll('*')) if (element.shadowRoot) hide(element.shadowRoot);
  };
  hide(document);
}"""
"""Replaces secrets in what a page shows, before it is photographed."""


class Recording:
    """Trace and network log of one context; does nothing unless `wanted`."""

    def __init__(self, wanted: bool, secrets: Secrets) -> None:
        self._wanted = wanted
        self._secrets = secrets
        self._folder: Path | None = None
        self._kept = False
        self._files: dict[str, bytes] = {}

    def options(self) -> dict[str, Any]:
        """Return what ``browser.new_context`` has to be told."""
        if not self._wanted:
            return {}
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="rolloutobs-recording-"))
        except OSError as problem:
            # A full disk does not keep a journey from being walked.
            log.warning("nothing is recorded: %s", problem)
            return {}
        # Bodies are what secrets travel in, and the trace has them where they matter.
        return {"record_har_path": self._folder / HAR, "record_har_content": "omit"}

    async def start(self, context: BrowserContext) -> None:
        """Begin the trace."""
        if self._folder is not None:
            await context.tracing.start(screenshots=True, snapshots=True)

    async def keep(self, context: BrowserContext | None) -> None:
        """Write the trace; the network's log is written when the context is closed."""
        from playwright.async_api import Error

        if self._folder is None or context is None:
            return
        self._kept = True
        try:
            await context.tracing.stop(path=self._folder / TRACE)
        except Error as problem:
            log.debug("stopping the trace: %s", first_line(problem))

    def finish(self) -> None:
        """Read what was written, without secrets, if it is to be kept; remove the folder."""
        if self._folder is None:
            return
        for name, scrubbed in ((HAR, scrubbed_har), (TRACE, scrubbed_trace)):
            file = self._folder / name
            if self._kept and file.is_file():
                try:
                    self._files[name] = scrubbed(file.read_bytes(), self._secrets)
                except (OSError, ValueError, KeyError) as problem:
                    # What cannot be read cannot be freed of secrets.
                    log.warning("%s is not kept: %s", name, problem)
        self.drop()

    def drop(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def files(self) -> dict[str, bytes]:
        """Return what is left to keep, by file name."""
        return self._files
