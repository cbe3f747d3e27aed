// The page of a project: its sweeps and its runs, live.

import { wireFilters } from "./filters.js";
import { find } from "./format.js";
import { fetchJson, keepUp } from "./live.js";
import { wireMenus } from "./menus.js";
import { Store } from "./store.js";
import { makeSweeps } from "./sweeps.js";
import { runTable } from "./table.js";

const PERIOD_MS = 1500;
const { base, home } = find("main").dataset;
const store = new Store();
const sweeps = makeSweeps(base, { namesProjects: false });
let wired = false;

async function ask() {
  const since = store.revision ? `?since=${encodeURIComponent(store.revision)}` : "";
  const news = await fetchJson(base + since);
  store.merge(news);
  if (!wired) wireFilters(store);
  wired = true;
  await sweeps.show(news.sweeps);
  return PERIOD_MS;
}

runTable(store, home);
wireMenus();
keepUp(ask, undefined, sweeps.isLive);
