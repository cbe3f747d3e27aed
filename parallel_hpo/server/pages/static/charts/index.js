/** Puts charts where a page's template has room for them. */

import * as best from "./best.js";
import * as histories from "./histories.js";
import * as importance from "./importance.js";
import * as parallel from "./parallel.js";
import { drawKeys } from "./run.js";
import * as scatter from "./scatter.js";
import * as timeline from "./timeline.js";

const CHARTS = { parallel, best, importance, scatter, timeline, histories };

/**
 * Draw the charts of a sweep into the sections of `root` that ask for one by data-chart; they follow the store.
 *
 * base: the sweep's data address, or an object with the functions of source.js. Returns {destroy}.
 */
export function mountSweep(root, store, base) {
  const sections = [...root.querySelectorAll("section[data-chart]")];
  const drawn = sections.map((section) => CHARTS[section.dataset.chart].draw(section, store, { base }));
  return { destroy: () => drawn.forEach((chart) => chart.destroy()) };
}

/** Draw a run's charts into the sections that ask by data-charts; returns {update(runData), destroy}. */
export function mountRun(root, runData, base) {
  const kinds = { run: [(data) => data.keys, false], system: [(data) => data.system_keys, true] };
  const drawn = [...root.querySelectorAll("section[data-charts]")].map((section) => {
    const [keysOf, system] = kinds[section.dataset.charts];
    return { keysOf, charts: drawKeys(section, keysOf(runData) ?? [], base, { system }) };
  });
  return {
    update: (now) => drawn.forEach(({ keysOf, charts }) => charts.update(keysOf(now) ?? [])),
    destroy: () => drawn.forEach(({ charts }) => charts.destroy()),
  };
}
