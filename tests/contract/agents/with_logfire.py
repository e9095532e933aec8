import logfire
from _app import make_app, report, serve
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

kept = InMemorySpanExporter()
logfire.configure(
    send_to_logfire=False, console=False, additional_span_processors=[SimpleSpanProcessor(kept)]
)
app = make_app()
logfire.instrument_fastapi(app)
requests = serve(app)
servers = [span for span in kept.get_finished_spans() if span.kind is SpanKind.SERVER]
report(requests, len(servers), servers[0].attributes)
