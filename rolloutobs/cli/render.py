"""``rolloutobs render``: the manifests for the user's own app."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.cli.options import require, write
from rolloutobs.errors import ConfigurationError

if TYPE_CHECKING:
    from rolloutobs.manifests.model import Wanted

__all__ = ["add_parser", "run"]

# Source: RFC 1123, as Kubernetes applies it to names; shorter, for names are made longer (-synthetic).
_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?")
_CLUSTER_NAMESPACE: Final = "rolloutobs"

_DESCRIPTION: Final = """\
Print what Kubernetes needs for your app to be released as a guarded canary: its workload with the labels, the
volumes and the variables of an instrumented app, Services that reach each track, monitors for the Prometheus
Operator, checks, and the gate. With --cluster: what a cluster needs once, for all of its apps.

It is a start that is yours: look at it, keep it in your repository, change it.
"""

_EPILOG: Final = """\
examples:
  two Deployments, stable and canary, behind one Service; users reach both by the number of their pods:
    rolloutobs render --app shop --namespace shop --image registry.example.com/shop:1.1.0 \\
        --canary-image registry.example.com/shop:1.2.0 | kubectl apply -f -

  under Argo Rollouts, or under Flagger (with an ingress controller, which is why the host is needed):
    rolloutobs render --app shop --with argo --image registry.example.com/shop:1.1.0
    rolloutobs render --app shop --with flagger --image registry.example.com/shop:1.1.0 \\
        --host shop.example.com

  with a journey through the shop, and as files to keep:
    rolloutobs-synthetic init journeys/first.py
    rolloutobs render --app shop --image shop:1.1.0 --journey journeys/first.py --output-dir deploy/shop
    kubectl apply -k deploy/shop

  once per cluster: the collector for real users of all apps, what watches rollouts, rules and dashboards:
    rolloutobs render --cluster --app shop --host shop.example.com --app cart --host cart.example.com \\
        | kubectl apply -f -

Then see whether all of it is right:
    rolloutobs doctor --prometheus http://prometheus:9090 --app shop

The images of rolloutobs itself are built from k8s/images/Containerfile; --registry says where you keep them.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "render",
        help="print the Kubernetes manifests for your app",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--app",
        required=True,
        action="append",
        metavar="NAME",
        help="name of the app: of its objects and in its metrics; with --cluster again for each further app",
    )
    parser.add_argument(
        "--namespace",
        metavar="NAME",
        help=f"where all of it goes (default: the app's name; with --cluster: {_CLUSTER_NAMESPACE})",
    )
    parser.add_argument(
        "--cluster", action="store_true", help="print what a cluster needs once, and not the app's part"
    )
    parser.add_argument(
        "--output-dir", type=Path, metavar="FOLDER", help="write files there, with a kustomization.yaml"
    )
    _add_app(parser)
    _add_rest(parser)
    parser.set_defaults(run=run)


def _add_app(parser: argparse.ArgumentParser) -> None:
    app = parser.add_argument_group("the app")
    app.add_argument(
        "--with",
        dest="controller",
        choices=("argo", "flagger"),
        default="none",
        help="who moves the traffic (default: nobody; stable and canary are two Deployments)",
    )
    app.add_argument(
        "--image", metavar="IMAGE", help="what runs now, with its tag: registry.example.com/shop:1.1.0"
    )
    app.add_argument("--version", metavar="VERSION", help="what is in it (default: the tag)")
    app.add_argument(
        "--canary-image",
        metavar="IMAGE",
        help="what the canary Deployment runs (default: it has no pods yet)",
    )
    app.add_argument("--canary-version", metavar="VERSION", help="what is in that one (default: the tag)")
    app.add_argument(
        "--replicas", type=int, default=4, metavar="N", help="pods of stable (default: %(default)s)"
    )
    app.add_argument(
        "--port", type=int, default=8000, metavar="N", help="it listens there (default: %(default)s)"
    )
    app.add_argument(
        "--health",
        default="/healthz",
        metavar="PATH",
        help="it is ready when this answers (default: %(default)s)",
    )
    app.add_argument(
        "--owner",
        default="",
        metavar="NAME",
        help="a team or a channel, named in alerts and notifications (rolloutobs.io/owner)",
    )
    app.add_argument(
        "--host",
        default=[],
        action="append",
        metavar="NAME",
        help="users reach it under this name (adds an Ingress); with --cluster again for each further one",
    )


