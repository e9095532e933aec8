"""The network's log of an API journey: what browsers' tools open, without secrets."""

from __future__ import annotations

import json

from synthetic.har import Call, har_of
from synthetic.redaction import Secrets


def test_a_call_as_har_without_what_is_secret():
    secrets = Secrets({"SHOP_PASSWORD": "correct horse"})
    secrets.read("SHOP_PASSWORD")
    answered = Call(
        method="GET",
        url="http://shop/api?token=abc&page=2&q=correct%20horse",
        headers=(("authorization", "Bearer abc"), ("accept", "*/*"), ("cookie", "session=abc")),
        started=1_700_000_000.0,
        seconds=0.0125,
        status=302,
        answer_headers=(
            ("content-type", "text/html"),
            ("location", "/in?session=abc"),
            ("set-cookie", "session=abc"),
        ),
        version="HTTP/1.1",
    )
    refused = Call("POST", "http://shop/pay", (), 1_700_000_001.0)
    hidden = "[secret]"
    none = {"cookies": [], "headersSize": -1, "bodySize": -1}
    assert json.loads(har_of([answered, refused], secrets))["log"]["entries"] == [
        {
            "startedDateTime": "2023-11-14T22:13:20+00:00",
            "time": 12.5,
            "request": {
                "method": "GET",
                "url": "http://shop/api?token=[secret]&page=2&q=[secret]",
                "queryString": [
                    {"name": "token", "value": hidden},
                    {"name": "page", "value": "2"},
                    {"name": "q", "value": hidden},
                ],
                "httpVersion": "HTTP/1.1",
                "headers": [
                    {"name": "authorization", "value": hidden},
                    {"name": "accept", "value": "*/*"},
                    {"name": "cookie", "value": hidden},
                ],
                **none,
            },
            "response": {
                "status": 302,
                "statusText": "",
                "content": {"size": -1, "mimeType": "text/html"},
                "redirectURL": "/in?session=[secret]",
                "httpVersion": "HTTP/1.1",
                "headers": [
                    {"name": "content-type", "value": "text/html"},
                    {"name": "location", "value": "/in?session=[secret]"},
                    {"name": "set-cookie", "value": hidden},
                ],
                **none,
            },
            "cache": {},
            "timings": {"send": 0, "wait": 12.5, "receive": 0},
        },
        {
            "startedDateTime": "2023-11-14T22:13:21+00:00",
            "time": 0.0,
            "request": {
                "method": "POST",
                "url": "http://shop/pay",
                "queryString": [],
                "httpVersion": "",
                "headers": [],
                **none,
            },
            "response": {
                "status": 0,
                "statusText": "no answer",
                "content": {"size": -1, "mimeType": ""},
                "redirectURL": "",
                "httpVersion": "",
                "headers": [],
                **none,
            },
            "cache": {},
            "timings": {"send": 0, "wait": 0.0, "receive": 0},
        },
    ]
