"""uvicorn as the collector needs it: no connection waits for ever, and workers make their own app."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from rum_collector.app import CollectorApp, for_command
from rum_collector.settings import DEFAULTS, Settings

__all__ = ["BoundedProtocol", "serve"]

GRACE_SECONDS: Final = 10
"""How long requests that are being answered may take after the last scrape."""
_Auto: Any = AutoHTTPProtocol


class BoundedProtocol(_Auto):  # type: ignore[misc]
    """A connection that is closed when the head of a request does not come: uvicorn itself waits for ever.

    Between two requests uvicorn's keep-alive timeout counts, but only until the first byte of the next one.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to watch the connection."""
        super().connection_made(transport)
        app = self.config.loaded_app
        settings = app.settings if isinstance(app, CollectorApp) else None
        self._head_seconds = float(DEFAULTS["body_seconds"] if settings is None else settings.body_seconds)
        self._waited_for: int | None = None
        self._watch = self.loop.call_later(self._head_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the watch."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close the connection if it has waited for the same request since the last look."""
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self._waited_for == id(self.cycle):
            self.transport.close()
            return
        self._waited_for = id(self.cycle) if waits else None
        self._watch = self.loop.call_later(self._head_seconds, self._look)


def serve(settings: Settings) -> bool:
    """Run the collector until it is told to end; return whether it had started.

    With several workers each is a process of its own, which is started again when it dies. They read their
    settings from the environment.
    """
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "http": "rum_collector.serving:BoundedProtocol",
        "access_log": False,
        "server_header": False,
        "ws": "none",
        # Whose X-Forwarded-For is believed is a setting of ours.
        "proxy_headers": False,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }
    if settings.workers > 1:
        uvicorn.run("rum_collector.app:for_command", factory=True, workers=settings.workers, **options)
        return True
    server = uvicorn.Server(uvicorn.Config(for_command(settings), **options))
    server.run()
    return server.started
