"""Manifests: every kustomization builds, schemas hold, pods are restricted, commands and names exist."""

from __future__ import annotations

import argparse
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from examples.shop.journey import checkout
from k8s.source.rules import GROUPS, Recording
from rolloutobs.cli import COMMANDS
from rolloutobs.cli.serve import TOKEN
from rolloutobs.cli.workloads import WorkloadFile
from rolloutobs.cluster.resources import rules
from rolloutobs.console.standing import Hook
from rolloutobs.detection.track import TRACK_KEYS
from rolloutobs.manifests.kustomize import build
from rolloutobs.settings import DEFAULT_LABELS_FILE, VARIABLES
from rum_collector.configuration import configured
from synthetic.discovery import load_journey
from synthetic.load.options import plan_of
from synthetic.options import make_parser
from synthetic.targeting import targets_of
from tests.rules.naming import metrics_of

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
KUBECTL = Path(sys.executable).parent / "kubectl"
BUILT = sorted(path.parent for path in K8S.rglob("kustomization.yaml") if "components" not in path.parts)
NAMES = [str(path.relative_to(K8S)) for path in BUILT]
CUSTOM = {
    "ServiceMonitor", "PodMonitor", "PrometheusRule", "Rollout", "AnalysisTemplate", "Canary",
    "MetricTemplate",
}  # fmt: skip
"""Kinds of the Prometheus Operator, of Argo Rollouts and of Flagger."""
HASH = re.compile(r"-(?=[a-z]*\d)[a-z0-9]{10}$")
VARIABLE = re.compile(r"ROLLOUTOBS_[A-Z_]+")


@functools.cache
def built(name: str) -> tuple[dict[str, Any], ...]:
    """Return what kubectl makes of a kustomization."""
    argv = [KUBECTL, "kustomize", K8S / name]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return tuple(yaml.load_all(done.stdout, yaml.CSafeLoader))


def of_kind(name: str, *kinds: str) -> list[dict[str, Any]]:
    return [each for each in built(name) if each["kind"] in kinds]


