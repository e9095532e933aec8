// Its quick start with tracing, and a session that knows its track: tests/e2e/browser/test_agents.py.
import {faro, getWebInstrumentations, initializeFaro} from '@grafana/faro-web-sdk';
import {TracingInstrumentation} from '@grafana/faro-web-tracing';

initializeFaro({
  url: `${window.COLLECTOR}/collect`,
  app: {name: 'faro-shop', version: '1.2.0'},
  sessionTracking: {session: {attributes: {'rolloutobs.track': 'canary'}}},
  instrumentations: [...getWebInstrumentations(), new TracingInstrumentation()],
});
window.converted = () => faro.api.pushEvent('checkout', {ok: 'true'});
