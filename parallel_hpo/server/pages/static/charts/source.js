/** Where charts get what the store doesn't hold: from the server's data address, or from an object that has it all. */

/**
 * Return {histories, timeline, history} of a base: an address, or an object with such functions (a report's).
 * What is asked with `seen`, a revision, is at least as new as that, and shared by all pages that have seen it.
 */
export function sourceOf(base) {
  if (typeof base !== "string") return base;
  return {
    histories: (asked) => json(`${base}/histories?${query(asked)}`),
    timeline: (asked) => json(`${base}/timeline?${query(asked)}`),
    history: (asked) => json(`${base}/history?${query(asked)}`),
  };
}

function query(asked) {
  return new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== null)).toString();
}

async function json(address) {
  const answer = await fetch(address, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`the server said ${answer.status}`);
  return answer.json();
}
