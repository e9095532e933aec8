"""OTLP in protobuf, made into what its JSON decodes to: one reading of both."""

from __future__ import annotations

from base64 import b64decode
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from rolloutobs.errors import BeaconError
from rum_collector.model import Batch
from rum_collector.otlp import logs_of, traces_of
from rum_collector.words import BeaconOutcome

__all__ = ["parse_protobuf_logs", "parse_protobuf_metrics", "parse_protobuf_traces"]

_IDS: Final = ("traceId", "spanId", "parentSpanId")
"""Bytes, which are base64 in protobuf's JSON and hexadecimal in OTLP's."""


def parse_protobuf_logs(body: bytes) -> Batch:
    """Return the web vitals and errors of an ``ExportLogsServiceRequest``.

    Raises:
        BeaconError: `body` is none.
    """
    return logs_of(_decoded(ExportLogsServiceRequest(), body))


def parse_protobuf_traces(body: bytes) -> Batch:
    """Return the spans of an ``ExportTraceServiceRequest``.

    Raises:
        BeaconError: `body` is none.
    """
    return traces_of(_decoded(ExportTraceServiceRequest(), body))


def parse_protobuf_metrics(body: bytes) -> Batch:
    """Return nothing, as for JSON.

    Raises:
        BeaconError: `body` is none.
    """
    _decoded(ExportMetricsServiceRequest(), body)
    return Batch()


def _decoded(message: Message, body: bytes) -> dict[str, Any]:
    if not body:
        raise BeaconError(BeaconOutcome.EMPTY, "the body is empty; post an OTLP request")
    try:
        message.ParseFromString(body)
        # Numbers, not names. Source: OTLP 1.x, "JSON Protobuf Encoding".
        decoded: dict[str, Any] = MessageToDict(message, use_integers_for_enums=True)
    except (DecodeError, ValueError, RecursionError) as error:
        raise BeaconError(BeaconOutcome.INVALID, f"the body is no OTLP: {error}") from None
    for group in decoded.get("resourceSpans", ()):
        for scope in group.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                _in_hexadecimal(span)
                for link in span.get("links", ()):
                    _in_hexadecimal(link)
    return decoded


def _in_hexadecimal(span: dict[str, Any]) -> None:
    for name in _IDS:
        if name in span:
            span[name] = b64decode(span[name]).hex()
