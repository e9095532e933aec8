import logging

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rolloutobs import semconv
from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Identity, Track
from rolloutobs.settings import Settings
from rolloutobs.telemetry import propagation
from rolloutobs.telemetry.current import Live, set_process_identity, with_identity
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hub import new_hub
from rolloutobs.telemetry.inbound import Extractor
from rolloutobs.telemetry.propagation import OWN, IdentityPropagator, inject, install_propagator
from rolloutobs.telemetry.signing import Claim, Verifier, sign_synthetic
from rolloutobs.telemetry.trust import Caller
from rolloutobs.testing import FakeClock, SpanRecorder

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SHOP = Live(Identity("shop", "1.2.0+build.5", Track.CANARY))
SECRET = "0123456789abcdef"
INSIDE, OUTSIDE = "http://users.shop.svc:8080/u/1", "https://api.stripe.com/v1/charges"
SAID = "rolloutobs.service=shop,rolloutobs.version=1.2.0%2Bbuild.5,rolloutobs.track=canary"


def w3c():
    return CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


@pytest.fixture(autouse=True)
def _default_propagators():
    propagate.set_global_textmap(w3c())
    install_propagator()
    propagation._warned.clear()


def headers_sent_in(context, url=INSIDE):
    token = attach(context)
    try:
        return inject(url=url)
    finally:
        detach(token)


def traced(context):
    span = NonRecordingSpan(SpanContext(int(TRACE, 16), int(SPAN, 16), False, TraceFlags(1)))
    return trace.set_span_in_context(span, context)


def use(**settings):
    """Let an app with these settings speak; return its hub."""
    hub = new_hub(Settings(service="shop", version="1.2.0", **settings))
    propagate.set_global_textmap(w3c())
    install_propagator(hub)
    return hub


def withheld(hub, reason):
    family = hub.store.counter(
        semconv.IDENTITY_WITHHELD_TOTAL,
        "Calls that went out without our identity, because of where they went.",
        ("reason",),
    )
    return family.cell(reason).value


def test_the_identity_of_the_request_goes_out_percent_encoded():
    context = with_identity(SHOP, baggage.set_baggage("synthetic", "test", Context()))
    headers = headers_sent_in(traced(context))
    assert headers == {
        "traceparent": f"00-{TRACE}-{SPAN}-01",
        "baggage": f"synthetic=test,{SAID}",
    }
    received = Extractor().extract([(name.encode(), value.encode()) for name, value in headers.items()])
    assert received.caller == Caller("shop", "1.2.0+build.5", "canary")
    assert received.synthetic


def test_each_hop_overwrites_the_identity_and_an_unknown_track_erases_it():
    carried = Context()
    for name, value in {"service": "gateway", "version": "9", "track": "stable"}.items():
        carried = baggage.set_baggage(f"rolloutobs.{name}", value, carried)
    headers = headers_sent_in(with_identity(Live(Identity("shop", "1.2.0")), carried))
    assert headers == {"baggage": "rolloutobs.service=shop,rolloutobs.version=1.2.0"}


def test_outside_of_requests_the_process_speaks():
    set_process_identity(SHOP)
    assert "rolloutobs.service=shop" in headers_sent_in(Context())["baggage"]


def test_nobody_speaks_in_a_process_that_is_not_instrumented():
    assert headers_sent_in(Context()) == {}


def test_inject_changes_the_headers_it_is_given():
    set_process_identity(SHOP)
    headers = {"accept": "text/html"}
    assert inject(headers, url=INSIDE) is headers
    assert headers.keys() == {"accept", "baggage"}


def test_a_propagator_without_baggage_stays_without():
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    install_propagator()
    set_process_identity(SHOP)
    assert headers_sent_in(Context()) == {}


def test_the_global_propagator_is_wrapped_once():
    once = propagate.get_global_textmap()
    install_propagator()
    assert propagate.get_global_textmap() is once
    assert isinstance(once, IdentityPropagator)
    assert once.fields == {"traceparent", "tracestate", "baggage"}


# --- to whom


def test_the_identity_stays_at_home_and_everything_else_goes_everywhere():
    hub = use()
    context = traced(
        baggage.set_baggage("user", "müller", baggage.set_baggage("synthetic", "test", Context()))
    )
    for times in (1, 2):
        assert headers_sent_in(context, OUTSIDE) == {
            "traceparent": f"00-{TRACE}-{SPAN}-01",
            "baggage": "synthetic=test,user=m%C3%BCller",
        }
        assert withheld(hub, "host_not_allowed") == times
    assert "rolloutobs.service=shop" in headers_sent_in(context)["baggage"]
    assert withheld(hub, "host_not_allowed") == 2


def test_hosts_outside_can_be_allowed():
    use(identity_hosts=("*.example.com",))
    assert headers_sent_in(Context(), "https://api.example.com/")
    assert not headers_sent_in(Context(), "https://example.org/")
    use(identity_hosts=("*",))
    assert headers_sent_in(Context(), OUTSIDE)
    assert headers_sent_in(Context(), None)


def test_a_host_that_is_not_known_is_outside_and_that_is_said_once(caplog):
    hub = use()
    for times in (1, 2):
        assert headers_sent_in(Context(), None) == {}
        assert withheld(hub, "host_unknown") == times
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "url=" in caplog.text


def test_what_only_our_own_services_read_is_inside():
    use()
    assert headers_sent_in(Context(), OWN) == {"baggage": "rolloutobs.service=shop,rolloutobs.version=1.2.0"}


