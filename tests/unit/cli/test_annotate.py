"""Annotations from a script: what is said, what is written, and the exit codes."""

import json

import pytest

from rolloutobs import cli
from tests.unit.rolloutobs.cluster.grafana_server import TOKEN, grafana_server

NAMES = ("ROLLOUTOBS_GRAFANA_URL", "ROLLOUTOBS_GRAFANA_TOKEN")


@pytest.fixture(scope="module")
def running():
    with grafana_server() as server:
        yield server


@pytest.fixture
def server(running, monkeypatch):
    running.clear()
    for name, value in zip(NAMES, (running.url, TOKEN), strict=True):
        monkeypatch.setenv(name, value)
    return running


def annotate(*arguments):
    return cli.main(["annotate", *arguments])


def test_a_pipeline_marks_a_region_and_a_second_run_of_it_changes_nothing(server, capsys):
    start = ("start", "--key", "shop-1.2.0", "--text", "shop 1.1.0 -> 1.2.0", "--tag", "app:shop")
    end = ("end", "--key", "shop-1.2.0", "--outcome", "promoted", "--at", "2026-11-20T10:01:30Z")
    codes = [
        annotate(*start, "--at", "2026-11-20T10:00Z"),
        annotate(*start),
        annotate(*end),
        annotate(*end, "--format", "json"),
    ]
    said = capsys.readouterr().out
    assert codes == [0, 0, 0, 0]
    assert said == (
        "created: start 1, rollout:shop-1.2.0\n"
        "unchanged: start 1, rollout:shop-1.2.0\n"
        "updated: end 1, rollout:shop-1.2.0\n"
        '{\n  "act": "unchanged",\n  "id": 1,\n  "key": "shop-1.2.0",\n'
        '  "end": "2026-11-20T10:01:30.000+00:00",\n  "outcome": "promoted"\n}\n'
    )
    assert server.shown == [
        {
            "time": 1_795_168_800_000,
            "timeEnd": 1_795_168_890_000,
            "text": "shop 1.1.0 -> 1.2.0: promoted",
            "tags": ["rollout:shop-1.2.0", "app:shop", "outcome:promoted"],
        }
    ]


def test_a_point_is_written_once_although_its_answer_was_lost(server, capsys):
    server.fail("POST", 0, taken=True)
    assert annotate("point", "--text", "cache flushed", "--at", "2026-11-20T10:00Z") == 0
    assert annotate("point", "--text", "cache flushed", "--at", "2026-11-20T10:00Z") == 0
    first, second = server.shown
    assert first["tags"] != second["tags"], "each call is a point of its own"
    assert first["time"] == first["timeEnd"] == 1_795_168_800_000
    said = capsys.readouterr().out.splitlines()
    assert said == [f"unchanged: point 1, {first['tags'][0]}", f"created: point 2, {second['tags'][0]}"]


def test_a_token_in_a_file_and_a_dashboard(server, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv(NAMES[1])
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    where = ("--dashboard", "version-comparison", "--panel", "4", "--token-file", str(path))
    assert annotate("start", "--key", "k", "--text", "x", *where, "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["act"], told["id"], told["body"]["dashboardUID"]) == ("created", 1, "version-comparison")
    (item,) = server.items.values()
    assert (item["dashboardUID"], item["panelId"]) == ("version-comparison", 4)


def test_a_dry_run_asks_nobody_and_needs_no_token(server, monkeypatch, capsys):
    for name in NAMES:
        monkeypatch.delenv(name)
    assert annotate("start", "--key", "k", "--text", "x", "--at", "2026-11-20T10:00Z", "--dry-run") == 0
    assert annotate("end", "--key", "k", "--dry-run") == 0
    assert capsys.readouterr().out == (
        'dry run: start, rollout:k {"time": 1795168800000, "tags": ["rollout:k"], "text": "x"}\n'
        "dry run: end, rollout:k\n"
    )
    assert server.asked == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "required: WHAT"),
        (("start", "--text", "x"), "required: --key"),
        (("start", "--key", "k"), "required: --text"),
        (
            ("start", "--key", "k", "--text", "x", "--at", "noon"),
            "'noon' is not a time; use 2026-11-20T10:00Z",
        ),
        (("start", "--key", "k", "--text", ""), "the text of the annotation is empty"),
        (("start", "--key", "", "--text", "x"), "the key is ''; use what names the rollout"),
        (("start", "--key", "k", "--text", "x", "--panel", "4"), "panel 4 needs the dashboard"),
        (("start", "--key", "k", "--text", "x", "--tag", "t" * 101), "is too long; Grafana takes 100"),
        (("end", "--key", "never-started"), "no annotation with the tag 'rollout:never-started'"),
        (("end", "--key", "k", "--outcome", "o" * 101), "is too long; Grafana takes 100"),
        (("point", "--text", "x", "--grafana", "ftp://x"), "'ftp://x' is not an address"),
        (
            ("point", "--text", "x", "--token-file", "/no/such/file"),
            "cannot read the token in '/no/such/file'",
        ),
        (("point", "--text", "x", "--grafana-ca", "nowhere.pem"), "cannot use the certificates"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(server, arguments, words, capsys):
    try:
        code = annotate(*arguments)
    except SystemExit as error:
        code = error.code
    said = capsys.readouterr()
    assert code == 2
    assert words in said.err.splitlines()[-1]
    assert TOKEN not in said.err + said.out
    assert server.items == {}


def test_an_address_and_a_token_have_to_be_somewhere(server, monkeypatch, capsys):
    monkeypatch.delenv(NAMES[1])
    assert annotate("point", "--text", "x") == 2
    monkeypatch.delenv(NAMES[0])
    assert annotate("point", "--text", "x") == 2
    assert capsys.readouterr().err == (
        "rolloutobs: no token for Grafana: use --token-file, or the variable ROLLOUTOBS_GRAFANA_TOKEN\n"
        "rolloutobs: no address of Grafana: use --grafana, or the variable ROLLOUTOBS_GRAFANA_URL\n"
    )


def test_time_is_over_when_it_is_over_and_the_last_reason_is_told(server, capsys):
    server.fail("GET", 503, headers={"Retry-After": "30"})
    assert annotate("point", "--text", "x", "--timeout", "3s") == 2
    host = server.url.split("/")[2]
    assert capsys.readouterr().err == (
        f"rolloutobs: not written within 3 s: Grafana at {host} answered 503: failed with 503\n"
    )


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit):
        annotate("--help")
    text = capsys.readouterr().out
    for words in ("annotate start --key", "annotate end --key", "annotate point --text", "exit codes:"):
        assert words in text
    with pytest.raises(SystemExit):
        annotate("start", "--help")
    assert "ROLLOUTOBS_GRAFANA_TOKEN" in capsys.readouterr().out
