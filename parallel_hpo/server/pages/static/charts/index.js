/**
 * Draws charts into the figures of a page.
 *
 * A page places `<figure class="chart" data-chart="NAME">` (best, contour, histories, importance, parallel, scatter, timeline),
 * and for a run's page `<section data-charts="run">` and `<section data-charts="system">`; then it calls
 *
 *   mountSweep(root, store, base, {home, bare, made}) or mountRun(root, runData, base, {home, bare, made})
 *
 * base: the URL of the data, or an object with the functions of source.js. home: the URL below which `/runs/ID` is a
 * run's page; null: no links. bare: true if the page draws titles and menus itself; a chart then shows its `main`
 * options only. made(chart): called for each new chart, for a menu or a card around `chart.figure`.
 *
 * A chart is an EventTarget with
 *   name, title, figure      the name in data-chart (of a run's page: the key), a title, the page's element
 *   options                  [{name, label, kind: "tick" | "choice" | "slider", value, choices: [[value, text]], most, step, main}]
 *   set(name, value)         sets an option; wanted: {name: value} of all, for the page to keep
 *   "options"                the event after a value or the choices of an option have changed
 *   toPNG()                  a promise of a Blob; null if nothing is drawn
 *   toCSV()                  text
 * elements.js has `controlOf(chart, option)`: a labelled form control that follows the option.
 *
 * A chart is as high as `--chart-height` (280 px). In a figure with the class `fills` it is as high as the figure, which
 * needs a height (a card's, a full screen's); what doesn't fit scrolls inside.
 *
 * Runs are shared through the store: `shown` (filters), `selected`, and `hovered`, an id that `store.hover(id)` sets (event
 * "hover"). `runColour(store, row)` of runs.js is a run's colour everywhere, for swatches too.
 */

import { Best } from "./best.js";
import { Contour } from "./contour.js";
import { Histories } from "./histories.js";
import { Importance } from "./importance.js";
import { Parallel } from "./parallel.js";
import { RunCharts } from "./run.js";
import { Scatter } from "./scatter.js";
import { sourceOf } from "./source.js";
import { Timeline } from "./timeline.js";

const CHARTS = { best: Best, contour: Contour, parallel: Parallel, importance: Importance, scatter: Scatter, timeline: Timeline, histories: Histories };

/** Draw the charts of a sweep into the elements of `root` with data-chart; they follow the store. */
export function mountSweep(root, store, base, { made = () => {}, ...look } = {}) {
  const source = sourceOf(base);
  for (const figure of root.querySelectorAll("[data-chart]")) {
    made(new CHARTS[figure.dataset.chart](figure, { store, source, ...look }));
  }
}

/**
 * Draw a run's charts into the elements of `root` with data-charts.
 *
 * They follow "run-data" events of `root`: keys with new lines are read again.
 */
export function mountRun(root, runData, base, look = {}) {
  const source = sourceOf(base);
  const drawn = [...root.querySelectorAll("[data-charts]")].map((section) => new RunCharts(section, runData, source, look));
  root.addEventListener("run-data", ({ detail }) => drawn.forEach((charts) => charts.follow(detail)));
}
