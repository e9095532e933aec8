// The browser group's own events: vitals, navigation, its timing, errors.
import {logs} from '@opentelemetry/api-logs';
import {ErrorsInstrumentation} from '@opentelemetry/browser-instrumentation/experimental/errors';
import {NavigationInstrumentation} from '@opentelemetry/browser-instrumentation/experimental/navigation';
import {NavigationTimingInstrumentation} from '@opentelemetry/browser-instrumentation/experimental/navigation-timing';
import {WebVitalsInstrumentation} from '@opentelemetry/browser-instrumentation/experimental/web-vitals';
import {OTLPLogExporter} from '@opentelemetry/exporter-logs-otlp-http';
import {registerInstrumentations} from '@opentelemetry/instrumentation';
import {BatchLogRecordProcessor, LoggerProvider} from '@opentelemetry/sdk-logs';

const exporter = new OTLPLogExporter({url: `${window.COLLECTOR}/v1/logs`});
logs.setGlobalLoggerProvider(new LoggerProvider({processors: [new BatchLogRecordProcessor({exporter})]}));
registerInstrumentations({
  instrumentations: [
    new ErrorsInstrumentation(),
    new NavigationInstrumentation(),
    new NavigationTimingInstrumentation(),
    new WebVitalsInstrumentation(),
  ],
});
