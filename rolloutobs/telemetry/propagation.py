"""Identity across processes: W3C ``traceparent`` and ``baggage``.

Outwards, `IdentityPropagator` wraps the global propagator, so that whatever injects headers (an OpenTelemetry
client instrumentation, ``propagate.inject``, `inject` below) also says which service, version and track is
calling. With a client that has no instrumentation::

    await client.get(url, headers=inject(url=url))          # httpx2, httpx, requests, aiohttp: any client

OpenTelemetry's instrumentations for httpx and httpx2, requests, urllib3, aiohttp, gRPC and Celery need
nothing else. They add a client span per call, `inject` does not.

Our identity goes to hosts of the cluster and of private networks, and to those in ``identity_hosts``. Where
it is not known to which host a call goes (``inject()`` without `url`, an instrumentation that does not say)
it stays at home, and ``rolloutobs_identity_withheld_total`` counts that. The trace and the app's own baggage
are never touched.

A client that follows redirects below its instrumentation (requests, aiohttp) sends all headers of the first
request on to where the answer points; if services of yours redirect to hosts outside, follow them yourself.

Inwards, see `rolloutobs.telemetry.inbound`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, MutableMapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from opentelemetry import baggage, propagate
from opentelemetry.context import Context, get_current
from opentelemetry.propagate import get_global_textmap
from opentelemetry.propagators.textmap import (
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from rolloutobs import semconv
from rolloutobs.telemetry.callers import of_this_request
from rolloutobs.telemetry.current import Stamp, current
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hosts import HostList
from rolloutobs.telemetry.inbound import Extractor
from rolloutobs.telemetry.signing import Claim, Signer
from rolloutobs.telemetry.targets import OWN, target_of, to_target
from rolloutobs.telemetry.trust import NOTHING, OWN_KEYS, Caller, Inbound, Trust, is_synthetic, with_entries

if TYPE_CHECKING:
    from rolloutobs.telemetry.hub import Hub

__all__ = [
    "NOTHING",
    "OWN",
    "Caller",
    "Extractor",
    "IdentityPropagator",
    "Inbound",
    "Withheld",
    "inject",
    "install_propagator",
]

_logger = logging.getLogger("rolloutobs")
_HEADER = "baggage"
# Source: RFC 2104 section 3: a key shorter than the hash weakens it; 128 bits is what the signature has.
_MIN_SECRET_CHARS = 16
_warned: set[str] = set()
Policy = tuple[tuple[str, ...], tuple[str, ...]]


class Withheld(StrEnum):
    """Why a call went out without our identity: the label ``reason``."""

    NOT_ALLOWED = "host_not_allowed"
    """The host is neither private nor in ``identity_hosts``."""
    UNKNOWN = "host_unknown"
    """Nothing says to which host the call goes."""


def _policy(hub: Hub | None) -> Policy:
    """Return the secrets and the further hosts that an app's settings name."""
    return ((), ()) if hub is None else (hub.settings.secret, hub.settings.identity_hosts)


