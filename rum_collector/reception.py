"""What happens to a body before it is counted, in an order in which each step is cheaper than what follows:
its bytes are counted while they are read, then origin, rate, inflation, decoding.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from rolloutobs.errors import BeaconError
from rum_collector.admission import Labels
from rum_collector.agents import MAX_AGENT_BYTES, MAX_HINT_BYTES, agent_of
from rum_collector.clients import Clients
from rum_collector.counting import Sender
from rum_collector.deadlines import Deadlines
from rum_collector.formats import Format
from rum_collector.forward import LOGS, TRACES, Forwarder, Queue, error_log
from rum_collector.http import Headers, text_of
from rum_collector.ingest import Ingest
from rum_collector.limits import Limiter, inflate, read_body
from rum_collector.model import Batch, Beacon, JsError
from rum_collector.parts import Parts
from rum_collector.settings import Settings
from rum_collector.words import BeaconOutcome

__all__ = ["Receive", "Reception"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_LONGEST_RETRY_SECONDS: Final = 3600


class Reception:
    """Takes bodies in; of one process.

    Raises:
        OSError: the folder of the settings cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.parts = Parts.shared(settings)
        self.ingest = Ingest(settings, self.parts)
        self.ingest.start()
        self.limiter = Limiter(
            settings.client_rate,
            settings.client_burst,
            settings.total_rate,
            settings.total_burst,
            settings.max_clients,
        )
        self.clients = Clients(settings.trusted_proxies, secrets.token_bytes(16), self.parts.network_key)
        self.deadlines = Deadlines(settings.body_seconds)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in settings.origins)
        self.retry_seconds = 1
        """After which a client that was refused last may come again."""
        self.forwarder: Forwarder | None = None
        if settings.forward_url:
            self._forward(settings)

    def _forward(self, settings: Settings) -> None:
        count = self.ingest.instruments.counter

        def dropped(signal: str, reason: str) -> None:
            count("forward_dropped").cell(signal, reason).inc()

        self.forwarder = Forwarder(
            settings.forward_url,
            Queue(settings.forward_max_bytes, dropped),
            lambda signal: count("forwarded").cell(signal).inc(),
            lambda signal: dropped(signal, "refused"),
        )
        self.ingest.counting.on_error = self._send_error

    def _send_error(self, labels: Labels, error: JsError, place: str, traceparent: str) -> None:
        if self.forwarder is not None:
            self.forwarder.put(LOGS, error_log(labels, error, place, traceparent))

    async def read(self, headers: Headers, receive: Receive) -> bytes:
        """Return a body, within its limits of bytes and time.

        Raises:
            BeaconError: it is too long or too slow, or the client left before its end.
        """
        settings = self.settings
        try:
            # Whoever sends one byte a minute must not hold a request for ever.
            with self.deadlines:
                return await read_body(receive, settings.max_body_bytes, headers.get(b"content-length", b""))
        except TimeoutError:
            text = f"the body took longer than {settings.body_seconds} seconds"
            raise BeaconError(BeaconOutcome.TIMEOUT, text) from None

    def take(self, form: Format, peer: str, headers: Headers, body: bytes) -> None:
        """Count a body that is there as a whole.

        Args:
            form: of the path that it was posted to.
            peer: address of who sent it; empty: not known.
            headers: of the request.
            body: within the limit.

        Raises:
            BeaconError: it is refused, for whatever reason; it is not counted yet.
        """
        settings = self.settings
        if self._origins:
            self._check_origin(headers)
        source = self._admit(peer, headers)
        hint = headers.get(b"sec-ch-ua-mobile", b"")[:MAX_HINT_BYTES]
        agent = agent_of(headers.get(b"user-agent", b"")[:MAX_AGENT_BYTES], hint)
        if agent.is_bot and not settings.count_bots:
            self.ingest.reject(BeaconOutcome.BOT)
            return
        if b"content-encoding" in headers:
            body = inflate(body, text_of(headers, b"content-encoding"), settings.max_inflated_bytes)
        found = form.read(body, headers)
        retry = text_of(headers, b"idempotency-key")[:64] if b"idempotency-key" in headers else ""
        outcome = self.ingest.accept(found, Sender(agent.device, source, retry))
        if not isinstance(found, Beacon) and outcome is BeaconOutcome.ACCEPTED:
            self._send_traces(found)

    def _check_origin(self, headers: Headers) -> None:
        if text_of(headers, b"origin").lower() not in self._origins:
            text = f"origin is {text_of(headers, b'origin')[:80]!r}, which may not post here"
            raise BeaconError(BeaconOutcome.FORBIDDEN_ORIGIN, text)

    def _admit(self, peer: str, headers: Headers) -> str:
        """Let the sender in and return its group of networks.

        Raises:
            BeaconError: it sends too much.
        """
        forwarded = text_of(headers, b"x-forwarded-for")[-512:] if self.settings.trusted_proxies else ""
        key, source = self.clients.of(peer, forwarded)
        wait = self.limiter.wait_seconds(key, time.monotonic())
        if wait > 0.0:
            self.retry_seconds = min(math.ceil(wait), _LONGEST_RETRY_SECONDS)
            raise BeaconError(
                BeaconOutcome.LIMITED, f"too many bodies; come again in {self.retry_seconds} seconds"
            )
        return source

    def _send_traces(self, found: Batch) -> None:
        if self.forwarder is not None:
            for group in found.traces:
                self.forwarder.put(TRACES, msgspec.json.encode(group))
