// The first page: all sweeps, live.

import { find } from "./format.js";
import { fetchJson, keepUp } from "./live.js";
import { makeSweeps } from "./sweeps.js";

const PERIOD_MS = 1500;
const { base } = find("main").dataset;
const sweeps = makeSweeps(base, { namesProjects: true });

async function ask() {
  const { sweeps: known } = await fetchJson(base);
  await sweeps.show(known);
  find("sweeps-none").hidden = known.length > 0;
  return PERIOD_MS;
}

keepUp(ask, undefined, sweeps.isLive);
