// Keeps a page up to date: polls the server while the page is visible.

import { find, say } from "./format.js";

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

/** Errors after which asking again is useless: not logged in, or gone. */
const FINAL = [401, 403, 404, 410];

/** The server can't be read: it restarts, the network fails, a proxy answers. */
class UnreadableError extends Error {
  constructor(words, status = null) {
    super(words);
    this.isFinal = FINAL.includes(status);
    this.status = status;
  }
}

/** Fetch JSON; UnreadableError if that fails now or for good (`isFinal`). */
export async function fetchJson(address, asked = { headers: { Accept: "application/json" }, cache: "no-store" }) {
  let status = null;
  try {
    const response = await fetch(address, asked);
    status = response.ok ? null : response.status;
    const body = response.status === 204 ? {} : await response.json();
    if (response.ok) return body;
    throw new UnreadableError(body.error ?? `the server answered ${status}`, status);
  } catch (error) {
    if (error instanceof UnreadableError) throw error;
    throw new UnreadableError(status === null ? AWAY : `the server answered ${status}`, status);
  }
}

/** Fetch JSON, again while the server can't be read; said(problem) is called before each pause. */
export async function fetchPatiently(address, asked, said = () => {}) {
  for (let failures = 0; ; failures++) {
    try {
      return await fetchJson(address, asked);
    } catch (error) {
      if (error.isFinal || (error.status !== null && error.status < 500)) throw error;
      said(error.message);
      await wait(AWAY_MS[Math.min(failures, AWAY_MS.length - 1)]);
    }
  }
}

/**
 * Call `ask` while the page is open, and show the connection's state. `ask` fetches and shows data, and returns
 * the milliseconds until its next call. When the server has ended, `gone` is called: it marks outdated values,
 * and returns the message. `lives`: whether something may still change, which the page then says.
 */
export async function keepUp(ask, gone = () => GONE, lives = () => true) {
  const status = find("live");
  for (let failures = 0; ; ) {
    let period = LIVE_MS;
    try {
      period = await ask();
      failures = 0;
      show(status, lives() ? "live" : "", true);
    } catch (error) {
      if (error.status === 401) return show(status, CLOSED);
      if (error.isFinal) return show(status, "this doesn't exist any more");
      if (!(error instanceof UnreadableError)) throw error;
      failures++;
      if (failures < GONE_AFTER) show(status, AWAY);
      else if (failures === GONE_AFTER) show(status, gone());
    }
    await pause(failures ? AWAY_MS[Math.min(failures, AWAY_MS.length) - 1] : period);
  }
}

function show(status, words, isOn = false) {
  say(status, words);
  status.classList.toggle("on", isOn && words !== "");
}

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Wait, and then until the page is visible. */
export async function pause(milliseconds) {
  await wait(milliseconds);
  while (document.hidden) await wait(HIDDEN_MS);
}
