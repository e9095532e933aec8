"""A real Celery worker with forked pool processes: one port answers for all, also for one that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from prometheus_client.samples import Sample

from examples.demo.processes import Processes, free_ports
from rolloutobs.testing import parse_metrics, sample_value

TASKS = """
import os, time
from pathlib import Path
from celery import Celery
from rolloutobs.operations.celery import instrument_celery

here = Path(os.environ["TASKS_FOLDER"])
app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": here / "queue", "data_folder_out": here / "queue",
        "control_folder": here / "control", "polling_interval": 0.05,
    },
    worker_prefetch_multiplier=1,
    task_default_queue="tasks",
)
instrument_celery()

@app.task(name="who")
def who(name):
    # Both pool processes have to take part.
    (here / name).write_text(str(os.getpid()))
    deadline = time.monotonic() + 30
    while len(list(here.glob("who-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)

@app.task(name="hang")
def hang():
    (here / "hanging").write_text(str(os.getpid()))
    time.sleep(60)
"""
SEND = "import tasks, sys; [tasks.app.send_task(n, a) for n, a in eval(sys.argv[1])]"


@pytest.mark.slow
async def test_a_worker_answers_for_its_pool(processes: Processes, tmp_path: Path) -> None:
    for folder in ("queue", "control"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tasks.py").write_text(TASKS, encoding="utf-8")
    (port,) = free_ports(1)
    environ = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())]),
        "TASKS_FOLDER": str(tmp_path),
        "OTEL_SERVICE_NAME": "shop",
        "ROLLOUTOBS_VERSION": "1.2.0",
    }
    url = f"http://127.0.0.1:{port}/metrics"
    argv = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--concurrency=2", "--without-mingle"]
    argv += ["--without-gossip", "--without-heartbeat"]
    await processes.start("worker", argv, {**environ, "ROLLOUTOBS_METRICS_PORT": str(port)})
    await processes.wait_for_http("worker", url, 60)

    async def send(tasks: str) -> None:
        sender = await processes.start("sender", [sys.executable, "-c", SEND, tasks], environ)
        assert await sender.wait() == 0, processes.log_end("sender")

    async def until(done: Callable[[list[Sample]], bool]) -> list[Sample]:
        found: list[Sample] = []
        try:
            async with asyncio.timeout(60), httpx2.AsyncClient() as client:
                while not done(found):
                    await asyncio.sleep(0.05)
                    found = parse_metrics((await client.get(url)).text)
        except TimeoutError:
            counted = [sample for sample in found if sample.name == "app_operations_total"]
            raise AssertionError(f"{counted}\n{processes.log_end('worker', 60)}") from None
        return found

    def tasks(found: list[Sample], name: str, outcome: str) -> float | None:
        labels = {"app": "shop", "version": "1.2.0", "kind": "task", "outcome": outcome}
        return sample_value(found, "app_operations_total", name=name, **labels)

    await send("[('who', ['who-1']), ('who', ['who-2']), ('of_the_next_version', [])]")
    found = await until(lambda samples: tasks(samples, "who", "ok") == 2.0)
    assert len({(tmp_path / f"who-{i}").read_text() for i in (1, 2)}) == 2
    assert sample_value(found, "app_operation_duration_seconds_count", name="who") == 2.0
    await until(lambda samples: tasks(samples, "_unregistered", "error") == 1.0)

    await send("[('hang', [])]")
    async with asyncio.timeout(60):
        while not (tmp_path / "hanging").exists() or not (tmp_path / "hanging").read_text():
            await asyncio.sleep(0.02)
    os.kill(int((tmp_path / "hanging").read_text()), signal.SIGKILL)
    found = await until(lambda samples: tasks(samples, "hang", "error") == 1.0)
    assert tasks(found, "who", "ok") == 2.0, "the counts of a pool process that has ended are kept"
    await send("[('who', ['who-3'])]")
    found = await until(lambda samples: tasks(samples, "who", "ok") == 3.0)
    assert {
        s.labels["where"]: s.value for s in found if s.name == "rolloutobs_internal_errors_total" and s.value
    } == {}
