"""``rolloutobs render``: what the example is made of, for another app."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from rolloutobs import cli
from rolloutobs.errors import ConfigurationError
from rolloutobs.manifests.kustomize import build
from rolloutobs.manifests.merge import edited, merged
from rum_collector.configuration import configured

APP = ["render", "--app", "cart", "--image", "registry.example.net/team/cart:2.10"]
CART = ["--app", "cart"]
MORE = [
    "--namespace", "web", "--port", "9000", "--health", "/ready", "--replicas", "6",
    "--registry", "our.net/r", "--prometheus", "http://thanos.obs:10902",
]  # fmt: skip
CUSTOM = {
    "PodMonitor",
    "ServiceMonitor",
    "PrometheusRule",
    "Rollout",
    "AnalysisTemplate",
    "Canary",
    "MetricTemplate",
}


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert cli.main(list(arguments)) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


def one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def namespace_of(each: dict[str, Any]) -> str | None:
    """Return where an object is; of what is in none, the namespace that it names, if any."""
    metadata = each["metadata"]
    if each["kind"] == "ClusterRole":
        assert "namespace" not in metadata
        return None
    if each["kind"] == "ClusterRoleBinding":
        return str(each["subjects"][0]["namespace"])
    return metadata["name"] if each["kind"] == "Namespace" else metadata["namespace"]


def container(each: dict[str, Any]) -> dict[str, Any]:
    spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"]
    (found,) = spec["template"]["spec"]["containers"]
    return found


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "j.py").write_text("async def buy(page, app): ...\n", "utf-8")
    (tmp_path / "l.py").write_text("from synthetic.load import RolloutUser\n", "utf-8")
    return ["--journey", f"{tmp_path / 'j.py'}:buy", "--load", str(tmp_path / "l.py")]


@pytest.mark.parametrize("controller", ["none", "argo", "flagger", "cluster"])
def test_schemas_hold_and_nothing_of_the_example_is_left(
    controller: str, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {"none": [], "cluster": ["--cluster"]}.get(controller, ["--with", controller])
    objects = rendered(capsys, *APP, *MORE, *files, "--host", "www.example.net", *chosen)
    for each in objects:
        assert namespace_of(each) in ("web", None)
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    # The texts of rules and dashboards are the same for everybody.
    own = [
        e for e in objects if e["kind"] != "PrometheusRule" and "grafana_dashboard" not in str(e["metadata"])
    ]
    text = yaml.safe_dump_all(own)
    assert not re.findall(
        r".*(?:shop|8000|example\.com|1\.[12]\.0|prometheus-operated|inventory|INVENTORY).*", text
    )
    assert len({(each["kind"], each["metadata"]["name"]) for each in objects}) == len(objects)


def test_two_deployments(capsys: pytest.CaptureFixture[str]) -> None:
    objects = rendered(capsys, *APP, *MORE, "--canary-image", "r/cart:3.0")
    for track, image, version, replicas in (
        ("stable", APP[-1], "2.10", 6),
        ("canary", "r/cart:3.0", "3.0", 1),
    ):
        deployment = one(objects, "Deployment", f"cart-{track}")
        spec = deployment["spec"]
        assert spec["replicas"] == replicas
        assert spec["template"]["metadata"]["labels"] == {
            "app.kubernetes.io/name": "cart",
            "app.kubernetes.io/version": version,
            "rolloutobs.io/track": track,
            "rolloutobs.io/scrape": "http",
        }
        app = container(deployment)
        assert (app["image"], app["ports"], app["readinessProbe"]["httpGet"]["path"]) == (
            image, [{"name": "http", "containerPort": 9000}], "/ready",
        )  # fmt: skip
        assert "args" not in app
        assert {entry["name"]: entry.get("value") for entry in app["env"]} == {
            "OTEL_SERVICE_NAME": "cart",
            "ROLLOUTOBS_VERSION": version,
            "ROLLOUTOBS_METRICS_DIR": "/var/run/rolloutobs",
            "ROLLOUTOBS_SECRET": None,
        }
        mounts = {mount["name"]: mount["mountPath"] for mount in app["volumeMounts"]}
        assert mounts == {"tmp": "/tmp", "podinfo": "/etc/podinfo", "cells": "/var/run/rolloutobs"}
    gate = container(one(objects, "Job", "cart-gate"))
    assert gate["image"] == "our.net/r/rolloutobs-gate:0.1.0"
    assert {
        "--app=cart", "--prometheus=http://thanos.obs:10902", "--workload=deployment/cart-canary",
    } <= set(gate["args"])  # fmt: skip
    assert one(objects, "RoleBinding", "cart-gate")["subjects"] == [
        {"kind": "ServiceAccount", "name": "cart-gate", "namespace": "web"}
    ]
    kinds = {"Deployment", "Service", "PodMonitor", "Job", "ServiceAccount", "Role", "RoleBinding"}
    assert {each["kind"] for each in objects} == kinds


def test_without_an_image_the_canary_waits(capsys: pytest.CaptureFixture[str]) -> None:
    objects = rendered(capsys, *APP)
    canary = one(objects, "Deployment", "cart-canary")
    assert {each["kind"] for each in objects} == {"Deployment", "Service", "PodMonitor"}
    assert canary["spec"]["replicas"] == 0
    assert canary["metadata"]["namespace"] == "cart"


@pytest.mark.parametrize(
    ("controller", "stable"), [("none", "stable"), ("argo", "stable"), ("flagger", "primary")]
)
def test_checks(controller: str, stable: str, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [] if controller == "none" else ["--with", controller]
    objects = rendered(capsys, *APP, *MORE, *files, *chosen, "--host", "cart.net")
    check, load = (container(one(objects, "CronJob", f"cart-{name}")) for name in ("synthetic", "load"))
    assert check["args"][:2] == ["run", "/journeys/journey.py:buy"]
    assert load["args"][:2] == ["load", "--locustfile=/load/load.py"]
    for each in (check, load):
        assert each["image"] == "our.net/r/rolloutobs-synthetic:0.1.0"
        assert {
            "--app=cart", f"--stable=http://cart-{stable}:9000", "--canary=http://cart-canary:9000",
        } <= set(each["args"])  # fmt: skip
    assert "def buy" in one(objects, "ConfigMap", "cart-journeys")["data"]["journey.py"]
    assert "RolloutUser" in one(objects, "ConfigMap", "cart-load")["data"]["load.py"]
    mounted = [
        volume["configMap"]["name"]
        for name in ("synthetic", "load")
        for volume in one(objects, "CronJob", f"cart-{name}")["spec"]["jobTemplate"]["spec"]["template"][
            "spec"
        ]["volumes"]
        if "configMap" in volume
    ]
    assert mounted == ["cart-journeys", "cart-load"]
    (rule,) = one(objects, "Ingress", "cart")["spec"]["rules"]
    assert rule["host"] == "cart.net"


def test_controllers_have_their_objects(capsys: pytest.CaptureFixture[str]) -> None:
    argo = rendered(capsys, *APP, "--with", "argo")
    rollout = one(argo, "Rollout", "cart")
    assert container(rollout)["image"] == APP[-1]
    canary = rollout["spec"]["strategy"]["canary"]
    services = {each["metadata"]["name"] for each in argo if each["kind"] == "Service"}
    assert {canary["stableService"], canary["canaryService"]} < services
    templates = {each["metadata"]["name"] for each in argo if each["kind"] == "AnalysisTemplate"}
    used = re.findall(r"templateName': '([\w-]+)'", str(canary["steps"]))
    assert used
    assert set(used) <= templates
    flagger = rendered(capsys, *APP, "--with", "flagger", "--host", "cart.net")
    assert one(flagger, "Canary", "cart")["spec"]["targetRef"]["name"] == "cart"
    deployment = one(flagger, "Deployment", "cart")["spec"]
    assert deployment["selector"] == {"matchLabels": {"app": "cart"}}
    # Flagger's own number: applied again, ours would bring canaries back.
    assert "replicas" not in deployment
    scaler = one(flagger, "HorizontalPodAutoscaler", "cart")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (4, 8)
    assert one(flagger, "PodMonitor", "cart")


@pytest.mark.parametrize(
    ("controller", "owned"),
    [
        ("none", [("Deployment", "cart-stable"), ("Deployment", "cart-canary")]),
        ("argo", [("Rollout", "cart")]),
        ("flagger", [("Canary", "cart")]),
    ],
)
def test_the_owner_is_that_of_what_is_rolled_out(
    controller: str, owned: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [] if controller == "none" else ["--with", controller]
    objects = rendered(capsys, *APP, *chosen, "--host", "cart.net", "--owner", "#cart")
    found = [(e["kind"], e["metadata"]["name"]) for e in objects if e["metadata"].get("annotations")]
    assert found == owned
    assert {str(e["metadata"]["annotations"]) for e in objects if "annotations" in e["metadata"]} == {
        "{'rolloutobs.io/owner': '#cart'}"
    }


def test_flagger_runs_the_journey_before_the_first_user(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flagger = [*APP, *MORE, "--with", "flagger", "--host", "cart.net"]
    objects = rendered(capsys, *flagger, *files)
    checks = container(one(objects, "Deployment", "cart-checks"))
    assert checks["image"] == "our.net/r/rolloutobs-flagger-checks:0.1.0"
    (command,) = [entry["value"] for entry in checks["env"] if entry["name"] == "CHECKS"]
    assert command.split() == [
        "run", "/journeys/journey.py:buy", "--app=cart", "--stable=http://cart-primary:9000",
        "--canary=http://cart-canary:9000", "--timeout=20s",
    ]  # fmt: skip
    hooks = one(objects, "Canary", "cart")["spec"]["analysis"]["webhooks"]
    assert "http://cart-checks.web:8080/" in [hook["url"] for hook in hooks]
    assert one(objects, "Service", "cart-checks")["spec"]["selector"]["app.kubernetes.io/instance"] == "cart"
    without = rendered(capsys, *flagger)
    assert "cart-checks" not in str(without)
    assert len(one(without, "Canary", "cart")["spec"]["analysis"]["webhooks"]) == len(hooks) - 1


def test_once_per_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    objects = rendered(capsys, "render", "--cluster", "--app", "cart", "--host", "cart.net")
    assert {namespace_of(each) for each in objects} == {"rolloutobs", None}
    settings = one(objects, "ConfigMap", "rolloutobs-collector")["data"]
    assert settings["ROLLOUTOBS_COLLECTOR_APPS"] == "cart"
    assert settings["ROLLOUTOBS_COLLECTOR_ORIGINS"] == "https://cart.net"
    assert one(objects, "PrometheusRule", "rolloutobs")
    assert one(objects, "Ingress", "rolloutobs-collector")
    given = rendered(capsys, "render", "--cluster", "--app", "cart", "--runbook", "https://wiki.net/runbook")
    links = re.findall(r"'runbook_url': '([^']*)'", str(one(given, "PrometheusRule", "rolloutobs")))
    assert len(links) == len(re.findall("'alert': ", str(given)))
    assert all(re.fullmatch(r"https://wiki\.net/runbook#[a-z]+", link) for link in links)
    alone = rendered(capsys, "render", "--cluster", "--app", "cart")
    assert "ROLLOUTOBS_COLLECTOR_ORIGINS" not in one(alone, "ConfigMap", "rolloutobs-collector")["data"]


def test_a_cluster_has_many_apps(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["render", "--cluster", "--app", "cart", "--host", "cart.net", "--app", "pay", "--host", "pay.net"]
    objects = rendered(capsys, *argv)
    data = one(objects, "ConfigMap", "rolloutobs-collector")["data"]
    settings = configured(data, {}).settings
    assert settings.apps == ("cart", "pay")
    assert settings.origins == ("https://cart.net", "https://pay.net")
    first, second = one(objects, "Ingress", "rolloutobs-collector")["spec"]["rules"]
    assert (first["host"], second) == ("cart.net", {**first, "host": "pay.net"})
    alone = rendered(capsys, "render", "--cluster", "--app", "cart", "--app", "pay")
    assert "pay.net" not in str(alone)
    assert one(alone, "ConfigMap", "rolloutobs-collector")["data"]["ROLLOUTOBS_COLLECTOR_APPS"] == "cart,pay"


def test_asking_takes_a_token_where_that_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    whole = ["render", "--cluster", "--app", "cart"]
    plain, guarded = (
        container(one(rendered(capsys, *argv), "Deployment", "rolloutobs-serve"))
        for argv in (whole, [*whole, "--token"])
    )
    assert [each for each in plain["args"] if each not in guarded["args"]] == ["--no-token"]
    (variable,) = guarded["env"]
    # Not optional: without the Secret the pod waits for it, and says so.
    secret = {"name": "rolloutobs-serve", "key": "token"}
    assert variable == {"name": "ROLLOUTOBS_SERVE_TOKEN", "valueFrom": {"secretKeyRef": secret}}
    argo = one(rendered(capsys, *APP, "--with", "argo", "--token"), "AnalysisTemplate", "rolloutobs-verdict")
    assert {"name": "token", "valueFrom": {"secretKeyRef": secret}} in argo["spec"]["args"]
    (metric,) = argo["spec"]["metrics"]
    assert metric["provider"]["web"]["headers"] == [
        {"key": "Authorization", "value": "Bearer {{args.token}}"}
    ]
    address = "http://flagger:0123456789abcdef@rolloutobs-serve.rolloutobs:9400"
    flagger = [*APP, "--with", "flagger", "--host", "cart.net", "--token", "--serve", address]
    hooks = one(rendered(capsys, *flagger), "Canary", "cart")["spec"]["analysis"]["webhooks"]
    assert all(hook["url"].startswith(f"{address}/flagger/") for hook in hooks)


def test_a_collector_with_other_settings_begins_anew(capsys: pytest.CaptureFixture[str]) -> None:
    """It reads its environment once; the server and the watcher follow what they read, or have nothing."""

    def templates(*arguments: str) -> dict[str, Any]:
        objects = rendered(capsys, "render", "--cluster", "--app", "cart", *arguments)
        return {e["metadata"]["name"]: e["spec"]["template"] for e in objects if e["kind"] == "Deployment"}

    first, again, other = templates(), templates(), templates("--host", "cart.net")
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {"rolloutobs-collector"}


def test_a_folder_for_kubectl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = rendered(capsys, *APP, "--canary-image", "r/cart:3.0")
    assert (
        cli.main([*APP, "--canary-image", "r/cart:3.0", "--output-dir", str(tmp_path / "deploy" / "cart")])
        == 0
    )
    printed = capsys.readouterr().out.split()
    assert [Path(line).name for line in printed] == [
        "kustomization.yaml",
        "app.yaml",
        "monitors.yaml",
        "gate.yaml",
    ]
    by_name = {str(each["metadata"]): each for each in build(tmp_path / "deploy" / "cart")}
    assert by_name == {str(each["metadata"]): each for each in whole}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--app", "Cart", "--image", "cart:1"], "--app is 'Cart'"),
        ([*CART, "--namespace", "a_b", "--image", "cart:1"], "--namespace is 'a_b'"),
        (CART, "give --image"),
        ([*CART, "--image", "host:5000/cart"], "give --version"),
        ([*CART, "--image", "cart:latest"], "give --version"),
        ([*CART, "--image", "cart@sha256:ab"], "give --version"),
        ([*CART, "--image", "cart:1", "--canary-image", "cart"], "give --canary-version"),
        ([*CART, "--image", "cart:1", "--with", "flagger"], "give --host"),
        ([*CART, "--image", "cart:1", "--app", "pay"], "give one --app"),
        ([*CART, "--cluster", "--app", "P"], "--app is 'P'"),
        ([*CART, "--image", "cart:1", "--with", "argo", "--canary-image", "cart:2"], "leave --canary-image"),
        ([*CART, "--image", "cart:1", "--with", "flagger", "--host", "c.net", "--token"], "have no headers"),
        ([*CART, "--image", "cart:1", "--journey", "nowhere.py"], "cannot read --journey 'nowhere.py'"),
    ],
)
def test_what_cannot_be_written(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["render", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, message in err) == ("", True), err


def test_a_digest_with_a_version(capsys: pytest.CaptureFixture[str]) -> None:
    objects = rendered(capsys, "render", "--app", "cart", "--image", "r:5000/cart:2.0@sha256:ab")
    assert container(one(objects, "Deployment", "cart-stable"))["image"] == "r:5000/cart:2.0@sha256:ab"
    labels = one(objects, "Deployment", "cart-stable")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/version"] == "2.0"


def test_merging_is_that_of_kubernetes() -> None:
    """Lists with a merge key are merged by it, others are replaced, and what is null goes."""
    old = {"env": [{"name": "A", "value": "1"}, {"name": "B"}], "args": ["x"], "gone": 1, "kept": {"a": 1}}
    new = {"env": [{"name": "A", "value": "2"}, {"name": "C"}], "args": ["y"], "gone": None, "kept": {"b": 2}}
    assert merged(old, new) == {
        "env": [{"name": "A", "value": "2"}, {"name": "B"}, {"name": "C"}],
        "args": ["y"],
        "kept": {"a": 1, "b": 2},
    }
    changed = edited(
        {"a": [1, 2], "b/c": {"d": 1}},
        [
            {"op": "add", "path": "/a/-", "value": 3},
            {"op": "remove", "path": "/a/0"},
            {"op": "test", "path": "/b~1c/d", "value": 1},
            {"op": "replace", "path": "/b~1c/d", "value": 4},
        ],
    )
    assert changed == {"a": [2, 3], "b/c": {"d": 4}}
    with pytest.raises(ValueError, match="'move'"):
        edited({"a": 1}, [{"op": "move", "path": "/a"}])
    with pytest.raises(ValueError, match="expects 2, and there is 1"):
        edited({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])


def test_what_is_not_known_of_kustomize_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("namePrefix: a-\n", "utf-8")
    with pytest.raises(ConfigurationError, match="namePrefix"):
        build(tmp_path)
