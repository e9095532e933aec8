"""OpenTelemetry resource attributes: what this process is, beyond service and version.

Resources are frozen when a provider is made, so the track is not among them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping

from rolloutobs import variables
from rolloutobs.identity import UNKNOWN_VERSION
from rolloutobs.settings import UNKNOWN_SERVICE, Settings

__all__ = ["instance_id", "kubernetes_attributes", "pod_name", "resource_attributes"]

# Source: OpenTelemetry semantic conventions, service.instance.id: the namespace of its version 5 UUIDs.
_NAMESPACE = uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")
_INSTANCE = "service.instance.id"
_PREFIXES = ("", "K8S_", "MY_", "OTEL_RESOURCE_ATTRIBUTES_")
"""In the names of variables that carry the Downward API: as charts write them, as the Kubernetes
documentation does, and as the OpenTelemetry operator sets them."""
_KUBERNETES = {
    "k8s.pod.name": ("POD_NAME",),
    "k8s.pod.uid": ("POD_UID",),
    "k8s.namespace.name": ("POD_NAMESPACE", "NAMESPACE_NAME"),
    "k8s.node.name": ("NODE_NAME",),
    "k8s.container.name": ("CONTAINER_NAME",),
}
_MAX_CHARS = 253
"""Source: Kubernetes, "Object Names and IDs": a DNS subdomain, the longest of these names."""
_random: dict[int, str] = {}


def resource_attributes(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that rolloutobs adds to a resource; what is not known is not among them.

    ``service.name``, ``service.version``, ``service.instance.id``, ``deployment.environment.name`` and
    ``k8s.pod.name``, ``k8s.pod.uid``, ``k8s.namespace.name``, ``k8s.node.name``, ``k8s.container.name``.
    Apart from those of `settings`, entries of ``OTEL_RESOURCE_ATTRIBUTES`` come first.
    """
    named = {
        "service.name": "" if settings.service == UNKNOWN_SERVICE else settings.service,
        "service.version": "" if settings.version == UNKNOWN_VERSION else settings.version,
        "deployment.environment.name": settings.environment,
        _INSTANCE: instance_id(environ),
        **kubernetes_attributes(environ),
    }
    return {name: value for name, value in named.items() if value}


def kubernetes_attributes(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the ``k8s.*`` attributes of this pod, as far as the environment names them."""
    given = variables.resource_attributes(environ)
    found = {}
    for attribute, names in _KUBERNETES.items():
        candidates = (environ.get(prefix + name, "") for name in names for prefix in _PREFIXES)
        value = given.get(attribute) or next((text.strip() for text in candidates if text.strip()), "")
        if value:
            found[attribute] = value[:_MAX_CHARS]
    host = environ.get("HOSTNAME", "").strip()
    # On the host's network HOSTNAME is the node's.
    if environ.get("KUBERNETES_SERVICE_HOST") and host and host != found.get("k8s.node.name"):
        found.setdefault("k8s.pod.name", host[:_MAX_CHARS])
    return found


def pod_name(environ: Mapping[str, str]) -> str:
    """Return the name of this pod; empty where it is not known."""
    return kubernetes_attributes(environ).get("k8s.pod.name", "")


def instance_id(environ: Mapping[str, str], pid: int | None = None) -> str:
    """Return ``service.instance.id``: the same for the life of a process, another one for each worker.

    ``OTEL_RESOURCE_ATTRIBUTES`` decides. In Kubernetes a UUID made from the pod, the container and the
    process id, so that it is known before and after a restart; else a random one, new after a fork.

    Args:
        environ: environment variables.
        pid: process; ``None``: this one.
    """
    given = variables.resource_attributes(environ).get(_INSTANCE, "").strip()
    if given:
        return given
    pid = os.getpid() if pid is None else pid
    here = kubernetes_attributes(environ)
    pod = here.get("k8s.pod.uid", "")
    if not pod and here.get("k8s.namespace.name") and here.get("k8s.pod.name"):
        pod = f"{here['k8s.namespace.name']}/{here['k8s.pod.name']}"
    if pod:
        return str(uuid.uuid5(_NAMESPACE, f"{pod}/{here.get('k8s.container.name', '')}/{pid}"))
    return _random.setdefault(pid, str(uuid.uuid4()))
