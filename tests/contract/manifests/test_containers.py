"""What runs in pods: restricted, with commands, variables and images that there are."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from examples.shop.journey import checkout
from rolloutobs.cli import COMMANDS
from rolloutobs.cli.serve import TOKEN
from rolloutobs.cli.workloads import WorkloadFile
from rolloutobs.environment import VARIABLES
from rum_collector.configuration import configured
from synthetic.discovery import load_journey
from synthetic.load.options import plan_of
from synthetic.options import make_parser
from synthetic.targeting import targets_of
from tests.contract.manifests.built import K8S, NAMES, ROOT, containers, of_kind, pods

VARIABLE = re.compile(r"ROLLOUTOBS_[A-Z_]+")


@pytest.mark.parametrize("name", ["argo-rollouts", "base", "flagger", "overlays/scale", "overlays/shop"])
def test_pods_are_restricted(name: str) -> None:
    """Source: Kubernetes, "Pod Security Standards", profile restricted; beyond it, a read-only root."""
    for workload, template in pods(name):
        spec = template["spec"]
        # Only the watcher asks the API server for something, and gates for annotations.
        (container,) = spec["containers"]
        given = {each.partition("=")[0] for each in container.get("args", ())}
        asks = bool(given & {"watch", "--cluster", "--workload"})
        assert spec["automountServiceAccountToken"] is asks, workload
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for workload, container in containers(name):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, workload
        assert set(container["resources"]) == {"requests", "limits"}
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_collector_understands_its_configuration() -> None:
    for name in ("base", "overlays/shop"):
        (data,) = [
            each["data"]
            for each in of_kind(name, "ConfigMap")
            if each["metadata"]["name"].startswith("rolloutobs-collector")
        ]
        settings = configured(data, {}).settings
        assert (settings.host, settings.data_dir) == ("0.0.0.0", "/data")
        assert settings.apps == (("shop",) if name == "overlays/shop" else ())
        ((_, collector),) = [pair for pair in containers(name) if pair[0] == "rolloutobs-collector"]
        assert collector["ports"][0]["containerPort"] == settings.port


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield image and arguments of every container that runs a program of ours, in every build."""
    for _, container in (pair for name in NAMES for pair in containers(name)):
        image = container["image"].partition(":")[0].removeprefix("rolloutobs-")
        if image in ("gate", "serve", "watcher", "synthetic", "shop-synthetic"):
            yield image, container["args"]
        for entry in container.get("env", ()):
            if entry["name"] == "CHECKS":
                yield "synthetic", entry["value"].split()


ENTRYPOINTS = {
    "gate": "rolloutobs", "serve": "rolloutobs", "watcher": "rolloutobs", "synthetic": "rolloutobs-synthetic",
    "collector": "rolloutobs-collector", "flagger-checks": "loadtester", "shop": "uvicorn",
}  # fmt: skip
"""What the arguments of a container are for, by its image."""


def test_images_begin_with_what_reads_the_arguments() -> None:
    found = {
        name: re.findall(r'^ENTRYPOINT \["([\w-]+)"', stage, re.MULTILINE) for name, stage in images().items()
    }
    assert {name: begins[-1] for name, begins in found.items() if begins} == ENTRYPOINTS


@pytest.mark.parametrize("name", ["argo-rollouts", "flagger", "overlays/shop"])
def test_the_shop_is_an_app_that_listens_on_its_port(name: str) -> None:
    shops = [each for _, each in containers(name) if each["image"].startswith("rolloutobs-shop:")]
    assert shops
    for each in shops:
        given = uvicorn.main.make_context("uvicorn", list(each["args"])).params
        assert [given["port"]] == [port["containerPort"] for port in each["ports"]]
        assert given["host"] == "0.0.0.0"
        module, _, attribute = given["app"].partition(":")
        # Read and not run: it instruments itself.
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8")
        assert re.search(rf"^{attribute}\b.* = ", source, re.MULTILINE), given["app"]


def test_every_command_line_is_understood(tmp_path: Path) -> None:
    """By what reads it in the end; a load's also by what makes its plan."""
    ours = argparse.ArgumentParser()
    subparsers = ours.add_subparsers(dest="command")
    for add_parser in COMMANDS:
        add_parser(subparsers)
    seen = set[tuple[str, str]]()
    for image, arguments in commands():
        # The folder of a volume, which has to be there.
        arguments = [each.replace("=/state/", f"={tmp_path}/") for each in arguments]
        given = (make_parser() if image.endswith("synthetic") else ours).parse_args(arguments)
        seen.add((image, given.command))
        if given.command == "load":
            plan_of(given, () if given.worker else targets_of(given))
    assert seen == {
        ("gate", "gate"), ("serve", "serve"), ("watcher", "watch"), ("shop-synthetic", "run"),
        ("shop-synthetic", "load"), ("synthetic", "run"), ("synthetic", "load"),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["argo-rollouts", "base", "flagger", "overlays/scale", "overlays/shop"])
def test_variables_exist(name: str) -> None:
    known = {name for variable in VARIABLES for name in variable.names} | {
        "ROLLOUTOBS_SECRET", "ROLLOUTOBS_CHROMIUM_NO_SANDBOX", TOKEN,
    }  # fmt: skip
    for _, container in containers(name):
        for entry in container.get("env", ()):
            assert entry["name"] in known or not VARIABLE.fullmatch(entry["name"]), entry


def test_the_journey_can_be_loaded() -> None:
    ((_, check),) = [pair for pair in containers("overlays/shop") if pair[0] == "rolloutobs-synthetic"]
    command, journey = check["args"][:2]
    assert command == "run"
    assert load_journey(journey).walk is checkout


def test_the_server_understands_what_it_watches(tmp_path: Path) -> None:
    (data,) = [e["data"] for e in of_kind("base", "ConfigMap") if e["metadata"]["name"] == "rolloutobs-serve"]
    (tmp_path / "workloads.yaml").write_text(data["workloads.yaml"], "utf-8")
    file = WorkloadFile(tmp_path / "workloads.yaml")
    found = file.cover(("shop", "shop"))
    assert found is not None
    assert found.app == "shop"


def images() -> dict[str, str]:
    """Return each stage of the Containerfile by its name."""
    text = (K8S / "images" / "Containerfile").read_text("utf-8").replace("\\\n", " ")
    stages = re.split(r"^FROM \S+ AS ([\w-]+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(stages[::2], stages[1::2], strict=True))


def test_images_are_there_for_every_container_and_none_is_root() -> None:
    used = {
        container["image"].partition(":")[0].removeprefix("rolloutobs-")
        for _, container in containers("overlays/shop")
    }
    stages = images()
    assert used == {"collector", "gate", "serve", "watcher", "shop-synthetic", "shop"}
    for name in used - {"shop-synthetic"} | {"synthetic"}:
        assert re.search(r"^USER 65532:65532$", stages[name], re.MULTILINE), name
        assert re.search(r"^ENTRYPOINT \[", stages[name], re.MULTILINE)
        assert re.search(r"^HEALTHCHECK (NONE|CMD \[)", stages[name], re.MULTILINE)
        for install in re.findall(r"pip install.*", stages[name]):
            assert "-c /tmp/constraints.txt" in install


def test_images_copy_what_is_there() -> None:
    text = (K8S / "images" / "Containerfile").read_text("utf-8")
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert f"!{source.partition('/')[0]}" in ignored
