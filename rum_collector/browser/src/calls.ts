/** Calls of the page to its own origin and to listed ones, by `fetch` and XMLHttpRequest. The full build only. */

import {template} from './scrub.js';

/** How many, how many of them failed, and milliseconds of all together, by target. */
export type Calls = Map<string, [number, number, number]>;

/** What of one view's calls is not sent yet. */
export interface Called {
  _calls: Calls;
  /** Answered by the version that served the page, and by another one; then marks of answers, for the collector to judge. */
  _exposure: [number, number, ...string[]];
}

/** What the page knows of itself. */
export interface Page {
  /** Origins whose calls are looked at. */
  _origins: string[];
  _endpoint: string;
  /** The view of this moment. */
  _current(): Called;
  /** Whether the page is being left: its calls end because of that. */
  _leaving(): unknown;
  /** What the server said of itself with the document. */
  _served(name: string): string | undefined;
  /** Whether calls may carry who makes them. */
  _mayTell(): boolean;
}

/** Targets per beacon; the rest is counted together. */
const DISTINCT = 5;

/** Numbers and marks per beacon, which must not grow beyond 1.2 KB; what is answered later is a sample less. */
const MARKED = 12;

// As the server's SDK: settings.py, DEFAULT_SAMPLING_RATIO. A document that came with a trace decides for its calls.
const SAMPLED = 0.1;

const hex = (digits: number): string => (digits ? ((Math.random() * 16) | 0).toString(16) + hex(digits - 1) : '');

/** Starts to count calls, and to add `traceparent` and `baggage` to those of `fetch`. */
export const watchCalls = ({_origins, _endpoint, _current, _leaving, _served, _mayTell}: Page): void => {
  const absolute = (url: string): URL => new URL(url, document.baseURI);
  const beacons = absolute(_endpoint).href;
  const ours = (url: string): URL | undefined => {
    const parsed = absolute(url);
    return _origins.includes(parsed.origin) && parsed.href !== beacons ? parsed : undefined;
  };
  const count = (url: string, failed: boolean, duration: number): void => {
    const target = ours(url);
    if (!target) return;
    const {_calls} = _current();
    let name = template(target.pathname);
    if (_calls.size >= DISTINCT && !_calls.has(name)) name = 'other';
    const [total, failures, milliseconds] = _calls.get(name) || [0, 0, 0];
    _calls.set(name, [total + 1, failures + +failed, Math.round(milliseconds + duration)]);
  };

  new PerformanceObserver((list) => {
    for (const {name, initiatorType, responseStatus, duration, serverTiming} of list.getEntries() as PerformanceResourceTiming[]) {
      // Without a status it was aborted, or is counted below, or the browser does not tell.
      if (!responseStatus || !/^(fetch|xml)/.test(initiatorType)) continue;
      count(name, responseStatus >= 400, duration);
      const said = (what: string): string | undefined => serverTiming.find((timing) => timing.name === what)?.description;
      if (ours(name)) {
        const {_exposure} = _current();
        const mark = said('answer');
        if (said('version')) _exposure[said('version') === _served('version') && said('track') === _served('track') ? 0 : 1]++;
        else if (mark && _exposure.length < MARKED) _exposure.push(mark);
      }
    }
  }).observe({type: 'resource', buffered: true});

  const {open} = XMLHttpRequest.prototype;
  const opened = new WeakMap<XMLHttpRequest, string>();
  // One function for all of them: a request that is opened again has it once.
  const failed = ({target}: Event): unknown => _leaving() || count(opened.get(target as XMLHttpRequest)!, true, 0);
  XMLHttpRequest.prototype.open = function (this: XMLHttpRequest, ...given: any): void {
    opened.set(this, given[1]);
    this.addEventListener('error', failed);
    open.apply(this, given);
  };

  const real = fetch;
  window.fetch = async (input, init) => {
    let url = '';
    try {
      url = (input as Request).url || String(input);
      if (ours(url) && _mayTell()) {
        const headers = new Headers(init?.headers || (input as Request).headers);
        if (!headers.has('traceparent')) {
          const flags = _served('traceparent')?.slice(-2) || (Math.random() < SAMPLED ? '01' : '00');
          headers.set('traceparent', `00-${hex(32)}-${hex(16)}-${flags}`);
        }
        for (const [key, value] of [['service', 'app'], ['version', 'version'], ['track', 'track']]) {
          const told = _served(value!);
          if (told) headers.append('baggage', `rolloutobs.${key}=${encodeURIComponent(told)}`);
        }
        if (_served('synthetic') != null) headers.append('baggage', 'synthetic=test');
        init = {...init, headers};
      }
    } catch {
      // Whatever it is, the real one says what is wrong with it.
      url = '';
    }
    try {
      return await real(input, init);
    } catch (error) {
      // One that was given up is no failure.
      if (url && (error as Error)?.name !== 'AbortError' && !_leaving()) count(url, true, 0);
      throw error;
    }
  };
};
