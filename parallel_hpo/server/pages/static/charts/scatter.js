/** The metric against each varied parameter, one small plot each. */

import { axisOf } from "./axes.js";
import { Chart } from "./chart.js";
import { element, oncePerFrame } from "./elements.js";
import { nearestPoint, paintPoints } from "./marks.js";
import { asText, extent, short } from "./numbers.js";
import { plot } from "./plot.js";
import { isFailed, metricOf, nameOf, onNews, runColour } from "./runs.js";
import { colours } from "./theme.js";

const HEIGHT = 210;
const JITTER = 0.5; // fraction of the distance between categories, so that equal values don't overlap

const OPTIONS = [{ name: "log", label: "Log metric", kind: "tick", value: false }];

export class Scatter extends Chart {
  constructor(figure, context) {
    super(figure, { name: "scatter", title: "Metric against each parameter", options: structuredClone(OPTIONS) }, context);
    this.host.classList.add("chart-grid");
    this.plots = [];
    this.repaint = oncePerFrame(() => this.plots.forEach((drawn) => drawn.repaint()));
    this.ends.push(this.repaint.cancel);
    this.follow({ data: onNews(this.again), filter: this.repaint, selection: this.repaint });
    this.again();
  }

  paint() {
    for (const drawn of this.plots) drawn.destroy();
    this.plots = paintAll(this, this.store, this.wanted.log);
  }

  rows() {
    const names = this.store.parameters.filter(({ varied }) => varied).map(({ name }) => name);
    const columns = [...names.map((name) => `parameters.${name}`), "value"].map((name) => this.store.column(name));
    const lines = this.store.runs.id.map((id, row) => [id, ...columns.map((column) => column[row])]);
    return [["run", ...names, metricOf(this.store)?.name ?? "value"], ...lines];
  }

  destroy() {
    for (const drawn of this.plots) drawn.destroy();
    super.destroy();
  }
}

function paintAll(figure, store, log) {
  const varied = store.parameters.filter((parameter) => parameter.varied);
  const hosts = varied.map(() => element("div", { class: "chart-host" }));
  figure.host.replaceChildren(...hosts);
  const metric = metricOf(store)?.name ?? "value";
  const values = store.column("value").filter((value) => Number.isFinite(value) && value !== null);
  figure.say(
    `${metric} of ${values.length} runs against ${varied.length} varied parameters. ` +
      "Failed runs are at the bottom, without a value. Runs without a parameter are not in its plot.",
  );
  return varied.map((parameter, index) => paintOne(figure, hosts[index], store, parameter, log)).filter(Boolean);
}

function paintOne(figure, host, store, parameter, log) {
  const column = store.column(`parameters.${parameter.name}`);
  const axis = axisOf(parameter, column);
  const { points, y } = pointsOf(store, axis, column, log);
  if (!points.length) return null;
  const known = colours();
  const [low, high] = axis.numeric ? [axis.low, axis.high] : [-0.5, axis.texts.length - 0.5];
  const names = axis.numeric ? null : axis.texts;
  return plot(figure, {
    host, height: HEIGHT,
    label: `${metricOf(store)?.name ?? "value"} against ${parameter.name}, ${points.length} runs`,
    x: { low, high, log: axis.log, label: parameter.name, names, listed: axis.listed },
    y: { ...y, log },
    paint(context, place) {
      const groups = [[known.line, (row) => !store.shown[row]], [known.bad, (row) => store.shown[row] && isFailed(store.runs.state[row])],
        [known.accent, (row) => store.shown[row] && !isFailed(store.runs.state[row])]];
      for (const [colour, holds] of groups) paintPoints(context, points.filter(({ row }) => holds(row)), place, colour, 2.5, 0.75);
      const selected = points.filter(({ row }) => store.selected.has(store.runs.id[row]));
      for (const point of selected) paintPoints(context, [point], place, runColour(store, point.row), 5);
    },
    near(place, left, top) {
      const hit = nearestPoint(points, place, left, top);
      return hit && { ...hit, lines: linesOf(store, parameter, column, hit.point.row), pick: () => store.select([store.runs.id[hit.point.row]]) };
    },
  });
}

/** Return the runs with the parameter as points, failed ones below all others, and the range of the metric. */
function pointsOf(store, axis, column, log) {
  const values = store.column("value");
  const [low, high] = extent(values, log) ?? [0, 1];
  const foot = log ? low / (high / low || 2) ** 0.08 : low - (high - low || 1) * 0.08;
  const points = column.flatMap((value, row) => {
    const place = axis.numeric ? value : axis.texts.indexOf(asText(value));
    const y = values[row] ?? (isFailed(store.runs.state[row]) ? foot : null);
    if (value === null || value === undefined || y === null || (log && y <= 0)) return [];
    return [{ row, x: axis.numeric ? place : place + (((row * 0.618) % 1) - 0.5) * JITTER, y }];
  });
  return { points, y: { low: points.some(({ y }) => y === foot) ? foot : low, high } };
}

function linesOf(store, parameter, column, row) {
  const value = `${metricOf(store)?.name ?? "value"}: ${short(store.runs.value[row])} (${store.runs.state[row]})`;
  return [nameOf(store, row), `${parameter.name}: ${asText(column[row])}`, value];
}
