// The live page of a sweep: its head, and its runs.

import { makeActions } from "./act.js";
import { oncePerFrame } from "./charts/elements.js";
import { total } from "./charts/numbers.js";
import { duration, element, fill, find, number, on, runLink, say } from "./format.js";
import { fetchJson, keepUp, LIVE_MS, OVER_MS } from "./live.js";
import { countsOf, drawBar, endedOf, ENDS, leftWords, listCounts, progressWords } from "./progress.js";
import { Store } from "./store.js";
import { mountWorkspace } from "./workspace.js";

const ACTS = { PENDING: ["pause", "stop", "cancel"], RUNNING: ["pause", "stop", "cancel"], PAUSED: ["resume", "stop", "cancel"] };
/** Names of values of which higher ones are probably better. */
const HIGHER = /acc|auc|score|reward|return|f1|iou|precision|recall|throughput|per_sec/i;
const { base, home } = find("main").dataset;
const store = new Store();
const actions = makeActions(() => ({ name: store.sweep.name }), { delete: "Deletes the sweep with all its runs, their histories, logs and files from this server, for good. Its folder on the disk stays." });
const drawCharts = mountWorkspace(store, home);
let mounted = false;

function showHead() {
  const counts = countsOf(store.runs.state);
  const { state, count, used } = store.sweep;
  showState(state.toLowerCase());
  say(find("name"), store.sweep.name);
  document.title = `${store.sweep.name} · parallel_hpo`;
  say(find("progress"), progressWords(counts, count));
  drawBar(find("bar"), counts, count);
  listCounts(find("counts"), counts);
  showBest();
  showMetrics();
  say(find("elapsed"), duration(elapsed()) || "not started");
  say(find("left"), timeLeft(counts));
  say(find("used"), used);
  find("used").parentElement.hidden = used === "";
}

function showState(words) {
  const badge = find("state");
  say(badge, words);
  badge.className = `badge state-${words.split(" ").at(-1)}`;
}

function showBest() {
  const { metric } = store.sweep;
  const row = store.row(store.best);
  const words = metric === null ? "the sweep has no metric" : row === undefined ? (ENDS.includes(store.sweep.state) ? "no value" : "no value yet") : number(store.runs.value[row]);
  const key = `${words} ${store.best}`;
  if (find("best").dataset.shown === key) return;
  find("best").dataset.shown = key;
  if (row === undefined || metric === null) find("best").replaceChildren(words);
  else find("best").replaceChildren(element("span", { title: String(store.runs.value[row]) }, words), " ", runLink(home, store.best, store.runs.name[row]));
}

function showMetrics() {
  const { metric, objective } = store.sweep;
  say(find("best-title"), `best ${metric?.name ?? "value"}`);
  const names = [...new Set([...(objective ? [objective.name] : [""]), ...store.keys, ...(metric ? [metric.name] : [])])];
  fill(find("metric"), names.map((name) => [name, name || "no metric"]), metric?.name ?? "");
  find("goal").value = metric?.goal ?? "minimize";
  find("goal").disabled = metric?.name === objective?.name;
}

function compareBy(metric, goal) {
  const isOwn = metric === (store.sweep.objective?.name ?? "");
  compared = new URLSearchParams(isOwn ? {} : { metric, goal });
  history.replaceState(null, "", `${location.pathname}${isOwn ? "" : `?${compared}`}${location.hash}`);
  store.revision = "";
  askSoon();
}

function elapsed() {
  const begun = Math.min(...store.runs.started.filter((at) => at !== null));
  if (!Number.isFinite(begun)) return null;
  const isOver = ENDS.includes(store.sweep.state) && store.runs.ended.every((at) => at !== null);
  return (isOver ? Math.max(...store.runs.ended) : Date.now() / 1000) - begun;
}

function timeLeft(counts) {
  if (ENDS.includes(store.sweep.state)) return "ended";
  const took = store.column("duration").filter((seconds, row) => seconds !== null && store.runs.ended[row] !== null);
  return leftWords(store.sweep.count, endedOf(counts), total(took) / took.length, counts.running ?? 0);
}

/** The value of summaries that runs are compared by, and its goal, as in the address; empty: the sweep's metric. */
let compared = new URLSearchParams([...new URLSearchParams(location.search)].filter(([name]) => ["metric", "goal"].includes(name)));

function choice() {
  return String(new URLSearchParams([...compared, ...[...store.wanted].sort().map((name) => ["logged", name])]));
}

/** Request logged values that are used for the first time. */
const askSoon = oncePerFrame(() => {
  find("csv").href = `${base}.csv?${choice()}`;
  ask().catch(() => {}); // the next poll says what is wrong
});

async function ask() {
  const wanted = choice();
  const news = await fetchJson(`${base}?${wanted}&since=${encodeURIComponent(store.revision)}`);
  if (wanted !== choice()) return 0;
  store.merge(news);
  showHead();
  (await actions)([...(ACTS[store.sweep.state] ?? []), "edit", ...(ENDS.includes(store.sweep.state) ? ["delete"] : [])], store.workers);
  if (!mounted) {
    mounted = true;
    await drawCharts(base);
  }
  const isOver = endedOf(countsOf(store.runs.state)) === store.count;
  return isOver && ENDS.includes(store.sweep.state) ? OVER_MS : LIVE_MS;
}

/** Mark values that may be outdated. */
async function forgetWhatGoesOn() {
  say(find("left"), "unknown");
  showState(`was ${store.sweep.state.toLowerCase()}`);
  (await actions)([]);
}

function gone() {
  const again = `parallel-hpo open ${base.split("/").at(-1)}`;
  if (store.sweep === null) return `the server has ended: ${again} shows the sweep`;
  if (ENDS.includes(store.sweep.state)) return `the sweep has ended; ${again} shows it again`;
  forgetWhatGoesOn();
  return `the sweep's server has ended; ${again} shows the sweep's current state`;
}

store.addEventListener("want", askSoon);
on("metric", "change", ({ target }) => compareBy(target.value, HIGHER.test(target.value) ? "maximize" : "minimize"));
on("goal", "change", ({ target }) => compareBy(find("metric").value, target.value));
keepUp(ask, gone, () => !ENDS.includes(store.sweep.state));
