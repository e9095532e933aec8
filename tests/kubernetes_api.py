"""A stand-in for the Kubernetes API server that serves list and watch over real HTTP, with faults.

    async with FakeCluster() as cluster:
        cluster.put("deployments", [...])          # what a list has
        cluster.say("deployments", "MODIFIED", {...})
        connection = cluster.connection()          # for rolloutobs.cluster

It sends what it was given: recorded objects keep their resource versions.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from rolloutobs.cluster.access import Connection
from rolloutobs.cluster.resources import RESOURCES

FIXTURES = Path(__file__).parent / "fixtures" / "kubernetes"
RECORDINGS = ("01_healthy", "02_stuck", "03_rollback")
PLURALS = ("replicasets", "pods", "deployments", "events")
CUSTOM = ("rollouts", "canaries")

Plain = dict[str, Any]


@dataclass
class Line:
    """One line of a watch stream."""

    version: int
    word: str
    plain: Mapping[str, Any]
    seconds: float = 0.0
    """When it came, since the recording began."""


@dataclass
class Recording:
    """What a real control plane sent of one kind: the list, and the lines after it."""

    listed: list[Plain]
    version: int
    lines: list[Line]


def recording(name: str, plural: str) -> Recording:
    """Return what was recorded of one kind."""
    listed: list[Plain] = []
    lines: list[Line] = []
    version = 0
    for text in (FIXTURES / name / f"{plural}.watch.ndjson").read_text().splitlines():
        event = json.loads(text)
        meta = event["object"]["metadata"]
        if event["type"] == "BOOKMARK":
            version = int(meta["resourceVersion"])
        elif not version:
            listed.append(event["object"])
        else:
            lines.append(Line(int(meta["resourceVersion"]), event["type"], event["object"], event["t"]))
    return Recording(listed, version, lines)


def in_order(name: str) -> Iterator[tuple[str, Line]]:
    """Yield plural and line of a recording in the order in which they came."""
    every = [(plural, line) for plural in PLURALS for line in recording(name, plural).lines]
    yield from sorted(every, key=lambda pair: pair[1].seconds)


@dataclass
class Kept:
    """One kind of object."""

    objects: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    version: int = 1


class FakeCluster:
    """Serves what it was given. Each fault is a field; counts go down as they are used."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.kinds: defaultdict[str, Kept] = defaultdict(Kept)
        self.absent: set[str] = set(CUSTOM)
        """Kinds whose CRD is not installed."""
        self.forbidden: set[str] = set()
        self.token = ""
        """What has to be sent; empty: nothing."""
        self.cut_every = 0
        """Connections break off in the middle of the line after so many; 0: they do not."""
        self.expired: defaultdict[str, int] = defaultdict(int)
        """So many watches of a kind are told that their version is too old."""
        self.busy: defaultdict[str, int] = defaultdict(int)
        """So many requests for a kind are answered 429."""
        self.busy_after: dict[str, int] = {}
        """The list of a kind after so many is answered 429, once."""
        self.retry_after = 0
        self.silent: defaultdict[str, int] = defaultdict(int)
        """So many watches of a kind hear nothing."""
        self.page = 0
        """Objects in one answer at most; 0: as asked for."""
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        """Plural, query and headers of each."""
        self._later: dict[str, tuple[int, list[Mapping[str, Any]]]] = {}
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20, ssl=self._tls)
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def connection(self, token: str = "") -> Connection:
        """Return how to reach it."""
        return Connection(self.url, "shop", lambda _: token)

    def lists(self, plural: str) -> int:
        """Return how many lists of a kind were asked for."""
        return sum(1 for name, query, _ in self.requests if name == plural and "watch" not in query)

    def watches(self, plural: str) -> int:
        """Return how many watches of a kind were asked for."""
        return sum(1 for name, query, _ in self.requests if name == plural and "watch" in query)

    # --- what it has --------------------------------------------------------------------------------------
    def put(self, plural: str, objects: Iterable[Mapping[str, Any]], version: int = 0) -> None:
        """Make `objects` the list of a kind, without a word to those who watch."""
        kept = self.kinds[plural]
        kept.objects = {plain["metadata"]["uid"]: plain for plain in objects}
        kept.version = version or kept.version
        self.absent.discard(plural)

    def say(self, plural: str, word: str, plain: Mapping[str, Any], version: int = 0) -> None:
        """Change an object and tell those who watch; without a version it gets the next one."""
        kept = self.kinds[plural]
        kept.version = version or kept.version + 1
        if not version:
            plain = {**plain, "metadata": {**plain["metadata"], "resourceVersion": str(kept.version)}}
        if word == "DELETED":
            kept.objects.pop(plain["metadata"]["uid"], None)
        else:
            kept.objects[plain["metadata"]["uid"]] = plain
        kept.lines.append(Line(kept.version, word, plain))
        task = asyncio.ensure_future(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def begin(self, name: str) -> None:
        """Take the state in which a recording begins."""
        for plural in PLURALS:
            found = recording(name, plural)
            self.put(plural, found.listed, found.version)

    def finish(self, name: str) -> None:
        """Take the state in which a recording ends."""
        self.begin(name)
        for plural, line in in_order(name):
            kept = self.kinds[plural]
            kept.version = line.version
            if line.word == "DELETED":
                kept.objects.pop(line.plain["metadata"]["uid"], None)
            else:
                kept.objects[line.plain["metadata"]["uid"]] = line.plain

    def after_lists(self, plural: str, count: int, objects: Iterable[Mapping[str, Any]]) -> None:
        """Make `objects` the list of a kind once it has been asked for so often."""
        self._later[plural] = (count, list(objects))

    def play(self, name: str) -> None:
        """Send all lines of a recording after `begin`."""
        for plural, line in in_order(name):
            self.say(plural, line.word, line.plain, line.version)

    def soon(self, name: str) -> None:
        """Play a recording, from another thread."""
        self._loop.call_soon_threadsafe(self.play, name)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    # --- HTTP --------------------------------------------------------------------------------------------
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # Streams would log a handler that was cancelled at the end of a test.
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        target = urlsplit(head[0].split(" ")[1])
        query = {key: values[0] for key, values in parse_qs(target.query).items()}
        headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in head[1:])}
        plural = target.path.rpartition("/")[2]
        parts = target.path.split("/")
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else ""
        self.requests.append((plural, query, headers))
        if plural in self._later and self.lists(plural) > self._later[plural][0]:
            self.put(plural, self._later.pop(plural)[1])
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return _say(writer, 401, _status(401, "Unauthorized"))
        if plural in self.absent or target.path not in {r.path(namespace) for r in RESOURCES}:
            return _say(writer, 404, "404 page not found\n", "text/plain; charset=utf-8")
        if plural in self.forbidden:
            return _say(writer, 403, _status(403, f'{plural} is forbidden: User "watcher" cannot list it'))
        if "watch" not in query and self.lists(plural) - 1 == self.busy_after.get(plural):
            del self.busy_after[plural]
            self.busy[plural] += 1
        if self.busy[plural] > 0:
            self.busy[plural] -= 1
            more = f"Retry-After: {self.retry_after}\r\n"
            return _say(writer, 429, _status(429, "storage is (re)initializing"), more=more)
        if "watch" in query:
            await self._watch(writer, self.kinds[plural], plural, query, namespace)
            return False
        return _say(writer, 200, self._list(self.kinds[plural], query, namespace))

    def _list(self, kept: Kept, query: Mapping[str, str], namespace: str) -> str:
        start = int(query.get("continue", 0))
        found = [
            plain for plain in kept.objects.values() if namespace in ("", plain["metadata"]["namespace"])
        ]
        end = start + (self.page or int(query.get("limit", len(found) or 1)))
        meta = {"resourceVersion": str(kept.version), **({"continue": str(end)} if end < len(found) else {})}
        return json.dumps({"kind": "List", "metadata": meta, "items": found[start:end]})

    async def _watch(
        self,
        writer: asyncio.StreamWriter,
        kept: Kept,
        plural: str,
        query: Mapping[str, str],
        namespace: str,
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        is_silent = self.silent[plural] > 0
        self.silent[plural] -= is_silent
        if self.expired[plural] > 0:
            self.expired[plural] -= 1
            _chunk(writer, json.dumps({"type": "ERROR", "object": json.loads(_status(410, "too old"))}))
            writer.write(b"0\r\n\r\n")
            return
        version, sent = int(query["resourceVersion"]), 0
        try:
            async with asyncio.timeout(float(query["timeoutSeconds"])):
                while True:
                    for line in [] if is_silent else [one for one in kept.lines if one.version > version]:
                        version = line.version
                        if namespace not in ("", line.plain["metadata"]["namespace"]):
                            continue
                        text = json.dumps({"type": line.word, "object": line.plain})
                        if self.cut_every and sent == self.cut_every:
                            _chunk(writer, text[: len(text) // 2], end="")
                            await writer.drain()
                            writer.transport.abort()
                            return
                        _chunk(writer, text)
                        await writer.drain()
                        sent += 1
                    async with self._news:
                        while is_silent or not any(line.version > version for line in kept.lines):
                            await self._news.wait()
        except TimeoutError:
            if not is_silent:
                mark = {"kind": "x", "metadata": {"resourceVersion": str(version)}, "spec": {}, "status": {}}
                _chunk(writer, json.dumps({"type": "BOOKMARK", "object": mark}))
            writer.write(b"0\r\n\r\n")


@contextmanager
def served(path: Path) -> Iterator[FakeCluster]:
    """Serve on a thread of its own, for commands that bring their own event loop; `path` gets a kubeconfig.

    What changes the cluster while somebody watches must run in its loop: see `FakeCluster.soon`.
    """
    cluster = FakeCluster()
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(cluster.__aenter__(), loop).result(30)
    plain = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "namespace": "shop"}}],
        "clusters": [{"name": "c", "cluster": {"server": cluster.url}}],
    }
    path.write_text(json.dumps(plain))
    try:
        yield cluster
    finally:
        asyncio.run_coroutine_threadsafe(cluster.__aexit__(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def _status(code: int, message: str) -> str:
    return json.dumps(
        {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    )


def _say(
    writer: asyncio.StreamWriter, code: int, body: str, content_type: str = "application/json", more: str = ""
) -> bool:
    data = body.encode()
    head = f"HTTP/1.1 {code} x\r\nContent-Type: {content_type}\r\n{more}Content-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    return True


def _chunk(writer: asyncio.StreamWriter, text: str, end: str = "\n") -> None:
    data = (text + end).encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
