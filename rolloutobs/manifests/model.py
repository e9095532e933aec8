"""What the manifests are written for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Controller", "Wanted"]


class Controller(StrEnum):
    """Who moves the traffic from one version to the other."""

    NONE = "none"
    """Nobody: stable and canary are two Deployments."""
    ARGO = "argo"
    FLAGGER = "flagger"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One app and where it runs."""

    app: str
    """Its name: of its objects, and its ``service.name``."""
    namespace: str
    controller: Controller = Controller.NONE
    image: str = ""
    """Of the app, with its tag; of stable where there are two Deployments."""
    version: str = ""
    """What runs in `image`."""
    canary_image: str = ""
    """Of the canary Deployment; empty: it is there without pods."""
    canary_version: str = ""
    host: str = ""
    """Under which users reach the app; empty: no Ingress."""
    port: int = 8000
    """On which the app listens."""
    health: str = "/healthz"
    """Path of the app's readiness."""
    replicas: int = 4
    owner: str = ""
    """A team or a channel, named in alerts and notifications; empty: nobody."""
    prometheus: str = ""
    """URL of the Prometheus that gates ask; empty: as it stands in `k8s/`."""
    serve: str = ""
    """URL of the gate as a server, which controllers ask; empty: as it stands in `k8s/`."""
    with_token: bool = False
    """Whether asking the gate takes a token, and not only deciding by hand."""
    runbook: str = ""
    """Address under which the team reads docs/runbook.md, for the links in alerts; empty: its path."""
    registry: str = ""
    """In front of the names of our images."""
    journey: str = ""
    """Text of the file with the journeys; empty: no check."""
    journey_name: str = ""
    """Function in that file; empty: all."""
    locustfile: str = ""
    """Text of a locustfile; empty: no load."""
    more_apps: tuple[str, ...] = ()
    """Whose pages the cluster's collector knows, too."""
    more_hosts: tuple[str, ...] = ()
    """Under which those are reached."""
