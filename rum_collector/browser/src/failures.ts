/** What broke in a view: JavaScript errors, unhandled rejections, and resources that did not load. */

import {scrub} from './scrub.js';

/** One error as it is sent: type, scrubbed message, `file:line:column` of the throw, times seen. */
export interface Failure {
  t: string;
  m: string;
  s: string;
  n: number;
}

/** What of one view is not sent yet. */
export interface Broken {
  _errors: Map<string, Failure>;
  /** How many did not load, by the name of their element. */
  _resources: Map<string, number>;
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

/** Starts to collect what breaks into the view that `current` returns. */
export const watchFailures = (current: () => Broken): void => {
  addEventListener(
    'error',
    (event) => {
      const {_errors, _resources} = current();
      const element = event.target as Element;
      const kind = element.localName;
      // The window has no name; an element that could not load its resource tells it to those who listen on the way down.
      if (!kind) add(_errors, event.error, event.message, `${event.filename}:${event.lineno}:${event.colno}`);
      else if (!/extension:\//.test((element as HTMLScriptElement).src)) {
        _resources.set(kind, (_resources.get(kind) || 0) + 1);
      }
    },
    true,
  );
  addEventListener('unhandledrejection', (event) => add(current()._errors, event.reason, '', ''));
};
