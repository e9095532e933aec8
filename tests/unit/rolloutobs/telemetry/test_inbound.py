import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rolloutobs import semconv
from rolloutobs.settings import Settings
from rolloutobs.telemetry.callers import caller_of
from rolloutobs.telemetry.hub import new_hub
from rolloutobs.telemetry.inbound import Extractor
from rolloutobs.telemetry.propagation import install_propagator
from rolloutobs.telemetry.signing import Claim, sign, sign_synthetic
from rolloutobs.telemetry.trust import NOTHING, Caller, Inbound
from rolloutobs.testing import FakeClock

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())
SECRET, OLD_SECRET = "0123456789abcdef-new", "0123456789abcdef-old"
W3C = [TraceContextTextMapPropagator(), W3CBaggagePropagator()]


@pytest.fixture(autouse=True)
def _default_propagators():
    propagate.set_global_textmap(CompositePropagator(W3C))
    install_propagator()


@pytest.fixture
def hub():
    return new_hub(Settings(secret=(SECRET, OLD_SECRET)))


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
        (f"rolloutobs.version={'x' * 129},rolloutobs.track=stable", Caller(track="stable")),
        (f"rolloutobs.version={'x' * 129}", None),
        ("rolloutobs.version=%00%0Aevil", None),
        ("rolloutobs.version=1%zz,rolloutobs.service=%", None),
        ("rolloutobs.version=%ff%fe", None),
        ("rolloutobs.version=a%20b", None),
        ("rolloutobs.version=%E4%B8%AD", None),
        ('rolloutobs.version="1"', None),
        ("rolloutobs.version=1%22", None),
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
    assert len(extractor._known) <= 256


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


NAMES = st.sampled_from([b"traceparent", b"tracestate", b"baggage", b"Baggage", b"", b"x-\xff"])
PIECES = st.sampled_from(
    [
        b"rolloutobs.service=", b"rolloutobs.version=", b"rolloutobs.track=", b"rolloutobs.sig=1.", b"canary",
        b"synthetic=test", b"=", b",", b";", b"%", b"%00", b"%ff", b" ", b"\x00", b"\xc3\xa9", b"a" * 9000,
        b"a=b," * 400, TRACEPARENT[1],
    ]
)  # fmt: skip
VALUES = st.one_of(st.binary(max_size=80), st.lists(PIECES, max_size=12).map(b"".join))


def test_any_bytes_give_an_inbound(hub):
    believing, strict = Extractor(), Extractor(hub)

    @given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
    def check(headers):
        for inbound in (believing.extract(headers), strict.extract(headers)):
            assert isinstance(inbound, Inbound)
            assert inbound.parent is None or inbound.parent.is_valid
            caller = inbound.caller
            if caller is not None:
                assert caller.attributes
                assert all(len(word) <= 128 for word in (caller.service, caller.version, caller.track))
                assert all("!" <= c <= "~" for c in caller.service + caller.version + caller.track)
        # No forger has the secret.
        assert inbound.caller is None
        assert not inbound.synthetic

    check()


def test_more_members_than_w3c_allows_are_not_read():
    members = [f"k{number}=v" for number in range(180)]
    inbound = Extractor().extract([baggage_header(",".join([*members, "rolloutobs.service=gw"]))])
    assert inbound.caller is None
    assert len(baggage.get_all(inbound.context)) == 180


def test_the_apps_own_baggage_is_read_as_opentelemetry_reads_it():
    for text in ("user=m%C3%BCller,a+b=c+d%2Be;p=1", "k=%zz", "x=%ff,=,y", "z=1;q;r=2, w = 3 "):
        expected = baggage.get_all(W3CBaggagePropagator().extract({"baggage": text}, Context()))
        inbound = Extractor().extract([baggage_header(text)])
        assert (baggage.get_all(inbound.context) if inbound.context else {}) == expected


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


def test_the_context_of_a_request_knows_who_called():
    inbound = Extractor().extract([baggage_header("rolloutobs.service=gw")])
    assert caller_of(inbound.context) == Caller("gw")
    assert baggage.get_all(inbound.context) == {}
    assert Extractor().extract([baggage_header("rolloutobs.track=purple")]).context is None


# --- with a secret


def rejected(hub, reason):
    family = hub.store.counter(
        semconv.BAGGAGE_REJECTED_TOTAL,
        "Requests whose caller or synthetic mark was not believed, for want of a valid signature.",
        ("reason",),
    )
    return family.cell(reason).value


def signed(claim, now, secret=SECRET, **changes):
    said = {"service": claim.service, "version": claim.version, "track": claim.track} | changes
    members = [f"rolloutobs.{key}={value}" for key, value in said.items() if value]
    if claim.synthetic:
        members.append("synthetic=test")
    return baggage_header(",".join([*members, f"rolloutobs.sig={sign(secret, claim, now)}", "tenant=acme"]))


