/** The parts of a page load. The full build only. */

/** Returns `[phase, milliseconds]` of a loaded document, without those that took no time. */
export const phases = (navigation: PerformanceNavigationTiming): [string, number][] => {
  const {redirectStart, redirectEnd, domainLookupStart, domainLookupEnd, connectStart, connectEnd} = navigation;
  const {secureConnectionStart, requestStart, responseStart, responseEnd, loadEventStart} = navigation;
  const parts: [string, number, number][] = [
    ['redirect', redirectStart, redirectEnd],
    ['dns', domainLookupStart, domainLookupEnd],
    ['connect', connectStart, connectEnd],
    ['tls', secureConnectionStart || connectEnd, connectEnd],
    ['request', requestStart, responseStart],
    ['response', responseStart, responseEnd],
    ['dom', responseEnd, loadEventStart],
  ];
  return parts.map(([name, from, to]) => [name, +(to - from).toFixed(1)] as [string, number]).filter(([, took]) => took > 0);
};
