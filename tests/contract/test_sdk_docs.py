"""docs/sdk.md leaves nothing out, and what it shows works."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rolloutobs import Settings, semconv

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "sdk.md"
TEXT = PAGE.read_text(encoding="utf-8")
WORDS = set(re.findall(r"[\w.:/-]+", TEXT))
NOT_THE_SDK = ("analysis", "checkup", "cli", "cluster", "console", "manifests")
VARIABLE = re.compile(r"\b(?:ROLLOUTOBS|OTEL)_[A-Z_]+[A-Z]\b")
# Attributes of spans, as the code writes them.
ATTRIBUTE = re.compile(
    r'"((?:celery|client|error|http|messaging|network|rpc|server|url|user_agent)\.[a-z_.]+[a-z])"'
)
ASGI_MESSAGE = re.compile(r"http\.(?:disconnect|response\.(?:start|body|trailers|pathsend|zerocopysend))")
POOLS = {"celery.concurrency.prefork"}
INTERNAL = {
    # How OpenTelemetry is told which context to use; ours is found in either.
    "OTEL_PYTHON_CONTEXT",
    # What an operator sets for itself: a prefix of names that are looked at.
    "OTEL_RESOURCE_ATTRIBUTES_",
}


def _sources() -> dict[str, str]:
    folder = ROOT / "rolloutobs"
    files = (path for path in folder.rglob("*.py") if path.relative_to(folder).parts[0] not in NOT_THE_SDK)
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}


SOURCES = _sources()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.S | re.M)


def test_the_tables_are_those_of_the_code():
    cog = [sys.executable, "-m", "cogapp", "--check", "-P", str(PAGE)]
    done = subprocess.run(cog, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, f"run `make docs`\n{done.stdout}{done.stderr}"


def test_every_setting_is_there():
    missing = [field.name for field in dataclasses.fields(Settings) if f"| `{field.name}` |" not in TEXT]
    assert not missing


def test_every_variable_that_the_code_knows_is_there():
    known = {name for source in SOURCES.values() for name in VARIABLE.findall(source)}
    assert "ROLLOUTOBS_TRACK" in known
    assert not known - INTERNAL - set(VARIABLE.findall(TEXT))


def test_every_name_that_the_code_exposes_is_there():
    used = {name for source in SOURCES.values() for name in re.findall(r"\bsemconv\.([A-Z_]+)\b", source)}
    values = {name: getattr(semconv, name) for name in used}
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    assert len(texts) > 50
    assert not {name: value for name, value in texts.items() if value not in TEXT}


def test_every_attribute_that_the_code_sets_is_there():
    parts = ("asgi", "http", "operations", "wsgi")
    known = {
        name
        for path, source in SOURCES.items()
        if path.split("/")[1] in parts
        for name in ATTRIBUTE.findall(source)
        if not ASGI_MESSAGE.fullmatch(name)
    }
    assert "http.request.method" in known
    assert not {name for name in known - POOLS if f"`{name}`" not in TEXT}


def test_what_the_page_names_exists():
    """A variable, a metric or a label that was removed from the code must go from the page as well."""
    code = "\n".join(SOURCES.values())
    ours = {name for name in VARIABLE.findall(TEXT) if name.startswith("ROLLOUTOBS_")}
    # `ROLLOUTOBS_SECRET_FILE` is made of two parts.
    assert not {name for name in ours if name.removesuffix("_FILE") not in code}


def test_the_examples_run(tmp_path):
    environ = {**os.environ, "OTEL_SERVICE_NAME": "shop", "ROLLOUTOBS_VERSION": "1.2.0"}
    program = [sys.executable, str(Path(__file__).with_name("run_examples.py")), str(PAGE)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["ran"] == len(_blocks("python")) > 8
    assert not seen["failed"], "\n".join(seen["failed"].values())


def test_the_manifests_are_yaml_and_name_what_exists():
    manifests = [yaml.safe_load(block) for block in _blocks("yaml")]
    assert [manifest["kind"] for manifest in manifests] == ["Pod", "Pod"]
    for manifest in manifests:
        spec = manifest["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            names = {variable["name"] for variable in container.get("env", ())}
            assert names <= set(VARIABLE.findall("\n".join(SOURCES.values())))
    (item,) = manifests[0]["spec"]["volumes"][0]["downwardAPI"]["items"]
    mount = manifests[0]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"]
    assert f"{mount}/{item['path']}" == Settings().labels_file


def test_the_identity_that_is_shown_is_printed(tmp_path):
    (block,) = (block for block in _blocks("console") if "rolloutobs identity" in block)
    command, *printed = block.splitlines()
    *given, program, subcommand = command.removeprefix("$ ").split()
    environ = {name: value for name, value in os.environ.items() if not VARIABLE.fullmatch(name)}
    environ |= dict(pair.split("=") for pair in given)
    assert program == "rolloutobs"
    argv = [sys.executable, "-m", "rolloutobs.cli", subcommand]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()[: len(printed)]] == [p.split() for p in printed]


def test_the_queries_ask_for_metrics_that_exist():
    queries = _blocks("promql")
    assert len(queries) > 4
    known = set(re.findall(r"^\| `([a-z_]+)` \| (?:counter|gauge|histogram) \|", TEXT, flags=re.M))
    for query in queries:
        asked = {re.sub("_(bucket|count|sum)$", "", name) for name in re.findall(r"\b([a-z_]+)[{\[]", query)}
        assert asked, query
        assert asked <= known, query


SERIES = {
    'http_requests_total{app="shop",version="1.1.0",status="200"}': "0+99x60",
    'http_requests_total{app="shop",version="1.1.0",status="500"}': "0+1x60",
    'http_requests_total{app="shop",version="1.2.0",status="200"}': "0+80x60",
    'http_requests_total{app="shop",version="1.2.0",status="500"}': "0+20x60",
    'http_requests_total{app="shop",version="1.2.0",status="500",synthetic="true"}': "0+500x60",
    'http_requests_total{app="users",version="1.1.0",status="503",caller="a",caller_version="1"}': "0+60x60",
    'app_errors_total{app="shop",track="stable",fingerprint="old",type="KeyError"}': "0+1x60",
    'app_errors_total{app="shop",track="canary",fingerprint="old",type="KeyError"}': "0+1x60",
    # Once, and its series begins with it.
    'app_errors_total{app="shop",track="canary",fingerprint="new",type="ValueError"}': "_x40 1x20",
    # A canary that was promoted: what it had has started over.
    'app_errors_total{app="shop",track="stable",fingerprint="new",type="ValueError"}': "_x50 0x10",
    'log_records_total{app="shop",version="1.2.0",level="error"}': "0+60x60",
    'log_records_total{app="shop",version="1.2.0",level="info"}': "0+6000x60",
    'rolloutobs_internal_errors_total{app="shop",version="1.2.0",where="export"}': "0x50 1x10",
    'rolloutobs_internal_errors_total{app="shop",version="1.2.0",where="track"}': "0x60",
    'app_event_loop_lag_seconds_bucket{app="shop",version="1.2.0",le="0.1"}': "0+180x60",
    'app_event_loop_lag_seconds_count{app="shop",version="1.2.0"}': "0+240x60",
    'http_request_duration_seconds_bucket{app="shop",version="1.2.0",le="0.1"}': "0+90x60",
    'http_request_duration_seconds_bucket{app="shop",version="1.2.0",le="0.2"}': "0+100x60",
    'http_request_duration_seconds_bucket{app="shop",version="1.2.0",le="+Inf"}': "0+100x60",
}
"""By minute."""
ANSWERS = {
    "share of failed": {'{version="1.1.0"}': 0.01, '{version="1.2.0"}': 0.2},
    "95th percentile": {'{version="1.2.0"}': 0.15},
    "errors of the canary": {'{fingerprint="new",type="ValueError"}': 1.0},
    "error logs": {'{version="1.2.0"}': 1.0},
    "event loop": {'{version="1.2.0"}': 0.25},
    "internal_errors": {'{app="shop",version="1.2.0",where="export"}': 1.0},
    "caller_version": {'{caller="a",caller_version="1",version="1.1.0"}': 1.0},
}
"""By words of the query."""


@pytest.mark.prometheus
def test_the_queries_answer_what_they_say(tmp_path):
    promtool = shutil.which("promtool")
    assert promtool is not None, "the marker leaves this out where there is none"
    tests = []
    for query in _blocks("promql"):
        (expected,) = (answer for words, answer in ANSWERS.items() if words in query)
        samples = [{"labels": labels, "value": value} for labels, value in expected.items()]
        rounded = f"round({query}, 0.001)"
        tests.append({"expr": rounded, "eval_time": "59m", "exp_samples": samples})
    series = [{"series": name, "values": values} for name, values in SERIES.items()]
    file = {"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}]}
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump(file))
    done = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_within_the_page_lead_somewhere():
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", TEXT, flags=re.S | re.M), flags=re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
