"""One set of pods and one ``serve`` for all tests of a worker: each has workloads of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples.demo.processes import free_ports
from tests.e2e.serve.servers import PODS, Console, Pods, files
from tests.serving import serving

UNSAFE = {"owner": "team-db", "rollback": "unsafe: migration 42"}


@pytest.fixture(scope="session")
def pods() -> Iterator[Pods]:
    with serving(Pods()) as server:
        yield server


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory, pods: Pods) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("serve")
    files(
        folder,
        {
            "unlisted": ["many-*"],
            "defaults": {
                "interval": "10s",
                "timeout": "5s",
                "policy": "policy.yaml",
                "scrape": [f"http://127.0.0.1:{pods.server_port}/{{name}}/{pod}" for pod in PODS],
            },
            "workloads": [
                {"namespace": "shop", "name": name, "interval": "500ms", **more}
                for name, more in (
                    ("good", {}),
                    ("bad", {"owner": "team-shop", "notify": f"http://127.0.0.1:{pods.server_port}/"}),
                    ("held", UNSAFE),
                    ("argo", {}),
                    ("kept-good", {}),
                    ("kept-bad", {}),
                    ("kept-held", UNSAFE),
                    ("kept-by-hand", {}),
                    ("on-screen", {}),
                )
            ],
        },
    )
    found = Console(folder, free_ports(1)[0])
    found.start()
    try:
        yield found
    finally:
        found.close()
