/**
 * Takes the place of web-vitals' module of this name: every change is told, without ratings and deltas that nobody reads.
 *
 * Every change, because an interaction whose entries are still queued when the page is hidden is never reported as final.
 */

export const bindReporter =
  <Metric>(callback: (metric: Metric) => void, metric: Metric): (() => void) =>
  () =>
    callback(metric);
