/** The metric over two parameters: runs on areas of equal quality, estimated from the runs around. */

import { axisOf } from "./axes.js";
import { Chart } from "./chart.js";
import { effectsOf } from "./importance.js";
import { paintCrosses, paintPoints, paintRing } from "./marks.js";
import { asText, counted, exactText, isMissing } from "./numbers.js";
import { isFailed, loggedOf, metricName, pointing, qualityLegend, ranked, runColour, variedOf } from "./runs.js";
import { rangeOf } from "./scatter.js";
import { colours, qualities } from "./theme.js";

const BANDS = 8;
const CELL = 6; // CSS pixels
const REACH = 0.09; // standard deviation of a run's influence, as a fraction of an axis
const LEAST_WEIGHT = 0.25; // areas without runs around are left empty
const MANY_FAILED = 40; // of more, each is fainter
const MOST_RUNS = 2000; // of more, the newest
const OPTIONS = ["x", "y"].map((name) => ({ name, label: name.toUpperCase(), kind: "choice", value: "", choices: [], main: true }));

export class Contour extends Chart {
  constructor(figure, context) {
    super(figure, { name: "contour", title: "Metric over two parameters", options: OPTIONS }, context);
    this.drawInPlot({ filter: this.again });
  }

  /** Update the choices; the two most important parameters are the default. */
  offerNames() {
    const choices = [...variedOf(this.store).map(({ name }) => [`parameters.${name}`, name]), ...loggedOf(this.store)];
    const isOffered = (name) => choices.some(([value]) => value === name);
    const names = [this.wanted.x, this.wanted.y];
    if (!names.every(isOffered)) {
      const others = effectsOf(this.store, false).map(({ name }) => `parameters.${name}`).filter((value) => !names.includes(value));
      names.forEach((name, place) => isOffered(name) || (names[place] = others.shift() ?? ""));
    }
    ["x", "y"].forEach((option, place) => this.offer(option, choices, names[place]));
    return choices;
  }

  paint() {
    const choices = this.offerNames();
    const { store } = this;
    this.controls.hidden = choices.length < 2;
    if (!this.wanted.x || !this.wanted.y) {
      this.plot.clear();
      return this.say("This needs two parameters that vary, or a logged value.");
    }
    const [across, up] = [this.wanted.x, this.wanted.y].map((name) => placed(store, name, choices));
    const [x, y] = [across.name, up.name];
    const points = pointsOf(store, across, up);
    this.points = points;
    const shades = qualities(BANDS);
    this.explain(qualityLegend(store));
    this.say(`${counted(points.filter(({ rank }) => rank !== null).length, "run")} over ${x} and ${y}; colours are ranks.`);
    if (!points.length) return this.plot.clear();
    return this.plot.draw({
      label: this.words.textContent,
      x: { ...rangeOf(across.axis), label: x }, y: { ...rangeOf(up.axis), label: y },
      paint: (context, place) => paintContour(context, place, store, points, shades),
      ...pointing(store, points, ({ row }) => [across, up].map(({ name, column }) => [name, asText(column[row])])),
    });
  }

  rows() {
    const { x, y } = this.wanted;
    const columns = [x, y, "value"].map((name) => this.store.column(name));
    return [["run", x, y, metricName(this.store)], ...(this.points ?? []).map(({ row }) => [this.store.runs.id[row], ...columns.map((column) => column[row])])];
  }
}

/** Return the axis of a column and its values as numbers; categories are their indices. */
function placed(store, columnName, choices) {
  const column = store.column(columnName);
  const name = choices.find(([value]) => value === columnName)[1];
  const parameter = columnName.startsWith("parameters.") && store.parameters.find((one) => one.name === name);
  const axis = axisOf(parameter || { name, kind: "number" }, column);
  const numberOf = (value) => (isMissing(value) ? null : axis.numeric ? value : axis.texts.indexOf(exactText(value)));
  return { name, column, axis, numbers: column.map(numberOf) };
}

function pointsOf(store, across, up) {
  const ranks = ranked(store);
  const isThere = (row) => store.shown[row] && across.numbers[row] !== null && up.numbers[row] !== null;
  const drawn = (row) => ranks[row] !== null || isFailed(store.runs.state[row]);
  const rows = store.rows((row) => isThere(row) && drawn(row)).slice(-MOST_RUNS);
  return rows.map((row) => ({ row, x: across.numbers[row], y: up.numbers[row], rank: ranks[row] }));
}

function paintContour(context, place, store, points, shades) {
  const known = colours();
  const ranked = points.filter(({ rank }) => rank !== null);
  paintField(context, place.box, ranked.map(({ x, y, rank }) => ({ left: place.x(x), top: place.y(y), rank })), shades);
  for (const point of ranked) {
    paintPoints(context, [point], place, known.surface, 4);
    paintPoints(context, [point], place, shades[Math.min(BANDS - 1, Math.floor(point.rank * BANDS))], 3);
    if (store.selected.has(store.runs.id[point.row])) paintRing(context, point, place, runColour(store, point.row));
  }
  const failed = points.filter(({ rank }) => rank === null);
  context.globalAlpha = Math.min(1, MANY_FAILED / failed.length);
  paintCrosses(context, failed, place, known.bad, 3);
  context.globalAlpha = 1;
}

/** Fill cells by the mean rank around, weighted by distance. */
function paintField(context, { left, top, width, height }, points, shades) {
  const [across, down] = [REACH * width, REACH * height];
  context.globalAlpha = 0.55;
  for (let x = 0; x < width; x += CELL) {
    const column = points.filter((point) => Math.abs(point.left - left - x) < 3 * across);
    for (let y = 0; y < height; y += CELL) {
      let [sum, weights] = [0, 0];
      for (const point of column) {
        const [dx, dy] = [(point.left - left - x - CELL / 2) / across, (point.top - top - y - CELL / 2) / down];
        if (Math.abs(dy) > 3) continue;
        const weight = Math.exp(-(dx * dx + dy * dy) / 2);
        sum += weight * point.rank;
        weights += weight;
      }
      if (weights < LEAST_WEIGHT) continue;
      context.fillStyle = shades[Math.min(BANDS - 1, Math.floor((sum / weights) * BANDS))];
      context.fillRect(left + x, top + y, Math.min(CELL, width - x), Math.min(CELL, height - y));
    }
  }
  context.globalAlpha = 1;
}
