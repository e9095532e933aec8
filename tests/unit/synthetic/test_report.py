from __future__ import annotations

import json

import pytest
from inline_snapshot import snapshot

from rolloutobs.identity import Track
from synthetic.journey import StepResult
from synthetic.report import Artifacts, Summary, pair_line, pair_text, write_json
from synthetic.result import CheckOutcome, ExitCode, Fault, Pair, TrackRun
from synthetic.target import Proof, Proven, Target

STABLE = TrackRun(
    Target("http://s", Track.STABLE),
    CheckOutcome.PASS,
    0.75,
    (StepResult("find", 0.25), StepResult("pay", 0.5)),
    Proof(Proven.RIGHT, "1.1.0", ""),
    Fault.NONE,
    "",
    "a" * 32,
    ended=1_700_000_000.5,
)
CANARY = TrackRun(
    Target("http://c", Track.CANARY, "1.2.0"),
    CheckOutcome.FAIL,
    4.25,
    (StepResult("find", 0.25), StepResult("pay", 4.0, "no receipt")),
    Proof(Proven.RIGHT, "1.2.0", ""),
    Fault.PRODUCT,
    "no receipt",
    "b" * 32,
    ended=1_700_000_000.5,
    artifacts="build/x",
)
WRONG = TrackRun(
    Target("http://c", Track.CANARY, "1.2.0"),
    CheckOutcome.INCONCLUSIVE,
    0.5,
    (StepResult("find", 0.25),),
    Proof(Proven.WRONG, None, "version '1.1.0' answered, expected '1.2.0' (http://c/)"),
    Fault.NONE,
    "",
    "c" * 32,
)
FAILED = Pair(1_700_000_000.0, Track.CANARY, STABLE, CANARY)


def test_a_failed_pair_as_text():
    assert pair_text(7, FAILED) == snapshot(
        """\
pair 7 (canary first)
  stable   1.1.0        PASS             0.75 s
    ok       0.25 s  find
    ok       0.50 s  pay
  canary   1.2.0        FAIL             4.25 s
    ok       0.25 s  find
    FAIL     4.00 s  pay
    why: pay: no receipt
    trace bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
    artifacts in build/x
  => the canary failed what stable passed at the same moment\
"""
    )


def test_an_inconclusive_pair_as_text():
    text = pair_text(1, Pair(0.0, Track.STABLE, STABLE, WRONG))
    assert "canary   1.2.0        INCONCLUSIVE     0.50 s" in text
    assert "why: version '1.1.0' answered, expected '1.2.0' (http://c/)" in text
    assert text.endswith("=> inconclusive: it is not proven who answered")


def test_a_passed_pair_as_one_line():
    canary = TrackRun(
        Target("http://c", Track.CANARY),
        CheckOutcome.PASS,
        1.0,
        (),
        Proof(Proven.RIGHT, "1.2.0", ""),
        Fault.NONE,
        "",
        "",
    )
    assert pair_line(2, Pair(0.0, Track.STABLE, STABLE, canary)) == snapshot(
        "pair 2: stable 1.1.0 pass 0.75 s, canary 1.2.0 pass 1.00 s: the canary passed"
    )


def test_a_canary_that_repairs_what_stable_fails():
    canary = TrackRun(
        Target("http://c", Track.CANARY),
        CheckOutcome.PASS,
        1.0,
        (),
        Proof(Proven.RIGHT, "1.2.0", ""),
        Fault.NONE,
        "",
        "",
    )
    broken = TrackRun(
        Target("http://s", Track.STABLE),
        CheckOutcome.FAIL,
        1.0,
        (),
        Proof(Proven.RIGHT, "1.1.0", ""),
        Fault.PRODUCT,
        "no",
        "",
    )
    assert pair_line(1, Pair(0.0, Track.STABLE, broken, canary)).endswith(
        "the canary passed what stable failed at the same moment"
    )


def test_summary():
    summary = Summary("shop", "checkout")
    assert summary.line(ExitCode.INFRASTRUCTURE) == "checkout: infrastructure after 0 pairs (none)"
    summary.add(FAILED)
    assert summary.line(ExitCode.PRODUCT) == "checkout: product after 1 pair (1 canary failed)"
    plain = json.loads(json.dumps(summary.as_dict(ExitCode.PRODUCT)))
    assert (plain["exit_code"], plain["result"]) == (1, "product")
    assert plain["counts"]["canary failed"] == 1
    assert plain["pairs"][0]["canary"]["steps"][1] == {
        "name": "pay",
        "outcome": "fail",
        "seconds": 4.0,
        "error": "no receipt",
    }
    for _ in range(150):
        summary.add(FAILED)
    assert summary.as_dict(ExitCode.PRODUCT)["counts"]["canary failed"] == 151
    assert len(summary.as_dict(ExitCode.PRODUCT)["pairs"]) == 100


def test_json_is_replaced_in_one_move(tmp_path):
    file = tmp_path / "deep" / "out.json"
    write_json(file, {"a": 1})
    write_json(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 2}
    assert list(file.parent.iterdir()) == [file]


def test_artifacts_of_a_failed_run(tmp_path):
    folder = Artifacts(tmp_path, 20).save("check out/eu", CANARY, ["error: x", "uncaught: y"], b"png")
    assert folder == str(tmp_path / "check-out-eu-20231114T221320.500-canary")
    names = {path.name: path for path in (tmp_path / folder).iterdir()}
    assert set(names) == {"run.json", "console.txt", "screenshot.png"}
    assert json.loads(names["run.json"].read_text())["trace_id"] == "b" * 32
    assert names["console.txt"].read_text() == "error: x\nuncaught: y\n"
    assert names["screenshot.png"].read_bytes() == b"png"


def test_only_the_latest_artifacts_are_kept_and_strangers_are_left_alone(tmp_path):
    from dataclasses import replace

    (tmp_path / "mine").mkdir()
    artifacts = Artifacts(tmp_path, 2)
    kept = [artifacts.save("c", replace(CANARY, ended=float(second)), [], None) for second in range(5)]
    assert {str(path) for path in tmp_path.iterdir()} == {str(tmp_path / "mine"), *kept[3:]}


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        Artifacts(tmp_path / "file", 2).save("c", CANARY, [], None)
