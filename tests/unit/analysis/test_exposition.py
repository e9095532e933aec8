"""Bodies of /metrics become samples: wanted names only, one app only, nothing guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from rolloutobs.analysis.exposition import Exposition
from rolloutobs.analysis.model import Sample
from rolloutobs.errors import SourceError


def test_only_wanted_names_are_read():
    text = """# HELP a_total A.
# TYPE a_total counter
a_total{x="1"} 3.0
a_total_more 9
aa_total 4
b 5 1700000000000
"""
    assert Exposition(["a_total", "b"]).parse(text) == (
        Sample("a_total", {"x": "1"}, 3.0),
        Sample("b", {}, 5.0),
    )


def test_braces_quotes_and_newlines_in_label_values():
    text = 'a{route="/p/{id}",q="say \\"hi\\" } # 1",n="x\\ny\\\\"} 1\n'
    (sample,) = Exposition(["a"]).parse(text)
    assert sample.labels == {"route": "/p/{id}", "q": 'say "hi" } # 1', "n": "x\ny\\"}


def test_the_next_body_is_read_with_the_series_of_the_first():
    exposition = Exposition(["a"])
    first = exposition.parse('a{x="1"} 1\na{x="2"} 1\n')
    second = exposition.parse('a{x="2"} 7\na{x="3"} NaN\n')
    assert second == (Sample("a", {"x": "2"}, 7.0),)
    assert second[0].labels is first[1].labels


def test_series_of_other_apps_are_left_out():
    text = 'a{app="shop"} 1\na{app="inventory"} 2\na 3\n'
    assert [s.value for s in Exposition(["a"], app="shop").parse(text)] == [1]
    assert [s.value for s in Exposition(["a"]).parse(text)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a{x="1} 3\n', "cannot be parsed"),
        ("a \n", "cannot be parsed"),
        ("a three\n", "not a number"),
        ('a{x="1",x="2"} 3\n', "cannot parse"),
        ("<html>no</html>", "HTML"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_not_a_missing_series(text, message):
    with pytest.raises(SourceError, match=message):
        Exposition(["a"]).parse("b 1\n" + text if text[0] == "a" else text)


def test_an_empty_body_has_no_samples():
    assert Exposition(["a"]).parse("") == ()


@pytest.mark.parametrize("generate", [generate_latest, generate_openmetrics])
def test_text_and_openmetrics_of_prometheus_client(generate):
    registry = CollectorRegistry()
    counter = Counter("a", "A.", ["x"], registry=registry)
    counter.labels("1").inc(3, exemplar={"trace_id": "abc"})
    Histogram("h", "H.", buckets=[0.5], registry=registry).observe(0.1, exemplar={"trace_id": "d"})
    found = Exposition(["a_total", "h_bucket"]).parse(generate(registry).decode())
    assert found == (
        Sample("a_total", {"x": "1"}, 3.0),
        Sample("h_bucket", {"le": "0.5"}, 1.0),
        Sample("h_bucket", {"le": "+Inf"}, 1.0),
    )


@given(values=st.lists(st.text(), min_size=1, max_size=3), number=st.floats(allow_nan=False))
def test_any_label_value_comes_back_as_it_was(values, number):
    registry = CollectorRegistry()
    counter = Counter("a", "A.", [f"l{i}" for i in range(len(values))], registry=registry)
    counter.labels(*values)._value.set(number)
    (sample,) = Exposition(["a_total"]).parse(generate_latest(registry).decode("utf-8", errors="replace"))
    assert list(sample.labels.values()) == values
    assert sample.value == number


NAMES = st.sampled_from(["a_total", "a_total_more", "b_bucket", "c"])
LABELS = st.dictionaries(st.sampled_from(["x", "y", "le"]), st.text(st.characters(codec="utf-8"), max_size=4))
LINES = st.tuples(
    NAMES, LABELS, st.sampled_from(["1", "2.5", "1e3", "+Inf", "17"]), st.sampled_from(["", " 1700", " 17"])
)


def written(line):
    name, labels, value, time = line
    pairs = ",".join(
        '{}="{}"'.format(key, text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for key, text in labels.items()
    )
    return f"{name}{{{pairs}}} {value}{time}" if pairs else f"{name} {value}{time}"


@given(bodies=st.lists(st.lists(LINES, max_size=6), min_size=2, max_size=4))
def test_bodies_in_a_row_are_read_as_prometheus_client_reads_them(bodies):
    exposition = Exposition(["a_total", "b_bucket"])
    for body in bodies:
        text = "# HELP a_total A 1\n" + "".join(f"{written(line)}\n" for line in body)
        expected = [
            Sample(sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in ("a_total", "b_bucket")
        ]
        assert list(exposition.parse(text)) == expected


def test_what_follows_a_value_is_never_taken_for_it():
    exposition = Exposition(["a"])
    for time in (1700, 1715, 1730):
        (sample,) = exposition.parse(f'a{{x="1"}} 5 {time}\n')
        assert sample.value == 5
    (sample,) = exposition.parse('a{x="1"} 6\n')
    assert sample.value == 6
    with pytest.raises(SourceError, match="cannot be parsed"):
        exposition.parse('\na{x="1"}7\n')
