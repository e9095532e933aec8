"""Where the API server is and how to be let in: a pod's service account, or a person's kubeconfig."""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rolloutobs.errors import ClusterError, ConfigurationError, MissingExtraError

__all__ = ["Connection", "connect", "from_kubeconfig", "in_cluster"]

# Source: Kubernetes, "Accessing the Kubernetes API from a Pod".
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_EXEC_SECONDS: Final = 60.0
"""For a plugin, which may ask somebody to log in."""


def _no_token(is_again: bool) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach an API server."""

    server: str
    """URL."""
    namespace: str = "default"
    """Where things are looked for that nobody said a namespace of."""
    token: Callable[[bool], str] = field(default=_no_token, repr=False)
    """Returns the bearer token, empty for none; given true, the last one was refused. May block."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    ca_data: str = ""
    """The same as PEM."""
    certificate: str = field(default="", repr=False)
    """Our own, as PEM; empty: none."""
    key: str = field(default="", repr=False)
    """Its key, as PEM."""
    is_insecure: bool = False
    """Whether anybody may pass for the server."""
    proxy: str = ""

    def context(self) -> ssl.SSLContext | bool:
        """Return what certificates are checked with.

        Raises:
            ConfigurationError: a certificate cannot be read.
        """
        if self.server.startswith("http://"):
            return False
        try:
            context = ssl.create_default_context(cafile=self.ca_file, cadata=self.ca_data or None)
            if self.is_insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.certificate:
                _load(context, self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"cannot use the certificates for {self.server}: {error}") from None
        return context


def connect(environ: Mapping[str, str], kubeconfig: Path | None = None, context: str = "") -> Connection:
    """Return the connection that `environ` means: what was asked for, else the pod's, else the kubeconfig.

    Args:
        environ: ``KUBECONFIG``, ``HOME``, and what a pod is given.
        kubeconfig: a file that was asked for.
        context: of the kubeconfig; empty: its current one.

    Raises:
        ConfigurationError: there is neither, or it cannot be used.
    """
    named = environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    if kubeconfig is None and not context and not named and environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(environ)
    home = Path(environ.get("HOME") or "~").expanduser()
    return from_kubeconfig(kubeconfig or Path(named or home / ".kube" / "config"), context, environ)


