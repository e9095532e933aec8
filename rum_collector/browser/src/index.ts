/**
 * Real-user vitals, errors and conversions of page views, stamped with the version and track that served the page.
 *
 * The wire format is documented in docs/rum.md and parsed by rum_collector/beacon.py. Every beacon is additive:
 * sequence 0 counts the view, later ones carry only what was not sent before.
 *
 * Built twice: as it is, and with what `FULL` adds.
 */

import {onCLS, onFCP, onINP, onLCP} from 'web-vitals';

import {type Called, watchCalls} from './calls.js';
import {type Broken, watchFailures} from './failures.js';
import {type Frames, supported, watchFrames} from './frames.js';
import {phases} from './phases.js';
import {scrub, template} from './scrub.js';

interface Api {
  /** Counts a business event of this view, at most once per name and outcome; `ok` is true unless it says false. */
  event(name: string, options?: {ok?: boolean}): void;
  /** Names the route of the address that the page shows now, as a template: `/product/{id}`. */
  route(name: string): void;
  /** Lets what was kept go (true), or drops it and stops (false). Does nothing in the small build. */
  consent(given: boolean): void;
}

declare global {
  /** Whether this is the full build; the other one does not contain what depends on it. */
  const FULL: boolean;
  interface Window {
    rolloutobs?: Api;
    /** Set before the page's scripts run by a synthetic check: this view is not a person's. */
    __rolloutobs_synthetic?: boolean;
  }
  interface Navigator {
    globalPrivacyControl?: boolean;
  }
}

/** What only the full build knows of a view. */
interface Full extends Called {
  _frames: Frames;
}

/** One page view, soft navigations and restores included. */
interface View extends Broken, Full {
  /** When it began, as web-vitals says: 0 for the document's own. */
  _start: number;
  _url: string;
  _route: string | false | undefined;
  _id: string;
  _type: string;
  _sequence: number;
  _values: Map<string, number>;
  /** Names of what went out or waits to: vitals and events are sent once per view. */
  _sent: Set<string>;
  _events: [string, 0 | 1][];
  _dropped: number;
  _sampled: boolean;
}

/** Events per beacon; what is beyond is counted as dropped (`d`). */
const MAX_EVENTS = 20;

/** Characters of a beacon beyond which it goes without marks and phases: both are a sample anyway. */
const MOST = 1200;

/** Beacons that wait for a network or for consent. */
const MAX_UNSENT = 9;

