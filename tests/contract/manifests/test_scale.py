"""The overlay for many views and great loads: its parts fit together."""

from __future__ import annotations

import yaml

from rum_collector.configuration import configured
from synthetic.options import make_parser
from tests.contract.manifests.built import containers, of_kind, pods


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
