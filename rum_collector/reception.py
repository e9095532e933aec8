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
from rum_collector.agents import device_of, is_bot
from rum_collector.clients import Clients
from rum_collector.deadlines import Deadlines
from rum_collector.formats import Format
from rum_collector.forward import LOGS, TRACES, Forwarder, Queue, error_log
from rum_collector.http import Headers, text_of
from rum_collector.ingest import Ingest, Sender
from rum_collector.limits import Limiter, inflate, read_body
from rum_collector.model import Batch, Beacon, JsError
from rum_collector.parts import Parts
from rum_collector.settings import Settings
from rum_collector.words import BeaconOutcome

__all__ = ["Reception"]

Scope = MutableMapping[str, Any]
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
        self.ingest.on_error = self._send_error

    def _send_error(self, labels: Labels, error: JsError, place: str, traceparent: str) -> None:
        if self.forwarder is not None:
            self.forwarder.put(LOGS, error_log(labels, error, place, traceparent))

    async def receive(self, form: Format, scope: Scope, headers: Headers, receive: Receive) -> None:
        """Read a body and count it.

        Raises:
            BeaconError: it is refused, for whatever reason; it is not counted yet.
        """
        settings = self.settings
        try:
            # Whoever sends one byte a minute must not hold a request for ever.
            with self.deadlines:
                body = await read_body(receive, settings.max_body_bytes, headers.get(b"content-length", b""))
        except TimeoutError:
            text = f"the body took longer than {settings.body_seconds} seconds"
            raise BeaconError(BeaconOutcome.TIMEOUT, text) from None
        self._check_origin(headers)
        source = self._admit(scope, headers)
        agent = text_of(headers, b"user-agent")
        if not settings.count_bots and is_bot(agent):
            self.ingest.reject(BeaconOutcome.BOT)
            return
        if b"content-encoding" in headers:
            body = inflate(body, text_of(headers, b"content-encoding"), settings.max_inflated_bytes)
        found = form.read(body, text_of(headers, b"content-type"))
        device = device_of(agent, text_of(headers, b"sec-ch-ua-mobile"))
        retry = text_of(headers, b"idempotency-key")[:64] if b"idempotency-key" in headers else ""
        outcome = self.ingest.accept(found, Sender(device, source, retry))
        if outcome is BeaconOutcome.ACCEPTED and not isinstance(found, Beacon):
            self._send_traces(found)

    def _check_origin(self, headers: Headers) -> None:
        if not self._origins:
            return
        if text_of(headers, b"origin").lower() not in self._origins:
            text = f"origin is {text_of(headers, b'origin')[:80]!r}, which may not post here"
            raise BeaconError(BeaconOutcome.FORBIDDEN_ORIGIN, text)

    def _admit(self, scope: Scope, headers: Headers) -> str:
        """Let the sender in and return its group of networks.

        Raises:
            BeaconError: it sends too much.
        """
        peer = scope.get("client")
        forwarded = text_of(headers, b"x-forwarded-for")[-512:] if self.settings.trusted_proxies else ""
        client = self.clients.of(str(peer[0]) if peer else "", forwarded)
        wait = self.limiter.wait_seconds(client.key, time.monotonic())
        if wait > 0.0:
            self.retry_seconds = min(math.ceil(wait), _LONGEST_RETRY_SECONDS)
            raise BeaconError(
                BeaconOutcome.LIMITED, f"too many bodies; come again in {self.retry_seconds} seconds"
            )
        return client.source

    def _send_traces(self, found: Batch) -> None:
        if self.forwarder is not None:
            for group in found.traces:
                self.forwarder.put(TRACES, msgspec.json.encode(group))
