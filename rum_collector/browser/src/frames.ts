/** How long the page was stuck in long animation frames while somebody looked at it. The full build only. */

/** Milliseconds in long frames, of milliseconds watched. */
export type Frames = [number, number];

export const supported = (): boolean => PerformanceObserver.supportedEntryTypes.includes('long-animation-frame');

/** Starts to watch, and returns what brings the times of the `current` view up to date. */
export const watchFrames = (current: () => Frames): (() => void) => {
  let since = 0;
  const began = performance.now();
  const update = (): void => {
    const now = performance.now();
    if (since) current()[1] += now - since;
    since = document.visibilityState === 'hidden' ? 0 : now;
  };
  update();
  addEventListener('visibilitychange', update, true);
  new PerformanceObserver((list) => {
    // Of the frame in which this script itself began, what came after.
    for (const {startTime, duration} of list.getEntries()) current()[0] += startTime + duration - Math.max(startTime, began);
  }).observe({type: 'long-animation-frame'});
  return update;
};
