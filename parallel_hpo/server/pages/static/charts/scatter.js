/** The metric against each varied parameter, one small plot each. */

import { axisOf } from "./axes.js";
import { element, listen, oncePerFrame, tick } from "./elements.js";
import { Figure } from "./figure.js";
import { nearestPoint, paintPoints } from "./marks.js";
import { asText, extent, short } from "./numbers.js";
import { plot } from "./plot.js";
import { isFailed, metricOf, nameOf, onNews } from "./runs.js";
import { colours, onTheme, rowColour } from "./theme.js";

const HEIGHT = 210;
const JITTER = 0.5; // fraction of the distance between categories, so that equal values don't overlap

/** Draw the plots into an element; they follow the store. */
export function draw(section, store) {
  const figure = new Figure(section, "Metric against each parameter");
  figure.host.classList.add("chart-grid");
  let [plots, log] = [[], false];
  const again = oncePerFrame(() => {
    for (const drawn of plots) drawn.destroy();
    plots = paintAll(figure, store, log);
  });
  const repaint = oncePerFrame(() => {
    for (const drawn of plots) drawn.repaint();
  });
  figure.controls.append(tick("Log metric", false, (ticked) => again((log = ticked))));
  const ends = [listen(store, { data: onNews(again), filter: repaint, selection: repaint }), onTheme(again)];
  again();
  return {
    destroy() {
      again.cancel();
      repaint.cancel();
      for (const end of ends) end();
      for (const drawn of plots) drawn.destroy();
      figure.remove();
    },
  };
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
      for (const point of selected) paintPoints(context, [point], place, rowColour(point.row), 5);
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