def pods(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and template of everything that makes pods."""
    for each in of_kind(name, "Deployment", "StatefulSet", "Job", "CronJob", "Rollout", "AnalysisTemplate"):
        spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"]
        if each["kind"] == "AnalysisTemplate":
            job = spec["metrics"][0]["provider"].get("job")
            if job is None:
                continue
            spec = job["spec"]
        yield each["metadata"]["name"], spec["template"]


def containers(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for workload, template in pods(name):
        for container in template["spec"]["containers"]:
            yield workload, container


def test_there_is_something_to_build() -> None:
    assert NAMES == [
        "argo-rollouts", "base", "dashboards", "flagger", "flagger-metrics", "overlays/scale",
        "overlays/scale/load", "overlays/scale/queue", "overlays/shop", "overlays/shop/app", "rules",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_render_builds_what_kubectl_builds(name: str) -> None:
    """But for the hash that kubectl puts behind the names of generated ConfigMaps."""
    hashed = {
        each["metadata"]["name"]: HASH.sub("", each["metadata"]["name"])
        for each in of_kind(name, "ConfigMap")
    }
    theirs = json.dumps([sortable(each) for each in built(name)], sort_keys=True)
    for long, short in hashed.items():
        theirs = theirs.replace(f'"{long}"', f'"{short}"')
    ours = json.dumps([sortable(each) for each in build(K8S / name)], sort_keys=True)
    assert sorted(json.loads(theirs), key=str) == sorted(json.loads(ours), key=str)


def sortable(value: Any) -> Any:
    """Return a value with its lists of mappings in one order: kubectl puts what is merged in first."""
    if isinstance(value, dict):
        return {key: sortable(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    items = [sortable(item) for item in value]
    keyed = items and all(isinstance(item, dict) and {"name", "mountPath"} & item.keys() for item in items)
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if keyed else items


@pytest.mark.parametrize("name", NAMES)
def test_kubernetes_schemas(name: str) -> None:
    """Strictly: an unknown field is an error."""
    for each in built(name):
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    assert [each["metadata"]["name"] for each in built(name)]


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


def test_every_selector_selects_something() -> None:
    name = "overlays/shop"
    labels = [template["metadata"]["labels"] for _, template in pods(name)]
    selectors = [each["spec"]["selector"] for each in of_kind(name, "Service")]
    selecting = of_kind(name, "Deployment", "PodDisruptionBudget", "PodMonitor")
    selectors += [each["spec"]["selector"]["matchLabels"] for each in selecting]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in of_kind(name, "NetworkPolicy")]
    for selector in selectors:
        assert any(selector.items() <= label.items() for label in labels), selector
    services = {each["metadata"]["name"] for each in of_kind(name, "Service")}
    ingresses = of_kind(name, "Ingress")
    assert [each["metadata"]["name"] for each in ingresses] == ["rolloutobs-collector", "shop"]
    for ingress in ingresses:
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            assert path["backend"]["service"]["name"] in services


def test_at_scale_what_is_sent_on_is_kept_on_disk() -> None:
    name = "overlays/scale"
    (data,) = [e["data"] for e in of_kind(name, "ConfigMap") if "collector" in e["metadata"]["name"]]
    settings = configured(data, {}).settings
    (service,) = [e for e in of_kind(name, "Service") if e["metadata"]["name"] == "rolloutobs-queue"]
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert settings.forward_url == f"http://rolloutobs-queue:{ports['otlp']}"
    (queue,) = of_kind(name, "StatefulSet")
    (container,) = queue["spec"]["template"]["spec"]["containers"]
    exposed = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert set(ports) < set(exposed)
    assert all(exposed[each] == port for each, port in ports.items())
    (written,) = [e["data"] for e in of_kind(name, "ConfigMap") if "queue" in e["metadata"]["name"]]
    config = yaml.safe_load(written["collector.yaml"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    claim = queue["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert config["extensions"]["file_storage"]["directory"] == mounts[claim]
    for pipeline in config["service"]["pipelines"].values():
        for exporter in pipeline["exporters"]:
            assert config["exporters"][exporter]["sending_queue"]["storage"] == "file_storage"
        assert {*pipeline["receivers"]} <= set(config["receivers"])
    assert set(config["service"]["extensions"]) == set(config["extensions"])
    assert config["exporters"]["kafka"]["retry_on_failure"]["max_elapsed_time"] == "0s"
    (scaler,) = of_kind(name, "HorizontalPodAutoscaler")
    assert (
        scaler["spec"]["maxReplicas"] > of_kind("base", "HorizontalPodAutoscaler")[0]["spec"]["maxReplicas"]
    )


def test_a_load_from_many_machines_has_as_many_workers_as_its_master_expects() -> None:
    name = "overlays/scale/load"
    jobs = {each["metadata"]["name"]: each["spec"] for each in of_kind(name, "CronJob")}
    master, workers = jobs["rolloutobs-load"], jobs["rolloutobs-load-workers"]
    assert master["schedule"] == workers["schedule"]
    job = workers["jobTemplate"]["spec"]
    given = dict(containers(name))
    arguments = given["rolloutobs-load"]["args"]
    assert f"--expect-workers={job['parallelism']}" in arguments
    assert job["completions"] == job["parallelism"]
    (service,) = of_kind(name, "Service")
    assert f"--master-host={service['metadata']['name']}" in given["rolloutobs-load-workers"]["args"]
    ports = {port["name"]: port["containerPort"] for port in given["rolloutobs-load"]["ports"]}
    master_options, worker_options = (make_parser().parse_args(each["args"]) for each in given.values())
    assert master_options.bind == f":{ports['master']}"
    assert worker_options.master_port == service["spec"]["ports"][0]["port"] == ports["master"]
    labels = {workload: template["metadata"]["labels"] for workload, template in pods(name)}
    assert service["spec"]["selector"].items() <= labels["rolloutobs-load"].items()
    assert not service["spec"]["selector"].items() <= labels["rolloutobs-load-workers"].items()


def test_the_app_component_reaches_the_shop_and_only_the_shop() -> None:
    for workload, template in pods("overlays/shop"):
        is_app = workload in ("shop-stable", "shop-canary", "inventory")
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        assert ({"podinfo", "cells"} <= volumes) is is_app
        if is_app:
            (container,) = template["spec"]["containers"]
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            assert mounts["podinfo"]["mountPath"] == str(Path(DEFAULT_LABELS_FILE).parent)
            assert "subPath" not in mounts["podinfo"]
            env = {entry["name"]: entry.get("value") for entry in container["env"]}
            assert env["ROLLOUTOBS_METRICS_DIR"] == mounts["cells"]["mountPath"]
            assert template["metadata"]["labels"]["rolloutobs.io/scrape"] == container["ports"][0]["name"]


def test_tracks_are_labels_that_the_sdk_reads() -> None:
    found = {
        (workload, template["metadata"]["labels"][TRACK_KEYS[0]])
        for workload, template in pods("overlays/shop")
        if TRACK_KEYS[0] in template["metadata"]["labels"]
    }
    assert found == {("shop-stable", "stable"), ("shop-canary", "canary")}


def test_monitors_keep_the_labels_of_processes() -> None:
    """And the collector's relabels nothing: what it counts is of the pages' versions."""
    for each in [*of_kind("base", "ServiceMonitor"), *of_kind("overlays/shop", "PodMonitor")]:
        spec = each["spec"]
        (endpoint,) = spec.get("endpoints") or spec["podMetricsEndpoints"]
        assert endpoint["honorLabels"] is True
        relabelled = [rule["targetLabel"] for rule in endpoint.get("relabelings", ())]
        assert relabelled == (
            ["app", "version", "track"] if each["metadata"]["name"] == "rolloutobs-apps" else []
        )


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


def test_variables_exist() -> None:
    known = {name for variable in VARIABLES for name in variable.names} | {
        "ROLLOUTOBS_SECRET", "ROLLOUTOBS_CHROMIUM_NO_SANDBOX", TOKEN,
    }  # fmt: skip
    for _, container in containers("overlays/shop"):
        for entry in container.get("env", ()):
            assert entry["name"] in known or not VARIABLE.fullmatch(entry["name"]), entry


def test_argo_puts_the_track_on_both_sides() -> None:
    """Argo takes a label off again only where the other side has it too."""
    (rollout,) = of_kind("argo-rollouts", "Rollout")
    canary = rollout["spec"]["strategy"]["canary"]
    for side in ("canary", "stable"):
        assert canary[f"{side}Metadata"] == {"labels": {TRACK_KEYS[0]: side}}
    assert TRACK_KEYS[0] not in rollout["spec"]["template"]["metadata"]["labels"]


def test_argos_gate_is_the_gate() -> None:
    ((_, job),) = [pair for pair in containers("argo-rollouts") if pair[0] == "rolloutobs-gate"]
    ((_, component),) = [pair for pair in containers("overlays/shop") if pair[0] == "rolloutobs-gate"]
    given = [argument.replace("{{args.app}}", "shop") for argument in job["args"]]
    (template,) = [e for e in of_kind("argo-rollouts", "AnalysisTemplate") if "gate" in e["metadata"]["name"]]
    address = {each["name"]: each.get("value") for each in template["spec"]["args"]}["prometheus"]
    # A Deployment's rails; those of an analysis' Rollout are the server's, which also decides there.
    wanted = [argument for argument in component["args"] if not argument.startswith("--workload=")]
    assert [a.replace("{{args.prometheus}}", address) for a in given] == wanted


def test_flagger_copies_no_track_and_asks_for_what_is_recorded() -> None:
    (deployment,) = [e for e in of_kind("flagger", "Deployment") if e["metadata"]["name"] == "shop"]
    template = deployment["spec"]["template"]
    assert not set(TRACK_KEYS) & set(template["metadata"]["labels"])
    assert "ROLLOUTOBS_TRACK" not in {entry["name"] for entry in template["spec"]["containers"][0]["env"]}
    (canary,) = of_kind("flagger-metrics", "Canary")
    asked = {metric["templateRef"]["name"] for metric in canary["spec"]["analysis"]["metrics"]}
    templates = {
        each["metadata"]["name"]: each["spec"]["query"]
        for each in of_kind("flagger-metrics", "MetricTemplate")
    }
    assert asked == set(templates)
    recorded = {rule.name for group in GROUPS for rule in group.rules if isinstance(rule, Recording)}
    for query in templates.values():
        assert metrics_of(query) <= recorded


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


def test_the_checks_of_flagger_are_those_that_there_are() -> None:
    ((_, container),) = [pair for pair in containers("flagger") if pair[0] == "rolloutobs-checks"]
    (command,) = [entry["value"] for entry in container["env"] if entry["name"] == "CHECKS"]
    run, journey, *_ = command.split()
    assert run == "run"
    assert load_journey(journey).walk is checkout


def test_controllers_ask_where_the_server_is() -> None:
    (service,) = [e for e in of_kind("base", "Service") if e["metadata"]["name"] == "rolloutobs-serve"]
    base = f"http://rolloutobs-serve.rolloutobs:{service['spec']['ports'][0]['port']}"
    (canary,) = of_kind("flagger", "Canary")
    hooks = list(canary["spec"]["analysis"]["webhooks"])
    (checks,) = [e for e in of_kind("flagger", "Service") if e["metadata"]["name"] == "rolloutobs-checks"]
    where = f"http://rolloutobs-checks.shop:{checks['spec']['ports'][0]['port']}/"
    (first,) = [hook for hook in hooks if hook["url"] == where]
    assert (first["type"], first["metadata"]["type"]) == ("pre-rollout", "bash")
    assert first["metadata"]["cmd"] == "rolloutobs-synthetic $CHECKS"
    hooks.remove(first)
    assert [hook["url"] for hook in hooks] == [f"{base}/flagger/{Hook(hook['type'])}" for hook in hooks]
    assert {"rollback", "confirm-traffic-increase", "confirm-promotion", "rollout"} < {
        h["type"] for h in hooks
    }
    templates = {e["metadata"]["name"]: e["spec"] for e in of_kind("argo-rollouts", "AnalysisTemplate")}
    web = templates["rolloutobs-verdict"]["metrics"][0]["provider"]["web"]
    defaults = {e["name"]: e.get("value") for e in templates["rolloutobs-verdict"]["args"]}
    assert defaults["serve"] == base
    assert web["url"].startswith("{{args.serve}}/v1/verdict?namespace={{args.namespace}}&workload=")


def test_watcher_and_server_may_do_what_they_do_and_nothing_else() -> None:
    roles = {each["metadata"]["name"]: each["rules"] for each in of_kind("base", "ClusterRole")}
    assert sorted(roles.pop("rolloutobs-watcher"), key=str) == sorted(rules(), key=str)
    workloads = [("apps", "deployments"), ("argoproj.io", "rollouts"), ("flagger.app", "canaries")]
    assert roles == {
        "rolloutobs-serve": [
            {"apiGroups": [group], "resources": [plural], "verbs": ["list"]} for group, plural in workloads
        ]
    }
    accounts = {name: template["spec"]["serviceAccountName"] for name, template in pods("base")}
    for binding in of_kind("base", "ClusterRoleBinding"):
        name = binding["metadata"]["name"]
        assert binding["roleRef"]["name"] == name
        assert [subject["name"] for subject in binding["subjects"]] == [accounts[name]]
        assert binding["subjects"][0]["namespace"] == of_kind("base", "Namespace")[0]["metadata"]["name"]


@pytest.mark.parametrize("name", ["rolloutobs-serve", "rolloutobs-watcher"])
def test_what_keeps_a_state_is_there_once(name: str) -> None:
    (deployment,) = [e for e in of_kind("base", "Deployment") if e["metadata"]["name"] == name]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    claims = {e["metadata"]["name"] for e in of_kind("base", "PersistentVolumeClaim")}
    used = [v["persistentVolumeClaim"]["claimName"] for v in deployment["spec"]["template"]["spec"]["volumes"]
            if "persistentVolumeClaim" in v]  # fmt: skip
    assert used == [name]
    assert name in claims
    # A budget of none would hold up every drain of its node.
    (budget,) = [e for e in of_kind("base", "PodDisruptionBudget") if e["metadata"]["name"] == name]
    assert budget["spec"]["maxUnavailable"] == 1


def test_the_gate_may_read_the_workload_that_it_watches_and_nothing_else() -> None:
    name = "overlays/shop"
    (role,), (binding,) = of_kind(name, "Role"), of_kind(name, "RoleBinding")
    assert role["rules"] == [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}]
    (job,) = of_kind(name, "Job")
    spec = job["spec"]["template"]["spec"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    account = {"kind": "ServiceAccount", "name": spec["serviceAccountName"], "namespace": "shop"}
    assert binding["subjects"] == [account]
    assert {role["metadata"]["namespace"], binding["metadata"]["namespace"]} == {"shop"}
    (watched,) = [each for each in spec["containers"][0]["args"] if each.startswith("--workload=")]
    deployments = [each["metadata"]["name"] for each in of_kind(name, "Deployment")]
    assert watched.removeprefix("--workload=deployment/") in deployments


@pytest.mark.parametrize("name", ["base", "overlays/scale", "overlays/shop"])
def test_the_collector_learns_from_the_watcher_which_versions_are_out(name: str) -> None:
    (data,) = [e["data"] for e in of_kind(name, "ConfigMap") if "collector" in e["metadata"]["name"]]
    watcher = {"app.kubernetes.io/name": "rolloutobs-watcher"}
    (service,) = [e for e in of_kind(name, "Service") if e["metadata"]["labels"].items() >= watcher.items()]
    (port,) = service["spec"]["ports"]
    url = f"http://{service['metadata']['name']}:{port['port']}/metrics"
    assert configured(data, {}).settings.version_urls == (url,)
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(name, "NetworkPolicy")}
    (out, *_), (inwards,) = (
        policies["rolloutobs-collector"]["egress"],
        policies["rolloutobs-watcher"]["ingress"],
    )
    assert out == {"to": [{"podSelector": {"matchLabels": watcher}}], "ports": [{"port": port["targetPort"]}]}
    collector = {"app.kubernetes.io/name": "rolloutobs-collector"}
    assert {"podSelector": {"matchLabels": collector}} in inwards["from"]
    assert inwards["ports"] == out["ports"]


def test_every_part_of_the_base_is_scraped_and_fenced_in() -> None:
    names = {each["metadata"]["name"] for each in of_kind("base", "Deployment")}
    assert names == {"rolloutobs-collector", "rolloutobs-serve", "rolloutobs-watcher"}
    for kind in ("ServiceMonitor", "NetworkPolicy", "Service", "ServiceAccount", "PodDisruptionBudget"):
        assert {each["metadata"]["name"] for each in of_kind("base", kind)} == names, kind
    ports = {each["metadata"]["name"]: each["spec"]["ports"] for each in of_kind("base", "Service")}
    for workload, container in containers("base"):
        assert [port["port"] for port in ports[workload]] == [container["ports"][0]["containerPort"]]


def test_jobs_follow_the_exit_codes() -> None:
    (gate,), crons = of_kind("overlays/shop", "Job"), of_kind("overlays/shop", "CronJob")
    assert gate["spec"]["backoffLimit"] == 0
    periods = {"*/5 * * * *": 300, "17 * * * *": 3600}
    assert len(crons) == len(periods)
    for each in crons:
        spec, job = each["spec"], each["spec"]["jobTemplate"]["spec"]
        assert spec["concurrencyPolicy"] == "Forbid"
        assert 60 <= spec["startingDeadlineSeconds"] <= 200
        assert job["activeDeadlineSeconds"] < periods[spec["schedule"]]
        assert job["backoffLimit"] == 1
    for job in (gate["spec"], *(each["spec"]["jobTemplate"]["spec"] for each in crons)):
        assert job["template"]["spec"]["restartPolicy"] == "Never"
        assert [rule["action"] for rule in job["podFailurePolicy"]["rules"]] == ["Ignore", "FailJob"]


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
