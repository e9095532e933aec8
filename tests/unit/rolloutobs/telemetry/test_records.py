import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloutobs.telemetry import records
from rolloutobs.telemetry.cells import Definition, Exemplar, Kind, Merge
from rolloutobs.telemetry.records import DamagedError, Layout

COUNTER = Definition(Kind.COUNTER, "orders_total", "Orders.", ("kind",))
SECONDS = Definition(Kind.HISTOGRAM, "work_seconds", "Work.", ("kind", "who"), (0.1, 1.0))
SIZE = Definition(Kind.GAUGE, "size", "Sizé.", (), (), Merge.MAX)
EXEMPLAR = Exemplar(2**127 + 5, 2**63 + 7, 0.25, 1_700_000_000.5)


def example():
    return records.file_bytes(
        4711,
        [
            records.definition_record("app0", COUNTER),
            records.cell_record(0, ("a",), struct.pack("=d", 3.0)),
            records.definition_record("", SECONDS),
            records.cell_record(1, ('"quoted"', "ü\n"), bytes(records.payload_bytes(SECONDS))),
            records.note_record({"ids": ["x"]}),
            records.definition_record("", SIZE),
            records.cell_record(2, (), struct.pack("=d", math.inf)),
        ],
    )


def read(data):
    layout = Layout()
    layout.extend(data)
    return layout


def test_what_is_written_is_read():
    data = example()
    layout = read(data)
    assert [(e.key, e.definition, e.values) for e in layout.entries] == [
        (("app0", "orders_total"), COUNTER, ("a",)),
        (("", "work_seconds"), SECONDS, ('"quoted"', "ü\n")),
        (("", "size"), SIZE, ()),
    ]
    assert layout.notes == [{"ids": ["x"]}]
    assert struct.unpack_from("=d", data, layout.entries[0].offset) == (3.0,)
    assert struct.unpack_from("=d", data, layout.entries[2].offset) == (math.inf,)
    assert all(entry.offset % 8 == 0 for entry in layout.entries)
    assert records.used_bytes(data) == len(data)
    assert records.token_of(data) != records.token_of(example())
    assert records.token_of(data[:20]) is None


def test_a_file_that_grows_is_read_on():
    data = example()
    layout, seen = Layout(), []
    # What the header says is in use grows record by record; what comes after it is not looked at.
    ends = [records.HEADER_BYTES]
    while ends[-1] < len(data):
        ends.append(ends[-1] + struct.unpack_from("=I", data, ends[-1])[0])
    for end in ends:
        layout.extend(records.header(1, end, 7) + data[records.HEADER_BYTES : end] + b"\xff" * 40)
        seen.append(len(layout.entries))
    assert seen == [0, 0, 1, 1, 2, 2, 2, 3]
    assert layout.entries == read(data).entries


def test_a_file_that_is_cut_short_keeps_what_is_whole():
    data = example()
    for length in range(len(data)):
        layout = Layout()
        with pytest.raises(DamagedError):
            layout.extend(data[:length])
        whole = [e for e in read(data).entries if e.offset + records.payload_bytes(e.definition) <= length]
        assert layout.entries == whole


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_damage_gives_an_error_or_other_values_and_nothing_else(seed, count):
    chance, data = random.Random(seed), bytearray(example())
    for _ in range(count):
        data[chance.randrange(len(data))] = chance.randrange(256)
    layout = Layout()
    try:
        layout.extend(bytes(data))
    except DamagedError:
        pass
    for entry in layout.entries:
        assert entry.offset + records.payload_bytes(entry.definition) <= len(data)
        assert len(entry.values) == len(entry.definition.label_names)
        hash((entry.key, entry.values, entry.definition))


@given(st.binary(max_size=200))
def test_anything_else_is_no_file_of_ours(data):
    with pytest.raises(DamagedError):
        read(data)


@pytest.mark.parametrize(
    "record",
    [
        records.note_record("x").replace(b'"x"', b"nix"),
        records.cell_record(7, (), b""),
        struct.pack("=IHHII", 16, 9, 0, 0, 0),
        struct.pack("=IHHII", 0, 3, 0, 0, 0),
        struct.pack("=IHHII", 20, 3, 0, 0, 1) + b"1\0\0\0\0\0\0\0",
        struct.pack("=IHHII", 24, 3, 0, 0, 9) + b"1\0\0\0\0\0\0\0",
        records.note_record(["app0", "counter", "x", "X.", [1], [], "sum"]).replace(b"\x03", b"\x01", 1),
    ],
)
def test_a_record_that_makes_no_sense_is_an_error(record):
    with pytest.raises(DamagedError):
        read(records.file_bytes(1, [record]))


def test_label_values_must_fit_their_names():
    with pytest.raises(DamagedError, match="orders_total"):
        read(
            records.file_bytes(
                1, [records.definition_record("", COUNTER), records.cell_record(0, ("a", "b"), bytes(8))]
            )
        )
    with pytest.raises(DamagedError, match="16 bytes"):
        read(
            records.file_bytes(
                1, [records.definition_record("", COUNTER), records.cell_record(0, ("a",), bytes(16))]
            )
        )


def test_an_exemplar_is_read_as_it_was_written():
    data = b"........" + records.exemplar_bytes(EXEMPLAR)
    assert records.read_exemplar(data, 8) == EXEMPLAR
    assert records.read_exemplar(bytes(records.EXEMPLAR_BYTES), 0) is None


def test_half_an_exemplar_is_none():
    before = Exemplar(1, 2, 0.5, 99.0)
    old, new = records.exemplar_bytes(before), records.exemplar_bytes(EXEMPLAR)
    found = [records.read_exemplar(new[:cut] + old[cut:], 0) for cut in range(1, records.EXEMPLAR_BYTES - 4)]
    assert set(found) <= {None, before, EXEMPLAR}
    assert found.count(None) > 30
