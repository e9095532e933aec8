// Errors and the tracing that brings the vitals.
import {browserTracingIntegration, init} from '@sentry/browser';

const {host} = new URL(window.COLLECTOR);
init({
  dsn: `http://public@${host}/1`,
  release: '1.2.0',
  tracesSampleRate: 1,
  integrations: [browserTracingIntegration()],
});
