/**
 * Draws charts into the figures of a page, `<figure class="chart" data-chart="NAME">` (the names are in CHARTS), and for a
 * run's page into `<section data-charts="run">` and `<section data-charts="system">`.
 *
 * base: the URL of the data, or an object with the functions of `sourceOf`. home: the URL below which `/runs/ID` is a run's
 * page; null: no links. bare: the page draws titles and menus, so a chart shows its `main` options only. made(chart): called
 * for each new chart, whose `name`, `title`, `figure`, `options`, `wanted`, `set`, `toPNG`, `toCSV` and event "options" are
 * for a menu around it.
 *
 * A chart is as high as `--chart-height`, or as its figure if that has the class `fills`.
 */

import { fetchPatiently } from "../live.js";
import { Best } from "./best.js";
import { Contour } from "./contour.js";
import { Histories } from "./histories.js";
import { Importance } from "./importance.js";
import { Parallel } from "./parallel.js";
import { RunCharts } from "./run.js";
import { Scatter } from "./scatter.js";
import { Timeline } from "./timeline.js";

const CHARTS = { best: Best, contour: Contour, parallel: Parallel, importance: Importance, scatter: Scatter, timeline: Timeline, histories: Histories };

/** Draw a sweep's charts, which follow the store. */
export function mountSweep(root, store, base, { made = () => {}, ...look } = {}) {
  const source = sourceOf(base);
  for (const figure of root.querySelectorAll("[data-chart]")) {
    made(new CHARTS[figure.dataset.chart](figure, { store, source, ...look }));
  }
}

/** Draw a run's charts. They follow "run-data" events of `root`: keys with new lines are read again. */
export function mountRun(root, runData, base, look = {}) {
  const source = sourceOf(base);
  const drawn = [...root.querySelectorAll("[data-charts]")].map((section) => new RunCharts(section, runData, source, look));
  root.addEventListener("run-data", ({ detail }) => drawn.forEach((charts) => charts.follow(detail)));
}

/**
 * Return {histories, timeline, history} of a base: a URL, or an object with these functions (a report's);
 * `ownAxes`: histories may run over logged keys.
 * The answer to a request with `seen`, a revision, is at least as new, and shared by all pages with it.
 */
function sourceOf(base) {
  if (typeof base !== "string") return base;
  const ask = (kind) => (asked) => fetchPatiently(`${base}/${kind}?${new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== null))}`);
  return { ownAxes: true, histories: ask("histories"), timeline: ask("timeline"), history: ask("history") };
}
