from __future__ import annotations

import json
from dataclasses import replace

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
FAILED = Pair(1_700_000_000.0, Track.CANARY, STABLE, CANARY, "checkout")
GOOD = replace(FAILED, canary=replace(STABLE, target=CANARY.target, seconds=1.5))


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
    summary = Summary("shop")
    assert summary.text() == "infrastructure after 0 pairs"
    summary.add(FAILED)
    assert summary.text() == "checkout: product after 1 pair (1 canary failed)"
    plain = json.loads(json.dumps(summary.as_dict()))
    assert (plain["exit_code"], plain["result"]) == (1, "product")
    checkout = plain["checks"]["checkout"]
    assert checkout["counts"]["canary failed"] == 1
    assert checkout["evidence"] == {
        "pairs": 1,
        "canary_failed_alone": 1,
        "stable_failed_alone": 0,
        "nats": 0.4848,
        "duration_ratio": None,
        "duration_ratio_low": None,
        "duration_ratio_high": None,
        "vitals": {},
    }
    assert plain["pairs"][0]["canary"]["steps"][1] == {
        "name": "pay",
        "outcome": "fail",
        "seconds": 4.0,
        "error": "no receipt",
    }
    for _ in range(150):
        summary.add(FAILED)
    assert summary.as_dict()["checks"]["checkout"]["counts"]["canary failed"] == 151
    assert len(summary.as_dict()["pairs"]) == 100


def test_summary_of_two_checks():
    summary = Summary("shop")
    for pair in (
        GOOD,
        GOOD,
        replace(FAILED, check="pay"),
        replace(FAILED, check="pay", passed_on_retry=True),
    ):
        summary.add(pair)
    assert summary.text() == snapshot(
        """\
checkout: pass after 2 pairs (2 pass)
  failed alone: canary 0, stable 0; evidence against the canary 0.0 nats (3.0 are enough for a risk of 5 %)
  duration, canary / stable: 2.00 in the median, too few pairs for bounds
pay: product after 2 pairs (1 canary failed, 1 passed on retry)
  failed alone: canary 2, stable 0; evidence against the canary 1.0 nats (3.0 are enough for a risk of 5 %)
all: product\
"""
    )


def test_with_an_error_rate_the_canary_is_blamed_once_chance_would_not_do_so():
    summary, codes = Summary("shop", 0.05), []
    for _ in range(8):
        summary.add(FAILED)
        codes.append(summary.code)
    undecided = codes.index(ExitCode.PRODUCT)
    assert 4 <= undecided <= 6
    assert codes == [ExitCode.INCONCLUSIVE] * undecided + [ExitCode.PRODUCT] * (8 - undecided)


def test_with_an_error_rate_no_line_blames_what_the_end_does_not():
    summary = Summary("shop", 0.05)
    for check in ("checkout", "order"):
        summary.add(replace(FAILED, check=check))
    assert [line for line in summary.text().splitlines() if not line.startswith(" ")] == [
        "checkout: inconclusive after 1 pair (1 canary failed)",
        "order: inconclusive after 1 pair (1 canary failed)",
        "all: inconclusive",
    ]


def test_json_is_replaced_in_one_move(tmp_path):
    file = tmp_path / "deep" / "out.json"
    write_json(file, {"a": 1})
    write_json(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 2}
    assert list(file.parent.iterdir()) == [file]


def test_artifacts_of_a_failed_run(tmp_path):
    files = {"console.txt": b"error: x\n", "screenshot.png": b"png"}
    folder = Artifacts(tmp_path, 20).save("check out/eu", CANARY, files)
    assert folder == str(tmp_path / "check-out-eu-20231114T221320.500-canary")
    names = {path.name: path for path in (tmp_path / folder).iterdir()}
    assert set(names) == {"run.json", "console.txt", "screenshot.png"}
    assert json.loads(names["run.json"].read_text())["trace_id"] == "b" * 32
    assert names["console.txt"].read_text() == "error: x\n"
    assert names["screenshot.png"].read_bytes() == b"png"


def test_only_the_latest_artifacts_are_kept_whoever_left_them_and_strangers_are_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    kept = [
        # Each by a process of its own, of checks whose names do not sort by time.
        Artifacts(tmp_path, 2).save(check, replace(CANARY, ended=float(second)), {})
        for second, check in enumerate("zyxwv")
    ]
    assert {str(path) for path in tmp_path.iterdir()} == {str(tmp_path / "mine"), *kept[3:]}


def test_the_latest_artifacts_are_kept_though_the_clock_went_back(tmp_path):
    artifacts = Artifacts(tmp_path, 2)
    for second in (1000.0, 1001.0):
        artifacts.save("c", replace(CANARY, ended=second), {})
    folder = artifacts.save("c", replace(CANARY, ended=5.0), {"console.txt": b"x"})
    assert (tmp_path / folder / "console.txt").read_bytes() == b"x"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        Artifacts(tmp_path / "file", 2).save("c", CANARY, {})
