// The page of a project: its sweeps and its runs, live.

import { wireFilters } from "./filters.js";
import { element, number, say, time } from "./format.js";
import { fetchJson, keepUp } from "./live.js";
import { wireMenus } from "./menus.js";
import { drawBar, progressWords } from "./progress.js";
import { Store } from "./store.js";
import { RunTable } from "./table.js";

const PERIOD_MS = 1500;
const { base, home } = document.getElementById("main").dataset;
const store = new Store();
let wired = false;

function showSweeps(sweeps) {
  const body = document.querySelector("#sweeps tbody");
  for (const sweep of sweeps) {
    const line = body.querySelector(`tr[data-sweep="${CSS.escape(sweep.id)}"]`) ?? lineFor(body, sweep);
    const [, best, state, progress, method, created] = line.children;
    showBest(best, sweep);
    say(state, sweep.state.toLowerCase());
    state.className = `state-${sweep.state.toLowerCase()}`;
    drawBar(progress.firstChild, sweep.runs, sweep.count);
    say(progress.lastChild, progressWords(sweep.runs, sweep.count));
    say(method, sweep.method);
    say(created, time(sweep.created));
  }
}

function showBest(cell, { best, metric }) {
  if (best === null || cell.title === `${best}`) return;
  cell.title = `${best}`;
  cell.replaceChildren(element("strong", {}, number(best)), " ", element("span", { class: "quiet" }, metric.name));
}

function lineFor(body, sweep) {
  const link = element("a", { href: `${home}/sweeps/${encodeURIComponent(sweep.id)}`, title: sweep.name }, sweep.name);
  const cells = Array.from({ length: 5 }, () => element("td"));
  cells[2].append(element("div", { class: "bar", role: "img" }), element("span", { class: "small" }));
  const line = element("tr", { "data-sweep": sweep.id }, element("td", {}, link), ...cells);
  body.append(line);
  return line;
}

async function ask() {
  const since = store.revision ? `?since=${encodeURIComponent(store.revision)}` : "";
  const news = await fetchJson(base + since);
  showSweeps(news.sweeps);
  store.merge(news);
  if (!wired) wireFilters(store);
  wired = true;
  return PERIOD_MS;
}

new RunTable(store, home);
wireMenus();
keepUp(ask);
