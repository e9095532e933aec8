"""The door to the network: being let in, asking again, TLS."""

import asyncio
import ssl
import subprocess

import pytest

from rolloutobs.analysis import _http
from rolloutobs.analysis._http import Access, Http, Retries
from rolloutobs.errors import ConfigurationError, SourceError


def authorization(exporter):
    lines = [line for head in exporter.requests for line in head.splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.lower().startswith("authorization:")]


async def test_a_token_is_sent_and_its_file_is_read_each_time(exporter, tmp_path):
    server, path = await exporter("a 1\n"), tmp_path / "token"
    path.write_text("first\n")
    async with Http(5, access=Access(token_file=path)) as http:
        await http.get(f"http://{server.address}/", accept="*/*")
        path.write_text("second\n")
        await http.get(f"http://{server.address}/", accept="*/*")
        path.unlink()
        with pytest.raises(SourceError, match="cannot read the token"):
            await http.get(f"http://{server.address}/", accept="*/*")
    assert authorization(server) == ["Bearer first", "Bearer second"]


async def test_basic_authentication_and_other_headers(exporter):
    server = await exporter("a 1\n")
    access = Access(user="joe", password="pässword", headers={"X-Scope-OrgID": "team"})
    async with Http(5, access=access) as http:
        await http.get(f"http://{server.address}/", accept="*/*")
    assert authorization(server) == ["Basic am9lOnDDpHNzd29yZA=="]
    assert "x-scope-orgid: team" in server.requests[0].lower()
    assert "pässword" not in repr(access)


async def test_credentials_do_not_follow_a_redirect_to_another_host(exporter):
    other = await exporter("a 1\n")
    first = await exporter("", status=302, content_type=f"text/plain\r\nLocation: http://{other.address}/x")
    async with Http(5, access=Access(token="secret")) as http:
        assert await http.get(f"http://{first.address}/", accept="*/*") == "a 1\n"
    assert authorization(first) == ["Bearer secret"]
    assert authorization(other) == []


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_told_from_an_odd_answer(exporter, status):
    server = await exporter("<html>", status=status)
    async with Http(5, retries=Retries(3)) as http:
        with pytest.raises(SourceError, match=f"answered {status}: it wants other credentials"):
            await http.get(f"http://{server.address}/", accept="*/*", any_status=True)
    assert len(server.requests) == 1


class Busy:
    """Answers so many times that it is busy."""

    def __init__(self, times, status=503):
        self.left, self.status, self.asked = times, status, 0

    async def serve(self, reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                status = self.status if self.left > 0 else 200
                self.left -= 1
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.mark.parametrize(("times", "status", "asked"), [(2, 503, 3), (1, 429, 2), (5, 503, 3), (5, 500, 1)])
async def test_a_busy_server_is_asked_again_and_a_broken_one_is_not(times, status, asked):
    busy = Busy(times, status)
    async with await asyncio.start_server(busy.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Http(5, retries=Retries(3, first_seconds=0.001)) as http:
            if times < asked:
                assert await http.get(f"http://127.0.0.1:{port}/", accept="*/*") == "ok"
            else:
                with pytest.raises(SourceError, match=f"answered {status}"):
                    await http.get(f"http://127.0.0.1:{port}/", accept="*/*")
    assert busy.asked == asked


async def test_time_that_runs_out_while_waiting_tells_of_the_failure():
    busy = Busy(99)
    async with await asyncio.start_server(busy.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Http(0.5, retries=Retries(1000, first_seconds=1e9)) as http:
            with pytest.raises(SourceError, match="answered 503"):
                await http.get(f"http://127.0.0.1:{port}/", accept="*/*")


def test_waits_grow_and_are_a_random_part(monkeypatch):
    asked = []
    monkeypatch.setattr(_http.random, "uniform", lambda low, high: asked.append((low, high)) or high)
    assert [Retries(4, 0.25).wait(n) for n in (1, 2, 3)] == [0.25, 0.5, 1.0]
    assert {low for low, _ in asked} == {0.0}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority of our own, a server's certificate and a client's."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    # Python 3.13 is strict: an authority has to say what its key is for. Source: RFC 5280, section 4.2.1.3.
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl(*new, *usage, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key")
    for name in ("server", "client"):
        extra = ("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE")
        openssl(
            *new, *signed, *extra, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"
        )
    return folder


async def test_both_sides_show_a_certificate(certificates):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.pem")
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    async with await asyncio.start_server(Busy(0).serve, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        known = Access(
            ca_file=certificates / "ca.pem",
            cert_file=certificates / "client.pem",
            key_file=certificates / "client.key",
        )
        async with Http(5, access=known) as http:
            assert await http.get(url, accept="*/*") == "ok"
        async with Http(5) as http:
            with pytest.raises(SourceError, match=r"(?i)certificate"):
                await http.get(url, accept="*/*")


def test_certificates_that_are_none_are_told_at_once(tmp_path):
    (tmp_path / "x.pem").write_text("no")
    for access in (Access(ca_file=tmp_path / "x.pem"), Access(cert_file=tmp_path / "missing.pem")):
        with pytest.raises(ConfigurationError, match="cannot use the certificates"):
            Http(5, access=access)
