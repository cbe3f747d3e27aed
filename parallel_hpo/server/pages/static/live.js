// Keeps a page up with its server: asks again and again while the page is seen.

import { say } from "./format.js";

export const LIVE_MS = 600;
/** So often is asked where nothing goes on: something may begin again. */
export const OVER_MS = 3000;
const HIDDEN_MS = 200;
const AWAY_MS = [1000, 2000, 5000];
const CLOSED = "this browser is not let in any more: parallel-hpo open";
const AWAY = "the server does not answer";
const GONE = "the server has ended: parallel-hpo open shows more";
/** A server that is started again after a crash is back by then. */
const GONE_AFTER = 2;

/** Fetch JSON; throws an error whose `status` is the server's, or undefined where it doesn't answer. */
export async function fetchJson(address) {
  const response = await fetch(address, { headers: { Accept: "application/json" }, cache: "no-store" });
  if (!response.ok) throw Object.assign(new Error(`${address}: ${response.status}`), { status: response.status });
  return response.json();
}

/**
 * Call `ask` for as long as the page is open, and say on the page how it goes. `ask` fetches, shows, and
 * returns after how many milliseconds it is to be called again. `gone` is called when the server has ended: it
 * marks what may have become otherwise, and returns what to say.
 */
export async function keepUp(ask, gone = () => GONE) {
  const status = document.getElementById("live");
  for (let failures = 0; ; ) {
    let period = LIVE_MS;
    try {
      period = await ask();
      failures = 0;
      say(status, "live");
    } catch (error) {
      if (error.status === 401) return say(status, CLOSED);
      if (error.status === 404) return say(status, "this is not there any more");
      if (!(error instanceof TypeError) && error.status === undefined) throw error;
      failures++;
      if (failures < GONE_AFTER) say(status, AWAY);
      else if (failures === GONE_AFTER) say(status, gone());
    }
    await pause(failures ? AWAY_MS[Math.min(failures, AWAY_MS.length) - 1] : period);
    while (document.hidden) await pause(HIDDEN_MS);
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
