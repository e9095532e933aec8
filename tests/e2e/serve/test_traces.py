"""A real OTLP receiver (rotel) gets each decision as a span of its rollout's trace."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import rotel

from examples.demo.processes import free_ports
from rolloutobs.cluster.stories import root_id, span_id, trace_id
from tests.e2e.otlp_spans import received
from tests.e2e.serve.servers import LIMIT_SECONDS, PODS, YES, Console, Pods, files
from tests.kubernetes_api import served
from tests.unit.rolloutobs.cluster.made import deployment, progressing

NAMES = ("traced-bad", "traced-good", "traced-undecided", "traced-later")


class Receiver:
    """A receiver at a fixed address; each start has a log of its own."""

    def __init__(self, folder: Path, http: int, grpc: int) -> None:
        self._folder, self._listen = folder, (f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")
        self.environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{http}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
        }

    @contextmanager
    def running(self, name: str) -> Iterator[Path]:
        log = self._folder / name
        http, grpc = self._listen
        argv = [
            str(Path(rotel.__file__).with_name("rotel-agent")), "start", "--otlp-http-endpoint", http,
            "--otlp-grpc-endpoint", grpc, "--exporter", "blackhole", "--debug-log", "traces",
            "--debug-log-verbosity", "detailed",
        ]  # fmt: skip
        with log.open("wb") as file:
            process = subprocess.Popen(argv, stdout=file, stderr=file)
        try:
            yield log
        finally:
            process.terminate()
            process.wait(LIMIT_SECONDS)


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path, *free_ports(2))


def sent(log: Path) -> int:
    return log.read_text("utf-8").count("rolloutobs.verdict.decision: ")


def told(log: Path) -> set[tuple[str, str]]:
    """Return decision and rollout of each span, whose ids are to be those of its rollout and its beginning.

    One that the receiver has taken too late for its sender comes again with the same ids.
    """
    found = set()
    for span in received(log.read_text("utf-8")):
        assert (span["service"], span["Name"]) == ("rolloutobs-gate", "verdict")
        (rollout,) = (r for r in map(rollout_of, NAMES) if f"{trace_id(r):032x}" == span["Trace ID"])
        began = int(span["Start time"]) / 1e9
        assert span["ID"] == f"{span_id(rollout, f'verdict/{began:.0f}'):016x}"
        assert span["Parent ID"] == f"{root_id(rollout):016x}"
        found.add((span["rolloutobs.verdict.decision"], rollout))
    return found


def is_kept(folder: Path, name: str) -> bool:
    text = (folder / "state" / "shop" / f"{name}.rollout.json").read_text("utf-8")
    return bool(json.loads(text)["rollout"]["traced"])


def rollout_of(name: str) -> str:
    return f"uid-{name}-2"


def test_each_decision_is_sent_once_over_a_receiver_that_is_away_and_restarts(
    tmp_path: Path, pods: Pods, receiver: Receiver
) -> None:
    defaults = {
        "interval": "500ms",
        "policy": "policy.yaml",
        "scrape": [f"http://127.0.0.1:{pods.server_port}/{{name}}/{pod}" for pod in PODS],
    }
    files(
        tmp_path, {"defaults": defaults, "workloads": [{"namespace": "shop", "name": name} for name in NAMES]}
    )
    kubeconfig = tmp_path / "kubeconfig"
    console = Console(
        tmp_path,
        free_ports(1)[0],
        options=("--cluster", "--kubeconfig", str(kubeconfig)),
        environ=receiver.environ,
    )
    pods.set("traced-bad", version="1.2.0", bad=0.5)
    pods.set("traced-good", version="1.2.0")
    with served(kubeconfig) as cluster:
        cluster.put("deployments", [deployment("1.2.0", 2, [progressing("x")], name=name) for name in NAMES])
        console.start()
        try:
            # Decided while nobody takes it: it is tried again.
            console.decided("traced-bad", "rollback")
            console.until(lambda: 'where="traces"} 0.0' not in console.get("/metrics").text)
            with receiver.running("first.log") as log:
                console.decided("traced-good", "promote")
                # That it was sent is kept before the process is killed.
                console.until(lambda: all(is_kept(tmp_path, name) for name in NAMES[:2]) and sent(log) >= 2)
            decided = {("rollback", rollout_of("traced-bad")), ("promote", rollout_of("traced-good"))}
            assert told(log) == decided
            (span,) = [s for s in received(log.read_text("utf-8")) if s["Status code"] == "STATUS_CODE_ERROR"]
            assert span["rolloutobs.verdict.metric"] == "errors"
            assert span["Status message"] == console.verdict("traced-bad")[1]["sentence"]

            console.stop(signal.SIGKILL)
            console.start()
            with receiver.running("second.log") as log:
                for name in ("traced-bad", "traced-good"):
                    console.until(lambda name=name: console.verdict(name)[1]["age_seconds"] is not None)
                # A person's is one as well, and what Flagger ends undecided was a hold.
                call = {"namespace": "shop", "workload": "traced-later", "reason": "no", "who": "ann"}
                console.until(lambda: console.verdict("traced-later")[1]["evidence_decision"])
                later = console.post("/v1/override", {**call, "decision": "rollback"}).json()
                console.until(lambda: console.verdict("traced-undecided")[1]["evidence_decision"])
                assert console.hook("post-rollout", "traced-undecided", phase="Failed") == YES
                console.until(lambda: all(is_kept(tmp_path, name) for name in NAMES) and sent(log) >= 2)
            assert later["override"]["who"] == "ann"
            assert told(log) == {
                ("rollback", rollout_of("traced-later")),
                ("hold", rollout_of("traced-undecided")),
            }
        finally:
            console.close()
