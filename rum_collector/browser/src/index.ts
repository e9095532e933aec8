/**
 * Real-user vitals, errors and conversions of one page view, stamped with the version and track that served the page.
 *
 * The wire format is documented in docs/rum.md and parsed by rum_collector/beacon.py. Every beacon is additive:
 * sequence 0 counts the view, later ones carry only what was not sent before.
 */

import {onCLS, onFCP, onINP, onLCP} from 'web-vitals';

import {type Failure, watchErrors} from './errors.js';
import {scrub, template} from './scrub.js';

interface Api {
  /** Counts a business event of this view, at most once per name and outcome; `ok` is true unless it says false. */
  event(name: string, options?: {ok?: boolean}): void;
}

declare global {
  interface Window {
    rolloutobs?: Api;
    /** Set before the page's scripts run by a synthetic check: this view is not a person's. */
    __rolloutobs_synthetic?: boolean;
  }
  interface Navigator {
    globalPrivacyControl?: boolean;
  }
}

/** Events per beacon; what is beyond is counted as dropped (`d`). */
const MAX_EVENTS = 20;

const start = (): void => {
  const script = document.currentScript as HTMLScriptElement | null;
  // A copy: what the tag says when it is parsed holds for the whole life of the document.
  const data = {...script?.dataset};
  const route = data.route || template(location.pathname);
  const endpoint = data.endpoint || (script?.src ? new URL('b', script.src).href : '/b');
  const navigation = performance.getEntriesByType?.('navigation')[0] as PerformanceNavigationTiming | undefined;
  // The entry belongs to the document, so it cannot change when the next version is rolled out under an open page.
  const served = (name: string): string | undefined =>
    navigation?.serverTiming?.find((timing) => timing.name === name)?.description || data[name];

  let view: string;
  let type: string;
  let sequence: number;
  let failed: 0 | 1;
  let dropped: number;
  let values: Map<string, number>;
  let sent: Set<string>;
  let errors: Map<string, Failure>;
  let events: [string, 0 | 1][];
  const unsent: string[] = [];

  const begin = (navigationType: string): void => {
    view = Math.random().toString(36).slice(2);
    type = navigationType;
    sequence = failed = dropped = 0;
    values = new Map();
    sent = new Set();
    errors = new Map();
    events = [];
  };

  /** Keeps a value in milliseconds (CLS: none) for the next beacon, unless this view has already sent one. */
  const record = (name: string, value: number): void => {
    if (value >= 0 && !sent.has(name)) values.set(name, +value.toFixed(4));
  };

  const send = (body: string): void => {
    try {
      // A string makes it text/plain, the one content type that needs no preflight.
      if (navigator.sendBeacon(endpoint, body)) return;
    } catch {
      // Blocked or removed: fetch may still be allowed.
    }
    fetch(endpoint, {method: 'POST', body, keepalive: true, mode: 'no-cors'}).catch(() => {
      if (unsent.length < 5) unsent.push(body);
    });
  };

  const flush = (): void => {
    if (document.prerendering) return;
    unsent.splice(0).forEach(send);
    if (navigation && type !== 'bfcache') {
      // Read late: a page that is rendered before anybody asks for it runs us long before it is activated.
      const {responseStart, loadEventEnd, activationStart = 0} = navigation;
      if (activationStart) type = 'prerender';
      if (responseStart) record('ttfb', Math.max(responseStart - activationStart, 0));
      if (loadEventEnd) record('load', Math.max(loadEventEnd - activationStart, 0));
    }
    if (sequence && !values.size && !errors.size && !events.length) return;
    // The collector counts views with errors without remembering views: the first beacon with an error says so.
    const first = errors.size && !failed ? 1 : undefined;
    if (first) failed = 1;
    send(
      JSON.stringify({
        v: 1,
        app: data.app,
        ver: served('version'),
        trk: served('track'),
        // A bare attribute is the empty string.
        syn: window.__rolloutobs_synthetic || served('synthetic') != null ? 1 : undefined,
        pv: view,
        sq: sequence++,
        nav: type,
        rt: route,
        m: [...values],
        e: [...errors.values()],
        fe: first,
        c: events,
        d: dropped || undefined,
      }),
    );
    values.forEach((_, name) => sent.add(name));
    values.clear();
    errors.clear();
    events = [];
    dropped = 0;
  };

  window.rolloutobs!.event = (name, options) => {
    const ok = options?.ok === false ? 0 : 1;
    const label = scrub(String(name)).slice(0, 64);
    const key = ok + label;
    if (sent.has(key)) return;
    if (events.length < MAX_EVENTS) {
      sent.add(key);
      events.push([label, ok]);
    } else dropped++;
  };

  begin((navigation?.type || 'navigate').replace('_', '-'));

  // Before web-vitals listens for the same event: its values after a restore belong to the new view.
  addEventListener(
    'pageshow',
    (event) => {
      if (event.persisted) {
        flush();
        begin('bfcache');
      }
    },
    true,
  );
  watchErrors(() => errors);
  for (const on of [onCLS, onFCP, onINP, onLCP]) {
    // Every change: an interaction whose entries are still queued when the page is hidden is never reported as final.
    on(({name, value}: {name: string; value: number}) => record(name.toLowerCase(), value), {reportAllChanges: true});
  }

  // On the document, so that it runs after web-vitals' own listeners on the window have reported the final values.
  // Leaving a page fires pagehide while still visible and visibilitychange right after it; pagehide alone fires for a
  // page closed while in the background. Never unload: it would keep the page out of the back-forward cache.
  const whenHidden = (): void => {
    if (document.visibilityState === 'hidden') flush();
  };
  document.addEventListener('visibilitychange', whenHidden);
  addEventListener('pagehide', whenHidden);
};

if (!window.rolloutobs) {
  window.rolloutobs = {event: () => undefined};
  // Global Privacy Control: nothing is observed, nothing is sent, the page's calls do nothing.
  if (!navigator.globalPrivacyControl) start();
}
