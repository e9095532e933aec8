/** JavaScript errors and unhandled rejections of this view, the same error counted instead of repeated. */

import {scrub} from './scrub.js';

/** One error as it is sent: type, scrubbed message, `file:line:column` of the throw, times seen. */
export interface Failure {
  t: string;
  m: string;
  s: string;
  n: number;
}

/** Different errors per beacon; the rest is counted together, so that a beacon stays near one kilobyte. */
const DISTINCT = 4;

/** Adds `thrown` to `seen`. `message` is what the event said, for errors whose object is hidden from us. */
const add = (seen: Map<string, Failure>, thrown: unknown, message: string, file: string): void => {
  let t = 'Error';
  let m = message;
  let s = '';
  try {
    const error = thrown as Partial<Error> | null | undefined;
    // Cut, because the search below takes quadratic time on text without a place.
    const stack = String(error?.stack || file).slice(0, 2e3);
    // Browser extensions run in the page, but no version of the app is to blame for them.
    if (/extension:\//.test(file + stack)) return;
    t = String(error?.name || t).slice(0, 40);
    m = String(error?.message || message || thrown);
    // The first frame that names a place; its folder, host and query stay here.
    const at = /([^/\s(@?#]*)(?:[?#][^\s)]*?)?(:\d+:\d+)/.exec(stack);
    s = at ? scrub(at[1]!).slice(-40) + at[2]! : '';
  } catch {
    // A thrown Proxy or an object whose toString throws: it is still an error, it counts under its bare name.
  }
  m = scrub(m);
  let key = t + m + s;
  if (seen.size >= DISTINCT && !seen.has(key)) {
    key = t = m = 'more';
    s = '';
  }
  const failure = seen.get(key) || {t, m, s, n: 0};
  failure.n++;
  seen.set(key, failure);
};

/** Starts to collect errors into the map that `seen` returns. */
export const watchErrors = (seen: () => Map<string, Failure>): void => {
  addEventListener('error', (event) =>
    add(seen(), event.error, event.message, `${event.filename}:${event.lineno}:${event.colno}`),
  );
  addEventListener('unhandledrejection', (event) => add(seen(), event.reason, '', ''));
};
