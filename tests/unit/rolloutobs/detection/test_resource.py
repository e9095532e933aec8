import os
import uuid

import pytest

from rolloutobs.detection.resource import instance_id, kubernetes_attributes, pod_name, resource_attributes
from rolloutobs.settings import Settings

POD = {
    "POD_NAME": "shop-7d9f8b6c5-x2x4z",
    "POD_NAMESPACE": "web",
    "POD_UID": "275ecb36-5aa8-4c2a-9c47-d8bb681b9aff",
    "NODE_NAME": "node-1",
    "CONTAINER_NAME": "app",
}


def test_everything_that_is_known():
    settings = Settings(service="shop", version="1.2.0", track="canary", environment="prod")
    found = resource_attributes(settings, POD)
    instance = found.pop("service.instance.id")
    assert uuid.UUID(instance).version == 5
    assert found == {
        "service.name": "shop",
        "service.version": "1.2.0",
        "deployment.environment.name": "prod",
        "k8s.pod.name": "shop-7d9f8b6c5-x2x4z",
        "k8s.namespace.name": "web",
        "k8s.pod.uid": "275ecb36-5aa8-4c2a-9c47-d8bb681b9aff",
        "k8s.node.name": "node-1",
        "k8s.container.name": "app",
    }


def test_what_is_not_known_is_left_out():
    assert set(resource_attributes(Settings(), {})) == {"service.instance.id"}


def test_the_usual_spellings_of_the_downward_api():
    spellings = {
        "K8S_POD_NAME": "a",
        "MY_POD_NAMESPACE": "b",
        "OTEL_RESOURCE_ATTRIBUTES_NODE_NAME": "c",
        "K8S_CONTAINER_NAME": " ",
    }
    assert kubernetes_attributes(spellings) == {
        "k8s.pod.name": "a",
        "k8s.namespace.name": "b",
        "k8s.node.name": "c",
    }
    assert kubernetes_attributes({"K8S_NAMESPACE_NAME": "web"}) == {"k8s.namespace.name": "web"}


def test_resource_attributes_of_the_environment_come_first():
    environ = POD | {"OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=other,service.instance.id=i-1"}
    assert kubernetes_attributes(environ)["k8s.pod.name"] == "other"
    assert instance_id(environ) == "i-1"


def test_the_host_name_is_a_pods_only_inside_a_cluster():
    inside = {"HOSTNAME": "shop-abc", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert pod_name(inside) == "shop-abc"
    assert pod_name({"HOSTNAME": "laptop"}) == ""
    assert pod_name(inside | {"POD_NAME": "shop-1"}) == "shop-1"
    # A pod on the host's network.
    assert pod_name(inside | {"NODE_NAME": "shop-abc"}) == ""


def test_the_instance_is_stable_in_a_process_and_differs_between_workers():
    for environ in ({}, POD, {"POD_NAME": "a", "POD_NAMESPACE": "b"}):
        assert instance_id(environ) == instance_id(environ)
        assert instance_id(environ, pid=1) != instance_id(environ, pid=2)
    assert instance_id(POD, pid=1) != instance_id(POD | {"CONTAINER_NAME": "other"}, pid=1)
    assert instance_id(POD, pid=1) == instance_id(POD | {"POD_NAME": "renamed"}, pid=1)
    # A name without a namespace is not unique.
    assert uuid.UUID(instance_id({"POD_NAME": "a"})).version == 4


# Python 3.12 warns where the test runner itself has threads.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_worker_is_another_instance():
    mine = instance_id({})
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, instance_id({}).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        theirs = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    assert uuid.UUID(theirs).version == 4
    assert theirs != mine
