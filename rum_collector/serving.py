"""uvicorn as the collector runs it: with connections of its own, and workers that make their own app."""

from __future__ import annotations

from typing import Any, Final

import uvicorn

from rum_collector.app import for_command
from rum_collector.settings import Settings

__all__ = ["serve"]

GRACE_SECONDS: Final = 10
"""How long requests that are being answered may take after the last scrape."""


def serve(settings: Settings) -> bool:
    """Run the collector until it is told to end; return whether it had started.

    With several workers each is a process of its own, which is started again when it dies. They read their
    settings from the environment.
    """
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "http": "rum_collector.connection:Connection",
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
