// The live page of a sweep: facts, charts and runs.

import { makeActions } from "./act.js";
import { mountSweep } from "./charts/index.js";
import { wireFilters } from "./filters.js";
import { duration, number, say } from "./format.js";
import { fetchJson, keepUp, LIVE_MS, OVER_MS } from "./live.js";
import { Store } from "./store.js";
import { RunTable } from "./table.js";

const OVER = ["finished", "failed", "crashed", "killed", "preempted"];
const UNSEEN_MS = 300;
const ENDS = ["FINISHED", "CANCELED"];
const { base, home } = document.getElementById("main").dataset;
const store = new Store();
const ACTS = { PENDING: ["pause", "stop", "cancel"], RUNNING: ["pause", "stop", "cancel"], PAUSED: ["resume", "stop", "cancel"] };
const actions = makeActions();
let mounted = false;

function showFacts() {
  const counts = new Map();
  for (const state of store.runs.state) counts.set(state, (counts.get(state) ?? 0) + 1);
  const over = OVER.reduce((sum, state) => sum + (counts.get(state) ?? 0), 0);
  const show = (id, text) => say(document.getElementById(id), text);
  show("state", store.sweep.state.toLowerCase());
  show("progress", store.sweep.count === null ? `${over} ended` : `${over} of ${store.sweep.count} ended`);
  show("counts", [...counts].map(([state, many]) => `${many} ${state}`).join(", ") || "none yet");
  show("best", bestWords());
  show("left", leftWords(over));
  show("used", store.sweep.used);
  document.getElementById("used").parentElement.hidden = store.sweep.used === "";
}

function bestWords() {
  const metric = store.sweep.metric;
  if (metric === null) return "the sweep has no metric";
  const row = store.row(store.best);
  return row === undefined ? `no run has a value for ${metric.name} yet` : `${metric.name} = ${number(store.runs.value[row])} (run ${store.best})`;
}

/** Estimate the time left from the mean duration of ended runs and the number of working workers. */
function leftWords(over) {
  if (ENDS.includes(store.sweep.state)) return "ended";
  const took = store.column("duration").filter((seconds, row) => seconds !== null && store.runs.ended[row] !== null);
  const working = store.runs.state.filter((state) => state === "running").length;
  if (store.sweep.count === null || took.length === 0 || working === 0) return "unknown yet";
  const mean = took.reduce((sum, seconds) => sum + seconds, 0) / took.length;
  return `about ${duration((Math.max(0, store.sweep.count - over) * mean) / working)}`;
}

/** Draw the table before the charts, which take a while for many runs. A hidden page draws nothing and doesn't wait. */
function tableIsSeen() {
  const drawn = new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  const enough = new Promise((resolve) => setTimeout(resolve, UNSEEN_MS));
  return Promise.race([drawn, enough]);
}

async function ask() {
  const since = store.revision ? `?since=${encodeURIComponent(store.revision)}` : "";
  store.merge(await fetchJson(base + since));
  showFacts();
  (await actions)(ACTS[store.sweep.state] ?? [], store.workers);
  if (!mounted) {
    mounted = true;
    await tableIsSeen();
    wireFilters(store);
    mountSweep(document.getElementById("main"), store, base);
  }
  const isOver = store.runs.state.every((state) => OVER.includes(state));
  return isOver && ENDS.includes(store.sweep.state) ? OVER_MS : LIVE_MS;
}

/** Mark values that may be outdated. */
async function forgetWhatGoesOn() {
  say(document.getElementById("left"), "unknown");
  say(document.getElementById("state"), `was ${store.sweep.state.toLowerCase()}`);
  (await actions)([]);
}

function gone() {
  const again = `parallel-hpo open ${base.split("/").at(-1)}`;
  if (store.sweep === null) return `the server has ended: ${again} shows the sweep`;
  if (ENDS.includes(store.sweep.state)) return `the sweep has ended; ${again} shows it again`;
  forgetWhatGoesOn();
  return `the sweep's server has ended; ${again} shows the sweep's current state`;
}

new RunTable(store, home);
keepUp(ask, gone);
