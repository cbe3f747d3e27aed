/** Draws charts into the sections of a page's template. */

import * as best from "./best.js";
import * as histories from "./histories.js";
import * as importance from "./importance.js";
import * as parallel from "./parallel.js";
import { drawKeys } from "./run.js";
import * as scatter from "./scatter.js";
import * as timeline from "./timeline.js";

const CHARTS = { parallel, best, importance, scatter, timeline, histories };

const KINDS = {
  run: { keysOf: (data) => data.keys, linesOf: (data) => data.run.history_lines, system: false },
  system: { keysOf: (data) => data.system_keys, linesOf: (data) => data.run.event_lines, system: true },
};

/**
 * Draw the charts of a sweep into the sections of `root` with data-chart; they follow the store.
 *
 * base: the URL of the sweep's data, or an object with the functions of source.js. Returns {destroy}.
 */
export function mountSweep(root, store, base) {
  const sections = [...root.querySelectorAll("section[data-chart]")];
  const drawn = sections.map((section) => CHARTS[section.dataset.chart].draw(section, store, { base }));
  return { destroy: () => drawn.forEach((chart) => chart.destroy()) };
}

/**
 * Draw a run's charts into the sections of `root` with data-charts; returns {destroy}.
 *
 * They follow "run-data" events of `root`: keys with new lines are read again.
 */
export function mountRun(root, runData, base) {
  const drawn = [...root.querySelectorAll("section[data-charts]")].map((section) => {
    const { keysOf, linesOf, system } = KINDS[section.dataset.charts];
    const charts = drawKeys(section, keysOf(runData) ?? [], base, { system });
    let lines = linesOf(runData);
    const update = ({ detail }) => {
      if (linesOf(detail) === lines) return;
      lines = linesOf(detail);
      charts.update(keysOf(detail) ?? []);
    };
    root.addEventListener("run-data", update);
    return { charts, end: () => root.removeEventListener("run-data", update) };
  });
  return {
    destroy() {
      for (const { charts, end } of drawn) {
        end();
        charts.destroy();
      }
    },
  };
}
