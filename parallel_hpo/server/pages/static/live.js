// Keeps a page up to date: polls the server while the page is visible.

import { say } from "./format.js";

export const LIVE_MS = 600;
/** Time between polls while nothing runs: something may start again. */
export const OVER_MS = 3000;
const HIDDEN_MS = 200;
const AWAY_MS = [1000, 2000, 5000];
const CLOSED = "this browser is not logged in any more: parallel-hpo open";
const AWAY = "the server doesn't respond";
const GONE = "the server has ended: parallel-hpo open shows more";
/** Failed polls after which a server counts as ended; after a crash it is restarted sooner. */
const GONE_AFTER = 2;

/** Fetch JSON; throws an error with the response's `status`, or undefined if the server doesn't respond. */
export async function fetchJson(address) {
  const response = await fetch(address, { headers: { Accept: "application/json" }, cache: "no-store" });
  if (!response.ok) throw Object.assign(new Error(`${address}: ${response.status}`), { status: response.status });
  return response.json();
}

/**
 * Call `ask` while the page is open, and show the connection's state. `ask` fetches and shows data, and returns
 * the milliseconds until its next call. When the server has ended, `gone` is called: it marks outdated values,
 * and returns the message. `lives`: whether something may still change, which the page then says.
 */
export async function keepUp(ask, gone = () => GONE, lives = () => true) {
  const status = document.getElementById("live");
  for (let failures = 0; ; ) {
    let period = LIVE_MS;
    try {
      period = await ask();
      failures = 0;
      show(status, lives() ? "live" : "", true);
    } catch (error) {
      if (error.status === 401) return show(status, CLOSED);
      if (error.status === 404) return show(status, "this doesn't exist any more");
      if (!(error instanceof TypeError) && error.status === undefined) throw error;
      failures++;
      if (failures < GONE_AFTER) show(status, AWAY);
      else if (failures === GONE_AFTER) show(status, gone());
    }
    await pause(failures ? AWAY_MS[Math.min(failures, AWAY_MS.length) - 1] : period);
    while (document.hidden) await pause(HIDDEN_MS);
  }
}

function show(status, words, isOn = false) {
  say(status, words);
  status.classList.toggle("on", isOn && words !== "");
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
