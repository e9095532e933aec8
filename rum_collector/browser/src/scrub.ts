/** What keeps people's data at home: query strings, ids, mails and numbers never leave the page. */

/**
 * Collapses the segments of a path that look like ids: `/product/42` gives `/product/:id`.
 *
 * An id has three digits in a row, only digits, a `%` or `@`, more than 24 characters, or is hexadecimal with a digit
 * and at least 8 characters. The collector applies the same rule (`beacon.py`), so that routes never grow without bound.
 */
export const template = (path: string): string =>
  path.replace(/\/(?:\d+|[^/]*(?:\d{3}|[%@])[^/]*|[^/]{25,}|(?=[^/]*\d)[\da-f-]{8,})(?=\/|$)/gi, '/:id');

/**
 * Takes what could identify a person or a record out of an error message, and shortens it.
 *
 * Quoted text goes because engines quote the document that failed to parse; query strings, mails, long tokens and
 * numbers because they hold ids.
 */
export const scrub = (text: string): string =>
  text.slice(0, 960).replace(/"[^"]*"?|\?\S*|[^\s@]{1,64}@\S+|[\w-]{25,}|\d+/g, '#').slice(0, 120);
