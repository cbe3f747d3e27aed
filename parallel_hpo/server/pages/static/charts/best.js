/** The best value so far over finished runs and over time, with each run's own value. */

import { Chart } from "./chart.js";
import { nearestPoint, paintLine, paintPoints } from "./marks.js";
import { duration, extent, short } from "./numbers.js";
import { plot } from "./plot.js";
import { isBetter, isFailed, metricOf, nameOf, onNews, runColour } from "./runs.js";
import { colours } from "./theme.js";

const HEIGHT = 280;

const OPTIONS = [
  { name: "over", label: "Over", kind: "choice", value: "runs", choices: [["runs", "finished runs"], ["time", "time"]] },
  { name: "log", label: "Log axis", kind: "tick", value: false },
];

export class Best extends Chart {
  constructor(figure, context) {
    super(figure, { name: "best", title: "Best value so far", options: structuredClone(OPTIONS) }, context);
    const repaint = () => this.drawn?.repaint();
    this.follow({ data: onNews(this.again), filter: repaint, selection: repaint });
    this.again();
  }

  paint() {
    this.drawn?.destroy();
    this.drawn = paintBest(this, this.store, this.wanted);
  }

  rows() {
    const { points, course } = courseOfBest(this.store, this.wanted.over);
    const lines = points.map(({ row, x, y }, index) => [this.store.runs.id[row], x, y, course[index]]);
    return [["run", this.wanted.over, metricOf(this.store)?.name ?? "value", "best so far"], ...lines];
  }

  destroy() {
    this.drawn?.destroy();
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

function paintBest(figure, store, { over, log }) {
  const { points, course } = courseOfBest(store, over);
  const known = colours();
  describe(figure, store, points, course);
  const drawable = log ? points.filter(({ y }) => y > 0) : points;
  if (!drawable.length) {
    figure.host.replaceChildren();
    return null;
  }
  const [low, high] = extent(drawable.map(({ y }) => y));
  const last = points.at(-1).x;
  return plot(figure, {
    height: HEIGHT,
    label: figure.words.textContent,
    x: { low: over === "time" ? 0 : 1, high: last, label: over === "time" ? "seconds since the first start" : "finished runs" },
    y: { low, high, log, label: metricOf(store)?.name ?? "value" },
    paint(context, place) {
      const shown = (one) => ({ row }) => Boolean(store.shown[row]) === one;
      paintPoints(context, drawable.filter(shown(false)), place, known.line, 2.5);
      paintPoints(context, drawable.filter(shown(true)), place, known.muted, 2.5, 0.8);
      paintLine(context, points.map(({ x }) => x), course, place, { colour: known.accent, width: 2, step: true });
      for (const point of drawable.filter(({ row }) => store.selected.has(store.runs.id[row]))) {
        paintPoints(context, [point], place, runColour(store, point.row), 5);
      }
    },
    near(place, left, top) {
      const hit = nearestPoint(drawable, place, left, top);
      return hit && { ...hit, lines: linesOf(store, hit.point, over), pick: () => store.select([store.runs.id[hit.point.row]]) };
    },
  });
}

function linesOf(store, { row, x, y }, over) {
  const when = over === "time" ? `after ${duration(x)}` : `finished run ${x}`;
  return [nameOf(store, row), `${metricOf(store)?.name ?? "value"}: ${short(y)}`, when];
}

function describe(figure, store, points, course) {
  const failed = store.runs.state.filter(isFailed).length;
  const others = failed ? ` ${failed} runs failed and have no value.` : "";
  if (!points.length) return figure.say(`No run has finished with a value yet.${others}`);
  const first = course.indexOf(course.at(-1));
  const name = nameOf(store, points[first].row);
  return figure.say(`Best of ${points.length} finished runs: ${short(course.at(-1))}, by ${name}, finished run ${first + 1}.${others}`);
}
