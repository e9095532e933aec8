"""A Grafana that knows annotations only, over real HTTP.

It answers as pkg/api/annotations.go and its SQL store do: tags are pairs around their first colon, a tag
without a value matches every value, `matchAny=false` counts pairs, 100 are found unless more are asked for,
a POST without an end is a point, a PATCH replaces tags as a whole, and what it does not know of a dashboard
becomes the organisation's.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.serving import serving

TOKEN = "glsa_token"
READER = "glsa_reader"
DASHBOARDS = {"version-comparison"}


def pair(tag):
    key, _, value = tag.partition(":")
    return key.strip(), value.strip()


class Grafana(ThreadingHTTPServer):
    """Keeps its annotations in `items`, and what it was asked in `asked`.

    `failures` are answered first: (method, status, headers, whether the request is carried out all the same).
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.clear()
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/grafana"

    def clear(self):
        self.items, self.asked, self.failures = {}, [], []
        self.odd = ""
        """What is answered instead, as if it were no Grafana."""

    def fail(self, method, status, *, headers=(), taken=False, times=1):
        self.failures += [(method, status, dict(headers), taken)] * times

    @property
    def shown(self):
        """What a dashboard shows, without ids of its own."""
        return [
            {name: value for name, value in item.items() if name in ("text", "tags", "time", "timeEnd")}
            for _, item in sorted(self.items.items())
        ]

    def find(self, query):
        if (uid := query.get("dashboardUID", [""])[0]) and uid not in DASHBOARDS:
            return 400, {"message": "Invalid dashboard UID in annotation request"}
        wanted = [pair(tag) for tag in query.get("tags", [])]
        match_any = query.get("matchAny", ["false"])[0] == "true"
        limit = int(query.get("limit", ["0"])[0]) or 100

        def matches(item):
            found = [
                (key, value)
                for key, value in map(pair, item["tags"])
                if any(key == k and v in ("", value) for k, v in wanted)
            ]
            counted = bool(found) if match_any else len(found) == len(wanted)
            return (counted or not wanted) and (not uid or item["dashboardUID"] == uid)

        found = sorted(filter(matches, self.items.values()), key=lambda i: (-i["timeEnd"], -i["time"]))
        return 200, found[:limit]

    def create(self, body):
        if not body.get("text"):
            return 400, {"message": "Failed to save annotation"}
        number = len(self.items) + 1
        at = body.get("time") or int(time.time() * 1000)
        uid = body.get("dashboardUID", "")
        self.items[number] = {
            "id": number,
            "alertId": 0,
            "alertName": "",
            "dashboardUID": uid if uid in DASHBOARDS else None,
            "panelId": body.get("panelId", 0),
            "newState": "",
            "prevState": "",
            "time": at,
            "timeEnd": body.get("timeEnd") or at,
            "text": body["text"],
            "tags": body.get("tags", []),
            "login": "sa-1-rolloutobs",
            "data": {},
        }
        return 200, {"id": number, "message": "Annotation added"}

    def patch(self, number, body):
        item = self.items.get(number)
        if item is None:
            return 404, {"message": "Annotation not found"}
        item.update({name: body[name] for name in ("text", "time", "timeEnd", "tags") if body.get(name)})
        return 200, {"message": "Annotation patched"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer("GET", lambda path, query, body: self.server.find(query))

    def do_POST(self):
        self.answer("POST", lambda path, query, body: self.server.create(body))

    def do_PATCH(self):
        self.answer("PATCH", lambda path, query, body: self.server.patch(int(path.rpartition("/")[2]), body))

    def answer(self, method, act):
        server = self.server
        parts = urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        with server.lock:
            server.asked.append((method, parts.path, body))
            failure = next((f for f in server.failures if f[0] == method), None)
            if failure:
                server.failures.remove(failure)
            if failure and not failure[3]:
                status, plain = failure[1], {"message": f"failed with {failure[1]}"}
            else:
                status, plain = self.allowed(method, parts) or act(parts.path, parse_qs(parts.query), body)
        if failure and failure[1] == 0:
            # Nobody hears whether it was taken.
            self.close_connection = True
            return
        if failure:
            status = failure[1]
        self.reply(status, plain, failure[2] if failure else {})

    def allowed(self, method, parts):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in (TOKEN, READER):
            return 401, {
                "extra": None,
                "message": "Invalid API key",
                "messageId": "api-key.invalid",
                "statusCode": 401,
                "traceID": "",
            }
        if not parts.path.startswith("/grafana/api/annotations"):
            return 404, {"message": "Not found", "traceID": ""}
        if token == READER and method != "GET":
            missing = {"POST": "annotations:create", "PATCH": "annotations:write"}[method]
            return 403, {
                "accessErrorId": "ACE0123456789",
                "message": "You'll need additional permissions to perform this action. "
                f"Permissions needed: {missing}",
                "title": "Access denied",
            }
        return None

    def reply(self, status, plain, headers):
        text = (self.server.odd or json.dumps(plain)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(text)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Quiet."""


def grafana_server():
    """Run a Grafana on a thread."""
    return serving(Grafana())
