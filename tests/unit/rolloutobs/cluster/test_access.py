"""Where the API server is: pods, kubeconfigs, plugins, and what is wrong with them."""

import base64
import json
import ssl
import subprocess
import sys

import pytest
import yaml

from rolloutobs.cluster._http import Api, BrokenError
from rolloutobs.cluster.access import Connection, connect, from_kubeconfig, in_cluster
from rolloutobs.cluster.looking import look
from rolloutobs.errors import ClusterError, ConfigurationError
from tests.kubernetes_api import FakeCluster

SERVER = "https://10.0.0.1:6443"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A certificate and its key, as PEM."""
    folder = tmp_path_factory.mktemp("pair")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=watcher -keyout key -out cert"
    command += " -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return (folder / "cert").read_text(), (folder / "key").read_text()


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a kubeconfig and returns its path."""

    def write(user=None, cluster=None, **changes):
        plain = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
            "clusters": [{"name": "c", "cluster": {"server": SERVER, **(cluster or {})}}],
            "users": [{"name": "u", "user": user or {}}],
            **changes,
        }
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(plain))
        return path

    return write


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def test_the_service_account_of_a_pod_is_read_for_every_request(tmp_path):
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "namespace").write_text("shop")
    found = in_cluster(environ, tmp_path)
    assert (found.server, found.namespace, found.token(False)) == ("https://[fd00::1]:443", "shop", "first")
    (tmp_path / "token").write_text("second\n")
    assert found.token(False) == "second"
    (tmp_path / "token").unlink()
    with pytest.raises(ClusterError, match="cannot read"):
        found.token(True)
    with pytest.raises(ConfigurationError, match="automountServiceAccountToken"):
        in_cluster(environ, tmp_path / "nowhere")


def test_a_pod_is_preferred_unless_a_kubeconfig_is_asked_for(written, tmp_path):
    path = written({"token": "mine"})
    in_a_pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert connect({**in_a_pod, "KUBECONFIG": f"{path}:/elsewhere"}).server == SERVER
    assert connect(in_a_pod, path).token(False) == "mine"
    (tmp_path / ".kube").mkdir()
    path.rename(tmp_path / ".kube" / "config")
    assert connect({"HOME": str(tmp_path)}).namespace == "shop"
    with pytest.raises(ConfigurationError, match="no pod, and there is no kubeconfig"):
        connect({"HOME": str(tmp_path / "empty")})


def test_a_context_that_is_asked_for(written):
    contexts = [{"name": "there", "context": {"cluster": "c"}}]
    path = written(contexts=contexts)
    assert from_kubeconfig(path, "there").namespace == "default"
    with pytest.raises(ConfigurationError, match="has no context 'here'; it has 'there'"):
        from_kubeconfig(path)


def test_certificates_in_the_file_and_beside_it(written, pair, tmp_path):
    certificate, key = pair
    (tmp_path / "ca").write_text(certificate)
    user = {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)}
    found = from_kubeconfig(written(user, {"certificate-authority": "ca"}))
    assert (found.certificate, found.key, found.ca_data) == (certificate, key, certificate)
    context = found.context()
    assert isinstance(context, ssl.SSLContext)
    assert [ca["subject"] for ca in context.get_ca_certs()] == [((("commonName", "watcher"),),)]
    careless = from_kubeconfig(written(user, {"insecure-skip-tls-verify": True})).context()
    assert careless.verify_mode is ssl.CERT_NONE
    # A key that is not there must not be taken for one without a certificate.
    broken = from_kubeconfig(written({"client-certificate-data": encoded(certificate)}))
    with pytest.raises(ConfigurationError, match="cannot use the certificates"):
        broken.context()


async def test_the_server_and_we_prove_to_each_other_who_we_are(pair, tmp_path):
    certificate, key = pair
    for name, text in (("cert", certificate), ("key", key)):
        (tmp_path / name).write_text(text)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "cert")
    tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    tls.verify_mode = ssl.CERT_REQUIRED
    async with FakeCluster(tls) as cluster:
        cluster.begin("01_healthy")
        known = Connection(cluster.url, "shop", ca_data=certificate, certificate=certificate, key=key)
        async with Api(known) as api:
            assert len((await look(api, "shop")).workloads) == 1
        strange = Connection(cluster.url, "shop", certificate=certificate, key=key)
        nobody = Connection(cluster.url, "shop", ca_data=certificate)
        for connection, message in (
            (strange, "CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
            (nobody, "https://127"),
        ):
            async with Api(connection) as api:
                with pytest.raises(BrokenError, match=message):
                    await look(api, "shop")


def test_a_token_in_a_file(written, tmp_path):
    (tmp_path / "token").write_text("one\n")
    found = from_kubeconfig(written({"tokenFile": "token"}))
    (tmp_path / "token").write_text("two\n")
    assert found.token(False) == "two"


def plugin(code):
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": ["-c", code],
            "env": [{"name": "WHO", "value": "me"}],
        }
    }


def test_a_plugin_is_run_again_when_its_token_is_refused(written, tmp_path):
    count = tmp_path / "count"
    code = f"""
import json, os
asked = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
with open({str(count)!r}, "a") as file:
    file.write("x")
token = os.environ["WHO"] + str(len(open({str(count)!r}).read()))
print(json.dumps({{"apiVersion": asked["apiVersion"], "status": {{"token": token}}}}))
"""
    found = from_kubeconfig(written(plugin(code)))
    assert [found.token(False), found.token(False), found.token(True), found.token(False)] == [
        "me1",
        "me1",
        "me2",
        "me2",
    ]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('log in first')", "has failed: log in first"),
        ("print('hello')", "gives no credentials"),
        ("print('{}')", "gives no credentials: 'status'"),
    ],
)
def test_a_plugin_that_fails_says_why(written, code, message):
    with pytest.raises(ClusterError, match=message):
        from_kubeconfig(written(plugin(code)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"current-context": ""}, "no current-context; use --context"),
        ({"clusters": []}, "has no cluster 'c'; it has none"),
        ({"users": [{"name": "u", "user": {"auth-provider": {"name": "gcp"}}}]}, "auth-provider"),
        ({"clusters": [{"name": "c", "cluster": {"server": "10.0.0.1"}}]}, "use https://"),
        (
            {"clusters": [{"name": "c", "cluster": {"server": SERVER, "tls-server-name": "x"}}]},
            "tls-server-name",
        ),
        (
            {"users": [{"name": "u", "user": {"client-certificate-data": "?"}}]},
            "client-certificate-data is not base64",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_why(written, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        from_kubeconfig(written(**changes))


@pytest.mark.parametrize(("text", "message"), [("{", "is not YAML"), ("[]", "is no kubeconfig")])
def test_what_is_no_kubeconfig(tmp_path, text, message):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        from_kubeconfig(path)


def test_json_is_a_kubeconfig_too_and_http_needs_no_certificates(tmp_path):
    path = tmp_path / "config"
    plain = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x"}}],
        "clusters": [
            {"name": "x", "cluster": {"server": "http://127.0.0.1:1", "proxy-url": "http://127.0.0.1:2"}}
        ],
    }
    path.write_text(json.dumps(plain))
    found = from_kubeconfig(path)
    assert (found.context(), found.proxy, found.token(False)) == (False, "http://127.0.0.1:2", "")
