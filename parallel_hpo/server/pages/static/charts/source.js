// The source of data that the store doesn't contain: the server, or an object with all data.

import { fetchPatiently } from "../live.js";

/**
 * Return {histories, timeline, history} of a base: a URL, or an object with these functions (a report's);
 * `ownAxes`: histories may run over logged keys.
 * The answer to a request with `seen`, a revision, is at least as new, and shared by all pages with it.
 */
export function sourceOf(base) {
  if (typeof base !== "string") return base;
  const ask = (kind) => (asked) => fetchPatiently(`${base}/${kind}?${new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== null))}`);
  return { ownAxes: true, histories: ask("histories"), timeline: ask("timeline"), history: ask("history") };
}
