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


@pytest.mark.browser
async def test_a_check_proves_both_versions_and_counts_as_no_user(shop: Shop, tmp_path: Path) -> None:
    await shop.start()
    out = tmp_path / "out.json"
    code, printed = await synthetic("run", JOURNEY, *targets(shop), "--json", str(out))
    assert (code, printed.count("ok  ")) == (0, 6), printed
    pair: dict[str, Any] = json.loads(out.read_text())["pairs"][0]
    assert [pair[track]["identity"] for track in ("stable", "canary")] == ["right", "right"]
    for url, version in ((shop.stable, "1.1.0"), (shop.canary, "1.2.0")):
        requests = await counted(url, "http_requests_total")
        assert any('route="/checkout"' in labels for labels in requests)
        assert not [labels for labels in requests if 'synthetic="true"' not in labels]
        assert all(f'version="{version}"' in labels for labels in requests)


@pytest.mark.browser
async def test_only_a_browser_sees_a_broken_page(shop: Shop, processes: Processes, tmp_path: Path) -> None:
    await shop.start()
    (port,) = free_ports(1)
    broken = f"http://127.0.0.1:{port}"
    environ = {
        "ROLLOUTOBS_VERSION": "1.2.0", "ROLLOUTOBS_TRACK": "canary", "INVENTORY_URL": shop.inventory,
        "SHOP_BROKEN_FRONTEND": "1",
    }  # fmt: skip
    argv = [sys.executable, "-m", "uvicorn", "examples.shop.app:app", "--port", str(port), "--no-access-log"]
    await processes.start("broken", argv, environ)
    await processes.wait_for_http("broken", f"{broken}/healthz")
    more = ["--timeout", "10s", "--artifacts", str(tmp_path / "kept")]
    code, printed = await synthetic("run", JOURNEY, *targets(shop, broken), *more)
    assert code == 1, printed
    assert "why: check out: " in printed
    assert "the page said: uncaught: " in printed
    assert [path.name for path in tmp_path.glob("kept/*/screenshot.png")] == ["screenshot.png"]
    assert not [labels for labels in await counted(broken, "http_requests_total") if 'status="5' in labels]


@pytest.mark.browser
async def test_each_fault_is_found_by_the_journey_that_meets_it(
    shop: Shop, processes: Processes, tmp_path: Path
) -> None:
    down = tmp_path / "inventory-is-down"
    await shop.start({"INVENTORY_ERRORS": "1", "INVENTORY_ERRORS_ONCE": str(down)})
    (port,) = free_ports(1)
    faulty = f"http://127.0.0.1:{port}"
    environ = {
        "ROLLOUTOBS_VERSION": "1.2.0", "ROLLOUTOBS_TRACK": "canary", "INVENTORY_URL": shop.inventory,
        "SHOP_ERRORS": "POST /checkout=1", "SHOP_SLOW": "GET /product/{product_id}=1:3.5",
    }  # fmt: skip
    argv = [sys.executable, "-m", "uvicorn", "examples.shop.app:app", "--port", str(port), "--no-access-log"]
    await processes.start("faulty", argv, environ)
    await processes.wait_for_http("faulty", f"{faulty}/healthz")

    all_journeys, api = JOURNEY.rpartition(":")[0], ["--tag", "api"]
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    more = [
        "--json",
        str(out),
        "--html",
        str(page),
        "--artifacts",
        str(tmp_path / "kept"),
        "--timeout",
        "12s",
    ]
    code, printed = await synthetic("run", all_journeys, *targets(shop, faulty), *more)
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
    assert [html.count(word) for word in ("data:image/png;base64,", "trace.zip</a>", "run.json</a>")] == [
        1,
        1,
        3,
    ]

    # A router that sends the canary's visitors to stable.
    code, printed = await synthetic("run", all_journeys, *targets(shop, shop.stable), *api)
    assert (code, printed.count("version '1.1.0' answered, expected '1.2.0'")) == (3, 2), printed

    # What both need is down: nobody is blamed.
    down.touch()
    code, printed = await synthetic("run", all_journeys, *targets(shop), *api)
    assert (code, printed.count("both tracks failed")) == (2, 2), printed


@pytest.mark.browser
async def test_a_first_journey_passes_against_the_shop(shop: Shop, tmp_path: Path) -> None:
    await shop.start()
    file = str(tmp_path / "journeys" / "first.py")
    code, printed = await synthetic("init", file)
    assert code == 0, printed
    code, printed = await synthetic("run", file, "--list")
    assert (code, printed.count("smoke")) == (0, 2), printed
    code, printed = await synthetic("run", file, *targets(shop))
    assert code == 0, printed
    assert printed.endswith("all: pass\n")


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
