import { duration } from "../format.js";
import { Chart, LOG } from "./chart.js";
import { paintLine } from "./marks.js";
import { counted, extent, short } from "./numbers.js";
import { isFailed, metricName, nameOf, paintRuns, pointing } from "./runs.js";

export const OVER = { name: "over", label: "Over", kind: "choice", value: "runs", choices: [["runs", "finished runs"], ["time", "time"]] };

export class Best extends Chart {
  constructor(figure, context) {
    super(figure, { name: "best", title: "Best value so far", options: [OVER, LOG] }, context);
    this.drawInPlot();
  }

  paint() {
    const { store } = this;
    const { over, log } = this.wanted;
    const { points, course } = courseOfBest(store, over);
    this.describe(points, course);
    const drawable = log ? points.filter(({ y }) => y > 0) : points;
    if (!drawable.length) return this.plot.clear();
    const [low, high] = extent(drawable.map(({ y }) => y));
    return this.plot.draw({
      label: this.words.textContent,
      x: { low: over === "time" ? 0 : 1, high: points.at(-1).x, ...axisOver(over) },
      y: { low, high, kind: log ? "log" : "number", label: metricName(store) },
      paint: (context, place) => paintRuns(context, place, store, drawable, ({ accent }) => paintLine(context, points.map(({ x }) => x), course, place, { colour: accent, width: 2, step: true })),
      ...pointing(store, drawable, ({ x }) => [[axisOver(over).label, over === "time" ? duration(x) : `${x}`]]),
    });
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
}

export function axisOver(over) {
  return over === "time" ? { kind: "duration", label: "time since the first start" } : { kind: "number", label: "finished runs", whole: true };
}

/** Return the finished runs in the order of their ends, {row, x, y}, and the best so far at each. */
export function courseOfBest(store, over) {
  const { state, value, started, ended } = store.runs;
  const begun = extent(started)?.[0] ?? 0;
  const rows = store.rows((row) => state[row] === "finished" && Number.isFinite(value[row]));
  const at = (row) => ended[row] ?? started[row] ?? begun;
  rows.sort((one, other) => at(one) - at(other));
  const points = rows.map((row, index) => ({ row, x: over === "time" ? at(row) - begun : index + 1, y: value[row] }));
  const better = store.minimizes ? Math.min : Math.max;
  let best = points[0]?.y;
  const course = points.map(({ y }) => (best = better(best, y)));
  return { points, course };
}
