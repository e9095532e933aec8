"""The demo's shop, instrumented for real, under paired checks and paired load from the command line."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from examples.demo.processes import Processes, free_ports
from tests.e2e.conftest import Shop

ROOT = Path(__file__).parents[2]
JOURNEY = f"{ROOT}/examples/shop/journey.py:checkout"
LOCUSTFILE = f"{ROOT}/examples/demo/locustfile.py"


async def synthetic(*argv: str) -> tuple[int, str]:
    """Run the command line to its end and return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "synthetic",
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, printed.decode()


def targets(shop: Shop, canary: str | None = None) -> list[str]:
    return [
        "--app", "shop", "--stable", shop.stable, "--stable-version", "1.1.0",
        "--canary", canary or shop.canary, "--canary-version", "1.2.0",
    ]  # fmt: skip


async def counted(url: str, name: str) -> dict[str, float]:
    """Return the series of a counter that are not zero, by their labels as exposed."""
    async with httpx2.AsyncClient(timeout=10.0) as client:
        text = (await client.get(f"{url}/metrics")).text
    found = re.findall(rf"^{name}(\{{.*\}}) (\S+)$", text, flags=re.MULTILINE)
    return {labels: float(value) for labels, value in found if float(value)}


async def start_canary(processes: Processes, shop: Shop, name: str, fault: dict[str, str]) -> str:
    """Start one more canary, which has a fault, and return its URL once it answers."""
    (port,) = free_ports(1)
    environ = {
        "ROLLOUTOBS_VERSION": "1.2.0", "ROLLOUTOBS_TRACK": "canary", "INVENTORY_URL": shop.inventory,
        "SHOP_PAYMENT_ERRORS": "0", **fault,
    }  # fmt: skip
    argv = [sys.executable, "-m", "uvicorn", "examples.shop.app:app", "--port", str(port), "--no-access-log"]
    await processes.start(name, argv, environ)
    await processes.wait_for_http(name, f"http://127.0.0.1:{port}/healthz")
    return f"http://127.0.0.1:{port}"


@pytest.mark.browser
async def test_journeys_pass_prove_both_versions_and_count_as_no_user(shop: Shop, tmp_path: Path) -> None:
    """The shop's own, and the first ones that `init` writes."""
    file = str(tmp_path / "journeys" / "first.py")
    (code, printed), _ = await asyncio.gather(synthetic("init", file), shop.start())
    assert code == 0, printed
    code, printed = await synthetic("run", file, "--list")
    assert (code, printed.count("smoke")) == (0, 2), printed
    out = tmp_path / "out.json"
    code, printed = await synthetic("run", JOURNEY, file, *targets(shop), "--json", str(out))
    assert code == 0, printed
    assert printed.endswith("all: pass\n")
    pairs: list[dict[str, Any]] = json.loads(out.read_text())["pairs"]
    assert [pair["check"] for pair in pairs] == ["checkout", "start_page", "start_page_answers"]
    assert len([step for step in pairs[0]["canary"]["steps"] if step["outcome"] == "pass"]) == 3
    assert {pair[track]["identity"] for pair in pairs for track in ("stable", "canary")} == {"right"}
    for url, version in ((shop.stable, "1.1.0"), (shop.canary, "1.2.0")):
        requests = await counted(url, "http_requests_total")
        assert any('route="/checkout"' in labels for labels in requests)
        assert not [labels for labels in requests if 'synthetic="true"' not in labels]
        assert all(f'version="{version}"' in labels for labels in requests)