def in_cluster(environ: Mapping[str, str], folder: Path = _ACCOUNT) -> Connection:
    """Return the connection of a pod's service account; the token is read for every request.

    Raises:
        ConfigurationError: this is no pod, or it has no service account.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    token_file = folder / "token"
    if not host or not token_file.exists():
        raise ConfigurationError(
            f"there is no service account in {str(folder)!r}: is automountServiceAccountToken false?"
        )
    address = f"[{host}]" if ":" in host else host
    ca_file = folder / "ca.crt"

    def token(_: bool) -> str:
        return _read(token_file).strip()

    return Connection(
        f"https://{address}:{port}",
        _read(folder / "namespace").strip() if (folder / "namespace").exists() else "default",
        token,
        ca_file if ca_file.exists() else None,
    )


def from_kubeconfig(path: Path, context: str = "", environ: Mapping[str, str] = os.environ) -> Connection:
    """Return the connection of a kubeconfig.

    Source: Kubernetes, "kubeconfig (v1)".

    Args:
        path: the file.
        context: which of its contexts; empty: the current one.
        environ: for plugins.

    Raises:
        ConfigurationError: it cannot be read, or names what is not there or not supported.
    """
    plain = _kubeconfig(path)
    name = context or str(plain.get("current-context") or "")
    if not name:
        raise ConfigurationError(f"{path} has no current-context; use --context")
    chosen = _named(plain, "contexts", name, "context", path)
    cluster = _named(plain, "clusters", str(chosen.get("cluster", "")), "cluster", path)
    user = _named(plain, "users", str(chosen["user"]), "user", path) if chosen.get("user") else {}
    if user.get("auth-provider") or cluster.get("tls-server-name"):
        raise ConfigurationError(
            f"{path}: auth-provider and tls-server-name are not supported; use a token, a client certificate "
            "or an exec plugin"
        )
    server = str(cluster.get("server") or "")
    if not server.startswith(("http://", "https://")):
        raise ConfigurationError(f"{path}: the server of context {name!r} is {server!r}; use https://...")
    certificate, key, token = _credentials(user, path, environ)
    return Connection(
        server,
        str(chosen.get("namespace") or "default"),
        token,
        ca_data=_data(cluster, "certificate-authority", path),
        certificate=certificate,
        key=key,
        is_insecure=bool(cluster.get("insecure-skip-tls-verify")),
        proxy=str(cluster.get("proxy-url") or ""),
    )


def _credentials(
    user: Mapping[str, Any], path: Path, environ: Mapping[str, str]
) -> tuple[str, str, Callable[[bool], str]]:
    """Return certificate, key and what gives the token."""
    if user.get("exec"):
        plugin = _Plugin(user["exec"], path, environ)
        first = plugin.status()
        return (
            str(first.get("clientCertificateData") or ""),
            str(first.get("clientKeyData") or ""),
            plugin.token,
        )
    certificate, key = _data(user, "client-certificate", path), _data(user, "client-key", path)
    if user.get("tokenFile"):
        token_file = path.parent / str(user["tokenFile"])
        return certificate, key, lambda _: _read(token_file).strip()
    given = str(user.get("token") or "")
    return certificate, key, lambda _: given


class _Plugin:
    """Runs an exec plugin, again when its token is refused.

    Source: Kubernetes, "client-go credential plugins".
    """

    def __init__(self, spec: Mapping[str, Any], path: Path, environ: Mapping[str, str]) -> None:
        self._command = [str(spec.get("command") or ""), *map(str, spec.get("args") or ())]
        added = {str(item["name"]): str(item["value"]) for item in spec.get("env") or ()}
        info = {
            "apiVersion": spec.get("apiVersion", "client.authentication.k8s.io/v1"),
            "kind": "ExecCredential",
            "spec": {"interactive": False},
        }
        self._environ = {**environ, **added, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        self._folder = path.parent
        self._status: Mapping[str, Any] | None = None

    def status(self) -> Mapping[str, Any]:
        """Return what the plugin gives."""
        if self._status is None:
            self._status = self._run()
        return self._status

    def token(self, is_again: bool) -> str:
        """Return its token."""
        if is_again:
            self._status = None
        return str(self.status().get("token") or "")

    def _run(self) -> Mapping[str, Any]:
        words = " ".join(self._command)
        try:
            done = subprocess.run(  # noqa: S603 - what the user's own kubeconfig names
                self._command,
                env=self._environ,
                cwd=self._folder,
                capture_output=True,
                text=True,
                timeout=_EXEC_SECONDS,
                check=True,
            )
            found = json.loads(done.stdout)["status"]
        except subprocess.CalledProcessError as error:
            said = (error.stderr or "").strip().splitlines()
            raise ClusterError(f"{words} has failed: {said[-1] if said else error.returncode}") from None
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
            raise ClusterError(f"{words} gives no credentials: {error}") from None
        return found if isinstance(found, dict) else {}


def _kubeconfig(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"this is no pod, and there is no kubeconfig {str(path)!r}; use --kubeconfig"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the kubeconfig {str(path)!r}: {error}") from None
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("cluster", "a kubeconfig", "yaml") from None
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(plain, dict):
        raise ConfigurationError(f"{path} is no kubeconfig")
    return plain


def _named(plain: Mapping[str, Any], kind: str, name: str, key: str, path: Path) -> Mapping[str, Any]:
    for item in plain.get(kind) or ():
        if item.get("name") == name:
            found = item.get(key)
            return found if isinstance(found, dict) else {}
    known = ", ".join(repr(item.get("name")) for item in plain.get(kind) or ()) or "none"
    raise ConfigurationError(f"{path} has no {key} {name!r}; it has {known}")


def _data(plain: Mapping[str, Any], key: str, path: Path) -> str:
    """Return a PEM that stands in the kubeconfig, or in a file beside it; empty: neither."""
    inline = plain.get(f"{key}-data")
    if inline:
        try:
            return base64.b64decode(str(inline), validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path}: {key}-data is not base64 of PEM: {error}") from None
    return _read(path.parent / str(plain[key])) if plain.get(key) else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"cannot read {str(path)!r}: {error}") from None


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load what Python's ssl takes from files only."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pair.pem")
        file.touch(mode=0o600)
        file.write_text(f"{certificate}\n{key}\n", encoding="ascii")
        context.load_cert_chain(file)
