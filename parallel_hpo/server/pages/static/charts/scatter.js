/** The metric against each varied parameter, one small plot each. */

import { dress, element, scrolling } from "../format.js";
import { axisOf } from "./axes.js";
import { Chart, LOG } from "./chart.js";
import { oncePerFrame } from "./elements.js";
import { asText, counted, exactText, extent, isMissing } from "./numbers.js";
import { Plot } from "./plot.js";
import { isFailed, isOpen, metricName, onNews, paintRuns, pointing, variedOf } from "./runs.js";

const JITTER = 0.5; // fraction of the distance between categories, so that equal values don't overlap

export class Scatter extends Chart {
  constructor(figure, context) {
    super(figure, { name: "scatter", title: "Metric against each parameter", options: [{ ...LOG, label: "Log metric" }] }, context);
    this.host.classList.add("chart-grid");
    dress(this.host, scrolling(`${this.title}, scrollable`));
    this.plots = new Map();
    this.repaint = oncePerFrame(() => this.plots.forEach((plot) => plot.repaint()));
    const hover = oncePerFrame(() => this.plots.forEach((plot) => plot.repaintOver()));
    this.follow({ data: onNews(this.again), filter: this.repaint, selection: this.repaint, hover });
    this.again();
  }

  paint() {
    const varied = variedOf(this.store);
    this.describe(varied);
    for (const { name } of varied) if (!this.plots.has(name)) this.plots.set(name, this.addPlot());
    for (const [name, plot] of this.plots) this.paintOne(plot, varied.find((parameter) => parameter.name === name));
  }

  addPlot() {
    const host = this.host.appendChild(element("div.chart-host"));
    return new Plot(this, host);
  }

  paintOne(plot, parameter) {
    const spec = parameter && specOf(this.store, parameter, this.wanted.log);
    plot.host.hidden = !spec;
    plot.draw(spec);
  }

  describe(varied) {
    const { store } = this;
    const values = store.column("value").filter(Number.isFinite);
    const failed = store.runs.state.some(isFailed) ? " Failed runs are crosses at the bottom." : "";
    this.say(`${metricName(store)} of ${counted(values.length, "run")} against ${counted(varied.length, "varied parameter")}.${failed}`);
  }

  rows() {
    const names = variedOf(this.store).map(({ name }) => name);
    const columns = [...names.map((name) => `parameters.${name}`), "value"].map((name) => this.store.column(name));
    const lines = this.store.runs.id.map((id, row) => [id, ...columns.map((column) => column[row])]);
    return [["run", ...names, metricName(this.store)], ...lines];
  }
}

function specOf(store, parameter, log) {
  const column = store.column(`parameters.${parameter.name}`);
  const axis = axisOf(parameter, column);
  const { points, y } = pointsOf(store, axis, column, log);
  if (!points.length) return null;
  return {
    label: `${metricName(store)} against ${parameter.name}, ${counted(points.length, "run")}`,
    x: { ...rangeOf(axis), label: parameter.name },
    y: { ...y, kind: log ? "log" : "number", label: metricName(store) },
    paint: (context, place) => paintRuns(context, place, store, points),
    ...pointing(store, points, ({ row }) => [[parameter.name, asText(column[row])]]),
  };
}

export function rangeOf({ numeric, kind, low, high, texts, listed, whole }) {
  if (!numeric) return { kind, low: -0.5, high: texts.length - 0.5, names: texts, fixed: true };
  return { kind, low, high, listed, whole };
}

/** Return points, failed runs below all others, and the range of the metric. */
function pointsOf(store, axis, column, log) {
  const values = store.column("value");
  const settled = values.filter((_, row) => !isOpen(store.runs.state[row]));
  const [low, high] = extent(settled, log) ?? extent(values, log) ?? [0, 1];
  const foot = log ? low / (high / low || 2) ** 0.08 : low - (high - low || 1) * 0.08;
  const points = column.flatMap((value, row) => {
    if (isMissing(value)) return [];
    const place = axis.numeric ? value : axis.texts.indexOf(exactText(value));
    const y = values[row] === null ? (isFailed(store.runs.state[row]) ? foot : null) : Math.min(high, Math.max(low, values[row]));
    if (y === null || (log && y <= 0)) return [];
    return [{ row, x: axis.numeric ? place : place + (((row * 0.618) % 1) - 0.5) * JITTER, y }];
  });
  return { points, y: { low: points.some(({ y }) => y === foot) ? foot : low, high } };
}
