/** Where charts get what the store doesn't hold: from the server's data address, or from an object that has it all. */

/** Return {histories, timeline, history} of a base: an address, or an object with such functions (a report's). */
export function sourceOf(base) {
  if (typeof base !== "string") return base;
  return {
    histories: (asked) => json(`${base}/histories?${query(asked)}`),
    timeline: () => json(`${base}/timeline`),
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
