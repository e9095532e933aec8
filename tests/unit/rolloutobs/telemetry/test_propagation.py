import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rolloutobs.identity import Identity, Track
from rolloutobs.telemetry import propagation
from rolloutobs.telemetry.current import Live, set_process_identity, with_identity
from rolloutobs.telemetry.propagation import NOTHING, Caller, Extractor, IdentityPropagator, inject

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())
SHOP = Live(Identity("shop", "1.2.0+build.5", Track.CANARY))


@pytest.fixture(autouse=True)
def _default_propagators():
    w3c = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    propagate.set_global_textmap(w3c)
    propagation.install_propagator()


def baggage_header(text):
    return (b"baggage", text.encode())


def test_headers_without_a_trace_carry_nothing():
    assert Extractor().extract([(b"host", b"shop"), (b"accept", b"*/*")]) is NOTHING


def test_trace_caller_and_synthetic_are_read():
    inbound = Extractor().extract(
        [
            TRACEPARENT,
            (b"tracestate", b"vendor=1"),
            baggage_header(
                "rolloutobs.service=gateway,rolloutobs.version=1.1.0%2Bfix,rolloutobs.track=stable,"
                "synthetic=test,tenant=acme%20inc"
            ),
        ]
    )
    parent = inbound.parent
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}") == (TRACE, SPAN)
    assert parent.is_remote
    assert parent.trace_flags.sampled
    assert parent.trace_state == {"vendor": "1"}
    assert inbound.caller == Caller("gateway", "1.1.0+fix", "stable")
    assert inbound.synthetic
    assert baggage.get_all(inbound.context) == {"synthetic": "test", "tenant": "acme inc"}


def test_our_values_are_percent_decoded_only():
    inbound = Extractor().extract([baggage_header("rolloutobs.version=1.2.0+build.5;ttl=1")])
    assert inbound.caller == Caller(version="1.2.0+build.5")


@pytest.mark.parametrize(
    ("text", "caller"),
    [
        ("rolloutobs.track=purple,rolloutobs.service=gw", Caller("gw")),
        (f"rolloutobs.version={'x' * 129}", Caller()),
        ("rolloutobs.version=%00%0Aevil", Caller()),
        ("rolloutobs.service", None),
        ("other=1", None),
        ("", None),
    ],
)
def test_what_a_caller_says_is_validated(text, caller):
    assert Extractor().extract([baggage_header(text)]).caller == caller


def test_baggage_too_long_is_absent():
    assert Extractor().extract([baggage_header("rolloutobs.service=gw," + "a=b," * 3000)]).caller is None


def test_the_same_baggage_of_another_request_is_read_from_memory_and_equal():
    extractor = Extractor()
    header = baggage_header("rolloutobs.service=gw,tenant=1")
    first = extractor.extract([TRACEPARENT, header])
    second = extractor.extract([header])
    assert (first.caller, first.context) == (second.caller, second.context)
    assert first.parent is not None
    assert second.parent is None
    for number in range(600):
        extractor.extract([baggage_header(f"tenant={number}")])
    assert len(extractor._known_baggage) <= 256


TRACEPARENTS = [
    f"00-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-00",
    f"00-{TRACE}-{SPAN}-03",
    f"00-{TRACE}-{SPAN}-ff",
    f" 00-{TRACE}-{SPAN}-01 ",
    f"01-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE}-{SPAN}-01-more",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    "00-1-2-01",
    "",
]


@pytest.mark.parametrize("value", TRACEPARENTS)
@pytest.mark.parametrize("state", [None, "a=1,b=2", "broken state", ""])
def test_the_quick_reader_agrees_with_the_propagator(value, state):
    headers = [(b"traceparent", value.encode())]
    if state is not None:
        headers.append((b"tracestate", state.encode()))
    carrier = {name.decode(): text.decode() for name, text in headers}
    expected = trace.get_current_span(
        TraceContextTextMapPropagator().extract(carrier, Context())
    ).get_span_context()
    parent = Extractor().extract(headers).parent
    assert parent == (expected if expected.is_valid else None)


def test_a_header_sent_twice_is_read_as_the_propagator_reads_it():
    other = (b"traceparent", f"00-{TRACE[::-1]}-{SPAN}-01".encode())
    inbound = Extractor().extract([TRACEPARENT, other])
    assert f"{inbound.parent.trace_id:032x}" == TRACE
    both = [baggage_header("rolloutobs.service=gw"), baggage_header("rolloutobs.version=1")]
    assert Extractor().extract(both).caller == Caller("gw", "1")


@given(
    st.lists(st.tuples(st.sampled_from([b"traceparent", b"tracestate", b"baggage"]), st.binary(max_size=80)))
)
def test_no_bytes_break_the_reader(headers):
    inbound = Extractor().extract(headers)
    assert inbound.parent is None or inbound.parent.is_valid


class OneHeader(TextMapPropagator):
    """A propagator of another format: `x-trace: <trace>-<span>`."""

    def extract(self, carrier, context=None, getter=None):
        values = getter.get(carrier, "x-trace")
        if not values:
            return context
        trace_id, span_id = (int(part, 16) for part in values[0].split("-"))
        span = NonRecordingSpan(SpanContext(trace_id, span_id, True, TraceFlags(1)))
        return trace.set_span_in_context(span, context)

    def inject(self, carrier, context=None, setter=None):
        setter.set(carrier, "x-trace", "0")

    @property
    def fields(self):
        return {"x-trace"}


def test_another_global_propagator_is_used_whenever_it_is_set():
    extractor = Extractor()
    assert extractor.extract([TRACEPARENT]).parent is not None
    propagate.set_global_textmap(CompositePropagator([OneHeader(), W3CBaggagePropagator()]))
    inbound = extractor.extract(
        [TRACEPARENT, (b"x-trace", b"abc-def"), baggage_header("rolloutobs.service=gw,tenant=acme")]
    )
    assert inbound.parent.trace_id == 0xABC
    assert inbound.caller == Caller("gw")
    assert baggage.get_all(inbound.context) == {"tenant": "acme"}


def headers_sent_in(context):
    token = attach(context)
    try:
        return inject()
    finally:
        detach(token)


def test_the_identity_of_the_request_goes_out_percent_encoded():
    context = with_identity(SHOP, baggage.set_baggage("synthetic", "test", Context()))
    span = NonRecordingSpan(SpanContext(int(TRACE, 16), int(SPAN, 16), False, TraceFlags(1)))
    headers = headers_sent_in(trace.set_span_in_context(span, context))
    assert headers == {
        "traceparent": f"00-{TRACE}-{SPAN}-01",
        "baggage": (
            "synthetic=test,rolloutobs.service=shop,rolloutobs.version=1.2.0%2Bbuild.5,rolloutobs.track=canary"
        ),
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
    assert inject(headers) is headers
    assert headers.keys() == {"accept", "baggage"}


def test_a_propagator_without_baggage_stays_without():
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    propagation.install_propagator()
    set_process_identity(SHOP)
    assert headers_sent_in(Context()) == {}


def test_the_global_propagator_is_wrapped_once():
    once = propagate.get_global_textmap()
    propagation.install_propagator()
    assert propagate.get_global_textmap() is once
    assert isinstance(once, IdentityPropagator)
    assert once.fields == {"traceparent", "tracestate", "baggage"}