def test_any_object_that_reads_as_a_url_will_do():
    import httpx2

    use()
    assert headers_sent_in(Context(), httpx2.URL(INSIDE))
    assert not headers_sent_in(Context(), httpx2.URL(OUTSIDE))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SAID, None),
        (f"a=1,{SAID},b=2,rolloutobs.sig=1.2.3", "a=1,b=2"),
        ("a=1", "a=1"),
    ],
)
def test_a_redirect_does_not_carry_the_identity_outside(before, after):
    use()
    headers = {"baggage": before}
    inject(headers, url=OUTSIDE)
    assert headers.get("baggage") == after


@pytest.mark.parametrize("name", ["server.address", "net.peer.name", "url.full"])
def test_a_client_span_says_where_a_call_goes(name):
    hub = use()
    tracer = SpanRecorder().provider.get_tracer("client")
    for host, sent in (("users", True), ("api.stripe.com", False)):
        value = f"https://{host}/" if name == "url.full" else host
        for kind in (trace.SpanKind.CLIENT, trace.SpanKind.SERVER):
            with tracer.start_as_current_span("GET", kind=kind, attributes={name: value}):
                headers = {}
                propagate.inject(headers)
            # The address in a server span is our own.
            assert ("baggage" in headers) == (sent and kind is trace.SpanKind.CLIENT)
    assert withheld(hub, "host_not_allowed") == 1
    assert withheld(hub, "host_unknown") == 2


def test_a_host_that_is_none_is_refused_at_start_up():
    with pytest.raises(ConfigurationError, match="identity_hosts"):
        use(identity_hosts=("https://example.com",))


# --- signed


def test_what_we_say_is_signed_and_the_signature_is_used_again():
    hub = new_hub(Settings(service="shop", version="1.2.0", track=Track.CANARY, secret=(SECRET, "another")))
    clock = FakeClock()
    propagate.set_global_textmap(IdentityPropagator(w3c(), hub, clock))
    context = baggage.set_baggage("tenant", "acme", Context())
    first = headers_sent_in(context)["baggage"]
    clock.advance(29)
    assert headers_sent_in(context)["baggage"] == first
    clock.advance(1)
    second = headers_sent_in(context)["baggage"]
    assert second != first
    name, _, signature = second.rpartition(",")[2].partition("=")
    assert name == "rolloutobs.sig"
    assert Verifier((SECRET,)).check(Claim("shop", "1.2.0", "canary"), signature, clock()) == clock() + 300
    received = Extractor(hub, clock).extract([(b"baggage", second.encode())])
    assert received.caller == Caller("shop", "1.2.0", "canary")
    marked = headers_sent_in(baggage.set_baggage("synthetic", "test", context))["baggage"]
    assert Extractor(hub, clock).extract([(b"baggage", marked.encode())]).synthetic


def test_a_signature_follows_the_track_and_goes_nowhere_else():
    hub = use(secret=(SECRET,))
    before = headers_sent_in(Context())["baggage"]
    hub.retrack(Track.STABLE)
    after = headers_sent_in(Context())["baggage"]
    assert "rolloutobs.track=stable" in after
    assert before.rpartition("sig=")[2] != after.rpartition("sig=")[2]
    assert headers_sent_in(Context(), OUTSIDE) == {}


def test_other_instrumentations_do_not_hand_on_what_is_not_proved():
    # What OpenTelemetry's own server instrumentations extract would go out again under our signature.
    use(secret=(SECRET,))
    forged = propagate.extract({"baggage": "synthetic=test,tenant=acme,rolloutobs.service=gw"}, Context())
    assert baggage.get_all(forged) == {"tenant": "acme"}
    import time

    proved = propagate.extract({"baggage": sign_synthetic(SECRET, time.time())}, Context())
    assert baggage.get_baggage("synthetic", proved) == "test"
    assert propagate.extract({}, proved) == proved


def test_a_secret_that_can_be_guessed_is_said(caplog):
    use(secret=("short",))
    assert "5 characters" in caplog.text


def test_a_second_app_with_another_secret_is_told_whose_holds(caplog):
    use(secret=(SECRET,))
    install_propagator(new_hub(Settings(service="admin", secret=(SECRET,))))
    assert not caplog.records
    install_propagator(new_hub(Settings(service="admin", secret=("fedcba9876543210",))))
    assert "the first app's hold" in caplog.text
    assert headers_sent_in(Context())["baggage"].startswith("rolloutobs.service=shop,")


# --- never breaks


def test_what_fails_is_counted_and_the_call_goes_out():
    hub = use()
    propagator = propagate.get_global_textmap()
    propagator.hosts = None
    headers = headers_sent_in(traced(Context()))
    assert headers == {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    assert hub.failures.family.cell(Where.PROPAGATION.value).value == 1


class Raises(TextMapPropagator):
    def extract(self, carrier, context=None, getter=None):
        raise RuntimeError("extract")

    def inject(self, carrier, context=None, setter=None):
        raise RuntimeError("inject")

    @property
    def fields(self):
        return set()


def test_errors_of_the_inner_propagator_are_its_own():
    propagator = IdentityPropagator(Raises(), new_hub(Settings()))
    with pytest.raises(RuntimeError, match="inject"):
        propagator.inject({})
    with pytest.raises(RuntimeError, match="extract"):
        propagator.extract({})
