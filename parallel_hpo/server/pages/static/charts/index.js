/**
 * Draws charts into the figures of a page, `<figure class="chart" data-chart="NAME">`; the names are in CHARTS. run.js does
 * so for a run's page, into `<section data-charts="run">` and `<section data-charts="system">`.
 *
 * base: the URL of the data, or an object with the functions of source.js. home: the URL below which `/runs/ID` is a run's
 * page; null: no links. bare: the page draws titles and menus, so a chart shows its `main` options only. made(chart): called
 * for each new chart, whose `name`, `title`, `figure`, `options`, `wanted`, `set`, `toPNG`, `toCSV` and event "options" are
 * for a menu around it.
 *
 * A chart is as high as `--chart-height`, or as its figure if that has the class `fills`.
 */

import { Best } from "./best.js";
import { Contour } from "./contour.js";
import { Histories } from "./histories.js";
import { Importance } from "./importance.js";
import { Parallel } from "./parallel.js";
import { Scatter } from "./scatter.js";
import { sourceOf } from "./source.js";
import { Timeline } from "./timeline.js";

const CHARTS = { best: Best, contour: Contour, parallel: Parallel, importance: Importance, scatter: Scatter, timeline: Timeline, histories: Histories };

/** Draw a sweep's charts, which follow the store. */
export function mountSweep(root, store, base, { made = () => {}, ...look } = {}) {
  const source = sourceOf(base);
  for (const figure of root.querySelectorAll("[data-chart]")) {
    made(new CHARTS[figure.dataset.chart](figure, { store, source, ...look }));
  }
}