GATEWAY = Claim("gateway", "1.1.0", "stable", "test")


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
@pytest.mark.parametrize("claim", [GATEWAY, Claim("gateway"), Claim(synthetic="test")])
def test_what_is_signed_with_any_of_the_secrets_is_believed(hub, secret, claim):
    clock = FakeClock()
    extractor = Extractor(hub, clock)
    for _ in range(2):
        inbound = extractor.extract([TRACEPARENT, signed(claim, clock(), secret)])
        assert inbound.synthetic == bool(claim.synthetic)
        assert inbound.caller == (Caller(*claim_words(claim)) if claim.service else None)
        assert baggage.get_all(inbound.context).get("synthetic", "") == claim.synthetic
        assert baggage.get_all(inbound.context)["tenant"] == "acme"
    assert [rejected(hub, reason) for reason in ("unsigned", "forged", "stale")] == [0, 0, 0]


def claim_words(claim):
    return claim.service, claim.version, claim.track


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (baggage_header("rolloutobs.service=gw,tenant=acme"), "unsigned"),
        (baggage_header("synthetic=test,tenant=acme"), "unsigned"),
        (signed(GATEWAY, 1_000_000, "another-secret-0123"), "forged"),
        (signed(GATEWAY, 1_000_000, version="9.9.9"), "forged"),
        (signed(Claim("gateway"), 1_000_000, track="canary"), "forged"),
        (baggage_header("synthetic=test,tenant=acme,rolloutobs.sig=1.x.y"), "forged"),
        (baggage_header("synthetic=test,tenant=acme,rolloutobs.sig=2.1000000.y"), "forged"),
        (baggage_header("synthetic=test,tenant=acme,rolloutobs.sig=1.1000000.%C3%A9"), "forged"),
        (signed(GATEWAY, 1_000_000 - 300), "stale"),
        (signed(GATEWAY, 1_000_000 + 300), "stale"),
    ],
)
def test_what_is_not_proved_is_dropped_and_counted_and_the_rest_stays(hub, header, reason):
    extractor = Extractor(hub, FakeClock(1_000_000))
    for times in (1, 2):
        inbound = extractor.extract([TRACEPARENT, header])
        assert inbound.caller is None
        assert not inbound.synthetic
        assert baggage.get_all(inbound.context) == {"tenant": "acme"}
        assert inbound.parent is not None
        assert rejected(hub, reason) == times


def test_a_signature_does_not_cover_a_mark_that_was_added(hub):
    name, value = signed(Claim("gateway"), 1_000_000)
    inbound = Extractor(hub, FakeClock(1_000_000)).extract([(name, value + b",synthetic=test")])
    assert (inbound.caller, inbound.synthetic) == (None, False)
    assert rejected(hub, "forged") == 1


def test_what_was_believed_once_is_not_believed_for_longer(hub):
    clock = FakeClock()
    extractor, header = Extractor(hub, clock), signed(GATEWAY, clock())
    clock.advance(299)
    assert extractor.extract([header]).synthetic
    clock.advance(1)
    assert not extractor.extract([header]).synthetic
    assert not extractor.extract([header]).synthetic
    assert rejected(hub, "stale") == 2


def test_a_caller_whose_clock_is_ahead_is_believed_when_ours_has_come_closer(hub):
    clock = FakeClock()
    extractor, header = Extractor(hub, clock), signed(GATEWAY, clock() + 400)
    assert extractor.extract([header]).caller is None
    clock.advance(101)
    assert extractor.extract([header]).caller == Caller("gateway", "1.1.0", "stable")


def test_the_mark_of_a_check_is_believed(hub):
    clock = FakeClock()
    inbound = Extractor(hub, clock).extract([baggage_header(sign_synthetic(SECRET, clock()))])
    assert inbound.synthetic
    assert baggage.get_all(inbound.context) == {"synthetic": "test"}


def test_a_value_of_the_apps_own_under_the_same_name_is_left_alone(hub):
    inbound = Extractor(hub).extract([baggage_header("synthetic=rubber")])
    assert baggage.get_all(inbound.context) == {"synthetic": "rubber"}
    assert rejected(hub, "unsigned") == 0


def test_every_other_propagator_is_as_strict(hub):
    propagate.set_global_textmap(CompositePropagator([OneHeader(), W3CBaggagePropagator()]))
    clock = FakeClock()
    extractor = Extractor(hub, clock)
    good = extractor.extract([signed(Claim("gateway", "1.2.0+b", synthetic="test"), clock())])
    assert good.caller == Caller("gateway", "1.2.0+b")
    assert good.synthetic
    bad = extractor.extract([baggage_header("rolloutobs.service=gateway,synthetic=test,tenant=acme")])
    assert (bad.caller, bad.synthetic) == (None, False)
    assert baggage.get_all(bad.context) == {"tenant": "acme"}
    assert rejected(hub, "unsigned") == 1