@pytest.mark.browser
async def test_each_fault_is_found_by_the_journey_that_meets_it(
    shop: Shop, processes: Processes, tmp_path: Path
) -> None:
    down = tmp_path / "inventory-is-down"
    _, faulty, broken = await asyncio.gather(
        shop.start({"INVENTORY_ERRORS": "1", "INVENTORY_ERRORS_ONCE": str(down)}),
        start_canary(processes, shop, "faulty", {
            "SHOP_ERRORS": "POST /checkout=1", "SHOP_SLOW": "GET /product/{product_id}=1:3.5",
        }),
        start_canary(processes, shop, "broken", {"SHOP_BROKEN_FRONTEND": "1"}),
    )  # fmt: skip
    all_journeys, api = JOURNEY.rpartition(":")[0], ["--tag", "api"]
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    more = ["--json", str(out), "--html", str(page), "--artifacts", str(tmp_path / "kept")]
    less = ["--artifacts", str(tmp_path / "of-the-page")]
    (code, printed), (broken_code, broken_printed) = await asyncio.gather(
        synthetic("run", all_journeys, *targets(shop, faulty), *more, "--timeout", "16s"),
        synthetic("run", JOURNEY, *targets(shop, broken), *less, "--timeout", "16s"),
    )
    assert code == 1, printed
    found = {pair["check"]: pair["canary"]["reason"] for pair in json.loads(out.read_text())["pairs"]}
    assert found["checkout"].startswith("check out: ")
    assert re.fullmatch(r"read a product: took \d\.\d\d s, its budget is 3 s", found["read_product"])
    assert "500 Internal Server Error" in found["order"]
    kept = {
        folder.name.partition("-")[0]: {f.name for f in folder.iterdir()}
        for folder in tmp_path.glob("kept/*")
    }
    told = {"run.json", "console.txt", "network.har"}
    seen = told | {"screenshot.png", "trace.zip"}
    assert kept == {"checkout": seen, "read_product": told, "order": told}
    html = page.read_text()
    words = ("data:image/png;base64,", "trace.zip</a>", "run.json</a>")
    assert [html.count(word) for word in words] == [1, 1, 3]

    # Only a browser sees a broken page: its servers know of no fault.
    assert broken_code == 1, broken_printed
    assert "why: check out: " in broken_printed
    assert "the page said: uncaught: " in broken_printed
    assert [path.name for path in tmp_path.glob("of-the-page/*/screenshot.png")] == ["screenshot.png"]
    assert not [labels for labels in await counted(broken, "http_requests_total") if 'status="5' in labels]

    # A router that sends the canary's visitors to stable.
    code, printed = await synthetic("run", all_journeys, *targets(shop, shop.stable), *api)
    assert (code, printed.count("version '1.1.0' answered, expected '1.2.0'")) == (3, 2), printed

    # What both need is down: nobody is blamed.
    down.touch()
    code, printed = await synthetic("run", all_journeys, *targets(shop), *api)
    assert (code, printed.count("both tracks failed")) == (2, 2), printed


@pytest.mark.load
async def test_a_load_of_a_master_and_two_workers_counts_on_both_tracks_what_the_servers_count(
    shop: Shop, tmp_path: Path
) -> None:
    await shop.start()
    out, (port,) = tmp_path / "out.json", free_ports(1)
    lead = ["load", "--master", "--expect-workers", "2", "--bind", f"127.0.0.1:{port}", *targets(shop)]
    lead += ["--locustfile", LOCUSTFILE, "--rate", "15", "--duration", "3s", "--max-slowdown", "5"]
    # Workers get the locustfile from their master.
    work = ["load", "--worker", "--master-host", "127.0.0.1", "--master-port", str(port)]
    done = await asyncio.gather(synthetic(*lead, "--json", str(out)), synthetic(*work), synthetic(*work))
    assert [code for code, _ in done[1:]] == [0, 0]
    told = json.loads(out.read_text())
    late = [each["result"] for each in told["findings"] if each["name"] == "generator"]
    # A machine that others use, too, may begin tasks late: then it is inconclusive, and that alone.
    assert done[0][0] == {"pass": 0, "inconclusive": 3}[late[0]], done[0][1]
    assert (told["workers"], told["lost_workers"], told["model"]) == (2, 0, "open")
    assert told["locust"]["requests"] == sum(track["requests"] for track in told["tracks"].values())
    for name, url in (("stable", shop.stable), ("canary", shop.canary)):
        track = told["tracks"][name]
        assert track["identity"] == {"right": track["requests"]}
        assert (track["cut"], track["arrivals"] > 0) == (0, True)
        requests = await counted(url, "http_requests_total")
        assert sum(requests.values()) == track["requests"]
        assert not [labels for labels in requests if 'synthetic="true"' not in labels]
