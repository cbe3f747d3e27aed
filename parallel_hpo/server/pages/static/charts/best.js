/** The best value so far over finished runs and over time, with each run's own value. */

import { duration } from "../format.js";
import { Chart } from "./chart.js";
import { nearestPoint, paintLine, paintPoints, paintRing } from "./marks.js";
import { counted, extent, short } from "./numbers.js";
import { Plot } from "./plot.js";
import { hitOf, hoveredRow, isBetter, isColoured, isFailed, metricName, nameOf, onNews, runColour } from "./runs.js";
import { colours } from "./theme.js";

const OPTIONS = [
  { name: "over", label: "Over", kind: "choice", value: "runs", choices: [["runs", "finished runs"], ["time", "time"]] },
  { name: "log", label: "Log axis", kind: "tick", value: false },
];

export class Best extends Chart {
  constructor(figure, context) {
    super(figure, { name: "best", title: "Best value so far", options: structuredClone(OPTIONS) }, context);
    this.plot = new Plot(this);
    const repaint = () => this.plot.repaint();
    this.follow({ data: onNews(this.again), filter: repaint, selection: repaint, hover: () => this.plot.repaintOver() });
    this.again();
  }

  paint() {
    const { store } = this;
    const { over, log } = this.wanted;
    const { points, course } = courseOfBest(store, over);
    this.describe(points, course);
    const drawable = log ? points.filter(({ y }) => y > 0) : points;
    if (!drawable.length) return this.plot.clear();
    const [low, high] = extent(drawable.map(({ y }) => y));
    const [kind, label] = over === "time" ? ["duration", "time since the first start"] : ["number", "finished runs"];
    this.plot.draw({
      label: this.words.textContent,
      x: { low: over === "time" ? 0 : 1, high: points.at(-1).x, kind, label, whole: over === "runs" },
      y: { low, high, kind: log ? "log" : "number", label: metricName(store) },
      paint: (context, place) => paintBest(context, place, store, drawable, [points.map(({ x }) => x), course]),
      paintOver(context, place) {
        const hovered = drawable.find(({ row }) => row === hoveredRow(store));
        if (hovered) paintRing(context, hovered, place, runColour(store, hovered.row));
      },
      near(place, left, top) {
        const hit = nearestPoint(drawable, place, left, top);
        return hit && { ...hit, ...hitOf(store, hit.point.row, [[label, over === "time" ? duration(hit.point.x) : `${hit.point.x}`]]) };
      },
    });
    return this.plot.hoverAgain();
  }

  describe(points, course) {
    const failed = this.store.runs.state.filter(isFailed).length;
    const others = failed ? ` ${counted(failed, "run")} failed without a value.` : "";
    if (!points.length) return this.say(`No run has finished with a value yet.${others}`);
    const first = course.indexOf(course.at(-1));
    const name = nameOf(this.store, points[first].row);
    return this.say(`Best of ${counted(points.length, "finished run")}: ${short(course.at(-1))}, by ${name}, finished run ${first + 1}.${others}`);
  }

  rows() {
    const { points, course } = courseOfBest(this.store, this.wanted.over);
    const lines = points.map(({ row, x, y }, index) => [this.store.runs.id[row], x, y, course[index]]);
    return [["run", this.wanted.over, metricName(this.store), "best so far"], ...lines];
  }

  destroy() {
    this.plot.destroy();
    super.destroy();
  }
}

/** Return the finished runs with a value in the order of their ends, {row, x, y, at}, and the best so far at each. */
export function courseOfBest(store, over) {
  const { state, value, started, ended } = store.runs;
  const begun = extent(started)?.[0] ?? 0;
  const counts = (row) => state[row] === "finished" && Number.isFinite(value[row]);
  const rows = state.map((_, row) => row).filter((row) => counts(row) && value[row] !== null);
  const at = (row) => ended[row] ?? started[row] ?? begun;
  rows.sort((one, other) => at(one) - at(other));
  const points = rows.map((row, index) => ({ row, x: over === "time" ? at(row) - begun : index + 1, y: value[row] }));
  let best = null;
  const course = points.map(({ y }) => (best = best === null || isBetter(store, y, best) ? y : best));
  return { points, course };
}

function paintBest(context, place, store, points, [xs, course]) {
  const known = colours();
  const shown = points.filter(({ row }) => store.shown[row]);
  paintPoints(context, points.filter(({ row }) => !store.shown[row]), place, known.line, 2.5);
  paintPoints(context, shown.filter(({ row }) => !isColoured(store, row)), place, known.muted, 2.5, 0.6);
  paintLine(context, xs, course, place, { colour: known.accent, width: 2, step: true });
  for (const point of shown.filter(({ row }) => isColoured(store, row))) {
    paintPoints(context, [point], place, runColour(store, point.row), 3.5);
    if (store.selected.has(store.runs.id[point.row])) paintRing(context, point, place, runColour(store, point.row));
  }
}
