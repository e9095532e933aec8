"""Who is let in, and what is refused; many workloads."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

from tests.e2e.serve.servers import TOKEN, YES, Console


def test_who_is_let_in_and_what_is_refused(console: Console) -> None:
    for path in ("/", "/v1/verdict?namespace=shop&workload=good", "/v1/workloads", "/rollouts/shop/good"):
        for token in ("", "wrong-token-of-some-length", TOKEN[:-1]):
            assert console.get(path, token).status_code == 401, path
        assert console.get(path, "an-old-token-of-before").status_code in (200, 503)
    assert console.get("/v1/verdict?namespace=shop&workload=nobody").json() == {
        "schema": 1,
        "error": "workload 'nobody' in namespace 'shop' is not watched: it has no entry in the file",
    }
    refused = [
        console.get("/v1/verdict?namespace=shop&workload=nobody").status_code,
        console.get("/v1/verdict?namespace=shop").status_code,
        console.get("/nowhere").status_code,
        console.post("/flagger/dance", {}).status_code,
        console.post("/flagger/rollback", {"name": "good"}).status_code,
        console.post("/flagger/rollback", {"name": "../good", "namespace": "many-1"}).status_code,
        console.post(
            "/flagger/rollback", {"name": "good", "namespace": "shop", "x": "y" * 70000}
        ).status_code,
        raw(console, b'{"decision": "promote"}', "text/plain"),
        raw(console, b"[" * 60000, "application/json"),
    ]
    assert refused == [404, 400, 404, 404, 400, 404, 400, 415, 400]


def raw(console: Console, body: bytes, kind: str) -> int:
    address = f"http://sre:{TOKEN}@127.0.0.1:{console.port}/v1/override"
    return console.client.post(address, content=body, headers={"Content-Type": kind}).status_code


def test_fifty_workloads_that_only_webhooks_name(console: Console) -> None:
    """An event is enough; nobody waits for anybody, and the file may take them all away."""
    names = [f"app-{number}" for number in range(50)]
    for name in names:
        body = {
            "name": name,
            "namespace": "many-1",
            "phase": "Progressing",
            "metadata": {"eventMessage": "new"},
        }
        assert console.post("/flagger/event", body).status_code == YES

    def workloads() -> list[Any]:
        return list(console.get("/v1/workloads").json()["workloads"])

    console.until(lambda: not any(each["trouble"] for each in workloads()))
    listed = workloads()
    assert [each["workload"] for each in listed if each["namespace"] == "many-1"] == sorted(names)
    assert len(re.findall(r'<li class="card', console.get("/").text)) == len(listed)
    plain = json.loads((console.folder / "workloads.yaml").read_text())
    (console.folder / "workloads.yaml").write_text(json.dumps({**plain, "unlisted": []}))
    console.until(lambda: len(workloads()) == len(plain["workloads"]))
    (console.folder / "workloads.yaml").write_text('{"workloads": 3}')
    told = "workloads.yaml, line 1: workloads is 3; use a list\n"
    console.until(lambda: console.get("/readyz").text.endswith(told))
    assert len(workloads()) == len(plain["workloads"])
    (console.folder / "workloads.yaml").write_text(json.dumps(plain))
    # The next test may restart the server, which would find them again.
    shutil.rmtree(console.folder / "state" / "many-1", ignore_errors=True)
