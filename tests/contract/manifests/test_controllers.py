"""Argo Rollouts and Flagger: their objects ask the gate, in words that it knows."""

from __future__ import annotations

from examples.shop.journey import checkout
from k8s.source.rules import GROUPS, Recording
from rolloutobs.console.standing import Hook
from rolloutobs.detection.track import TRACK_KEYS
from synthetic.discovery import load_journey
from tests.contract.manifests.built import containers, of_kind
from tests.rules.naming import metrics_of


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


def test_how_many_pods_there_are_under_flagger_says_its_autoscaler() -> None:
    """In the Deployment, which Flagger scales to nothing, it would be undone by whoever applies it again."""
    (deployment,) = [e for e in of_kind("flagger", "Deployment") if e["metadata"]["name"] == "shop"]
    assert "replicas" not in deployment["spec"]
    (scaler,) = of_kind("flagger", "HorizontalPodAutoscaler")
    (canary,) = of_kind("flagger", "Canary")
    assert scaler["spec"]["scaleTargetRef"] == canary["spec"]["targetRef"]
    named = {"apiVersion": scaler["apiVersion"], "kind": scaler["kind"], "name": scaler["metadata"]["name"]}
    assert canary["spec"]["autoscalerRef"] == named


def test_flagger_copies_no_track_and_asks_for_what_is_recorded() -> None:
    (deployment,) = [e for e in of_kind("flagger", "Deployment") if e["metadata"]["name"] == "shop"]
    template = deployment["spec"]["template"]
    assert not set(TRACK_KEYS) & set(template["metadata"]["labels"])
    # Flagger renames what the selector has; by the other one kube-state-metrics and the watcher know the app.
    assert deployment["spec"]["selector"]["matchLabels"] == {"app": "shop"}
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "shop"
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