def _add_rest(parser: argparse.ArgumentParser) -> None:
    rest = parser.add_argument_group("what looks at it")
    rest.add_argument(
        "--journey",
        default="",
        metavar="FILE[:FUNCTION]",
        help="a check walks it against both tracks (rolloutobs-synthetic init writes a first one)",
    )
    rest.add_argument(
        "--load", default="", metavar="FILE", help="a locustfile, run against both tracks once an hour"
    )
    rest.add_argument(
        "--prometheus", default="", metavar="URL", help="the gate asks it, from within the cluster"
    )
    rest.add_argument(
        "--serve",
        default="",
        metavar="URL",
        help="Argo Rollouts and Flagger ask the gate there (default: where --cluster puts it)",
    )
    rest.add_argument(
        "--token",
        action="store_true",
        help="asking the gate takes a token, not only deciding by hand: the key token of the Secret "
        "rolloutobs-serve, in the cluster's namespace and in that of a Rollout",
    )
    rest.add_argument(
        "--runbook",
        default="",
        metavar="URL",
        help="your team reads docs/runbook.md there: alerts link to it (with --cluster)",
    )
    rest.add_argument(
        "--registry",
        default="",
        metavar="NAME",
        help="in front of our images: registry.example.com/rolloutobs",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print or write the manifests and return the exit code.

    Raises:
        ConfigurationError: a name cannot be used, an option is missing, or a file cannot be read.
        MissingExtraError: PyYAML is not installed.
    """
    require("render", "yaml")
    from rolloutobs.manifests.rendering import for_the_app, for_the_cluster, in_files, together

    wanted = _wanted(arguments)
    objects = for_the_cluster(wanted) if arguments.cluster else for_the_app(wanted)
    if arguments.output_dir is None:
        sys.stdout.write(together(objects))
    else:
        _write(arguments.output_dir, in_files(objects))
    for note in _notes(arguments, wanted):
        print(f"rolloutobs: {note}", file=sys.stderr)
    return 0


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write(folder / name, text)
        print(folder / name)


def _wanted(arguments: argparse.Namespace) -> Wanted:
    from rolloutobs.manifests.model import Controller, Wanted

    (app, *apps), (host, *hosts) = arguments.app, arguments.host or [""]
    if (apps or hosts) and not arguments.cluster:
        raise ConfigurationError("each app has its own manifests; give one --app and one --host")
    namespace = arguments.namespace or (_CLUSTER_NAMESPACE if arguments.cluster else app)
    for option, name in (*(("--app", each) for each in arguments.app), ("--namespace", namespace)):
        if _NAME.fullmatch(name) is None:
            raise ConfigurationError(
                f"{option} is {name!r}; use up to 47 of a-z, 0-9 and -, as Kubernetes does"
            )
    controller = Controller(arguments.controller)
    image, canary = arguments.image or "", arguments.canary_image or ""
    if not (image or arguments.cluster):
        raise ConfigurationError("give --image, what runs now: registry.example.com/shop:1.1.0")
    if canary and controller is not Controller.NONE:
        raise ConfigurationError(f"{controller.value} makes the canary itself; leave --canary-image out")
    if controller is Controller.FLAGGER and not host:
        raise ConfigurationError("Flagger moves the traffic of an Ingress; give --host, its name")
    if arguments.token and controller is Controller.FLAGGER and "@" not in arguments.serve:
        raise ConfigurationError(
            "Flagger's webhooks have no headers, and take no Secret; give the token in the address, which "
            "whoever may read Canaries can read: --serve http://flagger:TOKEN@rolloutobs-serve.rolloutobs:9400"
        )
    journey, _, function = arguments.journey.partition(":")
    return Wanted(
        app,
        namespace,
        controller,
        image,
        arguments.version or _tag(image, "--version"),
        canary,
        arguments.canary_version or _tag(canary, "--canary-version"),
        host,
        arguments.port,
        arguments.health,
        arguments.replicas,
        arguments.owner,
        arguments.prometheus,
        arguments.serve,
        arguments.token,
        arguments.runbook.partition("#")[0],
        f"{arguments.registry.rstrip('/')}/" if arguments.registry else "",
        _read(journey, "--journey"),
        function,
        _read(arguments.load, "--load"),
        tuple(apps),
        tuple(hosts),
    )


def _tag(image: str, option: str) -> str:
    """Return the tag of an image; empty for no image.

    Raises:
        ConfigurationError: it has none that says which version it is.
    """
    if not image:
        return ""
    found = re.search(r":(\w[\w.-]{0,127})$", image.partition("@")[0])
    if found is None or found[1] == "latest":
        raise ConfigurationError(f"the image {image!r} does not say which version it is; give {option}")
    return found[1]


def _read(path: str, option: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {option} {path!r}: {error}") from None


def _notes(arguments: argparse.Namespace, wanted: Wanted) -> list[str]:
    notes = []
    if not wanted.registry:
        notes.append(
            "our images have no registry in front of their names; --registry says where you keep them"
        )
    if arguments.cluster:
        return notes
    if not wanted.journey:
        notes.append("no check is among this; --journey adds one")
    notes.append(f"once per cluster there is also: rolloutobs render --cluster --app {wanted.app}")
    return notes
