// The page of a project: its sweeps and its runs, live.

import { wireFilters } from "./filters.js";
import { element, number, say, time } from "./format.js";
import { fetchJson, keepUp } from "./live.js";
import { wireMenus } from "./menus.js";
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
    const counts = Object.entries(sweep.runs).map(([state, many]) => `${many} ${state}`);
    const best = sweep.best === null ? "" : `${sweep.metric.name} = ${number(sweep.best)}`;
    const words = [null, sweep.state.toLowerCase(), sweep.method, counts.join(", "), best, time(sweep.created)];
    words.forEach((text, place) => text !== null && say(line.children[place], text));
    line.children[1].className = `state-${sweep.state.toLowerCase()}`;
  }
}

function lineFor(body, sweep) {
  const link = element("a", { href: `${home}/sweeps/${encodeURIComponent(sweep.id)}` }, sweep.name);
  const cells = Array.from({ length: 5 }, () => element("td"));
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
