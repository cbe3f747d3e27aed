/** The source of data that the store doesn't contain: the server, or an object with all data. */

import { fetchPatiently } from "../live.js";

/**
 * Return {histories, timeline, history} of a base: a URL, or an object with these functions (a report's).
 * The answer to a request with `seen`, a revision, is at least as new, and shared by all pages with it.
 */
export function sourceOf(base) {
  if (typeof base !== "string") return base;
  return {
    /** Whether histories may run over logged keys. */
    ownAxes: true,
    histories: (asked) => fetchPatiently(`${base}/histories?${query(asked)}`),
    timeline: (asked) => fetchPatiently(`${base}/timeline?${query(asked)}`),
    history: (asked) => fetchPatiently(`${base}/history?${query(asked)}`),
  };
}

function query(asked) {
  return new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== null)).toString();
}
