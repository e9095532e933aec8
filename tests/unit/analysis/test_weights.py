"""Which share of the traffic the canary was given, and that what cannot be read is not known."""

import json

import pytest

from rolloutobs.analysis._http import Access
from rolloutobs.analysis.gate import Gate
from rolloutobs.analysis.loading import share_of
from rolloutobs.analysis.ticks import Ticker
from rolloutobs.analysis.weights import FileWeight, FixedWeight, QueryWeight, Weighted
from rolloutobs.errors import SourceError
from tests.unit.analysis.test_gate import SETTINGS, SIGNAL, FakeEngine, FakeSource, Time


@pytest.mark.parametrize(("text", "share"), [("0.05", 0.05), (" 5% \n", 0.05), ("0", 0.0), ("1", 1.0)])
def test_shares(text, share):
    assert share_of(text) == share


@pytest.mark.parametrize("text", ["", "5", "-0.1", "nan", "101%", "%", "a few"])
def test_what_is_no_share(text):
    with pytest.raises(ValueError, match=r"could not|is not a share"):
        share_of(text)


async def test_a_file_is_read_again_and_again(tmp_path):
    weight = FileWeight(tmp_path / "weight")
    for text, share in (("5%", 0.05), ("0.2", 0.2)):
        weight.path.write_text(text)
        assert await weight.read() == share
    for text in ("", "20", "\xff"):
        weight.path.write_bytes(text.encode("latin-1"))
        with pytest.raises(SourceError, match="cannot be read"):
            await weight.read()
    weight.path.unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        await weight.read()


def vector(*values):
    rows = [{"metric": {}, "value": [1.0, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": rows}}


SCALAR = {"status": "success", "data": {"resultType": "scalar", "result": [1.0, "0.1"]}}


@pytest.mark.parametrize(
    ("answer", "share"), [(vector("0.05"), 0.05), (vector("0.2", "0.1"), 0.1), (SCALAR, 0.1)]
)
async def test_prometheus_is_asked(exporter, answer, share):
    server = await exporter(json.dumps(answer))
    weight = QueryWeight(server.address, "w / 100", Access())
    assert await weight.read() == share
    assert "GET /api/v1/query?query=w" in server.requests[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (vector(), "is not there"),
        (vector("5"), "divide a percentage by 100"),
        (vector("NaN"), "divide a percentage by 100"),
        ({"status": "error", "error": "parse error"}, "is refused: parse error"),
        ({"data": 1}, "is not answered"),
        ([], "is not answered"),
    ],
)
async def test_what_prometheus_answers_may_be_no_weight(exporter, answer, words):
    server = await exporter(json.dumps(answer))
    with pytest.raises(SourceError, match=words):
        await QueryWeight(server.address, "w", Access()).read()


async def test_a_prometheus_that_is_down_gives_no_weight():
    with pytest.raises(SourceError, match="cannot connect"):
        await QueryWeight("127.0.0.1:1", "w", Access()).read()


async def test_each_tick_has_the_weight_of_its_moment_and_what_is_unknown_is_none(tmp_path):
    time, engine = Time(), FakeEngine()
    path = tmp_path / "weight"
    path.write_text("5%")

    def script(now):
        if now == 1030:
            path.write_text("soon")

    time.script = script
    gate = Gate(Weighted(FakeSource(time), FileWeight(path)), Ticker([SIGNAL]), engine, SETTINGS, time.clock)
    report = await gate.run()
    assert [tick.weight for tick in engine.ticks] == [0.05, 0.05, None, None, None, None]
    assert any("'soon'" in note for note in report.notes)


async def test_a_weight_that_does_not_change():
    assert await FixedWeight(0.05).read() == 0.05
