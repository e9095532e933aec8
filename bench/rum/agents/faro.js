// As its quick start says: vitals, errors, session, console.
import {getWebInstrumentations, initializeFaro} from '@grafana/faro-web-sdk';

initializeFaro({
  url: `${window.COLLECTOR}/collect`,
  app: {name: 'shop', version: '1.2.0'},
  instrumentations: getWebInstrumentations(),
});
