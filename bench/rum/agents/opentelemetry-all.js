// Events as JSON, and traces of the page load and its calls as protobuf: tests/e2e/browser/test_agents.py.
import {logs} from '@opentelemetry/api-logs';
import {ErrorsInstrumentation} from '@opentelemetry/browser-instrumentation/experimental/errors';
import {NavigationInstrumentation} from '@opentelemetry/browser-instrumentation/experimental/navigation';
import {NavigationTimingInstrumentation} from '@opentelemetry/browser-instrumentation/experimental/navigation-timing';
import {WebVitalsInstrumentation} from '@opentelemetry/browser-instrumentation/experimental/web-vitals';
import {OTLPLogExporter} from '@opentelemetry/exporter-logs-otlp-http';
import {OTLPTraceExporter} from '@opentelemetry/exporter-trace-otlp-proto';
import {registerInstrumentations} from '@opentelemetry/instrumentation';
import {DocumentLoadInstrumentation} from '@opentelemetry/instrumentation-document-load';
import {FetchInstrumentation} from '@opentelemetry/instrumentation-fetch';
import {resourceFromAttributes} from '@opentelemetry/resources';
import {BatchLogRecordProcessor, LoggerProvider} from '@opentelemetry/sdk-logs';
import {BatchSpanProcessor, WebTracerProvider} from '@opentelemetry/sdk-trace-web';

const resource = resourceFromAttributes({
  'service.name': 'otel-shop',
  'service.version': '1.2.0',
  'rolloutobs.track': 'canary',
});
const logExporter = new OTLPLogExporter({url: `${window.COLLECTOR}/v1/logs`});
logs.setGlobalLoggerProvider(
  new LoggerProvider({resource, processors: [new BatchLogRecordProcessor({exporter: logExporter})]}),
);
const spanExporter = new OTLPTraceExporter({url: `${window.COLLECTOR}/v1/traces`});
new WebTracerProvider({resource, spanProcessors: [new BatchSpanProcessor(spanExporter)]}).register();
registerInstrumentations({
  instrumentations: [
    new ErrorsInstrumentation(),
    new NavigationInstrumentation(),
    new NavigationTimingInstrumentation(),
    new WebVitalsInstrumentation(),
    new DocumentLoadInstrumentation(),
    new FetchInstrumentation(),
  ],
});