const start = (api: Api): void => {
  const script = document.currentScript as HTMLScriptElement | null;
  // A copy: what the tag says when it is parsed holds for the whole life of the document.
  const data = {...script?.dataset};
  const endpoint = data.endpoint || (script?.src ? new URL('b', script.src).href : '/b');
  const ratio = +(data.sample || 1);
  const navigation = performance.getEntriesByType('navigation')[0] as PerformanceNavigationTiming | undefined;
  /** The address whose route was named last: before its view begins, or after. */
  let named = {_url: location.href, _route: data.route};
  const unsent: string[] = [];

  let views: View[] = [];
  let current: View;
  let left: 0 | 1 = 0;
  let timings: readonly PerformanceServerTiming[] | undefined;
  /** Whether what is known may go: not yet, yes, or no. */
  let consent: 0 | 1 | -1 = FULL && data.consent != null ? 0 : 1;
  let watched: (() => void) | undefined;

  /**
   * Returns what the server said of itself: with the document, else with the first answer of the page's own origin that
   * says anything. It is kept, so it cannot change when the next version is rolled out under an open page.
   */
  const served = (name: string): string | undefined => {
    timings ||= (performance.getEntries() as PerformanceResourceTiming[]).find(
      (entry) =>
        entry.name.startsWith(location.origin + '/') &&
        entry.serverTiming?.some((timing) => /^(version|view)$/.test(timing.name)),
    )?.serverTiming;
    return timings?.find((timing) => timing.name === name)?.description || data[name];
  };

  /** Returns a number from 0 to 1: a new one for each view, or one for the session where the tag allows to store it. */
  const draw = (): number => {
    if (FULL && data.session != null) {
      try {
        return +(sessionStorage.rolloutobs ??= Math.random());
      } catch {
        // Storage is forbidden here.
      }
    }
    return Math.random();
  };

  const begin = (type: string, start: number, url: string): void => {
    if (FULL) watched?.();
    views.push(
      (current = {
        _start: start,
        _url: url,
        _route: url === named._url && named._route,
        _id: Math.random().toString(36).slice(2),
        _type: type,
        _sequence: 0,
        _values: new Map(),
        _sent: new Set(),
        _errors: new Map(),
        _resources: new Map(),
        _events: [],
        _dropped: 0,
        _sampled: draw() < ratio,
        ...((FULL && {_calls: new Map(), _exposure: [0, 0], _frames: [0, 0]}) as Full),
      }),
    );
  };

  /** Keeps a value in milliseconds (CLS: none) for the view that began at `start`, unless it has sent one. */
  const record = (name: string, value: number, start = 0): void => {
    const view = views.find((each) => each._start === start);
    if (view && value >= 0 && !view._sent.has(name)) view._values.set(name, +value.toFixed(4));
  };

  const send = (body: string): void => {
    const keep = (): void => {
      if (unsent.length < MAX_UNSENT) unsent.push(body);
    };
    if (FULL && consent < 1) return consent ? undefined : keep();
    try {
      // A string makes it text/plain, the one content type that needs no preflight.
      if (navigator.sendBeacon(endpoint, body)) return;
    } catch {
      // Blocked or removed: fetch may still be allowed.
    }
    fetch(endpoint, {method: 'POST', body, keepalive: true, mode: 'no-cors'}).catch(keep);
  };

  const flush = (view: View): void => {
    const {_values, _errors, _resources, _sent} = view;
    let aborted;
    if (navigation && !view._start) {
      // Read late: a page that is rendered before anybody asks for it runs us long before it is activated.
      const {responseStart, loadEventEnd, activationStart = 0} = navigation;
      if (activationStart) view._type = 'prerender';
      if (responseStart) record('ttfb', Math.max(responseStart - activationStart, 0));
      if (loadEventEnd) record('load', Math.max(loadEventEnd - activationStart, 0));
      else aborted = left;
    }
    const news = _values.size || _errors.size || _resources.size || view._events.length || (FULL && view._calls.size);
    if (!view._sampled || (view._sequence && !news)) return;
    // The collector counts views with errors without remembering views: the first beacon with an error says so.
    const first = (key: string, seen: {size: number}): 1 | undefined =>
      seen.size && !_sent.has(key) ? (_sent.add(key), 1) : undefined;
    const body: {[key: string]: unknown} = {
      v: 1,
      app: data.app,
      ver: served('version'),
      trk: served('track'),
      tk: served('view'),
      tp: served('traceparent'),
      // A bare attribute is the empty string.
      syn: window.__rolloutobs_synthetic || served('synthetic') != null ? 1 : undefined,
      wd: navigator.webdriver ? 1 : undefined,
      sr: ratio < 1 ? ratio : undefined,
      pv: view._id,
      sq: view._sequence++,
      nav: view._type,
      rt: view._route || template(new URL(view._url).pathname),
      m: [..._values],
      e: [..._errors.values()],
      fe: first('fe', _errors),
      re: [..._resources],
      rf: first('rf', _resources),
      c: view._events,
      d: view._dropped || undefined,
      ab: aborted || undefined,
      ...(FULL && {
        f: [...view._calls].map(([target, numbers]) => [target, ...numbers]),
        xp: view._exposure,
        lf: watched && view._frames.map(Math.round),
        np: navigation && _values.has('load') ? phases(navigation) : undefined,
      }),
    };
    if (FULL && JSON.stringify(body).length > MOST) {
      view._exposure.length = 2;
      body['np'] = undefined;
    }
    send(JSON.stringify(body));
    if (FULL) {
      view._calls.clear();
      view._exposure = [0, 0];
      view._frames = [0, 0];
    }
    _values.forEach((_, name) => _sent.add(name));
    _values.clear();
    _errors.clear();
    _resources.clear();
    view._events = [];
    view._dropped = 0;
  };

  const flushAll = (): void => {
    if (document.prerendering) return;
    if (FULL) watched?.();
    unsent.splice(0).forEach(send);
    views.forEach(flush);
    views = [current];
  };

  api.event = (name, options) => {
    const ok = options?.ok === false ? 0 : 1;
    const label = scrub(String(name)).slice(0, 64);
    const key = ok + label;
    if (current._sent.has(key)) return;
    if (current._events.length < MAX_EVENTS) {
      current._sent.add(key);
      current._events.push([label, ok]);
    } else current._dropped++;
  };
  api.route = (name) => {
    named = {_url: location.href, _route: name};
    if (current._url === named._url) current._route = name;
  };

  begin((navigation?.type || 'navigate').replace('_', '-'), 0, location.href);

  // Before web-vitals listens for the same event: its values after a restore belong to the new view.
  addEventListener(
    'pageshow',
    (event) => {
      if (event.persisted) {
        flushAll();
        views = [];
        left = 0;
        begin('bfcache', event.timeStamp, current._url);
      }
    },
    true,
  );
  watchFailures(() => current);
  if (FULL) {
    api.consent = (given) => {
      consent = given ? 1 : -1;
      unsent.splice(0).forEach(send);
    };
    if (supported()) watched = watchFrames(() => current._frames);
    watchCalls({
      _origins: [location.origin, ...(data.trace || '').split(' ')],
      _endpoint: endpoint,
      _current: () => current,
      _leaving: () => left,
      _served: (name) => served(name),
      _mayTell: () => consent > 0,
    });
  }
  for (const on of [onCLS, onFCP, onINP, onLCP]) {
    on(
      ({name, value, navigationStartTime, navigationURL}: any) => {
        // A soft navigation. The view before it stays for a while, for what is not measured yet; the one before that goes.
        if (navigationStartTime > current._start) {
          if (views.length > 1) flush(views.shift()!);
          begin('soft', navigationStartTime, navigationURL);
        }
        record(name.toLowerCase(), value, navigationStartTime);
      },
      {reportSoftNavs: true},
    );
  }

  // On the document, so that it runs after web-vitals' own listeners on the window have reported the final values.
  // Leaving a page fires pagehide while still visible and visibilitychange right after it; pagehide alone fires for a
  // page closed while in the background. Never unload: it would keep the page out of the back-forward cache.
  const whenHidden = (): void => {
    if (document.visibilityState === 'hidden') flushAll();
  };
  document.addEventListener('visibilitychange', whenHidden);
  addEventListener('pagehide', () => {
    left = 1;
    whenHidden();
  });
};

if (!window.rolloutobs) {
  const nothing = (): void => undefined;
  const api: Api = (window.rolloutobs = {event: nothing, route: nothing, consent: nothing});
  // Global Privacy Control: nothing is observed, nothing is sent, the page's calls do nothing.
  if (!navigator.globalPrivacyControl) start(api);
}