class IdentityPropagator(TextMapPropagator):
    """Writes service, version and track of this process into the baggage that `inner` injects.

    Where `inner` carries no baggage (``OTEL_PROPAGATORS`` without ``baggage``) nothing is added.

    Args:
        inner: what injects and extracts.
        hub: of the app that speaks: its secret, its ``identity_hosts``, and where what is left out is
            counted. ``None``: no secret, private hosts only, and nothing is counted.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: ``identity_hosts`` has what is not a host.
    """

    def __init__(
        self, inner: TextMapPropagator, hub: Hub | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.inner = inner
        self.policy = secrets, hosts = _policy(hub)
        self.hosts = HostList(hosts)
        self._carries_baggage = _HEADER in inner.fields
        self._signer = Signer(secrets[0], clock) if secrets else None
        self._trust = Trust(hub, clock)
        self._failures = None if hub is None else hub.failures
        self._withheld = None
        if hub is not None:
            self._withheld = hub.store.counter(
                semconv.IDENTITY_WITHHELD_TOTAL,
                "Calls that went out without our identity, because of where they went.",
                (semconv.LABEL_REASON,),
            )
            for reason in Withheld:
                self._withheld.cell(reason.value)

    def extract(
        self, carrier: Any, context: Context | None = None, getter: Getter[Any] = default_getter
    ) -> Context:
        """Extract with the inner propagator; where a secret is set, without what is not proved."""
        extracted = self.inner.extract(carrier, context, getter)
        if context is None:
            extracted = of_this_request(extracted)
        if not self._trust.checks:
            return extracted
        try:
            entries = {name: str(value) for name, value in baggage.get_all(extracted).items()}
            judged = self._trust.judge(entries, extracted)
            if judged.doubt is None:
                return extracted
            self._trust.count(judged.doubt)
            return judged.inbound.context or Context()
        except Exception as error:
            self._failed(error)
            return extracted

    def inject(
        self, carrier: Any, context: Context | None = None, setter: Setter[Any] = default_setter
    ) -> None:
        """Inject with the inner propagator, the identity overwritten with our own or taken out."""
        if context is None:
            context = get_current()
        if self._carries_baggage:
            try:
                context = self._outbound(carrier, context, setter)
            except Exception as error:
                self._failed(error)
        self.inner.inject(carrier, context, setter)

    def _outbound(self, carrier: Any, context: Context, setter: Setter[Any]) -> Context:
        stamp = current(context)
        if stamp is None:
            return context
        entries = {name: value for name, value in baggage.get_all(context).items() if name not in OWN_KEYS}
        reason = self._reason_to_withhold(context)
        if reason is None:
            entries |= {name: value for name, value in stamp.baggage.items() if value}
            if self._signer is not None:
                entries[semconv.BAGGAGE_SIGNATURE] = self._signer.signature(_claim(stamp, entries))
        else:
            _forget(carrier, setter)
            if self._withheld is not None:
                self._withheld.cell(reason.value).inc()
        return with_entries(entries, context)

    def _reason_to_withhold(self, context: Context) -> Withheld | None:
        if self.hosts.all:
            return None
        target = target_of(context)
        if target is None:
            return Withheld.UNKNOWN
        return None if self.hosts.allows(target) else Withheld.NOT_ALLOWED

    def _failed(self, error: Exception) -> None:
        if self._failures is not None:
            self._failures.record(Where.PROPAGATION, error)

    @property
    def fields(self) -> set[str]:
        """Header names that may be set."""
        return self.inner.fields


def _claim(stamp: Stamp, entries: dict[str, object]) -> Claim:
    identity = stamp.identity
    mark = semconv.BAGGAGE_SYNTHETIC_TEST if is_synthetic(entries) else ""
    return Claim(identity.service, identity.version, identity.track.value, mark)


def _forget(carrier: Any, setter: Setter[Any]) -> None:
    """Take our identity out of headers that another host has had: clients send them on to where its answer
    redirects.
    """
    sent = carrier.get(_HEADER) if isinstance(carrier, MutableMapping) else None
    if not isinstance(sent, str):
        return
    members = sent.split(",")
    kept = [member for member in members if member.partition("=")[0].strip() not in OWN_KEYS]
    if not kept:
        del carrier[_HEADER]
    elif len(kept) < len(members):
        setter.set(carrier, _HEADER, ",".join(kept))


def install_propagator(hub: Hub | None = None) -> None:
    """Wrap the global propagator; does nothing when it is wrapped already.

    One process has one: the secret and the hosts of its first app hold for all calls that it makes.

    Args:
        hub: of the app that is instrumented.

    Raises:
        ConfigurationError: ``identity_hosts`` has what is not a host.
    """
    if hub is not None:
        _warn_about(hub)
    textmap = get_global_textmap()
    if not isinstance(textmap, IdentityPropagator):
        propagate.set_global_textmap(IdentityPropagator(textmap, hub))
    elif hub is not None and textmap.policy != _policy(hub):
        _warn_once(
            "a second app of this process has another secret or other identity_hosts; the first app's hold "
            "for the calls of both"
        )


def _warn_about(hub: Hub) -> None:
    short = [len(secret) for secret in hub.settings.secret if len(secret) < _MIN_SECRET_CHARS]
    if short:
        _warn_once(
            f"ROLLOUTOBS_SECRET has {min(short)} characters and can be guessed; use at least "
            f"{_MIN_SECRET_CHARS} random ones, such as those of `openssl rand -hex 32`"
        )


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        _logger.warning("%s", message)


def inject(
    headers: MutableMapping[str, str] | None = None, *, url: object = None
) -> MutableMapping[str, str]:
    """Add ``traceparent`` and ``baggage`` of the running request to `headers`, and return them.

    Args:
        headers: of an outgoing request, changed in place (a dict, or the headers object of any HTTP client);
            ``None`` makes a dict.
        url: where the request goes: a URL, ``host:port`` or a gRPC target, as text or as an object whose
            text is one; `OWN` for what only our own services read. ``None``: not known, and our identity is
            left out unless ``identity_hosts`` is ``*``, because it could be anyone.
    """
    carrier: MutableMapping[str, str] = {} if headers is None else headers
    if url is not None:
        propagate.inject(carrier, to_target(url, get_current()))
        return carrier
    textmap = get_global_textmap()
    if isinstance(textmap, IdentityPropagator) and not textmap.hosts.all:
        _warn_once(
            "inject() does not know where the request goes, so it leaves out who is calling: use "
            "inject(headers, url=...), or set ROLLOUTOBS_IDENTITY_HOSTS=*"
        )
    propagate.inject(carrier)
    return carrier
